"""Handlers of the gallery's grid, of clips side by side and of uploaded files: changes of a `View` and their HTML."""

from __future__ import annotations

import contextlib
import html
import typing
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import gradio as gr

from app.gallery import Query
from app.gallery.clip import check_id
from app.gallery.lineage import compare_clips
from app.gallery.search import find_clips
from app.gallery.trash import move_to_trash, purge, restore
from app.media import UPLOAD_LIMITS, read_recipe
from app.recipes.recipe import Recipe
from app.studio import Studio
from app.ui.context import EventContext, PageContext, form_values
from app.ui.create.form import Form
from app.ui.create.prompt import tag_prompt
from app.ui.gallery.html import (
    render_comparison,
    render_differences,
    render_gone,
    render_grid,
    render_invalid_search,
    render_uploaded_recipe,
)
from app.ui.gallery.view_model import MAX_COMPARED, Filters, View, merge_differences
from app.ui.html import alert, strip_folders
from app.ui.i18n import Words
from lavie.errors import LavieError, RequestError

PAGE_SIZE = 24  # clips
_TAKEN_OVER = {"use_prompt": ("prompt",), "use_seed": ("seed",), "use_all": tuple(Form.names())}


def show_page(studio: Studio, view: View, say: Words, focus: str = "") -> tuple[View, str]:
    """The view and the grid of its page; where that page has become empty, those of the page before."""
    try:
        page = find_clips(studio.gallery, view.query, view.cursors[-1] if view.cursors else None, PAGE_SIZE)
    except LavieError as error:
        return view, render_invalid_search(str(error))
    if not page.clips and view.cursors:
        return show_page(studio, replace(view, cursors=view.cursors[:-1]), say, focus)
    view = replace(view, following=page.next)
    return view, render_grid(page, view, say, focus)


def search(studio: Studio, event: EventContext, view: View, *values: typing.Any) -> tuple[View, str]:
    """Show the first page of a search; the clips chosen for comparison stay chosen."""
    try:
        query = Filters(*values).query()
    except LavieError as error:
        return replace(view, alert=""), render_invalid_search(str(error))
    return show_page(studio, View(query, chosen=view.chosen), event.say)


def apply_query(studio: Studio, event: EventContext, view: View, query: Query) -> tuple:
    """Show the first page of a saved search, and its values in the search fields."""
    return *show_page(studio, View(query, chosen=view.chosen), event.say), *Filters.of(query).values()


def handle_grid(studio: Studio, event: EventContext, view: View) -> tuple:
    """Handle a button or a key of the grid. An error is shown above the clips."""
    act = event.data.get("act", "")
    unchanged = [gr.skip()] * len(Filters.names())
    if act == "reset":
        return apply_query(studio, event, view, Query())
    if act == "refresh" and view.cursors:  # new clips are on the first page: later ones do not move
        return gr.skip(), gr.skip(), *unchanged
    focus = ""
    if act in ("earlier", "later"):
        view = _turn_page(view, act)
        focus = f"page {len(view.cursors)}"
    try:
        view = _change(studio, view, act, event.data.get("id", ""), event.data.get("key", ""))
        view = replace(view, alert="")
    except LavieError as error:
        view = replace(view, alert=str(error))
    return *show_page(studio, view, event.say, focus), *unchanged


def press_key(studio: Studio, clip_id: str, key: str) -> None:
    """Do what a key means: 0 … 5 rate a clip, f toggles favourite, x moves it to the trash."""
    gallery = studio.gallery
    check_id(clip_id)
    if key == "f":
        gallery.favourite(clip_id, not gallery.require(clip_id).favourite)
    elif key == "x":
        move_to_trash(gallery, clip_id)
    elif len(key) == 1 and key in "012345":
        gallery.rate(clip_id, int(key))


def _turn_page(view: View, act: str) -> View:
    cursors = view.cursors[:-1]
    if act == "later":
        cursors = (*view.cursors, view.following) if view.following else view.cursors
    return replace(view, cursors=cursors, undo=None)


