"""Widgets of the gallery's search: fields, filters and saved searches."""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import gradio as gr

from app.gallery import SORTS
from app.gallery.clip import MAX_RATING
from app.gallery.search import count_tags, count_values, delete_search, list_searches, save_search
from app.studio import Studio
from app.ui.context import EventContext, PageContext
from app.ui.gallery.html import STAR, stage_words
from app.ui.gallery.view_model import ANY, NO, YES, Filters, View
from app.ui.panels import QUICK

_HASH_DIGITS = 12  # that are shown of an adapter's hash
_LISTED = ("model", "stages", "adapter", "tags", "sort")  # choices that are read anew while the page is open
_WHEN_COMPLETE = ("seed", "size", "created_from", "created_to", "parent")  # half a value would mean something else


@dataclass(frozen=True)
class Search:
    """The widgets. fields: name → widget, in the order of `Filters`. saved, name, save, delete: of saved searches."""

    fields: dict[str, typing.Any]
    accordion: gr.Accordion
    saved: gr.Dropdown
    name: gr.Textbox
    save: gr.Button
    delete: gr.Button

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

        def list_names(value: str | None = None) -> dict:
            return gr.update(choices=list(list_searches(gallery)), value=value)

        def use(event: EventContext, chosen: str | None, view: View) -> typing.Sequence:
            query = list_searches(gallery).get(chosen or "")
            return [gr.skip()] * len(outputs) if query is None else apply(event, view, query)

        def save(event: EventContext, name: str | None, *values: typing.Any) -> dict:
            save_search(gallery, name or "", Filters(*values).query())
            return list_names((name or "").strip())

        def delete(event: EventContext, chosen: str | None) -> dict:
            if chosen:
                delete_search(gallery, chosen)
            return list_names()

        self.saved.input(context.handler(use), [self.saved, view], outputs, **QUICK)
        self.save.click(context.handler(save), [self.name, *fields], self.saved, **QUICK)
        self.delete.click(context.handler(delete), self.saved, self.saved, **QUICK)
        context.page.load(list_names, None, self.saved, **QUICK)


def create_search(context: PageContext) -> Search:
    """Lay out the search above the grid."""
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
    return Search({name: fields[name] for name in Filters.names()}, accordion, saved, name_field, save, delete)


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
    tags |= {tag: f"{tag} ({count})" for tag, count in count_tags(gallery).items()}
    sorts = {sort: say(f"gallery_sort_{sort}") for sort in SORTS}
    return [*updates, gr.update(choices=_pairs(tags)), gr.update(choices=_pairs(sorts), value=chosen["sort"])]


def _pairs(labels: dict[str, str]) -> list[tuple[str, str]]:
    """Value → label as gradio's (label, value)."""
    return [(label, value) for value, label in labels.items()]
