"""The places of the published files: `lavie_base.pt` and its companions. Knows file names, not contents."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from lavie.errors import BundleError
from lavie.events import BASE, INTERPOLATION, SUPER_RESOLUTION
from lavie.manifest import (
    EXTENSION,
    NEEDED,
    TEXT_ENCODER,
    TOKENIZER,
    UPSCALER_TEXT,
    UPSCALER_TOKENIZER,
    UPSCALER_VAE,
    VAE,
)

USUAL_NAME = "pretrained_models"  # of the folder, in the instructions it was published with
SMALL, LARGE = "stable-diffusion-v1-4", "stable-diffusion-x4-upscaler"
NETWORKS = {
    BASE: "lavie_base.pt",
    INTERPOLATION: "lavie_interpolation.pt",
    SUPER_RESOLUTION: "lavie_vsr.pt",
    EXTENSION: "seine.pt",
}
# Two names each: safetensors where it was published, else the pickle beside it.
_VAE_FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
_TEXT_FILES = ("model.safetensors", "pytorch_model.bin")
COMPANIONS = {
    VAE: [f"{SMALL}/vae/{name}" for name in _VAE_FILES],
    TEXT_ENCODER: [f"{SMALL}/text_encoder/{name}" for name in _TEXT_FILES],
    UPSCALER_VAE: [f"{LARGE}/vae/{name}" for name in _VAE_FILES],
    UPSCALER_TEXT: [f"{LARGE}/text_encoder/{name}" for name in _TEXT_FILES],
}
VOCABULARY, MERGES = "vocab.json", "merges.txt"
TOKENIZERS = {
    TOKENIZER: [f"{SMALL}/tokenizer/{name}" for name in (VOCABULARY, MERGES)],
    UPSCALER_TOKENIZER: [f"{LARGE}/tokenizer/{name}" for name in (VOCABULARY, MERGES)],
}
GET_THEM = "`python app.py models download official` gets them"


@dataclass(frozen=True)
class Found:
    """The published files in a folder: files of weights and folders of tokenizers by component.

    left_out: network → the missing files without which it cannot run.
    """

    folder: Path
    weights: dict[str, Path]
    tokenizers: dict[str, Path]
    left_out: dict[str, list[str]] = field(default_factory=dict)


def companions(stage: str) -> list[str]:
    """The published components that a network needs beside itself."""
    needed = [name for name in NEEDED[stage] if name != stage]
    return needed + ([UPSCALER_TEXT, UPSCALER_TOKENIZER] if stage == SUPER_RESOLUTION else [])


def recognise(folder: Path) -> Found:
    """The published files in `folder` or in `pretrained_models` below it. Raises BundleError if none is usable."""
    if not folder.is_dir():
        raise BundleError(f"{folder} is not a folder: give the one that holds {NETWORKS[BASE]}; {GET_THEM}")
    if not _networks(folder) and _networks(folder / USUAL_NAME):
        folder = folder / USUAL_NAME
    networks = _networks(folder)
    if not networks:
        raise BundleError(f"{folder} holds none of {', '.join(NETWORKS.values())}: {GET_THEM}")
    left_out = {stage: lacks for stage in networks if (lacks := missing(folder, stage))}
    usable = [stage for stage in networks if stage not in left_out]
    if not usable:
        lacks = sorted({name for names in left_out.values() for name in names})
        raise BundleError(f"{folder} lacks {', '.join(lacks)}, without which no network of it runs: {GET_THEM}")
    needed = list(dict.fromkeys(name for stage in usable for name in [stage, *companions(stage)]))
    weights = {name: file for name in needed if (file := _file(folder, name)) is not None}
    tokenizers = {name: (folder / TOKENIZERS[name][0]).parent for name in needed if name in TOKENIZERS}
    return Found(folder, weights, tokenizers, left_out)


def missing(folder: Path, stage: str) -> list[str]:
    """The published files that a stage needs and that are not in `folder`."""
    lacks = []
    for name in (stage, *companions(stage)):
        if name in TOKENIZERS:
            lacks += [file for file in TOKENIZERS[name] if not (folder / file).is_file()]
        elif _file(folder, name) is None:
            lacks.append(NETWORKS.get(name) or COMPANIONS[name][0])
    return lacks


def _networks(folder: Path) -> list[str]:
    return [stage for stage, name in NETWORKS.items() if (folder / name).is_file()]


def _file(folder: Path, component: str) -> Path | None:
    names = [NETWORKS[component]] if component in NETWORKS else COMPANIONS.get(component, [])
    return next((folder / name for name in names if (folder / name).is_file()), None)
