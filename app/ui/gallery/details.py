"""One clip: its file, what is known of it, its tags and notes, what can be made from it, and exports."""

from __future__ import annotations

import tempfile
import typing
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path

import gradio as gr
from gradio.processing_utils import save_file_to_cache
from gradio.utils import get_upload_folder

from app.gallery import Clip
from app.gallery.clip import check_id, check_tags
from app.gallery.lineage import compare_clips, find_children, find_parents
from app.gallery.rebuild import check_file
from app.gallery.search import count_values
from app.gallery.trash import purge, restore
from app.media import EXPORTS, export_clip
from app.studio import Studio
from app.ui.context import EventContext, PageContext
from app.ui.gallery.handlers import fill_form, press_key
from app.ui.gallery.html import render_about, render_family, render_gone, render_player, render_recipe
from app.ui.gallery.view_model import Opened
from app.ui.html import alert
from app.ui.i18n import Words
from app.ui.panels import QUICK, panel, slow
from lavie.errors import LavieError, RequestError, short

_MAX_JOBS = 5  # of the jobs started from a clip, the last ones are shown


@dataclass(frozen=True)
class Details:
    """The widgets of one clip.

    which: id of the clip whose tags and notes are shown. The page sends it together with them, so that what was
    written about one clip is never stored with another that was opened a moment later. tools: the column that is
    hidden when the clip does not exist.
    """

    opened: gr.State
    which: gr.Textbox
    player: gr.HTML
    about: gr.HTML
    made: gr.HTML
    family: gr.HTML
    tools: gr.Column
    tags: gr.Dropdown
    notes: gr.Textbox

    @property
    def outputs(self) -> list:
        return [getattr(self, field.name) for field in fields(self)]

    def show(self, studio: Studio, clip_id: str, say: Words) -> dict:
        """Values of all widgets for a clip; a message where it does not exist."""
        gallery = studio.gallery
        try:
            check_file(gallery, check_id(clip_id))
            clip = gallery.require(clip_id)
        except LavieError as error:
            empty = dict.fromkeys([self.player, self.made, self.family], "")
            about = render_gone(str(error), say)
            return {**empty, self.opened: Opened(), self.about: about, self.tools: gr.Column(visible=False)}
        choices = sorted({*count_values(gallery, "tag"), *clip.tags})
        return {
            self.opened: Opened(clip.id),
            self.which: clip.id,
            self.player: render_player(clip, say),
            self.about: render_about(clip, (), "", say),
            self.made: render_recipe(clip, _compare_with_parent(studio, clip), say, studio.adapters.names()),
            self.family: _show_family(studio, clip, say),
            self.tools: gr.Column(visible=True),
            self.tags: gr.Dropdown(choices=choices, value=list(clip.tags)),
            self.notes: clip.notes,
        }

    def refresh(self, studio: Studio, opened: Opened, say: Words, message: str = "") -> dict:
        """Values of the panels that may have changed; the player and the fields being typed in stay as they are.

        `opened` is left out: a slow refresh would otherwise drop a job that was started meanwhile.
        """
        clip = studio.gallery.get(opened.id)
        if clip is None:
            return self.show(studio, opened.id, say)
        jobs = [job for job in map(studio.job, opened.jobs) if job is not None]
        return {
            self.about: render_about(clip, jobs, message, say),
            self.family: _show_family(studio, clip, say),
        }


def create_details(context: PageContext) -> Details:
    say, studio = context.say, context.studio
    opened, which = gr.State(Opened()), gr.Textbox(visible=False)
    with gr.Row():
        with gr.Column(scale=6, min_width=320):
            player, about = panel(name="player"), panel(name="about")
            with gr.Column(visible=False) as tools:
                free: dict[str, typing.Any] = {"multiselect": True, "allow_custom_value": True}
                tags = gr.Dropdown([], value=[], label=say("gallery_tags"), elem_id="lv-tags", **free)
                notes = gr.Textbox(label=say("gallery_notes"), info=say("gallery_notes_hint"), lines=3)
                _create_exports(context, opened)
        with gr.Column(scale=5, min_width=320):
            made, family = panel(name="made"), panel(name="family")
    details = Details(opened, which, player, about, made, family, tools, tags, notes)

    outputs = [*details.outputs, *context.form, context.tabs]
    context.drain_after(about.act(context.handler(partial(_handle, context, details)), opened, outputs, **QUICK))
    for lead in context.leads.values():
        lead(about)
    # Gradio reports a new tag as `change` only.
    tags.change(context.handler(partial(_save_tags, studio, details)), [opened, which, tags], details.outputs, **QUICK)
    notes.blur(context.handler(partial(_save_notes, studio, details)), [opened, which, notes], details.outputs, **QUICK)
    return details


