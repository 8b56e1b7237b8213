"""What a person looks for, as the widgets give it, and the query that it means, both ways. Knows no widget."""

from __future__ import annotations

import re
import typing
from collections.abc import Callable
from dataclasses import astuple, dataclass, fields
from functools import partial
from typing import Any

from app.gallery import SORTS, Query
from app.gallery.values import MAX_RATING
from app.studio import Studio
from app.ui.context import EventContext, PageContext
from app.ui.gallery import cards
from app.ui.panels import QUICK
from lavie.errors import LavieError, RequestError, short

if typing.TYPE_CHECKING:
    import gradio as gr


_SHOWN_HASH = 12  # characters of an adapter's
_LISTED = ("model", "stages", "adapter", "tags", "sort")  # whose choices change while the page is open
_WHEN_DONE = ("seed", "size", "created_from", "created_to", "parent")  # half of one of these means something else


@dataclass(frozen=True)
class Search:
    """The widgets. fields: name → the one of `Filters`, in its order. saved …: those of the searches kept."""

    fields: dict[str, gr.components.Component]
    accordion: gr.Accordion
    saved: gr.Dropdown
    name: gr.Textbox
    save: gr.Button
    delete: gr.Button

    def wire(self, shell: PageContext, show: Callable, used: Callable, view: gr.State, outputs: list) -> None:
        """Call `show(asked, view, *values)` when the person asks for something else, `used(asked, view, query)` for a
        search that was kept; both give `outputs`, the latter the fields too."""
        import gradio as gr

        studio, fields = shell.studio, list(self.fields.values())
        # Gradio tells of typing as `input`, of what is pasted or filled in as `change` alone.
        at_once = [self.fields["text"].change]
        at_once += [widget.input for name, widget in self.fields.items() if name not in ("text", *_WHEN_DONE)]
        texts = [self.fields[name] for name in _WHEN_DONE]
        when_done = [event for widget in texts for event in (widget.submit, widget.blur)]
        typed = {"trigger_mode": "always_last", **QUICK}
        gr.on([*at_once, *when_done], shell.handler(show), [view, *fields], outputs, **typed)

        listed = [self.fields[name] for name in _LISTED]
        look = shell.handler(partial(_choices, studio))
        gr.on([shell.page.load, self.accordion.expand], look, listed, listed, **QUICK)
        self._wire_saved(shell, used, view, [*outputs, *fields])

    def _wire_saved(self, shell: PageContext, used: Callable, view: gr.State, outputs: list) -> None:
        import gradio as gr

        gallery, fields = shell.studio.gallery, list(self.fields.values())

        def names(value: str | None = None) -> dict:
            return gr.update(choices=list(gallery.searches()), value=value)

        def use(asked: EventContext, chosen: str | None, view):
            query = gallery.searches().get(chosen or "")
            return [gr.skip()] * len(outputs) if query is None else used(asked, view, query)

        def keep(asked: EventContext, name: str | None, *values):
            gallery.save_search(name or "", Filters(*values).query())
            return names((name or "").strip())

        def drop(asked: EventContext, chosen: str | None):
            if chosen:
                gallery.delete_search(chosen)
            return names()

        self.saved.input(shell.handler(use), [self.saved, view], outputs, **QUICK)
        self.save.click(shell.handler(keep), [self.name, *fields], self.saved, **QUICK)
        self.delete.click(shell.handler(drop), self.saved, self.saved, **QUICK)
        shell.page.load(names, None, self.saved, **QUICK)


def create_search(shell: PageContext) -> Search:
    """Lay out what is looked for, above what is found."""
    import gradio as gr

    say = shell.say
    fields: dict[str, gr.components.Component] = {}
    with gr.Row(equal_height=True):
        hint = say("gallery_text_hint")
        fields["text"] = gr.Textbox(label=say("gallery_text"), placeholder=hint, max_lines=1, scale=4, min_width=240)
        fields["sort"] = gr.Dropdown(list(SORTS), value="newest", label=say("gallery_sort"), scale=1, min_width=190)
        for name in ("stacked", "trashed"):
            fields[name] = gr.Checkbox(
                label=say(f"gallery_{name}"), info=say(f"gallery_{name}_hint"), elem_classes="lv-switch", min_width=150
            )
    with gr.Accordion(say("gallery_filters"), open=False, elem_id="lv-filters") as accordion:
        _narrow(shell, fields)
        with gr.Row(equal_height=True):
            saved = gr.Dropdown([], value=None, label=say("gallery_saved"), min_width=200, scale=3)
            delete = gr.Button(say("gallery_unsave"), size="sm", min_width=90)
            name = gr.Textbox(label=say("gallery_saved_name"), max_lines=1, min_width=200, scale=3)
            save = gr.Button(say("gallery_save"), size="sm", min_width=90)
    return Search({name: fields[name] for name in Filters.names()}, accordion, saved, name, save, delete)


def _narrow(shell: PageContext, fields: dict[str, gr.components.Component]) -> None:
    """What few searches need."""
    import gradio as gr

    say = shell.say

    def choose(name: str, choices: list, value: typing.Any = ANY, **more) -> None:
        fields[name] = gr.Dropdown(choices, value=value, label=say(f"gallery_{name}"), min_width=140, **more)

    def text(name: str, hint: str) -> None:
        fields[name] = gr.Textbox(label=say(f"gallery_{name}"), placeholder=hint, max_lines=1, min_width=140)

    with gr.Row():
        for name in ("model", "stages", "adapter"):
            choose(name, [("–", ANY)])
        choose("tags", [], [], multiselect=True)
    with gr.Row():
        choose("min_rating", [("–", 0), *((cards.STAR * number, number) for number in range(1, MAX_RATING + 1))], 0)
        for name in ("favourite", "missing"):
            choose(name, [("–", ANY), ("✓", YES), ("✗", NO)])
        text("seed", "42")
    with gr.Row():
        text("size", "512 × 320")
        text("created_from", "2026-01-31")
        text("created_to", "2026-12-31")
        text("parent", "20260131-…")


