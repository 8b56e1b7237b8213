"""What every tab is given: the studio, the words, and the few things of other tabs that it may use.

A tab is a function `create_tab(shell)` in a file of its own, listed in `app.ui.TABS`; none knows another.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass, field

from app.sharing.visitor import as_visitor
from app.studio import Studio
from app.ui.create.form import Form
from app.ui.i18n import Languages, Words
from app.ui.public.visitors import Visitors
from lavie.errors import LavieError
from lavie.values import MAX_PROMPT

if typing.TYPE_CHECKING:
    import gradio as gr


@dataclass
class PageContext:
    """The page being built.

    say: key → a label that the browser translates. page: the open `gr.Blocks`. tabs: which tab is open; select one by
    its name. tab: the one that is being laid out. form: the widgets of `Form`, in its order, once the tab that has
    them is there. openers: boards with buttons that show a clip in the gallery. extend: takes a board whose buttons
    continue a clip as a long video, train: one whose buttons lead to a training on clips; None where no tab can.
    """

    studio: Studio
    languages: Languages
    say: gr.I18n
    page: gr.Blocks
    tabs: gr.Tabs
    tab: gr.Tab | None = None
    form: list[gr.components.Component] = field(default_factory=list)
    openers: list[gr.HTML] = field(default_factory=list)
    extend: Callable[[gr.HTML], None] | None = None
    train: Callable[[gr.HTML], None] | None = None

    def handler(self, work: Callable[..., typing.Any]) -> Callable[..., typing.Any]:
        """What gradio calls: `work(asked, *values)` with the inputs' values. A refusal is shown on the page."""
        import gradio as gr

        visitors = Visitors(self.studio)

        def answer(request: gr.Request, event: gr.EventData, *values):
            words = self.languages.of(request.headers)
            try:
                with as_visitor(visitors.of(request)):
                    return work(EventContext(words, _told(event), self.languages.chosen(request.headers)), *values)
            except LavieError as error:
                raise gr.Error(str(error), print_exception=False) from None

        # Gradio looks at the types themselves, not at their names, to know what to pass.
        answer.__annotations__ = {"request": gr.Request, "event": gr.EventData}
        return answer

    def works(self, event: gr.events.Dependency) -> None:
        """Where the device is lent to events alone, make what `event` has queued in one that follows it."""
        if self.studio.config.zero_gpu:
            # In gradio's queue, with which the lender's page sends along on whose quota it is; one after another.
            work = self.handler(lambda asked: self.studio.drain())
            event.then(
                work, concurrency_id="device", concurrency_limit=1, show_progress="hidden", api_visibility="private"
            )


@dataclass(frozen=True)
class EventContext:
    """Who asks, and what for.

    say: their language. told: what the event brought along, as `data-id` of a button. chosen: `language`, `theme` and
    `project`, those that were chosen in this browser.
    """

    say: Words
    told: Mapping[str, str]
    chosen: Mapping[str, str] = field(default_factory=dict)


def filled(form: Form) -> tuple:
    """What the widgets of the form are to show: numbers as texts, which may be empty."""
    return tuple(value if isinstance(value, (bool, str)) else _text(value) for value in astuple(form))


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _told(event: gr.EventData) -> dict[str, str]:
    """It comes from outside: only texts are let through, and not without end."""
    data = event._data if isinstance(event._data, dict) else {}
    texts = {str(name): value for name, value in data.items() if isinstance(value, str)}
    return {name: text[: MAX_PROMPT + 1 if name == "value" else 200] for name, text in texts.items()}
