"""From a clip or a file into the form: its prompt, its seed, or everything."""

from __future__ import annotations

from dataclasses import replace

from app.recipes.recipe import Recipe
from app.ui.context import PageContext, filled
from app.ui.create.adapter_chips import tagged
from app.ui.create.form import Form

_PARTS = {"use_prompt": ("prompt",), "use_seed": ("seed",), "use_all": tuple(Form.names())}


def use(shell: PageContext, what: str, recipe: Recipe) -> dict:
    """The form's widgets with what is taken over, and the form in sight; the others stay as they are. What was worn
    stands as tags in the prompt."""
    import gradio as gr

    if what not in _PARTS:
        return gr.skip()
    form = Form.of(recipe.request)
    form = replace(form, prompt=tagged(form.prompt, recipe.adapters, shell.studio.adapters.names()))
    values = dict(zip(Form.names(), zip(shell.form, filled(form), strict=True), strict=True))
    return {shell.tabs: gr.Tabs(selected="create"), **dict(values[name] for name in _PARTS[what])}
