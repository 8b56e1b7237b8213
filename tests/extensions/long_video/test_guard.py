"""A guarded plan makes a segment again whose join would be seen: what is looked at are frames, scripted here."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from extensions.long_video.metrics import AFTER, BEFORE
from extensions.long_video.plan import CODENOISE, CONDITIONED, CORRECTED, resolve_flag
from tests.extensions.long_video.videos import ideal_model, plan_of, segments
from tests.oracle import draw

FEW = 6  # steps
_ROWS = np.random.default_rng(0).uniform(0, 255, (64, 260))
PATTERN = np.apply_along_axis(lambda row: np.convolve(row, np.hanning(15) / 7, "same"), 1, _ROWS)


class Shown:
    """Frames of a camera that goes over a pattern, and jumps by so many pixels at the join: another number each time
    that somebody looks, the last one from then on."""

    def __init__(self, *jumps: int):
        self.jumps, self.looks, self.latents = list(jumps), 0, []

    def __call__(self, latents):
        self.latents.append(latents)
        jump = self.jumps[min(self.looks, len(self.jumps) - 1)]
        self.looks += 1
        places = np.arange(latents.shape[2]) + jump * (np.arange(latents.shape[2]) >= BEFORE)
        views = [PATTERN[:, 20 + place :][:, :96, None] for place in places]
        return np.repeat(np.round(views), 3, axis=3).astype(np.uint8)


def made(shown, count=2, **values):
    plan = plan_of(count, CONDITIONED, **{"guarded": True, **values})
    return segments(plan, replace(ideal_model(steps=FEW), show=shown))


def test_a_segment_whose_join_would_be_seen_is_made_again_with_other_noise():
    shown = Shown(30, 0)
    _, segment = made(shown)
    assert shown.looks == 2 and segment.facts["attempt"] == 1 and segment.facts["overlap"] == 4
    assert segment.facts["seams"][0] > 1 >= segment.facts["seams"][1]
    _, alone = made(Shown(0))
    assert not torch.equal(segment.latents, alone.latents)


def test_it_is_looked_at_with_the_frames_before_it():
    shown = Shown(0)
    first, second = made(shown)
    expected = torch.cat([first.latents[:, :, -BEFORE:], second.latents[:, :, :AFTER]], dim=2)
    assert torch.equal(shown.latents[0], expected)


def test_of_three_that_would_be_seen_the_best_is_taken():
    shown = Shown(2, 1, 30)
    _, segment = made(shown)
    seams = segment.facts["seams"]
    assert shown.looks == 3 and min(seams) > 1
    assert segment.facts["attempt"] == seams.index(min(seams)) == 1


@pytest.mark.parametrize("values", [{"guarded": False}, {"count": 1}], ids=["unguarded", "nothing before it"])
def test_nobody_looks(values):
    shown = Shown(30)
    *_, segment = made(shown, **values)
    assert shown.looks == 0 and segment.facts["attempt"] == 0


def test_the_first_segment_behind_frames_that_were_there_is_guarded_too():
    shown = Shown(30, 0)
    plan = plan_of(1, CONDITIONED, guarded=True)
    (segment,) = segments(plan, replace(ideal_model(steps=FEW), show=shown), start=draw(BEFORE))
    assert shown.looks == 2 and segment.facts["attempt"] == 1


def test_a_resumed_chain_looks_at_the_same_frames():
    whole = made(Shown(0), count=4)
    plan = plan_of(4, CONDITIONED, guarded=True)
    shown = Shown(0)
    rest = segments(plan, replace(ideal_model(steps=FEW), show=shown), done=[one.latents for one in whole[:2]])
    assert all(torch.equal(a.latents, b.latents) for a, b in zip(whole[2:], rest, strict=True))
    assert torch.equal(shown.latents[0][:, :, :BEFORE], whole[1].latents[:, :, -BEFORE:])


@pytest.mark.parametrize(
    ("strategy", "expected"), [(CONDITIONED, True), (None, True), (CORRECTED, False), (CODENOISE, False)]
)
def test_who_is_guarded_where_nobody_says(strategy, expected):
    assert resolve_flag(strategy, None) is expected
    assert resolve_flag(strategy, not expected) is not expected
