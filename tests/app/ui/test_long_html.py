"""The HTML of the tab of long videos: pure functions of a `ViewModel`, no page."""

import re
from dataclasses import replace

import numpy as np
import pytest

from app.long_videos.projects import Project
from app.queue.estimates import LongEstimate
from app.queue.status import JobStatus
from app.recipes.initial_frames import InitialFrames
from app.recipes.job_row import CANDIDATES, DONE, QUEUED, RUNNING, JobRow
from app.ui.i18n import Languages
from app.ui.long_video import tab
from app.ui.long_video.html import (
    render_advanced,
    render_projects,
    render_screen,
    render_segments,
    render_settings,
)
from app.ui.long_video.timeline import (
    BAD,
    GOOD,
    drift_level,
    join_levels,
    render_findings,
    render_timeline,
    signal_level,
    translate,
)
from app.ui.long_video.view_model import ROWS, Candidate, View, ViewModel, assign_hues
from extensions.long_video import metrics
from extensions.long_video.metrics import Finding, Join, Meter, Signal
from extensions.long_video.plan import STRATEGIES, Layout, Segment, SegmentPlan
from lavie.request import Request
from tests.app.ui.test_gallery_html import Reader, clip

HOSTILE = "</textarea><img src=x onerror=alert(1)> \"' &amp; ${evil} {{evil}}"
EN, DE = Languages().words("en"), Languages().words("de")


def plan(*prompts: str, **values) -> SegmentPlan:
    return SegmentPlan(tuple(Segment(prompt) for prompt in prompts), seed=1, **values)


def video(of: SegmentPlan | None = None, **values) -> ViewModel:
    of = of or plan("a star", "a star", "a circle")
    start = values.pop("start", None)
    request = values.pop("request", Request(of.segments[0].prompt, seed=1))
    known = {"id": "p1", "title": HOSTILE, "model": "nano", "clip": None, "job": None, "created": "", "updated": ""}
    project = Project(**known, plan=of, request=request, start=start)
    return ViewModel(project, values.pop("view", View("p1")), values.pop("fps", 8.0), **values)


def row(**values) -> JobRow:
    known = dict.fromkeys(JobRow.__dataclass_fields__)
    return JobRow(**{**known, "id": "j1", "kind": "render", "notices": (), "step": 0, "steps": 0, **values})


