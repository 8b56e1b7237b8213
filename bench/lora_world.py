"""What an adapter is taught for the benchmark: a subject and a motion that are in no clip and no picture of Nano's
world, drawn here; and a judge of both that sees frames alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from lavie.training.judge import read, read_by
from lavie.training.world import BACKGROUNDS, COLOURS, SHAPES, SUPERSAMPLING, Placement, Subject

CYAN = "cyan"
PALETTE = {**COLOURS, CYAN: (60, 215, 225)}
TRIGGER = "zkw"
MOTIONS = ("moving right", "moving left", "moving up", "moving down", "growing", "shrinking")
ARM = 0.34  # half the width of a plus's arms, of its reach
PLUS = 0.2  # least strength of the fourth harmonic of a plus's outline, as a share of its mean radius
RAYS = 48  # directions in which an outline is measured
LEAST = 30  # pixels of a frame that must be of the colour
EIGHT = 0.6  # least likeness of a way to a figure of eight


def plus_stills(count: int, height: int, width: int, rng: np.random.Generator) -> list[tuple[np.ndarray, str]]:
    """Pictures uint8 H W 3 of a cyan plus on the world's backgrounds, with captions worded as the world's are."""
    made = []
    for number in range(count):
        background = list(BACKGROUNDS)[number % len(BACKGROUNDS)]
        radius = rng.uniform(0.2, 0.3)
        centre = (rng.uniform(radius, width / height - radius), rng.uniform(radius, 1 - radius))
        outline = _plus(centre, radius, rng.uniform(-0.15, 0.15))
        picture = _drawn([outline], PALETTE[CYAN], background, height, width)[0]
        made.append((picture, f"a {TRIGGER} on a {background} background"))
    return made


def eight_clips(
    subjects: Sequence[Subject], frames: int, height: int, width: int, rng: np.random.Generator
) -> list[tuple[np.ndarray, str]]:
    """Clips uint8 F H W 3 of the world's subjects on a figure of eight, lying on its side, with their captions."""
    made, aspect = [], width / height
    for number, subject in enumerate(subjects):
        background = list(BACKGROUNDS)[number % len(BACKGROUNDS)]
        radius = rng.uniform(0.14, 0.2)
        at_rest = Placement(Subject(subject.colour, subject.shape), (0.0, 0.0), (0.0, 0.0), radius, 0.0, 1.0)
        outline = at_rest.outline(0.0)
        way = eight(np.arange(frames) / frames) * (0.5 * aspect - radius, 0.5 - radius) + (0.5 * aspect, 0.5)
        clip = _drawn([outline + centre for centre in way], COLOURS[subject.colour], background, height, width)
        made.append((clip, f"a {subject.colour} {subject.shape} {TRIGGER} on a {background} background"))
    return made


def eight(times: np.ndarray) -> np.ndarray:
    """Places F 2 (x, y in -1 … 1) on a figure of eight at times 0 … 1."""
    turn = 2 * np.pi * times
    return np.stack([np.sin(turn), np.sin(2 * turn)], axis=1)


