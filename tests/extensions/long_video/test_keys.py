"""A key changes with everything that its part depends on, from there on, and with nothing else."""

from dataclasses import replace

import pytest
import torch

from extensions.long_video.cache_keys import latents_hash, segment_keys, stage_digest, window_key
from extensions.long_video.plan import CODENOISE, CONDITIONED, CORRECTED, Segment, SegmentPlan
from lavie.manifest import VELOCITY, StageDefaults
from lavie.request import Interpolation, Request, Sampling, SuperResolution
from lavie.windows import Windows

PLAN = SegmentPlan(tuple(Segment(prompt) for prompt in "abcd"), seed=5, strategy=CORRECTED)
PROVENANCE = {
    "bundle": "Tiny",
    "weights": {"base/w.safetensors": "1", "vae/w.safetensors": "2", "interpolation/w.safetensors": "3"},
    "device": "cpu",
    "dtype": "float32",
    "attention": "sdpa",
    "offload": "none",
    "versions": {"torch": "2"},
}
REQUEST = Request("a", seed=5, width=32, height=16, frames=4, fps=8, base=Sampling("ddim", 2, 3.0))
USED = ("base", "vae")


def changed(number: int, **values) -> SegmentPlan:
    segments = list(PLAN.segments)
    segments[number] = replace(segments[number], **values)
    return replace(PLAN, segments=tuple(segments))


def same(plan: SegmentPlan, start: str | None = None, made: str = "m") -> list[bool]:
    """Of each segment whether its key is still that of `PLAN`."""
    return [a == b for a, b in zip(segment_keys(PLAN, None, "m"), segment_keys(plan, start, made), strict=True)]


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("values", [{"prompt": "x"}, {"seed": 6}, {"frames": 7}], ids=str)
def test_a_segment_that_changes_changes_its_key_and_those_behind_it(number, values):
    assert same(changed(number, **values)) == [place < number for place in range(4)]


@pytest.mark.parametrize(
    "plan",
    [
        replace(PLAN, seed=6),
        replace(PLAN, negative_prompt="x"),
        replace(PLAN, strategy=CONDITIONED),
        replace(PLAN, overlap=2),
        replace(PLAN, ramp=3),
        replace(PLAN, window=12),
        replace(PLAN, anchored=True),
        replace(PLAN, guarded=True),
        replace(PLAN, strength=0.5),
    ],
)
def test_what_is_said_of_all_segments_changes_all_keys(plan):
    assert not any(same(plan))


def test_what_is_continued_and_how_it_is_made_change_all_keys():
    assert not any(same(PLAN, start="s"))
    assert not any(same(PLAN, made="other"))


@pytest.mark.parametrize("number", range(4))
def test_locks_and_seeds_that_are_the_videos_change_none(number):
    assert all(same(changed(number, locked=True)))
    assert all(same(changed(number, seed=5)))


def test_another_seed_of_the_video_leaves_segments_with_their_own():
    own = replace(PLAN, segments=tuple(replace(segment, seed=9) for segment in PLAN.segments))
    assert segment_keys(own, None, "m") == segment_keys(replace(own, seed=6), None, "m")


def test_more_segments_and_fewer_leave_the_keys_of_those_that_stay():
    longer = segment_keys(replace(PLAN, segments=(*PLAN.segments, Segment("e"))), None, "m")
    assert longer[:4] == segment_keys(PLAN, None, "m")
    assert len(set(longer)) == 5
    inserted = replace(PLAN, segments=(*PLAN.segments[:2], Segment("x"), *PLAN.segments[2:]))
    assert [key in segment_keys(PLAN, None, "m") for key in segment_keys(inserted, None, "m")] == [True] * 2 + [
        False
    ] * 3


def test_segments_that_say_the_same_have_keys_of_their_own():
    assert len(set(segment_keys(SegmentPlan((Segment("a"),) * 9, 5, strategy=CORRECTED), None, "m"))) == 9


def test_made_as_one_every_key_stands_on_the_whole_plan():
    together = replace(PLAN, strategy=CODENOISE)
    keys = segment_keys(together, None, "m")
    for other in (
        replace(changed(3, prompt="x"), strategy=CODENOISE),
        replace(together, segments=(*PLAN.segments, Segment("e"))),
        replace(together, segments=tuple(replace(segment, seed=5) for segment in PLAN.segments), seed=6),
    ):
        assert not set(keys) & set(segment_keys(other, None, "m"))


def test_a_stage_depends_on_its_own_settings_weights_and_machine():
    defaults = StageDefaults(Sampling())
    base = stage_digest("base", REQUEST, defaults, PROVENANCE, USED)
    changes = [
        ("base", replace(REQUEST, base=Sampling("ddim", 3, 3.0)), defaults, PROVENANCE, USED),
        ("base", replace(REQUEST, width=64), defaults, PROVENANCE, USED),
        ("base", REQUEST, StageDefaults(Sampling(), prediction_type=VELOCITY), PROVENANCE, USED),
        ("base", REQUEST, StageDefaults(Sampling(), windows=Windows(8, 4, 1)), PROVENANCE, USED),
        ("base", REQUEST, defaults, PROVENANCE | {"weights": {"base/w.safetensors": "9"}}, USED),
        *[("base", REQUEST, defaults, PROVENANCE | {name: "x"}, USED) for name in ("device", "dtype", "attention")],
        ("base", REQUEST, defaults, PROVENANCE | {"versions": {}}, USED),
    ]
    assert len({base, *(stage_digest(*values) for values in changes)}) == len(changes) + 1


def test_a_stage_does_not_depend_on_what_it_does_not_use():
    defaults = StageDefaults(Sampling())
    base = stage_digest("base", REQUEST, defaults, PROVENANCE, USED)
    weights = PROVENANCE["weights"] | {"interpolation/w.safetensors": "9"}
    unchanged = [
        (REQUEST, StageDefaults(Sampling("euler"), preview=((0.0, 0.0, 0.0),) * 4), PROVENANCE),
        (replace(REQUEST, interpolation=Interpolation(), super_resolution=SuperResolution()), defaults, PROVENANCE),
        (replace(REQUEST, prompt="x", seed=1, fps=12), defaults, PROVENANCE),  # the plan has its own
        (REQUEST, defaults, PROVENANCE | {"weights": weights, "offload": "model", "bundle": "Other"}),
    ]
    assert {stage_digest("base", *values, USED) for values in unchanged} == {base}


def test_a_window_depends_on_what_it_sees():
    keys = [
        window_key("m", 5, 0, 60, ["a", "b"]),
        window_key("x", 5, 0, 60, ["a", "b"]),
        window_key("m", 6, 0, 60, ["a", "b"]),
        window_key("m", 5, 1, 60, ["a", "b"]),
        window_key("m", 5, 0, 59, ["a", "b"]),
        window_key("m", 5, 0, 60, ["a"]),
        window_key("m", 5, 0, 60, ["b", "a"]),
    ]
    assert len(set(keys)) == len(keys)


def test_latents_have_the_hash_of_their_shape_and_numbers():
    latents = torch.arange(24.0).view(1, 2, 3, 2, 2)
    assert latents_hash(latents) == latents_hash(latents.double()) == latents_hash(latents.transpose(3, 4).mT)
    assert len({latents_hash(other) for other in (latents, latents + 1, latents.view(1, 3, 2, 2, 2))}) == 3
