"""The adapters tab: the library as cards, and the training of one's own adapters.

The draft of a training is stored as it is written (`app.training.draft`), so that any page shows the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import gradio as gr

from app.studio import Studio
from app.ui.adapters import handlers
from app.ui.adapters.html import (
    render_advanced,
    render_draft,
    render_media,
    render_shelf,
    render_start,
    render_training,
)
from app.ui.adapters.view_model import (
    SHELF,
    View,
    build_preparation,
    build_shelf,
    build_watched_training,
    is_local,
)
from app.ui.context import EventContext, PageContext
from app.ui.context import answer as context_answer
from app.ui.create.prompt import add_tag, add_word
from app.ui.i18n import Words
from app.ui.panels import EVERY, panel, sequence_panel, slot, slow
from app.ui.state import PageSession
from lavie.errors import LavieError

_READING = slow("sources")
_BARS = f'<section class="lv-live" id="lv-train-bars">{slot("bars")}</section>'
_PROMPT_ACTS = ("wear", "word")  # that change the prompt and open its tab


def create_tab(context: PageContext) -> None:
    say, session, panels = context.say, gr.State(PageSession(View)), {}
    with gr.Row(elem_id="lv-personalize"):
        with gr.Column(scale=7, min_width=320, elem_id="lv-shelf-side"):
            panels["shelf"] = panel(name="shelf")
            files = gr.File(
                label=say("adapters_bring"), file_count="multiple", type="filepath", height=150, elem_id="lv-bring"
            )
        with gr.Column(scale=6, min_width=320, elem_id="lv-train-side"):
            panels["training"] = panel(name="watched")
            panel(_BARS, name="train-live")
            with gr.Column(elem_id="lv-train-new"):
                panels["draft"] = panel(name="train-wanted")
                media, folder, take_folder = _create_sources(context)
                panels["media"] = panel(name="train-media")
                with gr.Accordion(say("advanced"), open=False, elem_id="lv-train-advanced"):
                    panels["advanced"] = panel(name="train-more")
                panels["start"] = panel(name="train-begin")
    panels["order"] = sequence_panel("train-turn")
    prompt = context.form[0]
    outputs = list(panels.values())

    answer = partial(context_answer, context.studio, render)
    handle = context.handler(partial(_handle, context.studio))
    for one in panels.values():
        one.act(handle, [session, prompt], [*outputs, prompt, context.tabs], **EVERY)
    refresh = context.handler(partial(answer, handlers.handle))
    gr.on([context.page.load, context.tab.select], refresh, session, outputs, **EVERY)
    for file, add in ((files, handlers.add_adapters), (media, handlers.add_media)):
        file.upload(context.handler(partial(_upload, answer, add)), [session, file], [file, *outputs], **_READING)
    if folder is not None and take_folder is not None:
        add_folder = context.handler(partial(answer, handlers.add_folder))
        gr.on([take_folder.click, folder.submit], add_folder, [session, folder], outputs, **_READING)
    context.openers.append(panels["shelf"])
    context.add_lead("train", "personalize", partial(answer, handlers.add_clips), session, outputs, **_READING)


def _create_sources(context: PageContext) -> tuple[gr.File, gr.Textbox | None, gr.Button | None]:
    """Lay out the places for media: uploads, and a folder where the page is served to this machine alone."""
    say = context.say
    files = gr.File(
        label=say("train_bring"), file_count="multiple", type="filepath", height=150, elem_id="lv-train-files"
    )
    if not is_local(context.studio):
        return files, None, None
    with gr.Row(equal_height=True):
        folder = gr.Textbox(label=say("train_folder"), max_lines=1, scale=3, elem_id="lv-train-folder")
        take = gr.Button(say("train_folder_take"), size="sm", min_width=90)
    return files, folder, take


def render(studio: Studio, view: View, say: Words) -> tuple:
    """The view as it is now, and the HTML of all panels in their order."""
    shelf = build_shelf(studio, view)
    preparation = build_preparation(studio, shelf.view)
    watched = build_watched_training(studio, preparation.view, say)
    fields = (one(preparation, say) for one in (render_draft, render_media, render_advanced, render_start))
    return preparation.view, render_shelf(shelf, say), render_training(watched, say), *fields


def _handle(studio: Studio, event: EventContext, session: PageSession[View], prompt: str | None) -> tuple:
    """Handle a button or a field of a panel; an adapter that is put into the prompt opens the form."""
    answer, unchanged = partial(context_answer, studio, render), (gr.skip(), gr.skip())
    if event.data.get("act") not in _PROMPT_ACTS:
        return *answer(handlers.handle, event, session), *unchanged
    try:
        text = _extend_prompt(studio, prompt or "", event.data)
    except LavieError as error:
        message = str(error)
        return *answer(lambda studio, event, view: handlers.refuse(view, message, SHELF), event, session), *unchanged
    panels = answer(lambda studio, event, view: view, event, session)
    return *panels, text, gr.Tabs(selected="create")


def _extend_prompt(studio: Studio, prompt: str, data: Mapping[str, str]) -> str:
    """Add an adapter's tag and its first trigger word to the prompt, or one of its words."""
    if data["act"] == "word":
        return add_word(prompt, data.get("word", ""))
    row = studio.adapters.require(data.get("id", ""))
    return add_tag(prompt, row.adapter(), row.card.trigger_words[:1])


def _upload(
    answer: Callable[..., tuple],
    add: Callable[..., View],
    event: EventContext,
    session: PageSession[View],
    files: list[str] | None,
) -> tuple:
    return None, *answer(add, event, session, files)