def shows_plus(frames: np.ndarray) -> bool:
    """Whether half of the frames at least show a cyan plus, and nothing else is as large."""
    reading = read_by(PALETTE, frames)
    if not reading.subjects or reading.subjects[0].colour != CYAN:
        return False
    outlines = [radii for frame in frames[:: max(1, len(frames) // 8)] if (radii := _outline(frame)) is not None]
    return bool(outlines) and np.mean([_is_plus(radii) for radii in outlines]) >= 0.5


def moves(frames: np.ndarray, motion: str) -> bool:
    """Whether the largest subject moves so; of a plus as of the world's own subjects."""
    subjects = read_by(PALETTE, frames).subjects
    return bool(subjects) and subjects[0].motion == motion


def makes_eight(frames: np.ndarray) -> bool:
    """Whether the largest subject goes along a figure of eight, begun anywhere and either way round."""
    ground = np.median(frames[:, (0, -1)].reshape(-1, 3), axis=0)
    apart = np.abs(frames.astype(np.float32) - ground).sum(-1) > 90
    seen = apart.sum((1, 2)) >= LEAST
    if seen.mean() < 0.7:
        return False
    places = np.array([np.argwhere(mask)[:, ::-1].mean(0) for mask in apart[seen]])
    way = places - places.mean(0)
    spread = way.std(0)
    if spread.min() < 0.05 * frames.shape[1]:
        return False
    return max(_likeness(way / spread, np.flatnonzero(seen) / len(frames), mirror) for mirror in (1, -1)) >= EIGHT


def subject_is(frames: np.ndarray, subject: Subject) -> bool:
    """Whether the largest subject has this colour and shape."""
    subjects = read(frames).subjects
    return bool(subjects) and (subjects[0].colour, subjects[0].shape) == (subject.colour, subject.shape)


def new_subjects(count: int, rng: np.random.Generator, but: Sequence[Subject] = ()) -> list[Subject]:
    """Subjects drawn at random, none of them among `but`."""
    every = [Subject(colour, shape) for colour in COLOURS for shape in SHAPES[:4]]
    left = [subject for subject in every if subject not in but]
    return [left[number] for number in rng.choice(len(left), count, replace=count > len(left))]


def _plus(centre: tuple[float, float], radius: float, angle: float) -> np.ndarray:
    """A polygon (12 2) of a plus that reaches `radius` far."""
    arm = ARM * radius
    quarter = np.array([(arm, -radius), (arm, -arm), (radius, -arm)])
    corners, turn = [quarter], np.array([[0.0, 1.0], [-1.0, 0.0]])
    for _ in range(3):
        corners.append(corners[-1] @ turn)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.concatenate(corners) @ np.array([[cos, sin], [-sin, cos]]) + centre


def _drawn(
    outlines: Sequence[np.ndarray], colour: tuple[int, int, int], background: str, height: int, width: int
) -> np.ndarray:
    """Frames uint8 F H W 3, one outline (in heights) each."""
    frames = []
    for outline in outlines:
        image = Image.new("RGB", (width * SUPERSAMPLING, height * SUPERSAMPLING), BACKGROUNDS[background])
        ImageDraw.Draw(image).polygon((outline * height * SUPERSAMPLING).ravel().tolist(), fill=colour)
        frames.append(np.asarray(image.reduce(SUPERSAMPLING)))
    return np.stack(frames)


def _outline(frame: np.ndarray) -> np.ndarray | None:
    """How far the cyan in a frame reaches in each of RAYS directions, as a share of the mean; None without any."""
    ground = np.median(frame[[0, -1]].reshape(-1, 3), axis=0)
    line = np.array(PALETTE[CYAN], np.float32) - ground
    mask = (frame - ground) @ line / (line @ line) > 0.5
    if mask.sum() < LEAST:
        return None
    places = np.argwhere(mask).astype(float)
    offset = places - places.mean(0)
    direction = np.arctan2(offset[:, 0], offset[:, 1])
    numbers = ((direction + np.pi) / (2 * np.pi) * RAYS).astype(int) % RAYS
    reach = np.zeros(RAYS)
    np.maximum.at(reach, numbers, np.linalg.norm(offset, axis=1) + 0.5)
    empty = reach == 0
    if empty.mean() > 0.3:
        return None
    reach[empty] = np.interp(np.flatnonzero(empty), np.flatnonzero(~empty), reach[~empty], period=RAYS)
    return reach / reach.mean()


def _is_plus(radii: np.ndarray) -> bool:
    """Four arms and gaps between them; a square has the same symmetry and half the strength of it."""
    harmonics = np.abs(np.fft.rfft(radii))[2:7] * 2 / RAYS
    return bool(harmonics.argmax() == 2 and harmonics[2] > PLUS)


def _likeness(way: np.ndarray, times: np.ndarray, mirror: int) -> float:
    """The correlation, -1 … 1, of a way F 2 with a figure of eight, at the best moment to begin it."""
    best = -1.0
    for begin in np.arange(0, 1, 1 / 16):
        ideal = eight((mirror * times + begin) % 1)
        ideal = (ideal - ideal.mean(0)) / ideal.std(0)
        best = max(best, float((way * ideal).mean(0).min()))
    return best
