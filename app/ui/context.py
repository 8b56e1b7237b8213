"""What every tab's `create_tab(context)` is given, and what every event handler is given."""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple, dataclass, field

import gradio as gr

from app.sharing import as_visitor
from app.studio import Studio
from app.ui.create.form import Form
from app.ui.i18n import Languages, Words
from app.ui.panels import QUICK, sequence, slow
from app.ui.public.visitors import Visitors
from app.ui.state import PageSession
from lavie.errors import LavieError
from lavie.values import MAX_PROMPT

MAX_EVENT_TEXT = 200  # characters of an event's values, other than what was typed into a field


@dataclass(frozen=True)
class EventContext:
    """Language and data of one event.

    say: words in the browser's language. data: texts of the event, such as a button's `data-id`. cookies: the page's:
    `language`, `theme` and `project`.
    """

    say: Words
    data: Mapping[str, str]
    cookies: Mapping[str, str] = field(default_factory=dict)


class Saved(typing.NamedTuple):
    """The widgets of values that are saved under names."""

    chosen: gr.Dropdown
    name: gr.Textbox
    save: gr.Button
    delete: gr.Button


@dataclass
class PageContext:
    """The page being built, and what tabs share.

    say: key → label that the browser translates. tabs: the tab bar; select a tab by its name. tab: the tab being laid
    out. form: the widgets of `Form`, in its order, set by the Create tab. openers: panels with buttons that open a
    clip in the gallery. leads: action → connects a panel's buttons of this action to the tab that it leads to.
    """

    studio: Studio
    languages: Languages
    say: gr.I18n
    page: gr.Blocks
    tabs: gr.Tabs
    tab: gr.Tab = field(init=False)
    form: list[gr.components.Component] = field(default_factory=list)
    openers: list[gr.HTML] = field(default_factory=list)
    leads: dict[str, Callable[[gr.HTML], None]] = field(default_factory=dict)

    def handler(self, work: Callable[..., typing.Any]) -> Callable[..., typing.Any]:
        """Wrap `work(event, *values)` for gradio: it runs as the request's visitor, and its errors show on the page."""
        visitors = Visitors(self.studio)

        def answer(request: gr.Request, event: gr.EventData, *values: typing.Any) -> typing.Any:
            words = self.languages.of(request.headers)
            try:
                with as_visitor(visitors.of(request)):
                    cookies = self.languages.cookies(request.headers)
                    return work(EventContext(words, _event_texts(event), cookies), *values)
            except LavieError as error:
                raise gr.Error(str(error), print_exception=False) from None

        # Gradio needs the types themselves: with postponed annotations it sees strings.
        answer.__annotations__ = {"request": gr.Request, "event": gr.EventData}
        return answer

    def add_lead(
        self, act: str, tab: str, answer: Callable[..., tuple], session: gr.State, outputs: list, **options: typing.Any
    ) -> None:
        """Let buttons of an action open a tab, with what `answer(event, session)` gives for its outputs."""

        def open_tab(event: EventContext, session: PageSession) -> tuple:
            return gr.Tabs(selected=tab), *answer(event, session)

        handler = self.handler(open_tab)
        self.leads[act] = lambda source: getattr(source, act)(handler, session, [self.tabs, *outputs], **options)

    def wire_saved(
        self, saved: Saved, fields: list, names: Callable[[], Iterable[str]], save: Callable, delete: Callable
    ):
        """Let buttons store the fields' values under a name, by `save(name, *values)`, and `delete(name)` them."""

        def list_names(value: str | None = None) -> dict[str, typing.Any]:
            return gr.update(choices=list(names()), value=value)

        def save_fields(event: EventContext, name: str | None, *values: typing.Any) -> dict[str, typing.Any]:
            save(name or "", *values)
            return list_names((name or "").strip())

        def delete_chosen(event: EventContext, chosen: str | None) -> dict[str, typing.Any]:
            if chosen:
                delete(chosen)
            return list_names()

        saved.save.click(self.handler(save_fields), [saved.name, *fields], saved.chosen, **QUICK)
        saved.delete.click(self.handler(delete_chosen), saved.chosen, saved.chosen, **QUICK)
        self.page.load(list_names, None, saved.chosen, **QUICK)

    def drain_after(self, event: gr.events.Dependency) -> None:
        """On ZeroGPU, run the jobs that `event` has queued in a following event, which gets the device."""
        if self.studio.config.zero_gpu:
            # Events of gradio's queue carry the visitor's quota token. One at a time.
            drain = self.handler(lambda _: self.studio.drain())
            event.then(drain, **{**slow("device"), "show_progress": "hidden"})


def answer(
    studio: Studio,
    render: Callable[[Studio, typing.Any, Words], tuple],
    handler: Callable[..., typing.Any],
    event: EventContext,
    session: PageSession,
    *values: typing.Any,
) -> tuple:
    """Run a handler, one at a time for a page, and render all panels of its tab, the answer's number last."""
    with session.lock:
        session.view, *panels = render(studio, handler(studio, event, session.view, *values), event.say)
        session.answers += 1
        return *panels, sequence(session.answers)


def form_values(form: Form) -> tuple[bool | str, ...]:
    """Values of the form's widgets: numbers as texts, which may be empty."""
    return tuple(value if isinstance(value, (bool, str)) else _number_text(value) for value in astuple(form))


def _number_text(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _event_texts(event: gr.EventData) -> dict[str, str]:
    """The event's texts, cut to a maximum length. They come from outside."""
    data = event._data if isinstance(event._data, dict) else {}
    texts = {str(name): value for name, value in data.items() if isinstance(value, str)}
    return {name: text[: MAX_PROMPT + 1 if name == "value" else MAX_EVENT_TEXT] for name, text in texts.items()}
