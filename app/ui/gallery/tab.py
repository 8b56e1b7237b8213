"""The gallery's tab: a grid of clips, one clip with its details, or some clips side by side.

Actions of other tabs on a clip get their button in `html._actions` and their case in `_run_action`.
"""

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

from app.gallery import SORTS, Clip
from app.gallery.clip import MAX_RATING, check_id, check_tags
from app.gallery.lineage import compare_clips, find_children, find_parents
from app.gallery.rebuild import check_file
from app.gallery.search import count_values, delete_search, list_searches, save_search
from app.gallery.trash import purge, restore
from app.media import EXPORTS, export_clip
from app.studio import Studio
from app.ui.context import EventContext, PageContext, Saved
from app.ui.gallery import handlers
from app.ui.gallery.html import (
    STAR,
    render_about,
    render_family,
    render_gone,
    render_player,
    render_recipe,
    stage_words,
)
from app.ui.gallery.view_model import ANY, NO, YES, Filters, Opened, View
from app.ui.html import alert
from app.ui.i18n import Words
from app.ui.panels import QUICK, panel, slow
from lavie.errors import LavieError, RequestError, short

_HASH_DIGITS = 12  # that are shown of an adapter's hash
_LISTED = ("model", "stages", "adapter", "tags", "sort")  # choices that are read anew while the page is open
_WHEN_COMPLETE = ("seed", "size", "created_from", "created_to", "parent")  # half a value would mean something else
_MAX_JOBS = 5  # of the jobs started from a clip, the last ones are shown


@dataclass(frozen=True)
class Search:
    """The widgets. fields: name → widget, in the order of `Filters`. saved: of saved searches."""

    fields: dict[str, typing.Any]
    accordion: gr.Accordion
    saved: Saved

    def wire(self, context: PageContext, search: Callable, apply: Callable, view: gr.State, outputs: list) -> None:
        """Connect the widgets with the grid.

        Args:
            search: `search(event, view, *values)` → `outputs`, called when a field has changed.
            apply: `apply(event, view, query)` → `outputs` and the fields, called for a saved search.
        """
        fields = list(self.fields.values())
        # Gradio reports typing as `input`, but pasted and filled-in text as `change` only.
        at_once = [self.fields["text"].change]
        at_once += [widget.input for name, widget in self.fields.items() if name not in ("text", *_WHEN_COMPLETE)]
        texts = [self.fields[name] for name in _WHEN_COMPLETE]
        complete = [event for widget in texts for event in (widget.submit, widget.blur)]
        typed = {"trigger_mode": "always_last", **QUICK}
        gr.on([*at_once, *complete], context.handler(search), [view, *fields], outputs, **typed)

        listed = [self.fields[name] for name in _LISTED]
        list_choices = context.handler(partial(_list_choices, context.studio))
        gr.on([context.page.load, self.accordion.expand], list_choices, listed, listed, **QUICK)
        self._wire_saved(context, apply, view, [*outputs, *fields])

    def _wire_saved(self, context: PageContext, apply: Callable, view: gr.State, outputs: list) -> None:
        gallery, fields = context.studio.gallery, list(self.fields.values())

        def use(event: EventContext, chosen: str | None, view: View) -> typing.Sequence:
            query = list_searches(gallery).get(chosen or "")
            return [gr.skip()] * len(outputs) if query is None else apply(event, view, query)

        self.saved.chosen.input(context.handler(use), [self.saved.chosen, view], outputs, **QUICK)
        context.wire_saved(
            self.saved,
            fields,
            partial(list_searches, gallery),
            lambda name, *values: save_search(gallery, name, Filters(*values).query()),
            partial(delete_search, gallery),
        )


