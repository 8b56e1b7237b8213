"""The tab of adapters: those of the library as cards, and the trainer of one's own.

    scene.py      what is shown, as values          look.py      the studio → a scene
    cards.py media.py settings.py watching.py plot.py    a scene → HTML, pure functions
    acts.py       what buttons and fields do         uploads.py   files and clips that a person brings
    files.py      pictures over HTTP

What a person prepares is kept as it is written (`app.training.draft`), what runs is the queue's: a page that is opened
again, here or elsewhere, shows the same. Talks to `app.studio`.
"""

from __future__ import annotations

import typing
from functools import partial

from app.studio import Studio
from app.ui.adapters import cards, look, media, settings, training, uploads
from app.ui.adapters.handlers import act, refused
from app.ui.adapters.view_model import SHELF, View
from app.ui.context import EventContext, PageContext
from app.ui.create import adapter_chips
from app.ui.i18n import Words
from app.ui.panels import QUICK, board, slot, turn, turn_board
from app.ui.state import PageSession
from lavie.errors import LavieError

if typing.TYPE_CHECKING:
    import gradio as gr

EDITS: dict[str, typing.Any] = {**QUICK, "trigger_mode": "multiple"}
# Reading files takes its time: in gradio's queue, whose connection no proxy gives up on.
SLOW = {"concurrency_limit": 1, "concurrency_id": "sources", "show_progress": "minimal", "api_visibility": "private"}
_BARS = f'<section class="lv-live" id="lv-train-bars">{slot("bars")}</section>'
_WEARS = ("wear", "word")  # what leads to the prompt


def create_tab(shell: PageContext) -> None:
    """Lay out the tab inside the open page and wire it to the studio."""
    import gradio as gr

    say, seat, boards = shell.say, gr.State(PageSession(View)), {}
    with gr.Row(elem_id="lv-personalize"):
        with gr.Column(scale=7, min_width=320, elem_id="lv-shelf-side"):
            boards["shelf"] = board(name="shelf")
            files = gr.File(
                label=say("adapters_bring"), file_count="multiple", type="filepath", height=150, elem_id="lv-bring"
            )
        with gr.Column(scale=6, min_width=320, elem_id="lv-train-side"):
            boards["watched"] = board(name="watched")
            board(_BARS, name="train-live")
            with gr.Column(elem_id="lv-train-new"):
                boards["wanted"] = board(name="train-wanted")
                learned, folder, go = _sources(shell)
                boards["media"] = board(name="train-media")
                with gr.Accordion(say("advanced"), open=False, elem_id="lv-train-advanced"):
                    boards["advanced"] = board(name="train-more")
                boards["begin"] = board(name="train-begin")
    boards["turn"] = turn_board("train-turn")
    prompt = shell.form[0]
    outputs, leading = list(boards.values()), [prompt, shell.tabs]

    answer = partial(_answer, shell.studio)
    for one in boards.values():
        one.act(shell.handler(partial(_act, shell.studio)), [seat, prompt], [*outputs, *leading], **EDITS)
    gr.on([shell.page.load, shell.tab.select], shell.handler(partial(answer, act)), seat, outputs, **EDITS)
    for file, doing in ((files, uploads.bring), (learned, uploads.learn)):
        file.upload(shell.handler(partial(_uploaded, answer, doing)), [seat, file], [file, *outputs], **SLOW)
    if folder is not None:
        asked = shell.handler(partial(answer, uploads.learn_from_folder))
        gr.on([go.click, folder.submit], asked, [seat, folder], outputs, **SLOW)
    shell.openers.append(boards["shelf"])
    shell.train = partial(_train, shell, answer, seat, outputs)


class Sources(typing.NamedTuple):
    """Where media come from. folder, go: None where the page is served to others too."""

    files: gr.File
    folder: gr.Textbox | None = None
    go: gr.Button | None = None


def _sources(shell: PageContext) -> Sources:
    """The places to put media."""
    import gradio as gr

    say = shell.say
    files = gr.File(
        label=say("train_bring"), file_count="multiple", type="filepath", height=150, elem_id="lv-train-files"
    )
    if not look.is_local(shell.studio):
        return Sources(files)
    with gr.Row(equal_height=True):
        folder = gr.Textbox(label=say("train_folder"), max_lines=1, scale=3, elem_id="lv-train-folder")
        go = gr.Button(say("train_folder_take"), size="sm", min_width=90)
    return Sources(files, folder, go)


def _answer(studio: Studio, doing: typing.Callable, asked: EventContext, seat: PageSession, *values) -> tuple:
    """Do what was asked, one thing after the other, and show what there is then."""
    with seat.turn:
        seat.view, *shown = render(studio, doing(studio, asked, seat.view, *values), asked.say)
        seat.answers += 1
        return *shown, turn(seat.answers)


def render(studio: Studio, view: View, say: Words) -> tuple:
    """The view as it is then, and what the boards show."""
    shelf = look.shelf(studio, view)
    prepared = look.preparing(studio, shelf.view)
    watched = look.watched(studio, prepared.view, say)
    fields = (settings.wanted, media.media, settings.advanced, settings.begin)
    shown = (one(prepared, say) for one in fields)
    return prepared.view, cards.shelf(shelf, say), training.watched(watched, say), *shown


def _act(studio: Studio, asked: EventContext, seat: PageSession, prompt: str | None) -> tuple:
    """A button or a field of a board; what is put on leads to the form."""
    import gradio as gr

    told, stay = asked.told, (gr.skip(), gr.skip())
    if told.get("act") not in _WEARS:
        return *_answer(studio, act, asked, seat), *stay
    try:
        text = _with(studio, prompt or "", told)
    except LavieError as error:
        message = str(error)
        return *_answer(studio, lambda studio, asked, view: refused(view, message, SHELF), asked, seat), *stay
    shown = _answer(studio, lambda studio, asked, view: view, asked, seat)
    return *shown, text, gr.Tabs(selected="create")


def _with(studio: Studio, prompt: str, told: typing.Mapping[str, str]) -> str:
    """The prompt with an adapter and the first of the words that call it, or with one of its words."""
    if told["act"] == "word":
        return adapter_chips.with_word(prompt, told.get("word", ""))
    row = studio.adapters.require(told.get("id", ""))
    return adapter_chips.add_tag(prompt, row.adapter(), row.card.trigger_words[:1])


def _uploaded(
    answer: typing.Callable, doing: typing.Callable, asked: EventContext, seat: PageSession, files: list | None
) -> tuple:
    """What was put here is taken in, or is told why not; the place is empty again."""
    return None, *answer(doing, asked, seat, files)


def _train(shell: PageContext, answer: typing.Callable, seat: gr.State, outputs: list, source: gr.HTML) -> None:
    """A board whose `train` buttons lead here."""
    import gradio as gr

    def go(asked: EventContext, seat: PageSession) -> tuple:
        return gr.Tabs(selected="personalize"), *answer(uploads.learn_from_clips, asked, seat)

    source.train(shell.handler(go), seat, [shell.tabs, *outputs], **SLOW)
