"""Attaches adapters to a network beside its weights: any number at once, with weights that may change at any time.

Hooks replace peft's layers here: peft renames the network's parameters, which breaks the layer-by-layer offloading of
`lavie.residency`, and mishandles mixed alphas. A hook only adds to an output, so weight 0 gives the bits of the plain
network, and LoRA, LoHa and LoKr may share a layer.

A `lavie.layers.TextContext` caches keys and values: make a new one when weights change, as `sampling.Guided` does.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from extensions.lora.adapter import Adapter, check_different
from extensions.lora.deltas import Layer, LayerDelta
from extensions.lora.files.read import AdapterDeltas
from lavie.errors import AdapterError

_NAME = "adapter_hooks"  # under which a network keeps its hooks


def set_adapters(
    network: nn.Module, part: str, adapters: Sequence[Adapter], deltas: Callable[[Adapter], AdapterDeltas]
) -> None:
    """Attach exactly these adapters with these weights. Adapters that are attached already are not read again.

    Args:
        network: a base UNet, an extension network or a text encoder, on any device, offloaded or not.
        part: `names.UNET` or `names.TEXT`.
        deltas: reads an adapter's file; called for new adapters with a weight other than 0.

    Raises RequestError for an adapter that occurs twice, AdapterError for a delta that fits no layer; the network then
    stays as it was.
    """
    check_different(adapters)
    hooks = hooks_of(network)
    weights = {adapter.sha256: adapter.weight_of(part) for adapter in adapters}
    new = [adapter for adapter in adapters if adapter.sha256 not in hooks.weights and weights[adapter.sha256]]
    read = {adapter.sha256: deltas(adapter).of(part) for adapter in new}
    for found in read.values():  # check all before any is added
        hooks.check(found)
    for key, found in read.items():
        hooks.add(key, found)
    for key in hooks.weights.keys() - weights.keys():
        hooks.remove(key)
    hooks.weights.update({key: weight for key, weight in weights.items() if key in hooks.weights})


def remove_adapters(network: nn.Module) -> None:
    """Remove all adapters and every trace of them."""
    hooks = hooks_of(network)
    for key in list(hooks.weights):
        hooks.remove(key)
    del network._modules[_NAME]


def hooks_of(network: nn.Module) -> AdapterHooks:
    """The hooks of a network, created if it has none."""
    hooks = network._modules.get(_NAME)
    if not isinstance(hooks, AdapterHooks):
        hooks = AdapterHooks(network)
        network.add_module(_NAME, hooks)
    return hooks


class AdapterHooks(nn.Module):
    """The adapters of one network.

    It is a module so that it moves with the network. It has no parameters, so the network's parameter names and state
    stay as they are, also for accelerate's layer-by-layer offloading.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.weights: dict[str, float] = {}  # by adapter; changes take effect at the next call
        self._deltas: dict[str, dict[str, LayerDelta]] = {}  # layer → key → delta
        self._hooks: dict[str, torch.utils.hooks.RemovableHandle] = {}
        self._layers: dict[str, Layer] = {
            name: layer for name, layer in network.named_modules() if isinstance(layer, (nn.Linear, nn.Conv2d))
        }

    def check(self, deltas: Mapping[str, LayerDelta]) -> None:
        """Raises AdapterError for a delta that fits no layer of the network.

        A convolution may have more input channels than the delta: the extension network reads the known frames'
        channels after the noisy latents.
        """
        for name, delta in deltas.items():
            layer = self._layers.get(name)
            out, into, *kernel = (0, 0) if layer is None else layer.weight.shape
            wider = isinstance(layer, nn.Conv2d) and delta.shape[1] < into
            if tuple(delta.shape) != (out, delta.shape[1] if wider else into, *kernel):
                raise AdapterError(
                    f"the network has no layer {name!r} of shape {list(delta.shape)}: give changes read for it"
                )

    def add(self, key: str, deltas: Mapping[str, LayerDelta], weight: float = 1.0) -> None:
        """Add an adapter. deltas: by layer name. Factors without gradients take the layer's number type."""
        self.check(deltas)
        self.weights[key] = weight
        for name, delta in deltas.items():
            layer = self._layers[name]
            held = copy.copy(delta)  # the caller may use the same one elsewhere
            held.map_factors(partial(_match_layer, layer.weight))
            self._deltas.setdefault(name, {})[key] = held
            if name not in self._hooks:
                self._hooks[name] = layer.register_forward_hook(partial(self._add, self._deltas[name]))

    def remove(self, key: str) -> None:
        """Remove an adapter, and the hooks of layers that no other adapter changes."""
        del self.weights[key]
        for name, deltas in list(self._deltas.items()):
            deltas.pop(key, None)
            if not deltas:
                del self._deltas[name]
                self._hooks.pop(name).remove()

    def _add(self, deltas: dict[str, LayerDelta], layer: Layer, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        for key in sorted(deltas):  # rounding must not depend on the order of adapters
            if weight := self.weights[key]:
                output = torch.add(output, deltas[key].apply(layer, inputs[0]), alpha=weight)
        return output

    def _apply(self, function: Callable[[Tensor], Tensor], recurse: bool = True) -> AdapterHooks:
        """What `network.to(…)` calls for each tensor."""
        for deltas in self._deltas.values():
            for delta in deltas.values():
                delta.map_factors(function)
        return super()._apply(function, recurse)


def _match_layer(weight: Tensor, factor: Tensor) -> Tensor:
    """A factor in the number type and on the device of a layer's weight; offloaded weights are on the meta device."""
    if factor.requires_grad:
        return factor
    device = factor.device if weight.is_meta else weight.device
    return factor.to(device, weight.dtype)