def asked_for(values: typing.Sequence) -> Query | str:
    """The query that the fields mean, or what is wrong with them."""
    try:
        return Filters(*values).query()
    except LavieError as error:
        return str(error)


def _choices(studio: Studio, asked: EventContext, *values):
    """What there is to filter by now, and still what is chosen."""
    import gradio as gr

    gallery, say = studio.gallery, asked.say
    chosen = dict(zip(_LISTED, values, strict=True))
    named = {sha256: name for name, sha256 in studio.adapters.names().items()}
    labels = {
        "model": str,
        "stages": lambda names: cards.stages(names, say),
        "adapter": lambda digest: named.get(digest, digest[:_SHOWN_HASH]),
    }
    updates = []
    for name, label in labels.items():
        found = {value: f"{label(value)} ({count})" for value, count in gallery.choices(name).items()}
        if chosen[name]:
            found.setdefault(chosen[name], label(chosen[name]))
        updates.append(gr.update(choices=[("–", ANY), *_labelled(found)]))
    tags = {tag: tag for tag in chosen["tags"] or ()}
    tags |= {tag: f"{tag} ({count})" for tag, count in gallery.tags().items()}
    sorts = {sort: say(f"gallery_sort_{sort}") for sort in SORTS}
    return [*updates, gr.update(choices=_labelled(tags)), gr.update(choices=_labelled(sorts), value=chosen["sort"])]


def _labelled(labels: dict[str, str]) -> list[tuple[str, str]]:
    """As gradio wants choices."""
    return [(label, value) for value, label in labels.items()]


ANY, YES, NO = "", "yes", "no"
_ANSWERS = {ANY: None, YES: True, NO: False}
_SIZE = re.compile(r"\s*(\d{1,9})?\s*(?:[x×*]\s*(\d{1,9})?\s*)?", re.ASCII)


@dataclass(frozen=True)
class Filters:
    """The fields in the order of the widgets: an empty text or list, None or 0 asks for nothing.

    text: its last word is being typed, and thus the beginning of one, as long as no space follows. seed: digits. size:
    `96 × 64`, or the width alone. created_from, created_to: days. favourite, missing: `ANY`, `YES` or `NO`.
    """

    text: str = ""
    sort: str = "newest"
    stacked: bool = False
    trashed: bool = False
    model: str | None = ANY
    stages: str | None = ANY
    adapter: str | None = ANY
    tags: list[str] | None = None
    min_rating: int | None = 0
    favourite: str | None = ANY
    missing: str | None = ANY
    seed: str | None = ""
    size: str | None = ""
    created_from: str | None = ""
    created_to: str | None = ""
    parent: str | None = ""

    @classmethod
    def names(cls) -> list[str]:
        """In the order of the widgets."""
        return [field.name for field in fields(cls)]

    @classmethod
    def of(cls, query: Query) -> Filters:
        """The fields that ask for this."""
        width, height = ("" if value is None else str(value) for value in (query.width, query.height))
        answers = {answer: word for word, answer in _ANSWERS.items()}
        return cls(
            text=_shown(query.text),
            sort=query.sort,
            stacked=query.stacked,
            trashed=query.trashed,
            model=query.model or ANY,
            stages=query.stages or ANY,
            adapter=query.adapter or ANY,
            tags=list(query.tags),
            min_rating=query.min_rating,
            favourite=answers[query.favourite],
            missing=answers[query.missing],
            seed="" if query.seed is None else str(query.seed),
            size=f"{width} × {height}" if height else width,
            created_from=query.created_from or "",
            created_to=query.created_to or "",
            parent=query.parent or "",
        )

    def query(self) -> Query:
        """What is asked for. Raises RequestError with the field's name."""
        width, height = _size(self.size or "")
        return Query(
            text=_typed(self.text or ""),
            sort=self.sort,
            stacked=self.stacked,
            trashed=self.trashed,
            model=self.model or None,
            stages=self.stages or None,
            adapter=self.adapter or None,
            tags=tuple(self.tags or ()),
            min_rating=self.min_rating or 0,
            favourite=_answer("favourite", self.favourite),
            missing=_answer("missing", self.missing),
            seed=_whole("seed", self.seed or ""),
            width=width,
            height=height,
            created_from=(self.created_from or "").strip() or None,
            created_to=(self.created_to or "").strip() or None,
            parent=(self.parent or "").strip() or None,
        )

    def values(self) -> tuple[Any, ...]:
        """What the widgets are to show."""
        return astuple(self)


def _typed(text: str) -> str:
    return f"{text}*" if text[-1:].isalnum() else text.rstrip()


def _shown(text: str) -> str:
    """The inverse of `_typed`."""
    if text[-1:].isalnum():
        return f"{text} "
    return text[:-1] if text[-1:] == "*" and text[-2:-1].isalnum() else text


def _answer(name: str, word: str | None) -> bool | None:
    word = word or ANY
    if word not in _ANSWERS:
        raise RequestError(f"{name} is {short(word)}: choose {YES}, {NO} or nothing")
    return _ANSWERS[word]


def _whole(name: str, text: str) -> int | None:
    text = text.strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise RequestError(f"{name} is {short(text)}: give a whole number, or leave it empty")
    return int(text)


def _size(text: str) -> tuple[int | None, int | None]:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise RequestError(f"size is {short(text)}: write it as 512 × 320, or leave it empty")
    width, height = match.groups()
    return int(width) if width else None, int(height) if height else None
