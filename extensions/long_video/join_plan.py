"""Several clips as one video, as values: the clips, and the transition from each to the next. Needs no torch.

    plan = JoinPlan((SourceClip("a", 61), SourceClip("b", 16)), (Transition("the sun sets"),), seed=5)
    plan.pieces()  →  clip 0: frames 0 … 60 · transition 0: 61 … 68 · clip 1: 69 … 84

The clips stay unchanged. `transitions.make_transition` makes the new frames between two clips from the last frames of
one and the first frames of the other, so transitions do not depend on each other. All this happens in latents of the
base stage; interpolation and super-resolution then run over the whole video and leave no seams of their own.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from extensions.long_video.plan import CONDITIONED, CORRECTED, MAX_SEGMENTS, REPAINT
from lavie.request import MAX_FRAMES
from lavie.values import MAX_SEED, Stored, check, check_kind, check_number, check_prompt, check_whole

TRANSITION_STRATEGIES = (CONDITIONED, CORRECTED, REPAINT)  # strategies that can know both ends
CLIP, TRANSITION = "clip", "bridge"  # "bridge" is part of the seed of a transition's noise
MAX_CLIP_FRAMES = 1_000_000


@dataclass(frozen=True)
class SourceClip:
    """A clip of the base stage by the caller's name for it. A picture has one frame.

    prompt: what it shows, for the later stages; empty if unknown.
    """

    name: str
    frames: int
    prompt: str = ""

    def __post_init__(self) -> None:
        check_kind("a shot's name", self.name, str)
        check_whole("a shot's frames", self.frames, 1, MAX_CLIP_FRAMES, required=True)
        check_prompt("a shot's prompt", self.prompt)


@dataclass(frozen=True)
class Transition:
    """The step from one clip to the next: `frames` new frames, 0 for a cut. A seed of None derives from the video's."""

    prompt: str
    frames: int = 8
    seed: int | None = None

    def __post_init__(self) -> None:
        check_prompt("a transition's prompt", self.prompt)
        check(self.frames is not None, "a transition's frames is None: give 0 for a cut, or more")
        check_whole("a transition's frames", self.frames, 0, MAX_FRAMES)
        check(
            bool(self.prompt.strip()) or not self.frames, "a transition's prompt is empty: say what happens in between"
        )
        check_whole("a transition's seed", self.seed, 0, MAX_SEED)


@dataclass(frozen=True)
class Piece:
    """A clip or a transition in a video, with its absolute frames. number: of the clip, or of the clip before it."""

    kind: str
    number: int
    frames: range


@dataclass(frozen=True)
class JoinPlan(Stored):
    """A whole video of clips.

    Args:
        shots: the clips; stored by this name.
        transitions: one between each clip and the next.
        strategy: one of `TRANSITION_STRATEGIES`; None for the best that the bundle has networks for.
        window: frames that the network sees at once, 3 … MAX_FRAMES.
        strength: as in `SegmentPlan`, 0 … 1.

    Raises RequestError for values outside these limits.
    """

    stored_as = "a plan of clips"

    shots: tuple[SourceClip, ...]
    transitions: tuple[Transition, ...]
    seed: int | None = None
    negative_prompt: str = ""
    strategy: str | None = None
    window: int = 16
    strength: float = 1.0

    def __post_init__(self) -> None:
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
        known = (None, *TRANSITION_STRATEGIES)
        check(
            self.strategy in known, f"strategy is {self.strategy!r}: choose one of {', '.join(TRANSITION_STRATEGIES)}"
        )
        check_whole("window", self.window, 3, MAX_FRAMES, required=True)
        check_number("strength", self.strength, 0.0, 1.0, required=True)
        for before, transition, after in zip(self.shots, self.transitions, self.shots[1:], strict=False):
            if transition.frames:
                known_frames(before.frames, after.frames, transition.frames, self.window)

    def seed_of(self, number: int) -> int | None:
        """The seed of the transition after clip `number`: its own, or one derived from the video's."""
        own = self.transitions[number].seed
        return own if own is not None or self.seed is None else (self.seed + number) % (MAX_SEED + 1)

    def windows_of(self, number: int) -> int:
        """The number of windows that the network makes for the transition after clip `number`.

        `corrected` needs a whole window to measure on and makes one if neither clip has it.
        """
        longest = max(clip.frames for clip in self.shots[number : number + 2])
        return 2 if self.strategy == CORRECTED and longest < self.window else 1

    @cached_property
    def transition_numbers(self) -> tuple[int, ...]:
        """The numbers of the transitions that have new frames."""
        return tuple(number for number, transition in enumerate(self.transitions) if transition.frames)

    def piece_at(self, frame: int) -> Piece:
        """The clip or transition that an absolute frame belongs to."""
        return self._pieces[bisect_right(self._begins, frame) - 1]

    def prompt_of(self, piece: Piece) -> str:
        """The prompt of a piece. A clip without one takes that of the transition before it, or after it for the first
        clip.
        """
        if piece.kind == TRANSITION:
            return self.transitions[piece.number].prompt
        return self.shots[piece.number].prompt or self.transitions[max(piece.number - 1, 0)].prompt

    def mixture(self, frame: int) -> tuple[str, str, float]:
        """See `Layout.mixture`. Prompts are not blended: a transition has a prompt of its own."""
        prompt = self.prompt_of(self.piece_at(frame))
        return prompt, prompt, 1.0

    def pieces(self) -> Iterator[Piece]:
        """Clips and transitions in order; every frame of the video is in one of them."""
        begin = 0
        for number, clip in enumerate(self.shots):
            lengths = [(CLIP, clip.frames)]
            if number < len(self.transitions) and self.transitions[number].frames:
                lengths.append((TRANSITION, self.transitions[number].frames))
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
        """The number of frames of the whole video."""
        return self._pieces[-1].frames.stop

    def joins(self) -> list[int]:
        """The first frame of each piece but the first, cuts excepted."""
        pairs = itertools.pairwise(self._pieces)
        return [after.frames.start for before, after in pairs if TRANSITION in (before.kind, after.kind)]


def known_frames(before: int, after: int, new: int, window: int) -> tuple[int, int]:
    """How many last frames of one clip and first frames of the next are known to the network for `new` in between.

    They fill the window as evenly as the clips' lengths allow: 4 and 4 for 8 new frames in a window of 16. With shorter
    clips, such as pictures, the window is shorter.

    Raises RequestError if `new` frames do not fit into a window with one known frame at each end.
    """
    most = window - 2
    check(
        1 <= new <= most,
        f"a transition of {new} frames cannot be made at once: give 1 to {most}, or continue the clip before it first",
    )
    room = window - new
    first = min(before, max(room - room // 2, room - after))
    return first, min(after, room - first)
