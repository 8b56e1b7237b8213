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


def small(interpolate: bool = False, upscale: bool = False, **values) -> Request:
    """As `request`, with frames of a quarter of the pixels: 8×16, upscaled 32×64."""
    return request(interpolate, upscale, **{"width": 16, "height": 8, **values})


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
    from lavie.bundle import BASE
    from lavie.manifest import EXTENSION

    return _with_network(bundle, folder, EXTENSION, BASE, {"in_channels": 9})


def with_neighbours(bundle: Path, folder: Path) -> Path:
    """A bundle's copy whose interpolation sees the key frames on both sides of a frame: random weights."""
    from lavie.bundle import INTERPOLATION
    from lavie.key_frames import beside_channels
    from lavie.manifest import NEIGHBOURS, SAMPLE

    said = {"prediction_type": SAMPLE, "conditioning": NEIGHBOURS}
    layout = {"in_channels": 4 + beside_channels(NEIGHBOURS, 4)}
    return _with_network(bundle, folder, INTERPOLATION, INTERPOLATION, layout, said)


def _with_network(bundle: Path, folder: Path, name: str, like: str, layout: dict, said: dict | None = None) -> Path:
    import torch

    from lavie.bundle import CLASSES
    from lavie.manifest import MANIFEST
    from lavie.training.assemble import write_changed

    manifest = json.loads((bundle / MANIFEST).read_text())
    torch.manual_seed(1)
    network = CLASSES[name].from_config(json.loads((bundle / like / "config.json").read_text()) | layout)
    write_changed(folder, bundle, {name: network}, manifest | {name: manifest[like] | (said or {})})
    return folder
