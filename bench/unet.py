"""How long a forward of each network takes, and where its work and its traffic go.

    python -m bench.unet [--widths 32 64 128 128] [--heads 1] [--latent 16 16 16 --latent 16 40 64] [--repeats 7]

Random weights, guidance's batch of 2, float32, one thread; time is the process's CPU time, runs of the networks are
interleaved, minimum and median are told. FLOPs and bytes are exact counts and do not depend on the machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import diffusers
import torch
from rich.console import Console
from rich.table import Table

from bench.counting import Count, count
from lavie.layers import TextContext
from lavie.unet import BaseUNet, InterpolationUNet, SuperResolutionUNet, VideoUNet

NETWORKS: dict[str, type[VideoUNet]] = {
    "base": BaseUNet,
    "interpolation": InterpolationUNet,
    "super-resolution": SuperResolutionUNet,
}
RESULTS = Path(__file__).parent / "results" / "unet.json"
BATCH, TOKENS, TIMESTEP, NOISE_LEVEL = 2, 77, 500, 50
WARM_UP = 2


def build(name: str, widths: list[int], heads: int, text_channels: int) -> VideoUNet:
    """A network with random weights, the same every time."""
    torch.manual_seed(0)
    groups = 32 if all(width % 32 == 0 for width in widths) else 8
    config = {
        "block_out_channels": tuple(widths),
        "attention_head_dim": heads,
        "cross_attention_dim": text_channels,
        "norm_num_groups": groups,
    }
    return NETWORKS[name](**config).eval()


def arguments(net: VideoUNet, latent: tuple[int, int, int]) -> tuple[tuple, dict]:
    """One step of guidance: both halves of the batch, the text projected once a prompt."""
    generator = torch.Generator().manual_seed(0)
    text = TextContext(torch.randn(BATCH, TOKENS, net.config.cross_attention_dim, generator=generator))
    conditions = {}
    channels = net.config.in_channels
    if isinstance(net, SuperResolutionUNet):
        channels -= 3
        conditions["low_res"] = torch.randn(BATCH, 3, *latent, generator=generator)
        conditions["class_labels"] = torch.full((BATCH,), NOISE_LEVEL)
    return (torch.randn(BATCH, channels, *latent, generator=generator), TIMESTEP, text), conditions


def interleaved(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """CPU seconds of each run, A B C A B C …, after warming up."""
    for run in [*runs.values()] * WARM_UP:
        run()
    seconds = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.process_time()
            run()
            seconds[name].append(time.process_time() - start)
    return seconds


@torch.no_grad()
def measure(nets: dict[str, VideoUNet], latent: tuple[int, int, int], repeats: int) -> list[dict]:
    """One row a network: its times and its parts."""
    inputs = {name: arguments(net, latent) for name, net in nets.items()}
    runs = {name: lambda net=net, given=inputs[name]: net(*given[0], **given[1]) for name, net in nets.items()}
    seconds = interleaved(runs, repeats)
    return [
        {
            "network": name,
            "latent": list(latent),
            "parameters": sum(p.numel() for p in net.parameters()),
            "seconds": {"min": min(seconds[name]), "median": statistics.median(seconds[name]), "runs": repeats},
            "parts": {part: asdict(c) for part, c in count(net, *inputs[name][0], **inputs[name][1]).items()},
        }
        for name, net in nets.items()
    ]


def show(row: dict, console: Console) -> None:
    """A row as a table of its parts."""
    parts = {name: Count(**values) for name, values in row["parts"].items()}
    parts["all"] = Count(*(sum(getattr(c, f) for c in parts.values()) for f in ("flops", "bytes", "operations")))
    size = "×".join(map(str, row["latent"]))
    seconds = row["seconds"]
    title = f"{row['network']} {size}: {seconds['min']:.3f} s (median {seconds['median']:.3f} s of {seconds['runs']})"
    table = Table(title=title, title_justify="left")
    for heading in ("part", "GFLOP", "%", "GB", "%", "operations"):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    whole = parts["all"]
    for name, part in parts.items():
        table.add_row(
            name,
            f"{part.flops / 1e9:.2f}",
            f"{100 * part.flops / whole.flops:.1f}",
            f"{part.bytes / 1e9:.2f}",
            f"{100 * part.bytes / whole.bytes:.1f}",
            str(part.operations),
        )
    console.print(table)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.unet", description=__doc__.splitlines()[0])
    parser.add_argument("--widths", type=int, nargs=4, default=[32, 64, 128, 128], help="channels of the levels")
    parser.add_argument("--heads", type=int, default=1, help="attention heads (attention_head_dim of the config)")
    parser.add_argument("--text-channels", type=int, default=768, help="width of the text embeddings")
    parser.add_argument(
        "--latent", type=int, nargs=3, action="append", metavar=("F", "H", "W"), help="may be given more than once"
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the JSON goes")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    options = parse(argv)
    torch.set_num_threads(1)
    nets = {n: build(n, options.widths, options.heads, options.text_channels) for n in options.networks}
    rows, console = [], Console()
    for latent in options.latent or [(16, 16, 16), (16, 40, 64)]:
        for row in measure(nets, tuple(latent), options.repeats):
            rows.append(row)
            show(row, console)
    facts = {
        "widths": options.widths,
        "heads": options.heads,
        "text_channels": options.text_channels,
        "batch": BATCH,
        "tokens": TOKENS,
        "dtype": "float32",
        "threads": 1,
        "clock": "process CPU time, runs interleaved",
        "versions": {"torch": torch.__version__, "diffusers": diffusers.__version__},
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps({**facts, "results": rows}, indent=1) + "\n")
    console.print(f"written to {options.output}")


if __name__ == "__main__":
    main()