def _handle(context: PageContext, details: Details, event: EventContext, opened: Opened) -> dict:
    """Handle a button of the clip's panel. An error is shown there."""
    studio, act, message, started = context.studio, event.data.get("act", ""), "", {}
    if not opened.id:
        return gr.skip()
    try:
        if act.startswith("use_"):
            return fill_form(context, act, studio.gallery.require(check_id(event.data.get("id"))).recipe)
        job = _run_action(studio, event.data.get("id", ""), act, event.data.get("key", ""))
        if job:
            opened = replace(opened, jobs=(*opened.jobs, job)[-_MAX_JOBS:])
            started = {details.opened: opened}
    except LavieError as error:
        message = alert(str(error))
    return {**started, **details.refresh(studio, opened, event.say, message)}


def _run_action(studio: Studio, clip_id: str, act: str, key: str) -> str | None:
    """Do what a button says; the id of the job it starts. Raises what the studio raises."""
    if act == "refresh":
        return None
    check_id(clip_id)
    match act:
        case "key" if key != "x":
            press_key(studio, clip_id, key)
        case "reject":
            press_key(studio, clip_id, "x")
        case "restore":
            restore(studio.gallery, clip_id)
        case "purge":
            purge(studio.gallery, [clip_id])
        case "again":
            return studio.regenerate(clip_id)
        case "remix":
            return studio.remix(clip_id)
        case "finish_smooth" | "finish_upscale" | "finish_both":
            interpolate, upscale = act != "finish_upscale", act != "finish_smooth"
            return studio.finish(clip_id, interpolate=interpolate, upscale=upscale)
    return None


def _save_tags(
    studio: Studio, details: Details, event: EventContext, opened: Opened, which: str, tags: list[str] | None
) -> dict:
    def save() -> None:
        new = check_tags(tags or [])
        old = studio.gallery.require(check_id(which)).tags
        if set(old) != set(new):
            studio.gallery.tag(which, *new)
            studio.gallery.untag(which, *(tag for tag in old if tag not in new))

    return _save(studio, details, event, opened, save)


def _save_notes(
    studio: Studio, details: Details, event: EventContext, opened: Opened, which: str, text: str | None
) -> dict:
    def save() -> None:
        if studio.gallery.require(check_id(which)).notes != (text or ""):
            studio.gallery.note(which, text or "")

    return _save(studio, details, event, opened, save)


def _save(studio: Studio, details: Details, event: EventContext, opened: Opened, save: Callable[[], None]) -> dict:
    """Store a change of the widgets; only an error updates the page."""
    if opened.id:
        try:
            save()
        except LavieError as error:
            return details.refresh(studio, opened, event.say, alert(str(error)))
    return gr.skip()


def _compare_with_parent(studio: Studio, clip: Clip) -> list[tuple]:
    """Differences from the clip it was made from; none where that clip is gone or cannot be read."""
    try:
        return compare_clips(studio.gallery, clip.parent, clip.id) if clip.parent else []
    except LavieError:
        return []


def _show_family(studio: Studio, clip: Clip, say: Words) -> str:
    gallery = studio.gallery
    try:
        return render_family(clip, find_parents(gallery, clip.id), find_children(gallery, clip.id), say)
    except LavieError as error:
        return alert(str(error))


def _create_exports(context: PageContext, opened: gr.State) -> None:
    say = context.say
    with gr.Row(equal_height=True):
        kinds = [(format.description, kind) for kind, format in EXPORTS.items()]
        kind = gr.Dropdown(kinds, value="webm", label=say("gallery_export"), scale=3, min_width=280)
        clean = gr.Checkbox(
            label=say("gallery_clean"), info=say("gallery_clean_hint"), elem_classes="lv-switch", min_width=160
        )
        convert = gr.Button(say("gallery_convert"), size="sm", min_width=110)
    label: typing.Any = say("gallery_save_file")
    save = gr.DownloadButton(label, visible=False, size="sm", variant="primary", elem_id="lv-save")
    message = panel(name="export")
    convert.click(
        context.handler(partial(_convert, context.studio)), [opened, kind, clean], [save, message], **slow("export")
    )
    for widget in (kind, clean, opened):  # hide a file that does not fit the choice any more
        widget.change(lambda: (gr.DownloadButton(visible=False), ""), None, [save, message], queue=False)


def _convert(studio: Studio, event: EventContext, opened: Opened, kind: str, clean: bool) -> tuple:
    try:
        saved = _export(studio, opened.id, kind, recipe=not clean)
    except LavieError as error:
        return gr.DownloadButton(visible=False), alert(str(error))
    words = event.say("gallery_save_as", name=Path(saved).name)
    return gr.DownloadButton(words, value=saved, visible=True), ""


def _export(studio: Studio, clip_id: str, kind: str, *, recipe: bool) -> str:
    """Export a clip into gradio's cache, which keeps files for a day; the path there. Raises LavieError."""
    if not isinstance(kind, str) or kind not in EXPORTS:
        raise RequestError(f"there is no export {short(kind)}: choose one of {', '.join(EXPORTS)}")
    clip = studio.gallery.require(check_id(clip_id))
    with tempfile.TemporaryDirectory(prefix="lavie-export-") as folder:
        target = Path(folder, f"{clip.id}{EXPORTS[kind].suffix}")
        export_clip(clip.path, target, kind, recipe=recipe)
        return save_file_to_cache(target, get_upload_folder())
