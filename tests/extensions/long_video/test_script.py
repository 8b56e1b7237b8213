"""A pasted script becomes segments, and says what its times became."""

import pytest

from extensions.long_video.script import parse_script
from lavie.errors import RequestError


def _prompts(text: str, **values) -> list[str]:
    return [segment.prompt for segment in parse_script(text, 8, **values).segments]


def test_each_line_is_a_segment():
    assert _prompts("a red star\n\n  a blue star: spinning \n2 stars\n") == [
        "a red star", "a blue star: spinning", "2 stars"
    ]  # fmt: skip


def test_times_are_snapped_to_segments_and_it_is_said():
    script = parse_script("0s-2s: a\n2s – 5s: b\n5-6.6: c", fps=8)  # borders at 2, 3.5, 5 and 6.5 s
    assert [segment.prompt for segment in script.segments] == ["a", "b", "b", "c"]
    assert script.said == ("line 3: 5–6.6 s became 5–6.5 s, segment 4",)


def test_minutes_are_read_and_a_moment_gets_a_whole_segment():
    script = parse_script("0:00-1:00: a\n1:00-1:00.1: b", fps=8)
    assert [segment.prompt for segment in script.segments] == ["a"] * 40 + ["b"]
    assert script.said[0] == "line 1: 0–60 s became 0–60.5 s, segments 1 to 40"


def test_a_gap_is_closed_and_a_late_beginning_too():
    script = parse_script("1s-2s: a\n4s-5s: b", fps=8)
    assert [segment.prompt for segment in script.segments] == ["a", "b", "b"]
    assert len(script.said) == 2


def test_behind_footage_the_first_segment_is_shorter():
    assert _prompts("0s-3s: a\n3s-4.5s: b", start=100) == ["a", "a", "b"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (" \n\n", ["empty"]),
        ("0s-2s: a\nb", ["line 2 has no times", "'b'"]),
        ("0s-2s: a\n1s-3s: b", ["line 2 begins at 1", "order"]),
        ("2s-2s: a", ["line 1 ends at 2", "later"]),
        ("0s-9999s: a", ["line 1 ends at 9999", "1000"]),
        ("a\n" * 1001, ["1001 segments"]),
        ("a" * 4001, ["4001 characters"]),
    ],
)
def test_what_is_no_script_is_refused_with_its_line(text, words):
    with pytest.raises(RequestError) as caught:
        parse_script(text, 8)
    assert all(word in str(caught.value) for word in words), str(caught.value)