def create_search(context: PageContext) -> Search:
    say = context.say
    fields: dict[str, typing.Any] = {}
    with gr.Row(equal_height=True):
        hint = say("gallery_text_hint")
        fields["text"] = gr.Textbox(label=say("gallery_text"), placeholder=hint, max_lines=1, scale=4, min_width=240)
        fields["sort"] = gr.Dropdown(list(SORTS), value="newest", label=say("gallery_sort"), scale=1, min_width=190)
        for name in ("stacked", "trashed"):
            fields[name] = gr.Checkbox(
                label=say(f"gallery_{name}"), info=say(f"gallery_{name}_hint"), elem_classes="lv-switch", min_width=150
            )
    with gr.Accordion(say("gallery_filters"), open=False, elem_id="lv-filters") as accordion:
        fields |= _create_filters(context)
        with gr.Row(equal_height=True):
            saved = gr.Dropdown([], value=None, label=say("gallery_saved"), min_width=200, scale=3)
            delete = gr.Button(say("gallery_unsave"), size="sm", min_width=90)
            name_field = gr.Textbox(label=say("gallery_saved_name"), max_lines=1, min_width=200, scale=3)
            save = gr.Button(say("gallery_save"), size="sm", min_width=90)
    return Search({name: fields[name] for name in Filters.names()}, accordion, Saved(saved, name_field, save, delete))


def _create_filters(context: PageContext) -> dict[str, typing.Any]:
    """Lay out the fields that few searches need."""
    say = context.say
    fields: dict[str, typing.Any] = {}

    def choose(name: str, choices: list, value: typing.Any = ANY, **more: typing.Any) -> None:
        fields[name] = gr.Dropdown(choices, value=value, label=say(f"gallery_{name}"), min_width=140, **more)

    def text(name: str, hint: str) -> None:
        fields[name] = gr.Textbox(label=say(f"gallery_{name}"), placeholder=hint, max_lines=1, min_width=140)

    with gr.Row():
        for name in ("model", "stages", "adapter"):
            choose(name, [("–", ANY)])
        choose("tags", [], [], multiselect=True)
    with gr.Row():
        choose("min_rating", [("–", 0), *((STAR * number, number) for number in range(1, MAX_RATING + 1))], 0)
        for name in ("favourite", "missing"):
            choose(name, [("–", ANY), ("✓", YES), ("✗", NO)])
        text("seed", "42")
    with gr.Row():
        text("size", "512 × 320")
        text("created_from", "2026-01-31")
        text("created_to", "2026-12-31")
        text("parent", "20260131-…")
    return fields


def _list_choices(studio: Studio, event: EventContext, *values: typing.Any) -> list:
    """The values that the gallery can be filtered by now; what is chosen stays chosen."""
    gallery, say = studio.gallery, event.say
    chosen = dict(zip(_LISTED, values, strict=True))
    names = {sha256: name for name, sha256 in studio.adapters.names().items()}
    labels: dict[str, Callable[[str], str]] = {
        "model": str,
        "stages": lambda stages: stage_words(stages, say),
        "adapter": lambda digest: names.get(digest, digest[:_HASH_DIGITS]),
    }
    updates = []
    for name, label in labels.items():
        choices = {value: f"{label(value)} ({count})" for value, count in count_values(gallery, name).items()}
        if chosen[name]:
            choices.setdefault(chosen[name], label(chosen[name]))
        updates.append(gr.update(choices=[("–", ANY), *_pairs(choices)]))
    tags = {tag: tag for tag in chosen["tags"] or ()}
    tags |= {tag: f"{tag} ({count})" for tag, count in count_values(gallery, "tag").items()}
    sorts = {sort: say(f"gallery_sort_{sort}") for sort in SORTS}
    return [*updates, gr.update(choices=_pairs(tags)), gr.update(choices=_pairs(sorts), value=chosen["sort"])]


def _pairs(labels: dict[str, str]) -> list[tuple[str, str]]:
    """Value → label as gradio's (label, value)."""
    return [(label, value) for value, label in labels.items()]


_HIDDEN = ["lv-away"]  # CSS class of a column that is not shown


