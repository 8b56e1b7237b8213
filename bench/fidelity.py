"""How true the parts of a bundle are that refine: autoencoders, interpolation and super-resolution, in dB.

    python -m bench.fidelity [--model assets/nano] [--clips 24]

Clips of the procedural world that no training drew, filmed at 16 and at 61 frames, small and large. Each part is given
the true input and compared with the true output, beside the plain thing that it must beat: linear blending of
neighbouring frames, bicubic enlargement. PSNR with a peak of 255, as the mean over clips; sharpness is the mean slope
at the true outlines, 1 where it is as steep as the truth.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table

from lavie import Cascade, Finished, Interpolation, Request, SuperResolution, Video, vae
from lavie.key_frames import RATE, interpolated_frames
from lavie.manifest import UPSCALER_VAE, VAE
from lavie.stages.super_resolution import SCALE
from lavie.training.world import Staging, random_scene, stage

RESULTS = Path(__file__).parent / "results" / "fidelity.json"
LARGE_FRAMES = 8  # of a clip that super-resolution enlarges: one window of Nano
STEEP = 0.1  # slope a pixel, of the range of values, from which on a pixel counts as outline


def staging_of(number: int) -> Staging:
    """Clip `number`: one subject, nothing held out."""
    rng = np.random.default_rng([77_077, number])
    return stage(random_scene(rng, held_out=True), rng)


def psnr(made: np.ndarray, true: np.ndarray) -> float:
    """In dB, of uint8 frames."""
    return 10 * np.log10(255**2 / np.square(made.astype(np.float32) - true).mean())


def sharpness(made: np.ndarray, true: np.ndarray) -> float:
    """Mean slope of `made` where `true` (both F H W 3) has an outline, over that of `true`."""

    def slope(frames: np.ndarray) -> np.ndarray:
        down, right = np.gradient(frames.astype(np.float32) / 255, axis=(1, 2))
        return np.hypot(down, right).max(-1)

    steep = slope(true) > STEEP
    return float(slope(made)[steep].mean() / slope(true)[steep].mean())


def blended(keys: np.ndarray) -> np.ndarray:
    """Between neighbouring key frames, a linear mixture of both."""
    places = np.arange(interpolated_frames(len(keys))) / RATE
    before = np.minimum(places.astype(int), len(keys) - 2)
    share = (places - before)[:, None, None, None]
    return np.rint(keys[before] * (1 - share) + keys[before + 1] * share).astype(np.uint8)


def bicubic(frames: np.ndarray) -> np.ndarray:
    """F H W 3, `SCALE` times as large."""
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
    large = F.interpolate(pixels, scale_factor=SCALE, mode="bicubic", align_corners=False)
    return large.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()


@torch.inference_mode()
def round_trip(cascade: Cascade, component: str, frames: np.ndarray) -> np.ndarray:
    """Frames through an autoencoder and back."""
    pixels = vae.from_uint8(torch.from_numpy(frames)).transpose(0, 1)[None]
    with cascade.residency.on_device(component) as autoencoder:
        latents = vae.encode(autoencoder, pixels.to(cascade.residency.device))
        return vae.pictures(vae.decode(autoencoder, latents))


def refine(cascade: Cascade, frames: np.ndarray, caption: str, **stages) -> np.ndarray:
    """What the cascade makes of given frames."""
    request = Request(caption, seed=1, **stages)
    source = Video(np.ascontiguousarray(frames), cascade.bundle.fps)
    return next(e.video.frames for e in cascade.generate(request, source) if isinstance(e, Finished))


def measure(cascade: Cascade, number: int) -> dict[str, float]:
    """All figures of one clip."""
    staging, size = staging_of(number), (cascade.bundle.height, cascade.bundle.width)
    large_size, caption = tuple(SCALE * side for side in size), staging.scene.caption
    keys = staging.film(cascade.bundle.frames, *size)
    smooth = staging.film(interpolated_frames(len(keys)), *size)
    moments = np.linspace(0.4, 0.5, LARGE_FRAMES)
    small, large = staging.at(moments, *size), staging.at(moments, *large_size)
    enlarged = refine(cascade, small, caption, super_resolution=SuperResolution())
    return {
        "autoencoder ×8": psnr(round_trip(cascade, VAE, keys), keys),
        "autoencoder ×4": psnr(round_trip(cascade, UPSCALER_VAE, large[:2]), large[:2]),
        "interpolation": psnr(refine(cascade, keys, caption, interpolation=Interpolation()), smooth),
        "linear blending": psnr(blended(keys), smooth),
        "super-resolution": psnr(enlarged, large),
        "bicubic": psnr(bicubic(small), large),
        "sharpness": sharpness(enlarged, large),
        "sharpness of bicubic": sharpness(bicubic(small), large),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="assets/nano")
    parser.add_argument("--clips", type=int, default=24)
    asked = parser.parse_args()
    cascade = Cascade.from_bundle(asked.model)
    measured = [measure(cascade, number) for number in range(asked.clips)]
    means = {name: round(float(np.mean([each[name] for each in measured])), 2) for name in measured[0]}
    table = Table(title=f"{cascade.bundle.name}, {asked.clips} clips")
    table.add_column("part")
    table.add_column("", justify="right")
    for name, value in means.items():
        table.add_row(name, f"{value:.2f}" if "sharpness" in name else f"{value:.1f} dB")
    Console().print(table)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"clips": asked.clips, "means": means}, indent=1) + "\n")


if __name__ == "__main__":
    main()
