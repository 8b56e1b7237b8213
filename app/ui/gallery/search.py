"""What narrows the gallery down: the widgets of `Filters`, what there is to choose from, and searches kept by name."""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from app.gallery import SORTS, Query
from app.gallery.values import MAX_RATING
from app.studio import Studio
from app.ui.boards import QUICK
from app.ui.gallery import cards
from app.ui.gallery.filters import ANY, NO, YES, Filters
from app.ui.shell import Asked, Shell
from lavie.errors import LavieError

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

    def wire(self, shell: Shell, show: Callable, used: Callable, view: gr.State, outputs: list) -> None:
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

    def _wire_saved(self, shell: Shell, used: Callable, view: gr.State, outputs: list) -> None:
        import gradio as gr

        gallery, fields = shell.studio.gallery, list(self.fields.values())

        def names(value: str | None = None) -> dict:
            return gr.update(choices=list(gallery.searches()), value=value)

        def use(asked: Asked, chosen: str | None, view):
            query = gallery.searches().get(chosen or "")
            return [gr.skip()] * len(outputs) if query is None else used(asked, view, query)

        def keep(asked: Asked, name: str | None, *values):
            gallery.save_search(name or "", Filters(*values).query())
            return names((name or "").strip())

        def drop(asked: Asked, chosen: str | None):
            if chosen:
                gallery.delete_search(chosen)
            return names()

        self.saved.input(shell.handler(use), [self.saved, view], outputs, **QUICK)
        self.save.click(shell.handler(keep), [self.name, *fields], self.saved, **QUICK)
        self.delete.click(shell.handler(drop), self.saved, self.saved, **QUICK)
        shell.page.load(names, None, self.saved, **QUICK)


def create_search(shell: Shell) -> Search:
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


def _narrow(shell: Shell, fields: dict[str, gr.components.Component]) -> None:
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


def _choices(studio: Studio, asked: Asked, *values):
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
