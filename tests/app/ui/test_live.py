"""What is pushed to pages: what changed and nothing else, the same for all, in each one's language."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace

import pytest

from app.config import StudioConfig
from app.recipes.job_row import RUNNING
from app.studio import Studio
from app.ui import live as module
from app.ui.i18n import Languages
from app.ui.live import ALIVE_SECONDS, LOOK_SECONDS, SHOWN_WAITING, Live, Pace
from lavie.request import Request
from tests.app.studios import ENDLESS, At, ended, smooth, until
from tests.fakes import FakeCascade

HOSTILE = "<script>alert(1)</script>\"'&<b onclick=x>"


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def make(tmp_path, clock):
    """A studio over a cascade, and what it pushes; without a cascade nobody works off its queue."""
    opened = []

    def make(cascade=None):
        studio = Studio(StudioConfig(data=tmp_path / "data"), load=lambda config: cascade)
        opened.append(studio)
        if cascade:
            studio.serve()
        return studio, Live(studio, Languages(), clock)

    yield make
    for studio in opened:
        studio.close()


def messages(live, between, language="en"):
    """What one page is sent: at first, and after each of `between`; then the page is gone."""
    sent, steps = [], list(between)

    async def gone() -> bool:
        if not steps:
            return True
        await asyncio.to_thread(steps.pop(0))
        return False

    async def read():
        async for text in live.stream(language, gone):
            sent.append(text)

    asyncio.run(read())
    return sent


def told(message) -> dict:
    assert message.startswith("data: ") and message.endswith("\n\n") and message.count("\n") == 2
    return json.loads(message.removeprefix("data: "))


@pytest.fixture
def quick(monkeypatch, clock):
    """A stream does not wait between two looks: a step of a test moves the clock instead."""
    look = module.LOOK_SECONDS

    async def sleep(seconds):
        clock.now += look

    monkeypatch.setattr(module.asyncio, "sleep", sleep)


def nothing():
    pass


def test_at_first_everything_then_only_what_changed(make, quick):
    studio, live = make()
    sent = messages(live, [nothing, nothing, lambda: studio.submit(Request("a red star")), nothing])
    first, second = map(told, sent)
    assert first.keys() == live.fragments("en").keys() >= {"status", "head", "picture", "bars", "queue", "sprite"}
    assert second.keys() == {"status", "queue", "part"}
    assert "a red star" in second["queue"] and "1 waiting" in second["status"]


def test_a_page_that_comes_later_is_told_everything(make, quick):
    studio, live = make()
    messages(live, [nothing])
    studio.submit(Request("a red star"))
    assert len(told(messages(live, [nothing])[0])) == len(live.fragments("en"))


def test_where_nothing_changes_it_gives_a_sign_of_life_now_and_then(make, quick):
    _, live = make()
    looks = round(2.5 * ALIVE_SECONDS / LOOK_SECONDS)
    assert messages(live, [nothing] * looks)[1:] == [": alive\n\n"] * 2


def test_the_stream_ends_when_the_studio_closes(make, quick):
    _, live = make()
    steps = iter([nothing, lambda: setattr(live, "closed", True)])

    async def gone() -> bool:
        next(steps)()  # a third look would find none
        return False

    async def read():
        return [text async for text in live.stream("en", gone)]

    assert len(asyncio.run(read())) == 1


def test_many_pages_are_one_look(make, clock, monkeypatch):
    _, live = make()
    looks = []
    look = live._read_state
    monkeypatch.setattr(live, "_read_state", lambda: looks.append(1) or look())
    for _ in range(20):
        assert live.fragments("en") is live.fragments("en;q=0.8")
    assert len(looks) == 1
    clock.now += LOOK_SECONDS
    live.fragments("de")
    assert len(looks) == 2


@pytest.mark.parametrize(
    ("asked", "language"), [("de-CH,de;q=0.9,en;q=0.8", "de"), ("fr", "en"), (None, "en"), ("x" * 9999, "en")]
)
def test_each_page_is_told_in_its_language(make, asked, language):
    _, live = make()
    assert live.fragments(asked)["language"] == language
    assert ("Nichts wartet" in live.fragments(asked)["queue"]) == (language == "de")


def test_the_route_asks_the_browser_for_its_language(make, quick):
    _, live = make()
    request = SimpleNamespace(headers={"accept-language": "de"}, query_params={}, is_disconnected=None)

    async def first():
        steps = iter([False, True])

        async def gone():
            return next(steps)

        request.is_disconnected = gone
        response = await live.respond(request)
        return response, [text async for text in response.body_iterator]

    response, sent = asyncio.run(first())
    assert response.headers["cache-control"] == "no-store" and response.media_type == "text/event-stream"
    assert "Bereit" in told(sent[0])["status"]


def test_a_job_from_its_first_step_to_its_clip(make, clock):
    seen = {}

    def look():
        clock.now += 1
        seen[len(seen)] = live.fragments("en")

    cascade = FakeCascade(at_step=At("interpolation", 2, look))
    studio, live = make(cascade)
    job_id = studio.submit(smooth(steps=4))
    ended(studio, job_id)
    shown = seen[0]
    assert "Smooth " in shown["status"] and " / 4<" in shown["status"] and "lv-busy" in shown["status"]
    assert shown["bars"].count("<progress") == 3 and 'value="1.000"' in shown["bars"]  # base, smooth, whole
    assert {"cancel", "pause", "keep"} == {
        act for act in ("cancel", "pause", "keep") if f'data-act="{act}"' in shown["head"]
    }
    assert shown["sprite"]["frames"] == 4 and shown["sprite"]["src"].startswith("data:image/png;base64,")
    assert "<canvas" in shown["picture"] and "aspect-ratio: 96 / 64" in shown["picture"]
    clock.now += 1
    after = live.fragments("en")
    assert f"studio/media/{job_id}.mp4" in after["picture"] and after["sprite"] is None and after["bars"] == ""
    assert "Seed 7 · 4 frames · 96 × 64" in after["head"] and job_id in after["head"]
    assert after["changed"] > shown["changed"] > 0


def test_how_long_it_takes_is_told_from_the_pace(make, clock):
    studio, live = make(FakeCascade(**ENDLESS))
    job_id = studio.submit(Request("a red star"))
    until(lambda: studio.job(job_id).row.step)
    live.fragments("en")
    reached = studio.job(job_id).row.step
    until(lambda: studio.job(job_id).row.step >= reached + 20)
    clock.now += 60
    assert "min left" in live.fragments("en")["bars"] or " h " in live.fragments("en")["bars"]


def test_what_came_from_outside_is_shown_as_text(make, clock):
    studio, live = make()
    job_id = studio.submit(Request(HOSTILE))
    for state, values in (
        ("queued", {}),
        ("interrupted", {"error": HOSTILE}),
        ("failed", {"error": HOSTILE, "finished": "2026"}),
    ):
        with studio.database.write() as connection:
            changes = {"state": state, "notices": json.dumps([HOSTILE]), **values}
            assignments = ", ".join(f"{name} = ?" for name in changes)
            connection.execute(f"UPDATE jobs SET {assignments} WHERE id = ?", [*changes.values(), job_id])
        clock.now += 1
        shown = "".join(value for value in live.fragments("en").values() if isinstance(value, str) and "<" in value)
        assert "alert(1)" in shown
        assert "<script" not in shown and "<b " not in shown and "\"'&<" not in shown


def test_a_long_line_is_cut_and_counted(make, monkeypatch):
    studio, live = make()
    for number in range(SHOWN_WAITING + 3):
        studio.submit(Request(f"a red star {number}"))
    queue = live.fragments("en")["queue"]
    assert queue.count('<li class="lv-job">') == SHOWN_WAITING and "and 3 more" in queue
    assert f"{SHOWN_WAITING + 3} waiting" in queue


def test_a_paused_queue_says_so(make, clock):
    studio, live = make()
    studio.queue.pause_queue()
    assert "The queue is paused" in live.fragments("en")["queue"]
    studio.queue.resume_queue()
    clock.now += 1
    assert "The queue is paused" not in live.fragments("en")["queue"]


def row(**values):
    return SimpleNamespace(**{"id": "a", "stage": "base", "attempts": 1, "step": 0, "state": RUNNING, **values})


def test_the_pace_is_known_after_two_steps(clock):
    pace = Pace(clock)
    assert pace.seconds_a_step(row(step=3)) is None
    clock.now += 10
    assert pace.seconds_a_step(row(step=4)) is None
    assert pace.seconds_a_step(row(step=5)) == 5
    assert pace.seconds_a_step(row(step=5, stage="interpolation")) is None  # another stage has a pace of its own
    clock.now += 8
    assert pace.seconds_a_step(row(step=9, stage="interpolation")) == 2
    assert pace.seconds_a_step(row(step=9, stage="interpolation", attempts=2)) is None
    assert pace.seconds_a_step(row(id="b", step=50)) is None