def _change(studio: Studio, view: View, act: str, clip_id: str, key: str) -> View:
    """Do what a button or key of a clip says; the view afterwards. Raises what the gallery raises."""
    gallery = studio.gallery
    match act, key:
        case "key", "c":
            return replace(view, chosen=_toggle(studio, view.chosen, clip_id))
        case "key", "x":
            press_key(studio, clip_id, key)
            chosen = tuple(other for other in view.chosen if other != clip_id)
            return replace(view, undo=None if view.query.trashed else clip_id, chosen=chosen)
        case "key", _:
            press_key(studio, clip_id, key)
        case (("undo" | "restore"), _):
            restore(gallery, check_id(clip_id))
            return replace(view, undo=None)
        case "purge", _:
            purge(gallery, [check_id(clip_id)])
        case "empty", _:
            purge(gallery)
        case "unchoose", _:
            return replace(view, chosen=())
    return view


def _toggle(studio: Studio, chosen: tuple[str, ...], clip_id: str) -> tuple[str, ...]:
    if clip_id in chosen:
        return tuple(other for other in chosen if other != clip_id)
    studio.gallery.require(check_id(clip_id))
    if len(chosen) == MAX_COMPARED:
        raise RequestError(f"{len(chosen)} clips are chosen, no more can be compared at once: leave one out first")
    return *chosen, clip_id


def show_comparison(studio: Studio, chosen: Sequence[str], say: Words) -> str:
    """The chosen clips that still exist, side by side, with what their recipes differ in."""
    clips = [clip for clip in map(studio.gallery.get, chosen) if clip is not None and clip.trashed is None]
    if len(clips) < 2:
        return render_gone(say("gallery_compare_few"), say)
    first, *others = clips
    try:
        rows = merge_differences([compare_clips(studio.gallery, first.id, other.id) for other in others])
    except LavieError as error:
        return render_comparison(clips, alert(str(error)), say)
    heads = [f"{number} · {clip.seed}" for number, clip in enumerate(clips, 1)]
    differences = render_differences(rows, heads) or f'<p class="lv-quiet">{html.escape(say("gallery_same"))}</p>'
    return render_comparison(clips, differences, say)


def handle_comparison(studio: Studio, event: EventContext, view: View) -> tuple:
    clip_id = event.data.get("id", "")
    if event.data.get("act") != "reject":
        return gr.skip(), gr.skip()
    try:
        move_to_trash(studio.gallery, check_id(clip_id))
    except LavieError as error:
        return view, render_gone(str(error), event.say)
    view = replace(view, chosen=tuple(other for other in view.chosen if other != clip_id), undo=clip_id)
    return view, show_comparison(studio, view.chosen, event.say)


def read_upload(event: EventContext, path: str | None) -> tuple:
    """Show the recipe of an uploaded file and delete the file, which was uploaded for this alone."""
    if path is None:
        return gr.skip(), gr.skip(), gr.skip()
    try:
        text = read_recipe(Path(path), UPLOAD_LIMITS)
        if text is None:
            raise RequestError(f"{path} carries no recipe: it was not made here, or its recipe was taken out")
        recipe = Recipe.from_json(text)
    except LavieError as error:
        return None, alert(strip_folders(str(error), path)), None
    finally:
        with contextlib.suppress(OSError):
            Path(path).unlink()
    return None, render_uploaded_recipe(recipe, event.say), recipe.to_json()


def use_upload(context: PageContext, event: EventContext, recipe: str | None) -> dict:
    if recipe is None or event.data.get("act") != "use_all":
        return gr.skip()
    return fill_form(context, "use_all", Recipe.from_json(recipe))


def fill_form(context: PageContext, what: str, recipe: Recipe) -> dict:
    """Put a recipe's prompt, its seed or everything into the form and open its tab; other widgets stay as they are.

    The recipe's adapters become tags in the prompt.
    """
    if what not in _TAKEN_OVER:
        return gr.skip()
    form = Form.of(recipe.request)
    form = replace(form, prompt=tag_prompt(form.prompt, recipe.adapters, context.studio.adapters.names()))
    widgets = dict(zip(Form.names(), zip(context.form, form_values(form), strict=True), strict=True))
    return {context.tabs: gr.Tabs(selected="create"), **dict(widgets[name] for name in _TAKEN_OVER[what])}
