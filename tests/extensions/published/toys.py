"""The published files at toy size, made of `tests.tiny`'s networks: their names, their layout, their ways of saving."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import save_file

from extensions.published.facts import Published
from lavie.manifest import EXTENSION, TEXT_ENCODER, TOKENIZER, UPSCALER_TEXT, UPSCALER_TOKENIZER, UPSCALER_VAE, VAE
from lavie.unet import BaseUNet
from tests import tiny

SMALL, LARGE = "stable-diffusion-v1-4", "stable-diffusion-x4-upscaler"
FILES = {
    "base": "lavie_base.pt",
    "interpolation": "lavie_interpolation.pt",
    "super_resolution": "lavie_vsr.pt",
    EXTENSION: "seine.pt",
    VAE: f"{SMALL}/vae/diffusion_pytorch_model.safetensors",
    TEXT_ENCODER: f"{SMALL}/text_encoder/model.safetensors",
    UPSCALER_VAE: f"{LARGE}/vae/diffusion_pytorch_model.bin",
    UPSCALER_TEXT: f"{LARGE}/text_encoder/model.safetensors",
}
WORDS = ["<|startoftext|>", "<|endoftext|>", "!", "a", "a</w>", "r", "red</w>", "re", "d</w>", "e", "d"]
MERGES = "#version: 0.2\nr e\nre d</w>\n"
_OLD_ATTENTION = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}


@cache
def networks() -> Mapping[str, torch.nn.Module]:
    """Component → network, of a whole family with SEINE. Not to be changed."""
    made = tiny.build_networks(places=0)
    config = {name: value for name, value in made["base"].config.items() if not name.startswith("_")}
    return made | {UPSCALER_TEXT: made[TEXT_ENCODER], EXTENSION: BaseUNet(**{**config, "in_channels": 9})}


@cache
def published() -> Published:
    """What the toy files have to be."""
    configs = {name: json.loads(_config(network)) for name, network in networks().items()}
    limit = configs[TEXT_ENCODER]["max_position_embeddings"]
    tokenizer = {"tokenizer_class": "CLIPTokenizer", "model_max_length": limit, "bos_token": WORDS[0]}
    tokenizer |= {"eos_token": WORDS[1], "unk_token": WORDS[1], "pad_token": WORDS[1]}
    manifest = tiny.MANIFEST | {EXTENSION: tiny.MANIFEST["base"]}
    return Published(manifest, configs, {TOKENIZER: tokenizer, UPSCALER_TOKENIZER: tokenizer})


def _config(network: torch.nn.Module) -> str:
    if hasattr(network.config, "to_json_string"):
        network.config.architectures = ["CLIPTextModel"]
        return network.config.to_json_string()
    return network.to_json_string()


def weights(component: str) -> OrderedDict[str, torch.Tensor]:
    """A component's weights by the names under which they were published."""
    state = networks()[component].state_dict()
    if component.endswith("text_encoder"):
        named = {f"text_model.{name}": tensor for name, tensor in state.items()}
        named["text_model.embeddings.position_ids"] = torch.arange(24)[None]
    elif component.endswith("vae"):
        named = {_old(name): tensor for name, tensor in state.items()}
    else:
        named = state
    return OrderedDict((name, tensor.clone().contiguous()) for name, tensor in named.items())


def _old(name: str) -> str:
    for new, old in _OLD_ATTENTION.items():
        name = name.replace(f".{new}.", f".{old}.")
    return name


def write_published(folder: Path, components=tuple(FILES)) -> Path:
    """The files of some components; networks as they were handed out, plain or under `ema`."""
    for component in components:
        file = folder / FILES[component]
        file.parent.mkdir(parents=True, exist_ok=True)
        state = weights(component)
        if file.suffix == ".safetensors":
            save_file(dict(state), file)
        else:
            torch.save({"ema": state} if component in ("super_resolution", EXTENSION) else state, file)
    for side in (SMALL, LARGE):
        write_tokenizer(folder / side / "tokenizer", "<|endoftext|>" if side == SMALL else "!")
    return folder


def write_tokenizer(folder: Path, padding: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(WORDS)}))
    (folder / "merges.txt").write_text(MERGES)
    (folder / "special_tokens_map.json").write_text(json.dumps({"pad_token": padding}))
    (folder / "tokenizer_config.json").write_text("{}")
