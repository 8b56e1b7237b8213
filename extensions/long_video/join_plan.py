"""Several clips as one video, as values: which clips, and what leads from each to the next. Needs no torch.

    plan = JoinPlan((SourceClip("a", 61), SourceClip("b", 16)), (Transition("the sun sets"),), seed=5)
    reel.pieces()  →  clip 0: frames 0 … 60 · bridge 0: 61 … 68 · clip 1: 69 … 84

The clips stay as they are, frame for frame; a bridge is new frames between two of them, made by `bridge.bridge` from
the last frames of one and the first of the other. So no bridge depends on another: a clip that is exchanged makes the
two beside it anew, a transition only itself. All in latents of the base stage, before interpolation and
super-resolution, which then go over the whole video at once and leave no seam of their own.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from extensions.long_video.plan import CONDITIONED, CORRECTED, MAX_SEGMENTS, REPAINT
from lavie.request import MAX_FRAMES
from lavie.values import MAX_SEED, check, check_kind, check_number, check_prompt, check_whole, from_json, to_json

SCHEMA_VERSION = 1
BRIDGING = (CONDITIONED, CORRECTED, REPAINT)  # strategies that can be told both ends
CLIP, BRIDGE = "clip", "bridge"
MAX_SHOT_FRAMES = 1_000_000


@dataclass(frozen=True)
class SourceClip:
    """A clip of the base stage. name: what whoever keeps it calls it. frames: how many it has; 1 for a picture.
    prompt: what it shows, for the later stages; empty where nobody knows."""

    name: str
    frames: int
    prompt: str = ""

    def __post_init__(self):
        check_kind("a shot's name", self.name, str)
        check(self.frames is not None, f"a shot's frames is None: give a whole number from 1 to {MAX_SHOT_FRAMES}")
        check_whole("a shot's frames", self.frames, 1, MAX_SHOT_FRAMES)
        check_prompt("a shot's prompt", self.prompt)


@dataclass(frozen=True)
class Transition:
    """From one clip to the next. prompt: what happens in between. frames: new ones, 0 for a cut. seed: None for one
    that follows from the video's."""

    prompt: str
    frames: int = 8
    seed: int | None = None

    def __post_init__(self):
        check_prompt("a transition's prompt", self.prompt)
        check(self.frames is not None, "a transition's frames is None: give 0 for a cut, or more")
        check_whole("a transition's frames", self.frames, 0, MAX_FRAMES)
        check(
            bool(self.prompt.strip()) or not self.frames, "a transition's prompt is empty: say what happens in between"
        )
        check_whole("a transition's seed", self.seed, 0, MAX_SEED)


@dataclass(frozen=True)
class Piece:
    """kind: `CLIP` or `BRIDGE`. number: of the clip, or of the clip before the bridge. frames: absolute numbers."""

    kind: str
    number: int
    frames: range


