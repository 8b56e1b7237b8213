"""Adapters on a network, beside its weights: any number at once, weighed anew at any time, taken off without a trace.

The branches are our own hooks instead of peft's layers: peft renames the network's parameters, which the layer-by-layer
offloading of `lavie.residency` cannot follow, and its loaders are wrong about mixed alphas, its hot swap about names.
A hook only ever adds to an output, so weight 0 and no adapter are the same bits, and LoRA, LoHa and LoKr share a layer.

A `lavie.layers.TextContext` keeps keys and values: where weights change, make a new one, as `sampling.Guided` does.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from extensions.lora.adapter import Adapter, check_different
from extensions.lora.deltas import LayerDelta
from extensions.lora.files.read import AdapterDeltas
from lavie.errors import AdapterError

_NAME = "adapter_rack"  # under which a network keeps its rack


def set_adapters(
    network: nn.Module, part: str, adapters: Sequence[Adapter], changes: Callable[[Adapter], AdapterDeltas]
) -> None:
    """Let `network` carry exactly these adapters at these weights. What it carries already is weighed, not read again.

    Args:
        network: a base UNet or its companion, or a text encoder; on any device, offloaded or not.
        part: `names.UNET` or `names.TEXT`, says which changes and which weight of an adapter are meant.
        changes: reads an adapter's file, such as `read_deltas` on the file of its sha256. It is called for adapters
            that are new on this network and have a weight.

    Raises RequestError for an adapter that is asked for twice, AdapterError where a change fits no layer; the network
    carries what it did before then.
    """
    check_different(adapters)
    rack = hooks_of(network)
    weights = {adapter.sha256: adapter.weight_of(part) for adapter in adapters}
    new = [adapter for adapter in adapters if adapter.sha256 not in rack.weights and weights[adapter.sha256]]
    read = {adapter.sha256: changes(adapter).of(part) for adapter in new}
    for found in read.values():  # all of them before any is hung up
        rack.check(found)
    for key, found in read.items():
        rack.hold(key, found)
    for key in rack.weights.keys() - weights.keys():
        rack.release(key)
    rack.weights.update({key: weight for key, weight in weights.items() if key in rack.weights})


def remove_adapters(network: nn.Module) -> None:
    """Remove all adapters and every trace of them."""
    rack = hooks_of(network)
    for key in list(rack.weights):
        rack.release(key)
    del network._modules[_NAME]


def hooks_of(network: nn.Module) -> AdapterHooks:
    """The rack of a network, hung there if it has none."""
    if _NAME not in network._modules:
        network.add_module(_NAME, AdapterHooks(network))
    return network._modules[_NAME]


class AdapterHooks(nn.Module):
    """What adapters add to the layers of one network.

    It is a module so that it moves with the network, and has no parameters so that the network's own stay as they are:
    their names, its state, and what accelerate looks at to offload layer by layer.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.weights: dict[str, float] = {}  # by the adapter's key; changing one takes effect at the next call
        self._changes: dict[str, dict[str, LayerDelta]] = {}  # layer → key → change
        self._hooks: dict[str, torch.utils.hooks.RemovableHandle] = {}
        self._layers = dict(network.named_modules())

    def check(self, changes: Mapping[str, LayerDelta]) -> None:
        """Raises AdapterError for a change that no layer of the network has room for.

        A convolution may read more channels than the change is for: the network that is told known frames reads them
        behind the noisy latents, which are all that the base network's first layer knows.
        """
        for name, change in changes.items():
            layer = self._layers.get(name)
            out, into, *kernel = layer.weight.shape if isinstance(layer, (nn.Linear, nn.Conv2d)) else (0, 0)
            wider = isinstance(layer, nn.Conv2d) and change.shape[1] < into
            if tuple(change.shape) != (out, change.shape[1] if wider else into, *kernel):
                raise AdapterError(
                    f"the network has no layer {name!r} of shape {list(change.shape)}: give changes read for it"
                )

    def hold(self, key: str, changes: Mapping[str, LayerDelta], weight: float = 1.0) -> None:
        """Add an adapter. changes: by the layers' names. Factors that need no gradient take the layer's number type."""
        self.check(changes)
        self.weights[key] = weight
        for name, change in changes.items():
            layer = self._layers[name]
            held = copy.copy(change)  # the caller may put the same one on another network, or bake it
            held.move(partial(_like, layer.weight))
            self._changes.setdefault(name, {})[key] = held
            if name not in self._hooks:
                self._hooks[name] = layer.register_forward_hook(partial(self._add, self._changes[name]))

    def release(self, key: str) -> None:
        """Take an adapter away; layers that no other changes lose their hook."""
        del self.weights[key]
        for name, changes in list(self._changes.items()):
            changes.pop(key, None)
            if not changes:
                del self._changes[name]
                self._hooks.pop(name).remove()

    def _add(self, changes: dict[str, LayerDelta], layer: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        for key in sorted(changes):  # sums are rounded: their order must not tell which adapter came first
            if weight := self.weights[key]:
                output = torch.add(output, changes[key].of(layer, inputs[0]), alpha=weight)
        return output

    def _apply(self, function: Callable[[Tensor], Tensor], recurse: bool = True) -> AdapterHooks:
        """What `network.to(…)` does to each tensor."""
        for changes in self._changes.values():
            for change in changes.values():
                change.move(function)
        return super()._apply(function, recurse)


def _like(weight: Tensor, factor: Tensor) -> Tensor:
    """A factor in the number type and on the device of the layer's weight; an offloaded weight is on no real device."""
    if factor.requires_grad:
        return factor
    device = factor.device if weight.is_meta else weight.device
    return factor.to(device, weight.dtype)