def report(step: float = 0.0, joins=(16, 28)) -> metrics.Report:
    """Of 40 frames of noise that moves a little; `step` grey levels brighter behind each join."""
    meter, noise = Meter(list(joins)), np.random.default_rng(0)
    for frame in range(40):
        shade = 100 + step * sum(frame >= join for join in joins)
        picture = np.full((32, 48, 3), shade) + noise.normal(0, 2, (32, 48, 3))
        picture[8:24, frame // 2 : frame // 2 + 16] += 4
        meter.add(np.clip(picture, 0, 255).astype(np.uint8))
    return meter.report()


CANDIDATES_OF = {1: [Candidate("j2", 5, {"d": 0.9, "a": 1.2, "m": 1.0, "s": 3.0}, 1.5, f'studio/{HOSTILE}"')]}
WHOLE = video(
    plan(HOSTILE, "a star", HOSTILE),
    view=View("p1", chosen=1, message="", focus="type x", undo=plan("a star")),
    start=InitialFrames("file", HOSTILE, "0" * 64, 16),
    outdated=frozenset({2}),
    clip=clip(),
    report=report(9.0),
    candidates=CANDIDATES_OF,
    estimate=LongEstimate(3.0, 90.0),
)
HTML = {
    "table": lambda: render_segments(WHOLE, EN),
    "timeline": lambda: render_timeline(WHOLE, EN),
    "projects": lambda: render_projects(WHOLE, [("p1", HOSTILE)], "", EN),
    "screen": lambda: render_screen(replace(WHOLE, job=JobStatus(row(state="failed", error=HOSTILE))), EN),
    "advanced": lambda: render_advanced(video(request=Request("a", negative_prompt=HOSTILE)), EN),
    "settings": lambda: render_settings(WHOLE, EN),
    "source": lambda: tab.render_preview(HOSTILE, {"crop": b"1", "letterbox": b"2"}, EN),
    "findings": lambda: render_findings([Finding(0, HOSTILE, HOSTILE)], EN),
}


@pytest.mark.parametrize("name", HTML)
def test_what_others_wrote_stays_text(name):
    read = Reader(HTML[name]())
    assert not any("onerror" in attributes or attributes.get("src") == "x" for _, attributes in read.tags)
    if name != "settings":  # which shows nothing of theirs
        assert HOSTILE in "".join([*read.texts, *(str(v) for _, a in read.tags for v in a.values())])


@pytest.mark.parametrize("name", HTML)
def test_every_button_field_and_picture_has_a_name(name):
    html = HTML[name]()
    labelled = re.sub(r"<label.*?</label>", "", html)
    for tag, attributes in Reader(html).tags:
        assert tag != "img" or "alt" in attributes
    for tag, attributes in Reader(labelled).tags:
        assert tag not in ("input", "textarea", "select", "video") or attributes.get("aria-label")
        assert tag != "svg" or "aria-hidden" in attributes or attributes.get("aria-label")
    for button in re.findall(r"<button([^>]*)>(.*?)</button>", html):
        assert "aria-label=" in button[0] or re.sub(r"<[^>]*>", "", button[1]).strip()


def test_a_prompt_is_in_its_field_to_the_letter():
    """A browser drops the first line break behind the tag: one that is the person's is still there."""
    html = render_segments(video(plan("\n a star\n\nand <b>")), EN)
    assert ">\n\n a star\n\nand &lt;b&gt;</textarea>" in html


def test_a_row_says_how_it_stands():
    made = video(outdated=frozenset({1, 2}))
    states = re.compile(r'lv-stand-(\w+)"')
    assert states.findall(render_segments(made, EN)) == ["done", "new", "new"]
    waits = replace(made, job=JobStatus(row(state=QUEUED)))
    assert states.findall(render_segments(waits, EN)) == ["done", "wait", "wait"]
    runs = replace(made, job=JobStatus(row(state=RUNNING, stage="base", part=2, parts=3)))
    assert states.findall(render_segments(runs, EN)) == ["done", "now", "wait"]
    later = replace(
        made, outdated=frozenset(), job=JobStatus(row(state=RUNNING, stage="interpolation", part=2, parts=3))
    )
    assert states.findall(render_segments(later, EN)) == ["done", "done", "done"]
    assert "2 to be made at the next render" in render_segments(made, EN) and "2 entstehen" in render_segments(made, DE)


def test_a_locked_segment_cannot_be_written_in():
    locked = SegmentPlan((Segment("a star", locked=True), Segment("a circle")), seed=1)
    first, second = re.findall(r"<li .*?</li>", render_segments(video(locked), EN), re.DOTALL)
    assert first.count(" readonly") == 3 and " readonly" not in second
    assert not {'data-act="remove"', 'data-act="reroll"', 'data-act="try"'} & set(re.findall(r'data-act="\w+"', first))
    assert 'aria-pressed="true"' in first and 'aria-pressed="true"' not in second


def test_a_thousand_segments_are_shown_a_page_at_a_time():
    many = video(plan(*["a star"] * 1000), view=View("p1", page=2))
    html = render_segments(many, EN)
    assert html.count("<li ") == ROWS and f'start="{2 * ROWS + 1}"' in html and "page 3 of 25" in html
    assert render_timeline(many, EN).count("lv-block ") == 1000
    assert "disabled" in render_segments(replace(many, view=View("p1", page=24)), EN)


def test_segments_are_as_wide_as_they_are_long():
    continued = video(start=InitialFrames("clip", "c1", "0" * 64, 16))
    grown = [int(width) for width in re.findall(r"flex-grow: (\d+)", render_timeline(continued, EN))]
    assert grown == [16, 12, 12, 12]
    assert 'data-seek="0.30769"' in render_timeline(continued, EN)  # 16 of 52


def test_colours_tell_prompts_apart():
    assert assign_hues(["a", "b", "a", "c"]) == [0, 1, 0, 2]


@pytest.mark.parametrize("value", [0.1, 0.49, 0.51, 0.79, 0.81, 1.0, 1.24, 1.26, 1.49, 1.51, 4.0])
@pytest.mark.parametrize("name", ["d", "a", "m"])
def test_a_mark_is_bad_where_the_meters_find_something(name, value):
    good, bad = Signal(1.0, 1.0, 1.0, 0.0), Signal(value, 1.0, value, 0.0)
    join = Join(1, 16, **{other: bad if other == name else good for other in metrics.SIGNALS})
    found = metrics._seam_findings(join)
    assert (join_levels(join)[name][0] == BAD) == bool(found)
    assert join_levels(join)["s"][0] == GOOD


@pytest.mark.parametrize(
    ("ratio", "step", "level"), [(1, 9, "good"), (3, 0.4, "soon"), (3, 0.6, "bad"), (2, 9, "soon")]
)
def test_a_step_of_colour_is_read_by_both_its_limits(ratio, step, level):
    assert signal_level("s", ratio, step) == level


@pytest.mark.parametrize("measure", ["luma", *metrics.LIMITS])
@pytest.mark.parametrize("factor", [0.3, 0.8, 0.95, 1.0, 1.05, 1.3, 3.0])
def test_a_drift_is_bad_where_the_meters_find_something(measure, factor):
    drift = metrics.Drift(measure, 50.0, 50.0 * factor, 0.0, (50.0, 50.0 * factor))
    assert (drift_level(drift) == BAD) == bool(metrics._drift_findings(drift))


def findings():
    """One of each that the meters can have."""
    good, low, high = (Signal(1.0, 0.4, ratio, 0.0) for ratio in (1.0, 0.1, 9.0))
    for wrong in ({"d": low}, {"d": high}, {"a": high}, {"m": high}, {"s": replace(high, value=9.0)}):
        yield from metrics._seam_findings(Join(1, 16, **{**dict.fromkeys(metrics.SIGNALS, good), **wrong}))
    for measure in ("luma", *metrics.LIMITS):
        for last in (1.0, 200.0):
            yield from metrics._drift_findings(metrics.Drift(measure, 50.0, last, 0.0, (50.0, last)))


def test_all_that_the_meters_find_is_said_in_german():
    found = list(findings())
    assert len(found) == 5 + 2 * 5
    for finding in found:
        for text in (finding.what, finding.cure):
            said = translate(text, DE)
            assert said != text, text
            number = re.search(r"\d+\.\d+", finding.what)
            assert text != finding.what or number is None or number[0] in said


def test_findings_lead_to_their_segment():
    html = render_findings([Finding(2, "the picture stands still for a frame", "x"), Finding(None, "y", "z")], EN)
    assert 'data-act="select" data-n="2"' in html and "Segment 3" in html and "Whole video" in html
    assert 'data-n="1"' in render_findings([Finding(2, "x", "y")], EN, before=1)
    assert "No seam and no drift" in render_findings([], EN)


def test_the_timeline_shows_what_was_measured():
    seen = render_timeline(video(report=report(9.0), clip_layout=Layout(plan("a", "a", "a"))), EN)
    assert seen.count("lv-join") == 2 + 1  # and what holds them
    assert [float(left) for left in re.findall(r"left: ([\d.]+)%", seen)] == [40.0, 70.0]
    assert seen.count("<polyline") == 5 and "lv-mete-bad" in seen and "Brightness:" in seen
    assert "Seams and drift: good" in render_timeline(video(report=report()), EN)
    assert "measured when it is made" in render_timeline(video(), EN)


def test_a_curve_stays_in_its_picture():
    for found in (report(), report(9.0), report(-9.0)):
        points = re.findall(r'points="([^"]*)"', render_timeline(video(report=found), EN))
        places = [tuple(map(float, point.split(","))) for line in points for point in line.split()]
        assert all(0 <= x <= 1000 and 0 <= y <= 40 for x, y in places)


def test_the_button_says_what_it_will_do():
    said = {
        "Render": video(outdated=frozenset({0, 1, 2})),
        "Render what has changed: 1 segments": video(outdated=frozenset({2})),
        "Put the video together": video(),
        "Render again": video(clip=clip()),
        "Go on: 2 segments are missing": video(outdated=frozenset({1, 2}), job=JobStatus(row(state="cancelled"))),
    }
    for words, shown in said.items():
        assert f">{words}</button>" in render_screen(shown, EN)
    running = render_screen(
        video(job=JobStatus(row(state=RUNNING, stage="base", part=2, parts=3, step=1, steps=9))), EN
    )
    assert "lv-long-render" not in running and "data-rendering" in running and "Segment 2 of 3 …" in running
    assert 'data-act="keep"' in running


def test_two_times_are_told():
    html = render_screen(video(outdated=frozenset({1}), estimate=LongEstimate(3.0, 120.0)), EN)
    assert "a segment takes about 3 s · all of it about 2 min" in html
    assert "no estimate yet" in render_screen(video(outdated=frozenset({1})), EN)


def test_candidates_stand_under_their_segment():
    rows = re.findall(r"<li .*?</li>", render_segments(video(candidates=CANDIDATES_OF), EN), re.DOTALL)
    assert [row.count('data-act="pick"') for row in rows] == [0, 1, 0]
    assert 'data-seed="5"' in rows[1] and rows[1].count("lv-mete ") == 4 and 'data-job="j2"' in rows[1]


def test_every_strategy_is_explained():
    for strategy in STRATEGIES:
        html = render_advanced(video(plan("a", strategy=strategy)), EN)
        assert f'value="{strategy}" selected' in html and EN(f"strategy_{strategy}_does") in Reader(html).texts
    assert "codenoise" not in render_advanced(video(start=InitialFrames("clip", "c", "0" * 64, 4)), EN)


def test_a_job_of_candidates_is_no_clip_that_was_removed():
    from app.ui.html import job_words

    assert "Candidates are made" in job_words(JobStatus(row(kind=CANDIDATES, state=DONE)), EN)
