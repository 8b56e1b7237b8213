"""The network that a training begins with: a bundle's own, one that grows out of its base network, or a fresh one."""

from __future__ import annotations

import torch
from torch import nn

from lavie.bundle import BASE, CLASSES, INTERPOLATION, SUPER_RESOLUTION, Bundle
from lavie.errors import TrainingError
from lavie.key_frames import beside_channels
from lavie.manifest import EXTENSION, NEAREST
from lavie.training.nano.networks import inherit, start_time_at_zero
from lavie.training.tuning.settings import FROM_BUNDLE, FROM_LAYOUT
from lavie.unet import VideoUNet

LATENT_CHANNELS = 4
GUIDED_KINDS = (INTERPOLATION, EXTENSION)  # base networks that are shown something beside the noise


def starting_network(bundle: Bundle, kind: str, origin: str, seed: int) -> tuple[VideoUNet, str]:
    """A network in float32 on the CPU, ready to be trained, and in words where its weights come from.

    Raises TrainingError: there is nothing in the bundle that it could begin with.
    """
    if origin == FROM_BUNDLE:
        network, source = _from_bundle(bundle, kind)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = start_time_at_zero(CLASSES[kind].from_config(_config(bundle, kind, origin)))
        source = "random weights"
    return network.requires_grad_(True).train(), source


def freeze_spatial(network: VideoUNet) -> None:
    """Train only what mixes time, as where the rest comes from an image model."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_("temp" in name)  # `attn_temp`, `norm_temp`, and everything with `temporal` in its name
    for module in network.modules():
        if isinstance(module, nn.GroupNorm) and module.weight.requires_grad:
            module.register_forward_pre_hook(_track_input)


def _track_input(module: nn.Module, inputs: tuple) -> tuple:
    """Ask for the gradient of a norm's input even where nobody needs it.

    torch 2.13 ends in a segmentation fault on a CPU where a channels-last group norm of a small picture is trained and
    its input is not, as right behind frozen layers.
    """
    x, *others = inputs
    tracked = x if x.requires_grad or not torch.is_grad_enabled() else x.detach().requires_grad_()
    return (tracked, *others)


def _from_bundle(bundle: Bundle, kind: str) -> tuple[VideoUNet, str]:
    if (bundle.folder / kind / "config.json").is_file():
        return bundle.load(kind, torch.float32), f"{bundle.name}’s {kind}"
    if kind not in GUIDED_KINDS:
        raise TrainingError(f"{bundle.folder} holds no {kind} to begin with: give --from scratch, or another --model")
    network = CLASSES[kind].from_config(_config(bundle, kind, FROM_BUNDLE))
    parent = bundle.load(BASE, torch.float32)
    return inherit(network, parent.state_dict()), f"{bundle.name}’s base, new inputs at zero"


def _config(bundle: Bundle, kind: str, origin: str) -> dict:
    """The bundle's own layout of this network; that of its base network with more inputs; or the published one."""
    if origin != FROM_LAYOUT and (bundle.folder / kind / "config.json").is_file():
        return bundle.config(kind)
    inputs = {"in_channels": _inputs(bundle, kind)} if kind in GUIDED_KINDS else {}
    if origin != FROM_LAYOUT and inputs:
        return _plain(bundle.config(BASE)) | inputs
    text = bundle.text_components(kind if kind == SUPER_RESOLUTION else BASE)[0]
    return {"cross_attention_dim": bundle.config(text)["hidden_size"], **inputs}


def _inputs(bundle: Bundle, kind: str) -> int:
    """Channels of noise and what stands beside it: for extension a mask and latents."""
    if kind == EXTENSION:
        return LATENT_CHANNELS + 1 + LATENT_CHANNELS
    conditioning = bundle.defaults[kind].conditioning if kind in bundle.defaults else NEAREST
    return LATENT_CHANNELS + beside_channels(conditioning, LATENT_CHANNELS)


def _plain(config: dict) -> dict:
    """A config without the name of the class that it was written for."""
    return {name: value for name, value in config.items() if not name.startswith("_")}


def levels(network: nn.Module) -> int:
    """By how much frames of latents shrink inside the network."""
    return 2 ** (len(network.config.block_out_channels) - 1)
