"""How much memory each stage of the published cascade needs under each plan: predicted, and counted one by one.

    python -m bench.memory [--base 320 512 --frames 16] [--output bench/results/memory.json]

Full-size networks with the published configs on torch's meta device, in bfloat16: the tensors that are alive are
counted as they are made and let go of (`bench.allocations`), while guidance, pieces and autoencoders run as they do in
a stage. What is predicted comes from the configs alone. Writes the JSON, and the tables of docs/memory.md.
"""

from __future__ import annotations

import argparse
import json
import logging
import re
from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from rich.console import Console
from rich.table import Table
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from bench.allocations import Allocations
from lavie import vae
from lavie.blocks import Transformer
from lavie.events import BASE, INTERPOLATION, SUPER_RESOLUTION
from lavie.key_frames import interpolated_frames
from lavie.memory_mode import DECODING, MODEL, NONE, SEQUENTIAL, MemoryMode
from lavie.memory_plan import TILES, Part, Shape, Work, choose_modes, needed, predict
from lavie.sampling import Guided
from lavie.stages.super_resolution import SCALE, InPieces
from lavie.unet import BaseUNet, InterpolationUNet, SuperResolutionUNet
from lavie.values import to_dict

DTYPE, META, TOKENS = torch.bfloat16, torch.device("meta"), 77
GIB, GB = 2**30, 10**9
CARDS, CONTEXT = (6, 8, 12, 16, 24, 80), 0.6  # GB of device memory; what the driver takes of it for itself
WINDOWS = {INTERPOLATION: 61, SUPER_RESOLUTION: 8}  # frames seen at once, as published
STRIDES = {INTERPOLATION: 61, SUPER_RESOLUTION: 6}
VAE, UPSCALER, TEXT, UPSCALER_TEXT = "vae", "upscaler_vae", "text_encoder", "upscaler_text_encoder"
RESULTS, PAGE = Path(__file__).parent / "results" / "memory.json", Path(__file__).parents[1] / "docs" / "memory.md"


def _autoencoder(*widths: int) -> AutoencoderKL:
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * len(widths)}
    blocks |= {"up_block_types": ("UpDecoderBlock2D",) * len(widths)}
    return AutoencoderKL(**blocks, block_out_channels=widths, layers_per_block=2, latent_channels=4)


def _text(width: int, layers: int, heads: int) -> CLIPTextModel:
    sizes = {"hidden_size": width, "intermediate_size": 4 * width}
    return CLIPTextModel(CLIPTextConfig(**sizes, num_hidden_layers=layers, num_attention_heads=heads))


BUILD = {
    BASE: BaseUNet,
    INTERPOLATION: InterpolationUNet,
    SUPER_RESOLUTION: SuperResolutionUNet,
    VAE: lambda: vae.prepare(_autoencoder(128, 256, 512, 512)),
    UPSCALER: lambda: vae.prepare(_autoencoder(128, 256, 512)),
    TEXT: lambda: _text(768, 12, 12),
    UPSCALER_TEXT: lambda: _text(1024, 23, 16),
}


@cache
def network(component: str) -> nn.Module:
    """A full-size network without memory."""
    logging.getLogger("diffusers").setLevel(logging.ERROR)  # that it would rather be cast while it is loaded
    with META:
        return BUILD[component]().to(DTYPE).eval()


@cache
def part(component: str) -> Part:
    """What the predictor is told of a component: what its config.json would say, and its parameters."""
    built = network(component)
    config = built.config.to_dict() if component in (TEXT, UPSCALER_TEXT) else dict(built.config)
    count = sum(tensor.numel() for tensor in built.parameters())
    return Part({**config, "_class_name": type(built).__name__}, count, DTYPE.itemsize)


