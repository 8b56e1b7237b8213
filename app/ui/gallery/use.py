"""From a clip or a file into the form: its prompt, its seed, or everything."""

from __future__ import annotations

from app.ui.form import Form
from app.ui.shell import Shell, filled
from lavie.request import Request

_PARTS = {"use_prompt": ("prompt",), "use_seed": ("seed",), "use_all": tuple(Form.names())}


def use(shell: Shell, what: str, request: Request) -> dict:
    """The form's widgets with what is taken over, and the form in sight; the others stay as they are."""
    import gradio as gr

    if what not in _PARTS:
        return gr.skip()
    values = dict(zip(Form.names(), zip(shell.form, filled(Form.of(request)), strict=True), strict=True))
    return {shell.tabs: gr.Tabs(selected="create"), **dict(values[name] for name in _PARTS[what])}
