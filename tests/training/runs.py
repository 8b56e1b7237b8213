"""Runs of a training on own media, and what to look at behind them."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from app.media import UPLOAD_LIMITS, frames_of
from lavie.events import Notice
from lavie.training.tuning.session import Session
from lavie.training.tuning.settings import Settings


def read(path: Path):
    """As the command reads media."""
    return frames_of(path, UPLOAD_LIMITS)


def run(settings: Settings) -> list:
    """A whole run's events."""
    return list(Session(settings, read).run())


def notices(events: list) -> str:
    return "\n".join(event.message for event in events if isinstance(event, Notice))


def stored(folder: Path, kind: str) -> dict[str, Tensor]:
    """The weights of a network in a bundle."""
    return load_file(folder / kind / "diffusion_pytorch_model.safetensors")
