"""`codenoise`: a video of known length made as one, all frames denoised together by windows that share their frames.

The noise repeats itself, shuffled, so that far frames agree (FreeNoise, Qiu et al., arXiv 2310.15169, section 3.2), and
where windows overlap their predictions are averaged at each step (Gen-L-Video, Wang et al., arXiv 2305.18264, section
4). The grid of windows moves from step to step, so that no place is a border twice in a row. It works with DDIM alone,
η = 0: fresh noise at each step would drown the shared one.

Windows are taken in the order of a wavefront: a later step follows as soon as its frames are there. This gives the bits
of the plain loop, step by step over the whole video, while only some 250 frames are in work however long the video is.
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
FRESH = 0.5  # β, the share of a frame's own noise: less and 16 frames visibly come again
GOLDEN = 0.618  # of a stride, from one step's grid to the next: no two near steps share a border
BORDER = 4  # frames by which two windows overlap


def shared_noise(
    seed: int, own_seed: int, frame: int, window: int, shape: tuple[int, int, int], fresh: float = FRESH
) -> Tensor:
    """What a frame starts from, C h w: √(1 − β²) of the bank's noise, and β of its own.

    The bank is one window long; each half of it is shuffled in itself whenever it comes again.

    seed: of the video. own_seed: of the frame's segment. fresh: β, 0 … 1.
    """
    half = window // 2
    block, place = divmod(frame, half)
    order = sorted(range(half), key=lambda item: derive_seed(seed, BASE, SHUFFLE, block, item))
    banked = frame_noise(seed, (BASE, BANK), [block % 2 * half + order[place]], shape)
    own = frame_noise(own_seed, (BASE, INITIAL), [frame], shape)
    return ((1 - fresh**2) ** 0.5 * banked + fresh * own)[0, :, 0]


def whole_halves(frames: int, window: int) -> int:
    """So many frames or some more, that the last window sees all of the bank's noise once, as the first one does.

    The last window stands at the same place at every step. Would it see a part of the bank twice, its still content
    would be another than its neighbours', and it would be seen (differences of up to 1.26 times the median).
    """
    half = window // 2
    return max(window, -(-frames // half) * half)


def grid(step: int, frames: int, window: int) -> list[int]:
    """Where the windows of a step begin, ascending; the first and the last frames always have one of their own."""
    stride = max(window - BORDER, 1)
    offset = round(GOLDEN * stride * step) % stride
    return sorted({0, *range(offset, frames - window, stride), frames - window})


def pyramid(window: int) -> list[int]:
    """Weights 1 4 9 … 9 4 1 of a window's frames: the network knows least at its ends.

    Squares, so that a window's end weighs nothing: with 1 2 3 … the first and the last window, whose ends do not move
    with the grid, are seen there (differences of 1.18 times the median; squared 1.09).
    """
    return [(min(place, window - 1 - place) + 1) ** 2 for place in range(window)]


class Wavefront:
    """The video while it is made. Finished frames are taken out from the front."""

    def __init__(
        self, model: Model, frames: int, window: int, text: Callable[[range], Tensor], noise: Callable[[int], Tensor]
    ):
        """frames: of the whole video, at least `window`. text: frames of a window → its text (see `model.Window`).
        noise: absolute frame → C h w."""
        self.model, self.frames, self.window, self.text, self.noise = model, frames, window, text, noise
        self.scheduler = model.scheduler(text(range(window)).device)
        self.timesteps = self.scheduler.timesteps
        self.grids = [grid(step, frames, window) for step in range(len(self.timesteps))]
        self.next = [0] * len(self.timesteps)  # window of each step
        self.latents: dict[int, Tensor] = {}  # frame → C h w, after as many steps as have settled it
        self.sums: dict[int, Tensor] = {}  # frame → C h w, weighted predictions of the step it waits for
        self.weights: dict[int, int] = {}  # frame → their weights
        self.peak = 0  # frames in work at once
        self._guided: tuple[Tensor, Guided] | None = None

    @property
    def windows(self) -> int:
        """How many windows the network makes in all."""
        return sum(map(len, self.grids))

    @property
    def done(self) -> int:
        """How many of them it has made."""
        return sum(self.next)

    @property
    def finished(self) -> int:
        """Frames before this one are done."""
        return self._settled(len(self.timesteps) - 1)

    def _settled(self, step: int) -> int:
        """Frames before this one are through with a step: no window of it that is still to come covers them."""
        starts = self.grids[step]
        return starts[self.next[step]] if self.next[step] < len(starts) else self.frames

    def _ready(self, step: int) -> bool:
        """Whether a step's next window has all its frames through with the step before."""
        if self.next[step] == len(self.grids[step]):
            return False
        return step == 0 or self._settled(step - 1) >= self.grids[step][self.next[step]] + self.window

    def advance(self) -> Denoised:
        """One window at one step: the latest step that can go on, so that frames leave as early as they can."""
        step = next(step for step in reversed(range(len(self.timesteps))) if self._ready(step))
        start, settled = self.grids[step][self.next[step]], self._settled(step)
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
        self._settle(range(settled, self._settled(step)), step)
        self.peak = max(self.peak, max(self.latents) + 1 - settled if self.finished < self.frames else 0)
        clean = predicted_clean(sample, prediction, self.timesteps[step], self.model.defaults.prediction_type)
        return Denoised(self.done - 1, sample, clean)

    def _settle(self, frames: range, step: int) -> None:
        """Take the sampler's step where no window of this step is still to come; it looks at each number alone."""
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
        """Finished frames, 1 C n h w; they are forgotten here."""
        return torch.stack([self.latents.pop(frame) for frame in frames], dim=1)[None]

    def state(self) -> dict[str, Tensor]:
        """Everything that is in work, on the CPU: `load` goes on from it, to the same bits."""
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
        """Go on from what `state` gave in a wavefront of the same video."""
        device = self.timesteps.device
        self.next = state["next"].tolist()
        frames, weights = state["frames"].tolist(), state["weights"].tolist()
        self.latents = dict(zip(frames, state["latents"].to(device).unbind(), strict=True))
        summed = [place for place, weight in enumerate(weights) if weight]
        self.sums = {frames[place]: state["sums"][place].to(device) for place in summed}
        self.weights = {frames[place]: weights[place] for place in summed}
