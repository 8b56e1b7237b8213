"""A file that was made here: dropped on the page, it says how it was made, and fills in the form."""

from __future__ import annotations

import contextlib
import html
from functools import partial
from pathlib import Path

from app.media import UPLOAD_LIMITS, read_recipe
from app.recipes.recipe import Recipe
from app.ui.context import EventContext, PageContext
from app.ui.gallery import facts
from app.ui.gallery.use import use
from app.ui.html import alert, button
from app.ui.i18n import Words
from app.ui.panels import QUICK, board
from lavie.errors import LavieError, RequestError


def create_upload(shell: PageContext) -> None:
    """Lay out the place to drop a file on, and wire it."""
    import gradio as gr

    say = shell.say
    with gr.Accordion(say("gallery_upload"), open=False, elem_id="lv-upload"):
        file = gr.File(label=say("gallery_upload_hint"), file_types=[".mp4"], type="filepath", height=120)
        found, recipe = board(name="upload"), gr.State(None)
    file.upload(shell.handler(_read), file, [file, found, recipe], **QUICK)
    found.act(shell.handler(partial(_use, shell)), recipe, [*shell.form, shell.tabs], **QUICK)


def _read(asked: EventContext, path: str | None):
    """What the file says. It was copied here for this alone, and goes at once."""
    import gradio as gr

    if path is None:
        return gr.skip(), gr.skip(), gr.skip()
    try:
        recipe = recipe_of(Path(path))
    except LavieError as error:
        return None, alert(str(error).replace(path, Path(path).name)), None
    finally:
        with contextlib.suppress(OSError):
            Path(path).unlink()
    return None, shown(recipe, asked.say), recipe.to_json()


def recipe_of(path: Path) -> Recipe:
    """Raises MediaError for a file that is no whole video, RequestError for one that is not of this studio."""
    text = read_recipe(path, UPLOAD_LIMITS)
    if text is None:
        raise RequestError(f"{path} carries no recipe: it was not made here, or its recipe was taken out")
    return Recipe.from_json(text)


def shown(recipe: Recipe, say: Words) -> str:
    """The recipe, and the way to use it."""
    heading = f"<h3>{html.escape(say('gallery_recipe'))}</h3>"
    folded = facts.provenance(recipe, say) + facts.whole_json(recipe, say)
    return f'{heading}{facts.recipe_facts(recipe, say)}<div class="lv-actions">{button("use_all", say)}</div>{folded}'


def _use(shell: PageContext, asked: EventContext, recipe: str | None) -> dict:
    import gradio as gr

    if recipe is None or asked.told.get("act") != "use_all":
        return gr.skip()
    return use(shell, "use_all", Recipe.from_json(recipe))