@dataclass(frozen=True)
class JoinPlan:
    """A whole video. transitions: one between each clip and the next. strategy: one of `BRIDGING`, None for the best
    that the bundle has networks for (`resolving.resolve_plan`). window: frames the network sees. strength: as in
    `SegmentPlan`. Raises RequestError on any value outside its limits."""

    shots: tuple[SourceClip, ...]
    transitions: tuple[Transition, ...]
    seed: int | None = None
    negative_prompt: str = ""
    strategy: str | None = None
    window: int = 16
    strength: float = 1.0

    def __post_init__(self):
        for name, values, kind in (("shots", self.shots, SourceClip), ("transitions", self.transitions, Transition)):
            whole = isinstance(values, tuple) and all(isinstance(value, kind) for value in values)
            check(whole, f"{name} is no tuple of {name}: give one `{kind.__name__}` for each")
        count, between = len(self.shots), len(self.transitions)
        check(2 <= count <= MAX_SEGMENTS, f"the video has {count} clips: give 2 to {MAX_SEGMENTS}")
        check(
            between == count - 1, f"{count} clips have {count - 1} transitions between them, not {between}: give each"
        )
        check_whole("the video's seed", self.seed, 0, MAX_SEED)
        check_prompt("negative_prompt", self.negative_prompt)
        known = (None, *BRIDGING)
        check(self.strategy in known, f"strategy is {self.strategy!r}: choose one of {', '.join(BRIDGING)}")
        check(self.window is not None, f"window is None: give a whole number from 3 to {MAX_FRAMES}")
        check_whole("window", self.window, 3, MAX_FRAMES)
        check(self.strength is not None, "strength is None: give a number from 0 to 1")
        check_number("strength", self.strength, 0.0, 1.0)
        for before, transition, after in zip(self.shots, self.transitions, self.shots[1:], strict=False):
            if transition.frames:
                known_frames(before.frames, after.frames, transition.frames, self.window)

    def to_json(self) -> str:
        """One line of JSON with the schema's version."""
        return to_json(self, SCHEMA_VERSION)

    @classmethod
    def from_json(cls, text: str) -> JoinPlan:
        """The inverse of `to_json`. Raises RequestError for what is none or comes from a newer version."""
        return from_json(cls, text, SCHEMA_VERSION, "a plan of clips")

    def seed_of(self, number: int) -> int | None:
        """Of the bridge behind clip `number`: its own, or one that follows from the video's."""
        own = self.transitions[number].seed
        return own if own is not None or self.seed is None else (self.seed + number) % (MAX_SEED + 1)

    def windows_of(self, number: int) -> int:
        """How many windows the network makes for the bridge behind clip `number`.

        `corrected` needs a whole window to measure on: it makes one where neither clip has it.
        """
        longest = max(shot.frames for shot in self.shots[number : number + 2])
        return 2 if self.strategy == CORRECTED and longest < self.window else 1

    @cached_property
    def bridges(self) -> tuple[int, ...]:
        """The clips that a bridge follows: those whose transition is no cut."""
        return tuple(number for number, transition in enumerate(self.transitions) if transition.frames)

    def piece_at(self, frame: int) -> Piece:
        """The clip or bridge that an absolute frame belongs to."""
        return self._pieces[bisect_right(self._begins, frame) - 1]

    def prompt_of(self, piece: Piece) -> str:
        """What a piece shows. A clip of which that is not known reads what leads to it, the first one what follows."""
        if piece.kind == BRIDGE:
            return self.transitions[piece.number].prompt
        return self.shots[piece.number].prompt or self.transitions[max(piece.number - 1, 0)].prompt

    def mixture(self, frame: int) -> tuple[str, str, float]:
        """As `Layout.mixture`. No prompt gives way to another: a transition's own says how the one becomes the next."""
        prompt = self.prompt_of(self.piece_at(frame))
        return prompt, prompt, 1.0

    def pieces(self) -> Iterator[Piece]:
        """Clips and bridges in their order, every frame of the video in one of them."""
        begin = 0
        for number, shot in enumerate(self.shots):
            lengths = [(CLIP, shot.frames)]
            if number < len(self.transitions) and self.transitions[number].frames:
                lengths.append((BRIDGE, self.transitions[number].frames))
            for kind, frames in lengths:
                yield Piece(kind, number, range(begin, begin + frames))
                begin += frames

    @cached_property
    def _pieces(self) -> tuple[Piece, ...]:
        return tuple(self.pieces())

    @cached_property
    def _begins(self) -> list[int]:
        return [piece.frames.start for piece in self._pieces]

    @property
    def frames(self) -> int:
        """Of the whole video."""
        return self._pieces[-1].frames.stop

    def joins(self) -> list[int]:
        """The first frame of each piece but the first: where the meters look for seams. Cuts are not among them."""
        pairs = itertools.pairwise(self._pieces)
        return [after.frames.start for before, after in pairs if BRIDGE in (before.kind, after.kind)]


def known_frames(before: int, after: int, new: int, window: int) -> tuple[int, int]:
    """How many of the last frames of one clip and of the first of the next the network is told for `new` in between.

    As many as its window has beside the new ones, as even as the clips' lengths allow: with 16 and 8 new ones 4 and 4.
    Where the clips are shorter, as pictures are, the window is.

    Raises RequestError where there are more new frames than a window holds with one known at each end.
    """
    most = window - 2
    check(
        1 <= new <= most,
        f"a transition of {new} frames cannot be made at once: give 1 to {most}, or continue the clip before it first",
    )
    room = window - new
    first = min(before, max(room - room // 2, room - after))
    return first, min(after, room - first)
