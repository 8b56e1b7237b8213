"""The tab of long videos: segments with their prompts, the timeline with what the meters say, and what is made of them.

    scene.py      what is shown, as a value           look.py       the studio → a scene
    table.py timeline.py head.py seams.py icons.py    a scene → HTML, pure functions
    acts.py edits.py begin.py   what buttons and fields do      sources.py   a file or a clip that a video begins with
    leading.py    pictures and videos that become one video

What a person writes is kept in the database as it is written (`app.long_videos.projects`): a page that is opened again, here or
elsewhere, shows the same. Talks to `app.studio`.
"""

from __future__ import annotations

import typing
from dataclasses import replace
from functools import partial

from app.studio import Studio
from app.ui.context import EventContext, PageContext
from app.ui.i18n import Words
from app.ui.long_video import head
from app.ui.long_video.begin import use_script
from app.ui.long_video.handlers import act
from app.ui.long_video.look import known, look
from app.ui.long_video.sources import create_upload, from_clip
from app.ui.long_video.table import table
from app.ui.long_video.timeline import timeline
from app.ui.long_video.transitions import create_leading
from app.ui.long_video.view_model import View
from app.ui.panels import QUICK, board, slot, turn, turn_board
from app.ui.state import PageSession

if typing.TYPE_CHECKING:
    import gradio as gr

# Changes come as fast as a person leaves one field for the next: none may be dropped, or overtaken on its way back.
EDITS: dict[str, typing.Any] = {**QUICK, "trigger_mode": "multiple"}
_BOARDS = ("projects", "segments", "timeline", "player", "settings", "advanced")
_SCREEN = f'<section class="lv-live" id="lv-long-bars">{slot("bars")}</section>'


def create_tab(shell: PageContext) -> None:
    """Lay out the tab inside the open page and wire it to the studio."""
    import gradio as gr

    say, studio, boards = shell.say, shell.studio, {}
    seat = gr.State(PageSession(View))
    boards["projects"], turns = board(name="long-projects"), turn_board("long-turn")
    with gr.Row(elem_id="lv-long"):
        with gr.Column(scale=7, min_width=320, elem_id="lv-long-main"):
            boards["segments"] = board(name="long-segments")
            boards["timeline"] = board(name="long-timeline")
        with gr.Column(scale=5, min_width=320, elem_id="lv-long-side"):  # stays in sight beside a long table
            with gr.Column(elem_id="lv-long-first"):  # comes first where there is room for one column only
                boards["player"] = board(name="long-player")
                board(_SCREEN, name="long-live")
            with gr.Column(elem_id="lv-long-more"):
                boards["settings"] = board(name="long-settings")
                with gr.Accordion(say("advanced"), open=False, elem_id="lv-long-advanced-fold"):
                    boards["advanced"] = board(name="long-advanced")
                script = _script(shell)
                upload = create_upload(shell)
                create_leading(shell)
    outputs = [*(boards[name] for name in _BOARDS), turns]

    answer = partial(_answer, studio)
    for one in (*boards.values(), turns):
        one.act(shell.handler(partial(answer, act)), seat, outputs, **EDITS)
    gr.on([shell.page.load, shell.tab.select], shell.handler(partial(answer, act)), seat, outputs, **EDITS)
    for how, button in script.buttons.items():
        used = partial(answer, lambda studio, asked, view, text, how=how: use_script(studio, asked, view, text, how))
        button.click(shell.handler(used), [seat, script.text], outputs, **EDITS)
    upload.wire(shell, answer, seat, outputs)
    shell.openers += [boards["projects"], boards["player"]]
    shell.extend = partial(_extend, shell, answer, seat, outputs)


class Script(typing.NamedTuple):
    """The widgets of a script. buttons: what becomes of it, by name."""

    text: gr.Textbox
    buttons: dict[str, gr.Button]


def _script(shell: PageContext) -> Script:
    """A place to paste lines."""
    import gradio as gr

    say = shell.say
    with gr.Accordion(say("long_script"), open=False, elem_id="lv-long-script"):
        text = gr.Textbox(
            label=say("long_script_lines"), info=say("long_script_hint"), lines=5, max_lines=20, elem_id="lv-script"
        )
        with gr.Row():
            buttons = {how: gr.Button(say(f"long_script_{how}"), size="sm") for how in ("replace", "append", "new")}
    return Script(text, buttons)


def _answer(studio: Studio, doing: typing.Callable, asked: EventContext, seat: PageSession, *values) -> tuple:
    """Do what was asked, one thing after the other, and show what there is then."""
    with seat.turn:
        view = seat.view if seat.view.project else replace(seat.view, project=asked.chosen.get("project", ""))
        seat.view, *shown = render(studio, doing(studio, asked, view, *values), asked.say)
        seat.answers += 1
        return *shown, turn(seat.answers)


def render(studio: Studio, view: View, say: Words) -> tuple:
    """The view as it is then, and what the boards show."""
    scene, listed = look(studio, view, say), known(studio, say)
    bar = head.projects(scene, listed, view.said, say)
    if scene is None:
        return view, bar, "", "", "", "", ""
    shown = (table, timeline, head.screen, head.settings, head.advanced)
    return scene.view, bar, *(one(scene, say) for one in shown)


def _extend(shell: PageContext, answer: typing.Callable, seat: gr.State, outputs: list, source: gr.HTML) -> None:
    """A board whose `extend` buttons lead here."""
    import gradio as gr

    def go(asked: EventContext, seat: PageSession) -> tuple:
        return gr.Tabs(selected="long"), *answer(from_clip, asked, seat)

    source.extend(shell.handler(go), seat, [shell.tabs, *outputs], **EDITS)
