"""Pictures in motion: clips in which a picture goes as a word of the model says, made from the picture alone.

A small network hands on over time the shapes that it knows: of a subject learned at one frame, stills were right in
83 % and videos in 33 %. Shown such clips besides, it hands on the new one as well; what mixes time stays frozen. A
model of the real world would learn a moving camera from them: they are for bundles that list the words (`WAYS`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from extensions.lora.training.losses import MaskedSet
from extensions.lora.training.pictures import MaskedCut, Pane
from lavie.training.data.encoded import Encoded

# Word → across and down, in shares of what is drawn; and how many times as large it ends as it began.
WAYS = {
    "moving right": (1, 0, 1.0),
    "moving left": (-1, 0, 1.0),
    "moving up": (0, -1, 1.0),
    "moving down": (0, 1, 1.0),
    "growing": (0, 0, 2.4),
    "shrinking": (0, 0, 1 / 2.4),
}
ROUNDS = 2  # clips of each picture and way
FAR = (0.3, 0.5)  # shares of a side that it goes
ASIDE = 0.1  # share of a side that the middle of its way lies beside the picture's, at most
SIZES = (0.75, 1.0)  # against the picture's own, in the middle of its way


@dataclass(frozen=True)
class MovedCut(MaskedCut):
    """A picture → clips uint8 F H W 4 of `length` frames, one for each of the `ways` in turn, `ROUNDS` times."""

    length: int = 16
    ways: tuple[str, ...] = tuple(WAYS)

    def clips(self, frames: Iterator[np.ndarray]) -> list[np.ndarray]:
        (picture,) = super().clips(frames)
        return [
            _moved(picture[0], way, number * len(WAYS) + list(WAYS).index(way), self.length)
            for number in range(ROUNDS)
            for way in self.ways
        ]


def _moved(picture: np.ndarray, way: str, seed: int, length: int) -> np.ndarray:
    rng, pane = np.random.default_rng(seed), Pane(picture)
    across, down, ratio = WAYS[way]
    far = np.array([across, down]) * rng.uniform(*FAR)
    middle = rng.uniform(-ASIDE, ASIDE, 2)
    size = rng.uniform(*SIZES)
    times = np.linspace(-0.5, 0.5, length)
    return np.stack([pane.seen(middle - far * time, size * ratio**time) for time in times])


class MovedSet(MaskedSet):
    """Clips of `MovedCut`, each with its way behind the trigger in its picture's caption."""

    def __init__(
        self,
        media: Sequence[Encoded],
        tokens: Callable[[list[str]], Tensor],
        frames: int,
        ways: Sequence[str],
        trigger: str,
    ):
        super().__init__(media, tokens, frames)
        self.captions = [text.replace(trigger, f"{trigger} {way}", 1) for text in self.captions for way in ways]
        self._clips = [(file, index, number * len(ways) + index % len(ways)) for file, index, number in self._clips]
        self._tokens = tokens(self.captions)
