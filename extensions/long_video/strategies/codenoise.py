"""`codenoise`: all frames of a video of known length are denoised together, by windows that share frames.

The noise repeats in shuffled form so that distant frames agree (FreeNoise, Qiu et al., arXiv 2310.15169, section 3.2).
Where windows overlap, their predictions are averaged at each step (Gen-L-Video, Wang et al., arXiv 2305.18264, section
4). The grid of windows moves from step to step so that no border stays in place. Only DDIM with η = 0 works: fresh
noise at each step would drown the shared noise.

Windows run in the order of a wavefront: a later step follows as soon as its frames are ready. This gives the bits of
the plain loop over the whole video with only some 250 frames in work, however long the video is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from extensions.long_video.strategies.window_model import Model
from lavie.events import BASE
from lavie.noise import INITIAL, derive_seed, frame_noise
from lavie.sampling import Denoised, Guided, predicted_clean

BANK, SHUFFLE = "bank", "shuffle"  # purposes of noise
FRESH = 0.5  # β, the share of a frame's own noise; with less, 16 frames visibly repeat
GOLDEN = 0.618  # shift of the grid per step in strides; near steps share no border
BORDER = 4  # frames by which two windows overlap


def shared_noise(
    seed: int, own_seed: int, frame: int, window: int, shape: tuple[int, int, int], fresh: float = FRESH
) -> Tensor:
    """The initial noise of a frame, C h w: √(1 − β²) of the video's bank and β of its segment's own noise.

    The bank is one window long; each half is shuffled by itself in every repetition. fresh: β, 0 … 1.
    """
    half = window // 2
    block, place = divmod(frame, half)
    order = sorted(range(half), key=lambda item: derive_seed(seed, BASE, SHUFFLE, block, item))
    banked = frame_noise(seed, (BASE, BANK), [block % 2 * half + order[place]], shape)
    own = frame_noise(own_seed, (BASE, INITIAL), [frame], shape)
    return ((1 - fresh**2) ** 0.5 * banked + fresh * own)[0, :, 0]


def round_up_to_halves(frames: int, window: int) -> int:
    """The number of frames rounded up so that the last window sees all of the bank's noise once, as the first does.

    The last window never moves. If it saw part of the bank twice, its still content would visibly differ from its
    neighbours' (differences of up to 1.26 times the median).
    """
    half = window // 2
    return max(window, -(-frames // half) * half)


def grid(step: int, frames: int, window: int) -> list[int]:
    """The starts of a step's windows, ascending. The first and the last frames always have a window of their own."""
    stride = max(window - BORDER, 1)
    offset = round(GOLDEN * stride * step) % stride
    return sorted({0, *range(offset, frames - window, stride), frames - window})


def pyramid(window: int) -> list[int]:
    """Weights 1 4 9 … 9 4 1 of a window's frames, since the network knows least at its ends.

    With linear weights the ends of the first and last window, which never move, are visible (differences of 1.18 times
    the median; squared 1.09).
    """
    return [(min(place, window - 1 - place) + 1) ** 2 for place in range(window)]