def works(height: int, width: int, frames: int, guided: bool = True) -> dict[str, Work]:
    """Place → its work, for a base clip of that size through all stages."""
    small, total = (height // 8, width // 8), interpolated_frames(frames)
    windows = len(range(0, max(total - 2, 1), STRIDES[SUPER_RESOLUTION]))
    held = 4 * 4 * WINDOWS[SUPER_RESOLUTION] * windows * height * width
    seen = WINDOWS[SUPER_RESOLUTION]
    return {
        BASE: Work(part(BASE), Shape(1, frames, *small), guided, text=part(TEXT)),
        INTERPOLATION: Work(part(INTERPOLATION), Shape(1, total, *small), guided, text=part(TEXT)),
        SUPER_RESOLUTION: Work(
            part(SUPER_RESOLUTION),
            Shape(1, seen, height, width),
            guided,
            part(VAE),
            small,
            part(UPSCALER_TEXT),
            held + 4 * 3 * seen * height * width,
        ),
        DECODING: Work(decoder=part(UPSCALER), latents=(height, width), held=held),
    }


COMPONENTS = {  # of each place, in the order they run; what is nested inside the network last
    BASE: (TEXT, BASE),
    INTERPOLATION: (TEXT, INTERPOLATION),
    SUPER_RESOLUTION: (UPSCALER_TEXT, SUPER_RESOLUTION, VAE),
    DECODING: (UPSCALER,),
}


def measure(place: str, work: Work, mode: MemoryMode) -> int:
    """Peak bytes of a place's work in a mode: weights as they lie, and the allocations of its networks counted."""
    peaks = []
    for component in COMPONENTS[place]:
        if component in (TEXT, UPSCALER_TEXT):
            allocated = _read_prompt(component)
        elif component in (VAE, UPSCALER):
            allocated = _decode(component, work.latents, mode.tile)
        else:
            allocated = _step(component, work.shape, work.guided, mode.tile, mode.split_guidance)
        peaks.append(_weights(place, component, mode) + allocated)
    return work.held + max(peaks)


def _weights(place: str, component: str, mode: MemoryMode) -> int:
    """Bytes of the weights that are on the device while a component runs."""
    if mode.offload == NONE:
        return sum(map(_bytes, map(network, BUILD)))
    if mode.offload == MODEL:
        nested = place == SUPER_RESOLUTION and component == VAE
        return _bytes(network(component)) + (_bytes(network(place)) if nested else 0)
    return max(_at_once(network(each)) for each in COMPONENTS[place])


def _bytes(module: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in module.parameters())


def _at_once(module: nn.Module) -> int:
    """The largest of what `accelerate.cpu_offload` moves in one go."""
    whole = [_bytes(each) for each in module.modules() if isinstance(each, Transformer)]
    return max([*whole, *(sum(t.nbytes for t in each.parameters(recurse=False)) for each in module.modules())])


@cache
@torch.inference_mode()
def _read_prompt(component: str) -> int:
    with Allocations() as seen:
        network(component)(torch.zeros(1, TOKENS, dtype=torch.long, device=META))
    return seen.peak


@cache
@torch.inference_mode()
def _step(component: str, shape: Shape, guided: bool, tile: int | None, split_guidance: bool) -> int:
    """One step of guidance as the stage calls it."""
    model = network(component)
    called = InPieces(model, tile // SCALE) if tile else model
    size = (1, 4, shape.frames, shape.height, shape.width)
    with Allocations() as seen:
        given = {"split_guidance": split_guidance}
        if component == INTERPOLATION:
            given["concatenate"] = torch.empty(size, dtype=DTYPE, device=META)
        if component == SUPER_RESOLUTION:
            low_res = torch.empty(1, 3, *size[2:], dtype=DTYPE, device=META)
            given["conditions"] = {"low_res": low_res, "class_labels": torch.zeros(1, dtype=torch.long, device=META)}
        text = torch.empty(2 if guided else 1, TOKENS, model.config.cross_attention_dim, dtype=DTYPE, device=META)
        predict_noise = Guided(called, text, 7.5 if guided else 1.0, **given)
        predict_noise(torch.empty(size, device=META), torch.tensor(500, device=META))
    return seen.peak


@cache
@torch.inference_mode()
def _decode(component: str, latents: tuple[int, int], tile: int | None) -> int:
    with Allocations() as seen:
        next(vae.decode(network(component), torch.empty(1, 4, 1, *latents, device=META), tile))
    return seen.peak


def modes(place: str, work: Work) -> Iterator[MemoryMode]:
    """All that can be told apart."""
    tiles = (None, *TILES) if place in (SUPER_RESOLUTION, DECODING) else (None,)
    halves = (False, True) if work.guided else (False,)
    for tile, half, offload in product(tiles, halves, (NONE, MODEL, SEQUENTIAL)):
        yield MemoryMode(tile, half, offload)


def resident() -> int:
    """Bytes of all weights together."""
    return sum(part(component).bytes for component in BUILD)


def rows(height: int, width: int, frames: int) -> list[dict]:
    """Every place in every mode: predicted and measured bytes."""
    return [
        {
            "place": place,
            **to_dict(mode),
            "predicted": predict(work, mode, resident()),
            "measured": measure(place, work, mode),
        }
        for place, work in works(height, width, frames).items()
        for mode in modes(place, work)
    ]


def cards(height: int, width: int, frames: int) -> list[dict]:
    """The plan that each size of device memory gets."""
    found = []
    for card in CARDS:
        plan = choose_modes(int((card - CONTEXT) * GB), works(height, width, frames), resident(), str(DTYPE)[6:])
        chosen = {place: {"rung": str(mode), "peak": plan.peaks[place]} for place, mode in plan.modes.items()}
        found.append({"card": card, "fits": plan.fits, "needed": needed(plan.peak), "places": chosen})
    return found


def tables(results: dict) -> str:
    """Both tables as markdown."""
    lines = ["| device memory | " + " | ".join(COMPONENTS) + " |", "|---|" + "---|" * len(COMPONENTS)]
    for row in results["cards"]:
        cells = [f"{each['rung']} ({each['peak'] / GIB:.1f} GiB)" for each in row["places"].values()]
        lines.append(f"| {row['card']} GB | " + " | ".join(cells) + " |")
    lines += ["", "| place | pieces | halves | offload | predicted, GiB | measured, GiB |", "|---|---|---|---|---|---|"]
    for row in results["rows"]:
        told = [row["place"], row["tile"] or "whole", "in turn" if row["halves"] else "together", row["offload"]]
        lines.append("| " + " | ".join([*map(str, told), *(f"{row[k] / GIB:.2f}" for k in _BOTH)]) + " |")
    return "\n".join(lines)


_BOTH = ("predicted", "measured")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__.splitlines()[0])
    parser.add_argument("--base", type=int, nargs=2, metavar=("H", "W"), default=[320, 512])
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the JSON goes")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page whose tables are written anew")
    options = parser.parse_args(argv)
    size = (*options.base, options.frames)
    facts = {"base": options.base, "frames": options.frames, "dtype": str(DTYPE)[6:], "torch": torch.__version__}
    results = {**facts, "cards": cards(*size), "rows": rows(*size)}
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(results, indent=1) + "\n")
    begin, end = "<!-- bench.memory -->", "<!-- /bench.memory -->"
    if options.page.is_file():
        text = options.page.read_text(encoding="utf-8")
        filled = f"{begin}\n{tables(results)}\n{end}"
        options.page.write_text(re.sub(f"{begin}.*{end}", lambda _: filled, text, flags=re.S), encoding="utf-8")
    _show(results["rows"])


def _show(found: list[dict]) -> None:
    table = Table("place", "pieces", "halves", "offload", "predicted GiB", "measured GiB", "%")
    for row in found:
        told = (row["place"], str(row["tile"] or ""), "in turn" if row["halves"] else "", row["offload"])
        share = 100 * (row["predicted"] / row["measured"] - 1)
        table.add_row(*told, *(f"{row[key] / GIB:.2f}" for key in _BOTH), f"{share:+.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
