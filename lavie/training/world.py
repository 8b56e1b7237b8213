"""The procedural world that Nano learns: coloured shapes that move on a plain background.

Captions read `a [small|big] COLOUR SHAPE [MOTION] on a BACKGROUND background`, two subjects are joined by "and".
A `Scene` is what a caption says; a `Staging` is one way to film it (where it starts, how large, how turned), drawn from
a random generator. A staging is a function of time, so the same clip can be filmed at 16 or 61 frames, small or large:
that is where true targets for interpolation and super-resolution come from. Knows numpy and Pillow, no torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image, ImageDraw

COLOURS = {
    "red": (220, 40, 40),
    "orange": (245, 140, 40),
    "yellow": (240, 210, 50),
    "green": (40, 180, 60),
    "blue": (50, 80, 220),
    "purple": (150, 60, 190),
    "pink": (245, 130, 180),
    "white": (240, 240, 240),
}
BACKGROUNDS = {
    "black": (15, 15, 20),
    "gray": (120, 120, 125),
    "navy": (20, 25, 80),
    "brown": (110, 70, 40),
    "teal": (20, 110, 110),
}
SHAPES = ("circle", "square", "triangle", "star", "heart")
MOTIONS = (
    "moving right",
    "moving left",
    "moving up",
    "moving down",
    "bouncing",
    "growing",
    "shrinking",
    "spinning",
)
RADII = {"small": 0.2, "big": 0.3}  # of the frame's height
HELD_OUT_COLOUR, HELD_OUT_SHAPE = "purple", "heart"  # seen in stills, never in video

SUPERSAMPLING = 4  # outlines are filled on a grid this many times finer, then averaged
GROWTH = 2.6  # ratio of the radii at both ends of "growing" and "shrinking"


@dataclass(frozen=True)
class Subject:
    """One shape as a caption names it. `motion` is None in a still, `size` is None where nothing is said."""

    colour: str
    shape: str
    motion: str | None = None
    size: str | None = None

    def __str__(self) -> str:
        return " ".join(word for word in ("a", self.size, self.colour, self.shape, self.motion) if word)


@dataclass(frozen=True)
class Scene:
    """What a caption says: one or two subjects on a background."""

    subjects: tuple[Subject, ...]
    background: str

    @property
    def caption(self) -> str:
        return f"{' and '.join(map(str, self.subjects))} on a {self.background} background"

    @property
    def held_out(self) -> bool:
        """Whether the scene shows what no training video may show: purple, or a heart."""
        return any(s.colour == HELD_OUT_COLOUR or s.shape == HELD_OUT_SHAPE for s in self.subjects)

    def still(self) -> Scene:
        """The same scene with nothing said about motion."""
        return replace(self, subjects=tuple(replace(s, motion=None) for s in self.subjects))


def random_scene(rng: np.random.Generator, *, held_out: bool = False, two: float = 0.0, sized: float = 0.5) -> Scene:
    """A scene drawn at random.

    Args:
        rng: the only source of randomness.
        held_out: whether purple and hearts may appear (stills: yes, training clips: no).
        two: share of scenes with two subjects, 0 … 1.
        sized: share of subjects of which the caption tells the size, 0 … 1.
    """
    colours = [c for c in COLOURS if held_out or c != HELD_OUT_COLOUR]
    shapes = [s for s in SHAPES if held_out or s != HELD_OUT_SHAPE]
    subjects = []
    for _ in range(2 if rng.random() < two else 1):
        shape = shapes[rng.integers(len(shapes))]
        motions = [m for m in MOTIONS if not (m == "spinning" and shape == "circle")]
        subjects.append(
            Subject(
                colour=colours[rng.integers(len(colours))],
                shape=shape,
                motion=motions[rng.integers(len(motions))],
                size=("small", "big")[rng.integers(2)] if rng.random() < sized else None,
            )
        )
    return Scene(tuple(subjects), list(BACKGROUNDS)[rng.integers(len(BACKGROUNDS))])


@dataclass(frozen=True)
class Placement:
    """How one subject is filmed. Lengths are in units of the frame's height, angles in radians, time runs 0 … 1."""

    subject: Subject
    centre: tuple[float, float]
    travel: tuple[float, float]
    radius: float
    angle: float
    turn: float  # +1 or -1: the sense of a spin, and the phase of a bounce

    def outline(self, time: float) -> np.ndarray:
        """The subject's polygon at `time`: (points, 2) as x, y in units of the height.

        What the caption describes lasts from 0 to 1. Behind that, what spins or bounces goes on, and what moves or
        swells turns back and forth, so that it stays in the picture however long it is filmed.
        """
        (x, y), (dx, dy), motion = self.centre, self.travel, self.subject.motion
        radius, angle = self.radius, self.angle
        if motion not in ("bouncing", "spinning"):
            time = 1 - abs(1 - time % 2)
        if motion == "bouncing":
            y += dy * (0.5 - abs(math.sin(math.pi * (2 * time + 0.25 * (1 + self.turn)))))
        elif motion in ("growing", "shrinking"):
            progress = time if motion == "growing" else 1 - time
            radius *= GROWTH ** (progress - 0.5)
        elif motion == "spinning":
            angle += self.turn * math.pi * time
        else:
            x, y = x + dx * (time - 0.5), y + dy * (time - 0.5)
        cos, sin = math.cos(angle), math.sin(angle)
        return radius * _OUTLINES[self.subject.shape] @ np.array([[cos, sin], [-sin, cos]]) + (x, y)


