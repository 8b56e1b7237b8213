"""The judge of `bench lora`: it knows the plus and the figure of eight that it draws, and nothing else as these."""

import numpy as np
import pytest

from bench import lora_world
from bench.lora_world import (
    CYAN,
    MOTIONS,
    PALETTE,
    eight_clips,
    makes_eight,
    moves,
    new_subjects,
    plus_stills,
    shows_plus,
    subject_is,
)
from lavie.training import world
from lavie.training.world import SHAPES, Scene, Subject, stage

SIZE = (64, 96)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def filmed(colour: str, shape: str, motion: str, rng) -> np.ndarray:
    return stage(Scene((Subject(colour, shape, motion),), "navy"), rng).film(16, *SIZE)


def test_every_plus_is_seen(rng):
    stills = plus_stills(10, *SIZE, rng)
    assert all(shows_plus(still[None]) for still, _ in stills)
    assert len({caption for _, caption in stills}) == 5


def test_no_other_shape_is_taken_for_one(rng, monkeypatch):
    monkeypatch.setitem(world.COLOURS, CYAN, PALETTE[CYAN])
    assert not any(shows_plus(filmed(CYAN, shape, "moving right", rng)) for shape in SHAPES)


def test_a_motion_is_read_in_the_new_colour_too(rng, monkeypatch):
    monkeypatch.setitem(world.COLOURS, CYAN, PALETTE[CYAN])
    assert all(moves(filmed(CYAN, "square", motion, rng), motion) for motion in MOTIONS)


def test_figures_of_eight(rng):
    subjects = new_subjects(4, rng)
    clips = [clip for clip, _ in eight_clips(subjects, 16, *SIZE, rng)]
    assert all(makes_eight(np.roll(clip, 5, axis=0)) and makes_eight(clip[::-1]) for clip in clips)
    assert all(subject_is(clip, subject) for clip, subject in zip(clips, subjects, strict=True))
    assert not any(makes_eight(filmed("red", "star", motion, rng)) for motion in world.MOTIONS)
    assert not set(new_subjects(9, rng, but=subjects)) & set(subjects)
    assert lora_world.EIGHT > 0.5
