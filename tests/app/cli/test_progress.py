"""Progress for logs: few lines, with what matters."""

import io

from app.cli.progress import Lines, progress
from lavie.events import Notice, StageDone, StageStarted, Step


def test_lines_come_ten_seconds_apart():
    lines, now = [], [0.0]
    show = Lines(lines.append, clock=lambda: now[0])
    show(Notice("the word flurb is not known"))
    show(StageStarted("base", 30))
    for index in range(1, 31):
        now[0] += 1.0
        show(Step("base", index, 30))
    show(StageDone("base", 30.0, None))
    assert lines == [
        "note: the word flurb is not known",
        "base: 30 steps",
        "base: step 10 of 30, 20 s left",
        "base: step 20 of 30, 10 s left",
        "base: step 30 of 30, 0 s left",
        "base: done in 30.0 s",
    ]


def test_a_file_gets_lines():
    stream = io.StringIO()
    with progress(stream) as show:
        show(StageStarted("super_resolution", 7))
        show("something else")
    assert stream.getvalue() == "super-resolution: 7 steps\n"


def test_a_terminal_gets_a_bar_for_each_stage(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with progress(stream) as show:
        for stage in ("base", "interpolation"):
            show(StageStarted(stage, 2))
            show(Notice("[red]not markup[/red]"))
            show(Step(stage, 1, 2))
            show(Step(stage, 2, 2))
            show(StageDone(stage, 0.1, None))
    last = stream.getvalue()[-400:]
    assert "base" in last and "interpolation" in last and "2/2" in last
    assert "[red]not markup[/red]" in stream.getvalue()
