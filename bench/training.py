"""How fast Nano's base network is trained, beside what the processor's bfloat16 products reach.

    python -m bench.training [--clips 8] [--stills 96] [--repeats 3] [--steps 10] [--only before plain compiled]

`before` is the way up to the first edition: fused attention's math kernel, complex rotations, activations rounded once;
`plain` is attention as plain products, `compiled` the recipe's way. Forward and backward, random weights of the
recipe's shape; the process's CPU time, the ways in turns, the minimum is told. FLOPs are counted. And `--steps`
optimiser steps on the same stills by each way: how far the losses are apart. Prints a table, leaves
results/training.json.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from unittest.mock import patch

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lavie import layers
from lavie.training.diffusion import step_generator
from lavie.training.loop import MatrixOptimizer
from lavie.training.nano import networks as nano
from lavie.unet import VideoUNet

RESULTS = Path(__file__).parent / "results" / "training.json"
BEFORE, PLAIN, COMPILED = WAYS = ("before", "plain", "compiled")
CLIPS, STILLS = "clips", "stills"
PRODUCT_ROWS, PRODUCT_WIDTHS = 6144, (128, 512)  # of the products that are timed: tokens of four clips, and widths
RATES = (2e-3, 1e-2)
TOKENS = 24


@contextmanager
def as_before() -> Iterator[None]:
    """The computations of the first edition's training in place of today's."""

    def rotated(rotary: layers.RotaryEmbedding, x: Tensor) -> Tensor:
        angles = torch.arange(x.shape[-3])[:, None, None] * rotary.freqs.float()
        head, rest = x.tensor_split([2 * angles.shape[-1]], dim=-1)
        pairs = torch.view_as_complex(head.float().unflatten(-1, (-1, 2)))
        turned = torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2)
        return torch.cat([turned.to(x.dtype), rest], dim=-1)

    def activate(norm: layers.VideoGroupNorm, x: Tensor, frames: int = 1) -> Tensor:
        return norm._by_clip(norm._activate_in_float32, x, frames)

    with ExitStack() as inside:
        inside.enter_context(patch.object(layers, "SHORT", 0))
        inside.enter_context(patch.object(layers.RotaryEmbedding, "forward", rotated))
        inside.enter_context(patch.object(layers.VideoGroupNorm, "activate", activate))
        inside.enter_context(nano.quick_attention())
        yield


def build(way: str) -> VideoUNet:
    """The base network with random weights, the same by every way."""
    torch.manual_seed(0)
    network = nano.build_network()
    return nano.compile_blocks(network) if way == COMPILED else network


def loss_of(network: VideoUNet, kind: str, count: int, step: int = 0) -> Tensor:
    """The error of some prediction; noise, words and target depend on the step alone."""
    generator = step_generator(0, step)
    frames = nano.FRAMES if kind == CLIPS else 1
    latents = torch.randn(count, 4, frames, nano.HEIGHT // 8, nano.WIDTH // 8, generator=generator)
    text_shape = (count, frames, TOKENS, nano.TEXT_WIDTH) if kind == CLIPS else (count, TOKENS, nano.TEXT_WIDTH)
    text, timesteps = torch.randn(text_shape, generator=generator), torch.randint(1000, (count,), generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        predicted = network(latents, timesteps, text, image_frames=int(kind == STILLS)).float()
    return (predicted - latents.roll(1, 0)).square().mean()


def one_pass(network: VideoUNet, kind: str, count: int) -> None:
    """Forward and backward; the gradients are thrown away."""
    loss_of(network, kind, count).backward()
    network.zero_grad()


def train(way: str, count: int, steps: int) -> list[float]:
    """Losses of the first optimiser steps on stills."""
    network = build(way)
    optimizer = MatrixOptimizer(dict(network.named_parameters()), *RATES)
    found = []
    with as_before() if way == BEFORE else nullcontext():
        for step in range(steps):
            loss = loss_of(network, STILLS, count, step)
            loss.backward()
            optimizer.step(1.0)
            optimizer.zero_grad()
            found.append(loss.item())
    return found


def fastest(run: Callable[[], object], repeats: int) -> float:
    """CPU seconds of the quickest of some runs, after one that warms up."""
    run()
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        seconds.append(time.process_time() - start)
    return min(seconds)


def products(repeats: int) -> dict[str, float]:
    """Width → GFLOP/s of a plain bfloat16 product of tokens and a square matrix."""
    found = {}
    for width in PRODUCT_WIDTHS:
        tokens, weights = torch.randn(PRODUCT_ROWS, width).bfloat16(), torch.randn(width, width).bfloat16()
        seconds = fastest(lambda tokens=tokens, weights=weights: [tokens @ weights for _ in range(20)], repeats) / 20
        found[str(width)] = round(2e-9 * PRODUCT_ROWS * width**2 / seconds, 1)
    return found


def measure(ways: list[str], counts: dict[str, int], repeats: int) -> dict[str, dict[str, dict[str, float]]]:
    """Way → kind of media → seconds of a pass, media a second, GFLOP/s. The ways take turns."""
    networks = {way: build(way) for way in ways}
    best = {way: dict.fromkeys(counts, float("inf")) for way in ways}
    flops = {}
    for kind, count in counts.items():
        with FlopCounterMode(display=False) as counter:
            one_pass(build(PLAIN), kind, count)
        flops[kind] = counter.get_total_flops()
        for _ in range(repeats):
            for way, network in networks.items():
                with as_before() if way == BEFORE else nullcontext():
                    seconds = fastest(lambda network=network: one_pass(network, kind, count), 1)  # noqa: B023
                best[way][kind] = min(best[way][kind], seconds)
    return {
        way: {
            kind: {
                "seconds": round(seconds, 3),
                "a_second": round(counts[kind] / seconds, 2),
                "gflops": round(flops[kind] / seconds / 1e9, 1),
            }
            for kind, seconds in found.items()
        }
        for way, found in best.items()
    }


def show(facts: dict) -> None:
    table = Table(title="forward and backward of the base network, CPU time")
    for column in ("", "clips/s", "GFLOP/s", "stills/s", "GFLOP/s", "losses apart"):
        table.add_column(column, justify="right")
    for way, figures in facts["ways"].items():
        told = (figures[kind][name] for kind in (CLIPS, STILLS) for name in ("a_second", "gflops"))
        table.add_row(way, *map(str, told), f"{facts['losses_apart'].get(way, 0):.1e}")
    Console().print(table)
    for width, rate in facts["products"].items():
        print(f"plain bfloat16 product, width {width}: {rate} GFLOP/s")


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=8, help="in a pass")
    parser.add_argument("--stills", type=int, default=96, help="in a pass")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10, help="of the optimiser, for the losses")
    parser.add_argument("--only", nargs="+", choices=WAYS, default=list(WAYS), metavar="WAY")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args(argv)
    if min(asked.clips, asked.stills, asked.repeats, asked.steps) < 1:
        parser.error("clips, stills, repeats and steps are 1 or more")
    return asked


def main(argv: list[str] | None = None) -> None:
    asked = parse(argv)
    torch.set_num_threads(asked.threads)
    counts = {CLIPS: asked.clips, STILLS: asked.stills}
    losses = {way: torch.tensor(train(way, asked.stills, asked.steps)) for way in asked.only}
    first = losses[asked.only[0]]
    apart = {way: float(((found - first) / first).abs().max()) for way, found in losses.items()}
    facts = {"ways": measure(asked.only, counts, asked.repeats), "losses_apart": apart}
    facts["products"] = products(asked.repeats)
    show(facts)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({**counts, **facts}, indent=1) + "\n")


if __name__ == "__main__":
    main()
