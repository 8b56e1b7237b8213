"""Requests, clips and folders for tests of the cascade at toy size."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from lavie import Cascade, Interpolation, Request, SuperResolution, Video
from lavie.events import Finished


def request(interpolate: bool = False, upscale: bool = False, **values) -> Request:
    """A red star with seed 7; stages that are asked for run as the bundle says."""
    asked = {"prompt": "a red star", "seed": 7}
    asked["interpolation"] = Interpolation() if interpolate else None
    asked["super_resolution"] = SuperResolution() if upscale else None
    return Request(**{**asked, **values})


def clip(frames: int, height: int = 16, width: int = 32, fps: float = 10) -> Video:
    """Noise as a source; a longer clip begins with the shorter one."""
    rng = np.random.default_rng(0)
    return Video(rng.integers(0, 256, (frames, height, width, 3), dtype=np.uint8), fps)


def finish(cascade: Cascade, asked: Request, source: Video | None = None) -> Finished:
    *_, finished = cascade.generate(asked, source)
    return finished


def copied(bundle: Path, folder: Path, *without: str) -> Path:
    """A bundle's copy that may be damaged, without some of its files or sub-folders."""
    shutil.copytree(bundle, folder)
    for name in without:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return folder


def with_extension(bundle: Path, folder: Path) -> Path:
    """A bundle's copy that has a network to extend with too: its base network's layout, random weights."""
    import torch

    from lavie.bundle import BASE, EXTENSION, MANIFEST
    from lavie.training.assemble import write_changed
    from lavie.unet import BaseUNet

    manifest = json.loads((bundle / MANIFEST).read_text())
    torch.manual_seed(1)
    network = BaseUNet.from_config(json.loads((bundle / BASE / "config.json").read_text()) | {"in_channels": 9})
    write_changed(folder, bundle, {EXTENSION: network}, manifest | {EXTENSION: manifest[BASE]})
    return folder