class Wavefront:
    """A video in the making. Finished frames are taken from the front."""

    def __init__(
        self, model: Model, frames: int, window: int, text: Callable[[range], Tensor], noise: Callable[[int], Tensor]
    ) -> None:
        """text: frames of a window → its text (see `window_model.Window`). noise: absolute frame → C h w."""
        self.model, self.frames, self.window, self.text, self.noise = model, frames, window, text, noise
        self.scheduler = model.scheduler(text(range(window)).device)
        self.timesteps = self.scheduler.timesteps
        self.grids = [grid(step, frames, window) for step in range(len(self.timesteps))]
        self.next = [0] * len(self.timesteps)  # window of each step
        self.latents: dict[int, Tensor] = {}  # frame → C h w after its completed steps
        self.sums: dict[int, Tensor] = {}  # frame → C h w, weighted predictions of the step it waits for
        self.weights: dict[int, int] = {}  # frame → their weights
        self.peak = 0  # frames in work at once
        self._guided: tuple[Tensor, Guided] | None = None

    @property
    def windows(self) -> int:
        """The number of windows that the network runs in all."""
        return sum(map(len, self.grids))

    @property
    def done(self) -> int:
        return sum(self.next)

    @property
    def finished(self) -> int:
        """Frames before this one are done."""
        return self._frames_through(len(self.timesteps) - 1)

    def _frames_through(self, step: int) -> int:
        """Frames before this one have completed a step: none of its later windows covers them."""
        starts = self.grids[step]
        return starts[self.next[step]] if self.next[step] < len(starts) else self.frames

    def _ready(self, step: int) -> bool:
        """Whether all frames of a step's next window have completed the step before."""
        if self.next[step] == len(self.grids[step]):
            return False
        return step == 0 or self._frames_through(step - 1) >= self.grids[step][self.next[step]] + self.window

    def advance(self) -> Denoised:
        """Run one window of the latest step that can go on, so that frames finish as early as possible."""
        step = next(step for step in reversed(range(len(self.timesteps))) if self._ready(step))
        start, settled = self.grids[step][self.next[step]], self._frames_through(step)
        shown = range(start, start + self.window)
        for frame in shown if step == 0 else ():
            if frame not in self.latents:
                self.latents[frame] = self.noise(frame).to(self.timesteps.device)
        sample = torch.stack([self.latents[frame] for frame in shown], dim=1)[None]
        prediction = self._predictor(shown)(sample, self.timesteps[step])
        for place, weight in enumerate(pyramid(self.window)):
            frame = shown[place]
            self.sums[frame] = self.sums.get(frame, 0) + weight * prediction[0, :, place]
            self.weights[frame] = self.weights.get(frame, 0) + weight
        self.next[step] += 1
        self._settle(range(settled, self._frames_through(step)), step)
        self.peak = max(self.peak, max(self.latents) + 1 - settled if self.finished < self.frames else 0)
        clean = predicted_clean(sample, prediction, self.timesteps[step], self.model.defaults.prediction_type)
        return Denoised(self.done - 1, sample, clean)

    def _settle(self, frames: range, step: int) -> None:
        """Take the sampler's step for frames that no later window of this step covers."""
        prediction = torch.stack([self.sums.pop(frame) / self.weights.pop(frame) for frame in frames])
        latents = torch.stack([self.latents[frame] for frame in frames])
        stepped = self.scheduler.step(prediction, self.timesteps[step], latents, return_dict=False)[0]
        self.latents.update(zip(frames, stepped.unbind(), strict=True))

    def _predictor(self, shown: range) -> Guided:
        text = self.text(shown)
        if self._guided is None or self._guided[0] is not text:
            self._guided = text, self.model.guided(text)
        return self._guided[1]

    def take(self, frames: range) -> Tensor:
        """Remove finished frames, 1 C n h w."""
        return torch.stack([self.latents.pop(frame) for frame in frames], dim=1)[None]

    def state(self) -> dict[str, Tensor]:
        """Everything in work, on the CPU. `load` continues from it to the same bits."""
        frames = sorted(self.latents)
        zero = torch.zeros(self.model.shape)
        empty = torch.zeros(0, *self.model.shape)
        return {
            "next": torch.tensor(self.next),
            "frames": torch.tensor(frames, dtype=torch.int64),
            "weights": torch.tensor([self.weights.get(frame, 0) for frame in frames], dtype=torch.int64),
            "latents": torch.stack([self.latents[frame].cpu() for frame in frames]) if frames else empty,
            "sums": torch.stack([self.sums.get(frame, zero).cpu() for frame in frames]) if frames else empty,
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Continue from the `state` of a wavefront of the same video."""
        device = self.timesteps.device
        self.next = state["next"].tolist()
        frames, weights = state["frames"].tolist(), state["weights"].tolist()
        self.latents = dict(zip(frames, state["latents"].to(device).unbind(), strict=True))
        summed = [place for place, weight in enumerate(weights) if weight]
        self.sums = {frames[place]: state["sums"][place].to(device) for place in summed}
        self.weights = {frames[place]: weights[place] for place in summed}