def create_tab(context: PageContext) -> None:
    # Columns are hidden, not removed, so that the grid stays where it was.
    with gr.Column(elem_id="lv-browse") as browse:
        grid = _create_grid(context)
        _create_upload(context)
    with gr.Column(elem_classes=_HIDDEN, elem_id="lv-details") as one:
        details = create_details(context)
    with gr.Column(elem_classes=_HIDDEN, elem_id="lv-several") as several:
        compared = panel(name="compare", extra="in_step")
    handle_comparison = context.handler(partial(handlers.handle_comparison, context.studio))
    compared.act(handle_comparison, grid.view, [grid.view, compared], **QUICK)

    columns = {"grid": browse, "one": one, "several": several}
    show_column = context.handler(partial(_show_column, context, columns, grid, details, compared))
    outputs = [*columns.values(), context.tabs, *grid.outputs, *details.outputs, compared]
    for source in (grid.clips, details.player, details.about, details.family, compared, *context.openers):
        source.open(show_column, grid.view, outputs, **QUICK)


@dataclass(frozen=True)
class Grid:
    """The grid's widgets. outputs: what `handlers.show_page` returns."""

    clips: gr.HTML
    view: gr.State
    outputs: list


def _create_grid(context: PageContext) -> Grid:
    studio = context.studio
    view, search = gr.State(View()), create_search(context)
    clips = panel(name="clips", extra="cards")
    outputs = [view, clips]
    search.wire(context, partial(handlers.search, studio), partial(handlers.apply_query, studio), view, outputs)
    handle_grid = context.handler(partial(handlers.handle_grid, studio))
    clips.act(handle_grid, view, [*outputs, *search.fields.values()], **QUICK)
    if "train" in context.leads:
        context.leads["train"](clips)
    refresh = context.handler(lambda event, view: handlers.show_page(studio, view, event.say))
    # A tab that was never open is not in the page yet, so that the studio's news do not reach it.
    gr.on([context.page.load, context.tab.select], refresh, view, outputs, **QUICK)
    return Grid(clips, view, outputs)


def _create_upload(context: PageContext) -> None:
    """Lay out the place for a file that was made here, and wire it: its recipe is shown and fills in the form."""
    say = context.say
    with gr.Accordion(say("gallery_upload"), open=False, elem_id="lv-upload"):
        file = gr.File(label=say("gallery_upload_hint"), file_types=[".mp4"], type="filepath", height=120)
        found, recipe = panel(name="upload"), gr.State(None)
    file.upload(context.handler(handlers.read_upload), file, [file, found, recipe], **QUICK)
    use_upload = context.handler(partial(handlers.use_upload, context))
    found.act(use_upload, recipe, [*context.form, context.tabs], **QUICK)


def _show_column(
    context: PageContext,
    columns: dict[str, gr.Column],
    grid: Grid,
    details: Details,
    compared: gr.HTML,
    event: EventContext,
    view: View,
) -> dict:
    act, studio, say = event.data.get("act", ""), context.studio, event.say
    # A hidden player must not play on, and a clip that is opened again begins anew.
    empty = {details.player: "", details.about: "", compared: "", details.opened: Opened()}
    if act == "close":
        page = dict(zip(grid.outputs, handlers.show_page(studio, view, say), strict=True))
        return {**_select("grid", columns), **empty, **page}
    if act == "compare":
        players = handlers.show_comparison(studio, view.chosen, say)
        return {**_select("several", columns), **empty, compared: players}
    tab = {context.tabs: gr.Tabs(selected="gallery")}
    return {**_select("one", columns), **empty, **tab, **details.show(studio, event.data.get("id", ""), say)}


def _select(name: str, columns: dict[str, gr.Column]) -> dict[gr.Column, typing.Any]:
    return {column: gr.Column(elem_classes=[] if other == name else _HIDDEN) for other, column in columns.items()}


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
            return handlers.fill_form(context, act, studio.gallery.require(check_id(event.data.get("id"))).recipe)
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
            handlers.press_key(studio, clip_id, key)
        case "reject":
            handlers.press_key(studio, clip_id, "x")
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
