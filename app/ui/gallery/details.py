"""One clip: all that is known of it, what people say of it, and what can be made of it.

Other tabs' doings with a clip (to extend it, to train on it) get a button in `details_html` and a case in `_done`.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial

from app.gallery import StoredClip
from app.gallery.values import check_id, check_tags
from app.studio import Studio
from app.ui.context import EventContext, PageContext
from app.ui.gallery import facts
from app.ui.gallery.browse import mark
from app.ui.gallery.exports import create_exports
from app.ui.gallery.use import use
from app.ui.html import alert
from app.ui.i18n import Words
from app.ui.panels import QUICK, board
from lavie.errors import LavieError

if typing.TYPE_CHECKING:
    import gradio as gr

_JOBS = 5  # of those asked for here, the last ones, are followed


@dataclass(frozen=True)
class Opened:
    """Which clip is open. jobs: ids of those that were asked for here since."""

    id: str = ""
    jobs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Details:
    """The widgets. tools: the column of those that a clip must be there for.

    which: the id of the clip whose tags and notes are shown. It comes from the page together with them: what was
    written about one clip is never taken for another that was opened a moment later.
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
        """All of them."""
        return [getattr(self, field.name) for field in fields(self)]

    def show(self, studio: Studio, clip_id: str, say: Words) -> dict:
        """Another clip in all widgets; in its place a message where it is not there."""
        import gradio as gr

        gallery = studio.gallery
        try:
            gallery.check_file(check_id(clip_id))
            clip = gallery.require(clip_id)
        except LavieError as error:
            empty = dict.fromkeys([self.player, self.made, self.family], "")
            about = facts.gone(str(error), say)
            return {**empty, self.opened: Opened(), self.about: about, self.tools: gr.Column(visible=False)}
        known = sorted({*gallery.tags(), *clip.tags})
        return {
            self.opened: Opened(clip.id),
            self.which: clip.id,
            self.player: facts.player(clip, say),
            self.about: facts.about(clip, (), "", say),
            self.made: facts.made_with(clip, _changed(studio, clip), say, studio.adapters.names()),
            self.family: _family(studio, clip, say),
            self.tools: gr.Column(visible=True),
            self.tags: gr.Dropdown(choices=known, value=list(clip.tags)),
            self.notes: clip.notes,
        }

    def again(self, studio: Studio, opened: Opened, say: Words, said: str = "") -> dict:
        """The same clip as it is now, where it can have changed; what is being typed or played is left alone."""
        clip = studio.gallery.get(opened.id)
        if clip is None:
            return self.show(studio, opened.id, say)
        jobs = [job for job in map(studio.job, opened.jobs) if job is not None]
        return {
            self.opened: opened,
            self.about: facts.about(clip, jobs, said, say),
            self.family: _family(studio, clip, say),
        }


def create_details(shell: PageContext) -> Details:
    """Lay out one clip, and wire it."""
    import gradio as gr

    say, studio = shell.say, shell.studio
    opened, which = gr.State(Opened()), gr.Textbox(visible=False)
    with gr.Row():
        with gr.Column(scale=6, min_width=320):
            player, about = board(name="player"), board(name="about")
            with gr.Column(visible=False) as tools:
                free = {"multiselect": True, "allow_custom_value": True}
                tags = gr.Dropdown([], value=[], label=say("gallery_tags"), elem_id="lv-tags", **free)
                notes = gr.Textbox(label=say("gallery_notes"), info=say("gallery_notes_hint"), lines=3)
                create_exports(shell, opened)
        with gr.Column(scale=5, min_width=320):
            made, family = board(name="made"), board(name="family")
    details = Details(opened, which, player, about, made, family, tools, tags, notes)

    outputs = [*details.outputs, *shell.form, shell.tabs]
    shell.works(about.act(shell.handler(partial(_act, shell, details)), opened, outputs, **QUICK))
    for lead in filter(None, (shell.extend, shell.train)):
        lead(about)
    # A new tag is told of as `change`, and only so.
    tags.change(shell.handler(partial(_tag, studio, details)), [opened, which, tags], details.outputs, **QUICK)
    notes.blur(shell.handler(partial(_note, studio, details)), [opened, which, notes], details.outputs, **QUICK)
    return details


def _act(shell: PageContext, details: Details, asked: EventContext, opened: Opened) -> dict:
    """A button of the clip's board. What cannot be done is said in its place."""
    import gradio as gr

    studio, what, said = shell.studio, asked.told.get("act", ""), ""
    if not opened.id:
        return gr.skip()
    try:
        if what.startswith("use_"):
            return use(shell, what, studio.gallery.require(check_id(asked.told.get("id"))).recipe)
        job = _done(studio, asked.told.get("id", ""), what, asked.told.get("key", ""))
        opened = replace(opened, jobs=(*opened.jobs, job)[-_JOBS:]) if job else opened
    except LavieError as error:
        said = alert(str(error))
    return details.again(studio, opened, asked.say, said)


def _done(studio: Studio, clip_id: str, what: str, key: str) -> str | None:
    """Do what a button says; the id of the job that it asks for. Raises what the studio raises."""
    if what == "refresh":
        return None
    check_id(clip_id)
    match what:
        case "key" if key != "x":
            mark(studio, clip_id, key)
        case "reject":
            mark(studio, clip_id, "x")
        case "restore":
            studio.gallery.restore(clip_id)
        case "purge":
            studio.gallery.purge([clip_id])
        case "again":
            return studio.regenerate(clip_id)
        case "remix":
            return studio.remix(clip_id)
        case "finish_smooth" | "finish_upscale" | "finish_both":
            interpolate, upscale = what != "finish_upscale", what != "finish_smooth"
            return studio.finish(clip_id, interpolate=interpolate, upscale=upscale)
    return None


def _tag(
    studio: Studio, details: Details, asked: EventContext, opened: Opened, which: str, tags: list[str] | None
) -> dict:
    """Make a clip's tags those of the widget."""

    def change() -> None:
        new = check_tags(tags or [])
        had = studio.gallery.require(check_id(which)).tags
        if set(had) != set(new):
            studio.gallery.tag(which, *new)
            studio.gallery.untag(which, *(tag for tag in had if tag not in new))

    return _written(studio, details, asked, opened, change)


def _note(studio: Studio, details: Details, asked: EventContext, opened: Opened, which: str, text: str | None) -> dict:
    """Keep what was written about a clip."""

    def change() -> None:
        if studio.gallery.require(check_id(which)).notes != (text or ""):
            studio.gallery.note(which, text or "")

    return _written(studio, details, asked, opened, change)


def _written(studio: Studio, details: Details, asked: EventContext, opened: Opened, change: Callable[[], None]) -> dict:
    """Nothing is shown anew, but what went wrong."""
    import gradio as gr

    if opened.id:
        try:
            change()
        except LavieError as error:
            return details.again(studio, opened, asked.say, alert(str(error)))
    return gr.skip()


def _changed(studio: Studio, clip: StoredClip) -> list[tuple]:
    """What differs from the clip that it was made from, where that one is still there and can be read."""
    try:
        return studio.gallery.difference(clip.parent, clip.id) if clip.parent else []
    except LavieError:
        return []


def _family(studio: Studio, clip: StoredClip, say: Words) -> str:
    gallery = studio.gallery
    try:
        return facts.lineage(clip, gallery.parents(clip.id), gallery.children(clip.id), say)
    except LavieError as error:
        return alert(str(error))
