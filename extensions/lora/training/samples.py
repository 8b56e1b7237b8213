"""Clips that the base network makes of fixed prompts from fixed seeds, so that a training can be seen to learn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from extensions.lora.embeddings import spell
from lavie import vae as vae_module
from lavie.bundle import VAE, Bundle, StageDefaults
from lavie.events import BASE
from lavie.stages.base import sample_base
from lavie.text import TextEncoder
from lavie.training.tuning.task import result_of
from lavie.video import Video

SEED = 1


class Sampler:
    """The base stage around a network in training. It leaves the network, and every random generator, as they are."""

    def __init__(
        self,
        bundle: Bundle,
        network: nn.Module,
        text_model: nn.Module,
        encoder: TextEncoder,
        words: Mapping[str, Tensor],
    ):
        """words: with vectors of their own, which the encoder knows when samples are made."""
        self._bundle, self._network, self._text_model, self._encoder = bundle, network, text_model, encoder
        self._words = words

    @torch.no_grad()
    def latents(self, prompt: str, seed: int, steps: int | None = None) -> Tensor:
        """1 C F h w of a clip at the bundle's own size. steps: None for as many as the bundle takes."""
        bundle, factor = self._bundle, self._bundle.halvings(VAE)
        defaults: StageDefaults = bundle.defaults[BASE]
        sampling = replace(defaults.sampling, steps=steps or defaults.sampling.steps)
        prompt = spell(prompt, self._words)
        prompts = [prompt] if sampling.guidance == 1.0 else [defaults.negative_prompt, prompt]
        text = self._encoder.encode(self._text_model, prompts, self._text_model.device, bundle.frames)
        shape = (self._network.config.out_channels, bundle.frames, bundle.height // factor, bundle.width // factor)
        return result_of(sample_base(self._network, text, shape, sampling, defaults, seed))

    @property
    def negative_prompt(self) -> str:
        return self._bundle.defaults[BASE].negative_prompt

    def calls(self, prompt: str, seed: int, steps: int) -> list[tuple[Tensor, int, Tensor]]:
        """What the network is asked on the way to a clip, and what it says: of each step the noisy latents B C F h w,
        the timestep, and the prediction. B is 2 where guidance is on, the unconditional half first."""
        told = []

        def note(_network: nn.Module, inputs: tuple, said: Tensor) -> None:
            told.append((inputs[0], int(inputs[1]), said))

        handle = self._network.register_forward_hook(note)
        try:
            self.latents(prompt, seed, steps)
        finally:
            handle.remove()
        return told

    @torch.no_grad()
    def video(self, vae: nn.Module, prompt: str) -> Video:
        """The clip of a prompt, from the seed that all samples have."""
        made = self.latents(prompt, SEED)
        return Video(vae_module.pictures(vae_module.decode(vae, made)), self._bundle.fps)
