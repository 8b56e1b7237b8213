"""Merges adapters into the weights of a new bundle, which then needs no adapter. The source stays unchanged."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import nn

from extensions.lora.adapter import Adapter, check_different
from extensions.lora.deltas import LayerDelta
from extensions.lora.files.read import AdapterDeltas
from extensions.lora.hooks import AdapterHooks
from extensions.lora.names import TEXT, UNET
from lavie.bundle import Bundle
from lavie.errors import AdapterError, LavieError
from lavie.events import BASE
from lavie.manifest import EXTENSION, MANIFEST, TEXT_ENCODER
from lavie.training.assemble import check_output, write_changed
from lavie.values import parse_object

PARTS_OF = {BASE: UNET, EXTENSION: UNET, TEXT_ENCODER: TEXT}  # components that adapters delta


def bake(
    source: Path | str, adapters: Sequence[Adapter], deltas: Callable[[Adapter], AdapterDeltas], out: Path | str
) -> Path:
    """Write a bundle with the adapters merged into its base network, extension network and text encoder.

    The sum is taken in float64 and rounded once, to the float16 of a bundle. The manifest is kept and lists the
    adapters with their weights under `adapters`.

    deltas: reads an adapter's file for the networks of `source`. out: a new folder, or a bundle to replace.

    Raises AdapterError if nothing is merged or `out` cannot be written, BundleError for a damaged source.
    """
    source, out = Path(source), Path(out)
    check_different(adapters)
    bundle = Bundle(source)
    try:
        check_output(out, source)
    except LavieError:
        raise AdapterError(
            f"{out} is the bundle to start from, or is there and no bundle: give a new folder for the result"
        ) from None
    read = [(adapter, deltas(adapter)) for adapter in adapters]
    components = {}
    for name, part in PARTS_OF.items():
        weighed = [(found.of(part), adapter.weight_of(part)) for adapter, found in read]
        if bundle.size(name) and any(found and weight for found, weight in weighed):
            components[name] = merge(bundle.load(name, torch.float64), weighed)
    if not components:
        raise AdapterError("the adapters change nothing at these weights: give one a weight other than 0")
    manifest = parse_object((source / MANIFEST).read_text(encoding="utf-8"))
    manifest["adapters"] = [json.loads(adapter.to_json()) for adapter in adapters]
    try:
        write_changed(out, source, components, manifest)
    except LavieError as error:
        reason = error.__context__ or error
        raise AdapterError(f"the bundle was not written to {out} ({reason}): make room there and bake again") from None
    return out


@torch.no_grad()
def merge(network: nn.Module, weighed: Iterable[tuple[dict[str, LayerDelta], float]]) -> nn.Module:
    """Add weighted deltas to the weights of a network, in place and in its number type.

    Raises AdapterError for a delta that fits no layer, see `AdapterHooks.check`.
    """
    checked = AdapterHooks(network)
    layers = dict(network.named_modules())
    for deltas, weight in weighed:
        checked.check(deltas)
        for name, delta in deltas.items():
            target = layers[name].weight
            target[:, : delta.shape[1]] += weight * delta.delta(target.dtype).to(target.device)
    return network
