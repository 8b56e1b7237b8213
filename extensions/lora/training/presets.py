"""How a subject, a style or a motion is trained where nothing else is asked for. Values; needs no torch.

Sources: LaVie (arXiv 2309.15103, section 5.6: spatial layers alone), MotionDirector (arXiv 2310.08465, section 4),
min-SNR (arXiv 2303.09556, section 3.4), the defaults of diffusers' and kohya-ss' trainers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lavie.errors import TrainingError, short

SUBJECT, STYLE, MOTION = NAMES = ("subject", "style", "motion")
FULL_WIDTH = 320  # channels of the published base network's first level
SMALL = 0.5  # of that width: networks below it are taught by the small variant
_TEXT, _TIME = (".attn2.",), (".attn_temp.",)
_ATTENTION = (".attn1.", *_TEXT)
_MORE = (".ff.", ".proj_in", ".proj_out")
_CONVOLUTIONS = (".conv1", ".conv2", ".conv_shortcut")


@dataclass(frozen=True)
class Preset:
    """What a training does.

    layers: pieces of the names of the base network's layers that get factors. rank, alpha: of each; their ratio scales
    a change. learning_rate: the peak. steps_a_medium: steps that each picture or clip adds, between fewest and most.
    batch: media a step. caption_dropout: share of captions that are emptied. weight_decay: of the factors: what no step
    asks for goes again. ema: decay of the factors' average, which is what is kept. prior: weight of staying as it was
    on ordinary captions (self-distillation), 0 is off. ordinary: clips that are made for that. snr: γ of min-SNR
    weighting, None is off. tilt: towards strong noise (`diffusion.noised`), in which an outline is decided. debiased:
    whether a loss on differences of frames is added (MotionDirector, eq. 7). views: how many ways each picture is seen,
    moved and scaled (`pictures.MaskedCut`). moved: clips a step of pictures in motion, where the model has words for
    that (`moving`).
    """

    name: str
    layers: tuple[str, ...]
    rank: int
    alpha: float
    learning_rate: float
    steps_a_medium: int
    fewest: int
    most: int
    batch: int
    caption_dropout: float = 0.05
    weight_decay: float = 0.0
    ema: float = 0.99
    prior: float = 0.0
    ordinary: int = 12
    snr: float | None = None
    tilt: float = 0.0
    debiased: bool = False
    views: int = 1
    moved: int = 0

    @property
    def from_clips(self) -> bool:
        return self.name == MOTION

    def steps(self, media: int) -> int:
        """How many steps so many pictures or clips are worth."""
        return min(self.most, max(self.fewest, self.steps_a_medium * media))


_FULL = {
    SUBJECT: Preset(SUBJECT, _ATTENTION, 16, 16, 1e-4, 100, 400, 1500, batch=1, prior=0.2),
    STYLE: Preset(STYLE, _ATTENTION + _MORE, 32, 16, 1e-4, 60, 1500, 3000, batch=1, caption_dropout=0.1, snr=5.0),
    MOTION: Preset(MOTION, _TIME, 16, 16, 3e-4, 60, 150, 500, batch=1, debiased=True),
}
# What a small network differs in. It has few channels to say anything in: the convolutions join in, and rates are
# those of a tenth of the width. Few pictures it learns by heart, each with its place: it sees them at many, and in
# motion. And where each frame reads a text of its own (`text.embeddings`), motion is heard as much as it is handed on
# over time.
_FASTEST = {SUBJECT: 1e-2, STYLE: 3e-3, MOTION: 3e-3}
_SMALL = {
    SUBJECT: {
        "layers": _ATTENTION + _MORE + _CONVOLUTIONS,
        "rank": 8,
        "learning_rate": 4e-4,
        "fewest": 690,
        "most": 690,
        "batch": 4,
        "weight_decay": 0.3,
        "tilt": 0.5,
        "prior": 1.1,
        "ordinary": 32,
        "views": 24,
        "moved": 3,
    },
    STYLE: {"layers": _ATTENTION + _MORE + _CONVOLUTIONS, "fewest": 400, "most": 800, "batch": 8},
    MOTION: {
        "layers": _TIME + _TEXT,
        "fewest": 650,
        "most": 650,
        "batch": 4,
        "weight_decay": 0.3,
        "prior": 1.0,
        "ordinary": 32,
    },
}


def preset_for(name: str, width: int) -> Preset:
    """The preset `name` for a base network whose first level has `width` channels.

    A narrow network gets the small variant: the rank is a quarter of the width at most, and the rate grows with the
    square of what the width lacks, up to `_FASTEST`. Raises TrainingError for a name that is none.
    """
    if name not in NAMES:
        raise TrainingError(f"preset is {short(name)}: choose one of {', '.join(NAMES)}")
    full = _FULL[name]
    if width >= SMALL * FULL_WIDTH:
        return full
    small = replace(full, **_SMALL[name])
    rank = min(small.rank, max(1, width // 4))
    rate = min(_FASTEST[name], small.learning_rate * (FULL_WIDTH / width) ** 2)
    return replace(small, rank=rank, alpha=rank, learning_rate=rate)