@dataclass(frozen=True)
class Staging:
    """A scene with everything decided: a clip as a function of time."""

    scene: Scene
    placements: tuple[Placement, ...]

    def film(self, frames: int, height: int, width: int, until: float = 1.0) -> np.ndarray:
        """The clip as uint8 F H W 3, its first frame at time 0 and its last at `until` (a single frame: at 0.5)."""
        return self.at(np.linspace(0, until, frames) if frames > 1 else [0.5], height, width)

    def at(self, times: Iterable[float], height: int, width: int) -> np.ndarray:
        """The moments `times` (each from 0 on) as uint8 F H W 3."""
        return np.stack([self._frame(float(time), height, width) for time in times])

    def _frame(self, time: float, height: int, width: int) -> np.ndarray:
        scale = height * SUPERSAMPLING
        image = Image.new("RGB", (width * SUPERSAMPLING, scale), BACKGROUNDS[self.scene.background])
        draw = ImageDraw.Draw(image)
        for placement in self.placements:
            points = (placement.outline(time) * scale).ravel().tolist()
            draw.polygon(points, fill=COLOURS[placement.subject.colour])
        return np.asarray(image.reduce(SUPERSAMPLING))


def stage(scene: Scene, rng: np.random.Generator, aspect: float = 1.5) -> Staging:
    """Decide everything that the caption leaves open. `aspect` is width / height."""
    if len(scene.subjects) == 1:
        rooms = [(0.0, 0.0, aspect, 1.0)]
    elif rng.random() < 0.5:
        rooms = [(0.0, 0.0, aspect / 2, 1.0), (aspect / 2, 0.0, aspect, 1.0)]
    else:
        rooms = [(0.0, 0.0, aspect, 0.5), (0.0, 0.5, aspect, 1.0)]
    return Staging(
        scene, tuple(_place(subject, room, rng) for subject, room in zip(scene.subjects, rooms, strict=True))
    )


def _place(subject: Subject, room: tuple[float, float, float, float], rng: np.random.Generator) -> Placement:
    left, top, right, bottom = room
    scale = min(1.0, 1.5 * min(right - left, bottom - top))
    radius = scale * (RADII[subject.size] if subject.size else rng.uniform(RADII["small"], RADII["big"]))
    travels = {
        "moving right": (0.5 * (right - left), 0.0),
        "moving left": (-0.5 * (right - left), 0.0),
        "moving up": (0.0, -0.5 * (bottom - top)),
        "moving down": (0.0, 0.5 * (bottom - top)),
        "bouncing": (0.0, 0.45 * (bottom - top)),
    }
    travel = travels.get(subject.motion or "", (0.0, 0.0))
    reach = radius * (GROWTH**0.5 if subject.motion in ("growing", "shrinking") else 1.0)
    return Placement(
        subject=subject,
        centre=(
            _draw_within(left, right, reach + abs(travel[0]) / 2, rng),
            _draw_within(top, bottom, reach + abs(travel[1]) / 2, rng),
        ),
        travel=travel,
        radius=radius,
        angle=rng.uniform(-0.15, 0.15),
        turn=1.0 if rng.random() < 0.5 else -1.0,
    )


def _draw_within(low: float, high: float, reach: float, rng: np.random.Generator) -> float:
    """A centre at least `reach` from both borders; where there is no room for that, near the middle."""
    middle, slack = (low + high) / 2, max((high - low) / 2 - reach, 0.04 * (high - low))
    return middle + rng.uniform(-slack, slack)


def _polygon(points: int, radii: tuple[float, ...] = (1.0,)) -> np.ndarray:
    """A polygon about the origin, its first corner upwards, with the corners' radii in turn."""
    angles = np.arange(points) * 2 * np.pi / points
    radius = np.resize(radii, points)
    return np.stack([radius * np.sin(angles), -radius * np.cos(angles)], axis=1)


def _heart() -> np.ndarray:
    """The classical heart curve, scaled to a circumradius of about one and centred."""
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack([x, y - 2.5], axis=1) / 16


_OUTLINES = {
    "circle": 0.9 * _polygon(48),
    "square": _polygon(4) @ np.array([[math.sqrt(0.5), math.sqrt(0.5)], [-math.sqrt(0.5), math.sqrt(0.5)]]),
    "triangle": 1.05 * _polygon(3) + (0.0, 0.15),
    "star": 1.1 * _polygon(10, (1.0, 0.45)),
    "heart": _heart(),
}
