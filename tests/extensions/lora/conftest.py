"""Two small networks that every test may change, as long as it takes off what it put on."""

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.tiny import TEXT_WIDTH, build_networks


@pytest.fixture(scope="session")
def networks():
    """unet, text, their targets; `plain`: copies that nobody changes; `run(part)`: what it makes of fixed inputs."""
    from extensions.lora.files.read import targets_of

    built = build_networks()
    unet, text = built["base"].eval().requires_grad_(False), built["text_encoder"].eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(1)
    sample, words = (torch.randn(shape, generator=generator) for shape in ((1, 4, 3, 8, 8), (1, 5, TEXT_WIDTH)))
    ids = torch.tensor([[0, 5, 6, 7, 1, 1]])

    @torch.no_grad()
    def run(part: str, unet=unet, text=text):
        if part == "unet":
            return unet(sample.to(unet.dtype), 500, words.to(unet.dtype))
        return text(ids).last_hidden_state

    plain = {"unet": copy.deepcopy(unet), "text": copy.deepcopy(text)}
    return SimpleNamespace(plain=plain, unet=unet, text=text, targets=targets_of(unet, text), run=run)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "file.safetensors"
