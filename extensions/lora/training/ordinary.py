"""What a training must not change: clips that the network makes of ordinary captions before it is trained.

The inputs and predictions on the way to each clip are stored (self-distillation), so no foreign data and no second
network are needed. They also teach a trigger learned from pictures to move as ordinary words do. (Clips of the
trigger's starting phrase, such as "blue star", would keep that outline too.)
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from extensions.lora.embeddings import spell
from extensions.lora.training.settings import MOTION, SUBJECT
from lavie import vae as vae_module
from lavie.bundle import Bundle
from lavie.errors import TrainingError
from lavie.events import BASE, Notice
from lavie.manifest import MANIFEST, VAE, StageDefaults
from lavie.noise import derive_seed
from lavie.stages.base import sample_base
from lavie.text import TextEncoder
from lavie.training.media import write_tensors
from lavie.training.tuning.task import run_stage
from lavie.values import parse_object
from lavie.video import Video

SEED = 1


class Sampler:
    """The base stage around a network in training. It leaves the network and all random generators as they are."""

    def __init__(
        self,
        bundle: Bundle,
        network: Any,
        text_model: Any,
        encoder: TextEncoder,
        words: Mapping[str, Tensor],
    ) -> None:
        """words: with vectors of their own, which the encoder must know while sampling."""
        self._bundle, self._network, self._text_model, self._encoder = bundle, network, text_model, encoder
        self._words = words

    @torch.no_grad()
    def latents(self, prompt: str, seed: int, steps: int | None = None) -> Tensor:
        """1 C F h w of a clip at the bundle's own size. steps: None for the bundle's default."""
        bundle, factor = self._bundle, self._bundle.halvings(VAE)
        defaults: StageDefaults = bundle.defaults[BASE]
        sampling = replace(defaults.sampling, steps=steps or defaults.sampling.steps)
        prompt = spell(prompt, self._words)
        prompts = [prompt] if sampling.guidance == 1.0 else [defaults.negative_prompt, prompt]
        text = self._encoder.encode(self._text_model, prompts, self._text_model.device, bundle.frames)
        shape = (self._network.config.out_channels, bundle.frames, bundle.height // factor, bundle.width // factor)
        return run_stage(sample_base(self._network, text, shape, sampling, defaults, seed))

    def record_calls(self, prompt: str, seed: int, steps: int) -> list[tuple[Tensor, int, Tensor]]:
        """The network's calls on the way to a clip: noisy latents B C F h w, timestep and prediction of each step.

        B is 2 with guidance, the unconditional half first.
        """
        calls = []

        def record(_network: nn.Module, inputs: tuple[Any, ...], said: Tensor) -> None:
            calls.append((inputs[0], int(inputs[1]), said))

        handle = self._network.register_forward_hook(record)
        try:
            self.latents(prompt, seed, steps)
        finally:
            handle.remove()
        return calls

    @torch.no_grad()
    def video(self, vae: nn.Module, prompt: str) -> Video:
        """The clip of a prompt, from the seed of all samples."""
        made = self.latents(prompt, SEED)
        return Video(vae_module.pictures(vae_module.decode(vae, made)), self._bundle.fps)


STEPS = (10, 11, 12)  # of the clips in turn, for different timesteps
THING = ("colour", "shape")  # kinds of words that together name a thing
_PLAIN = (
    "a dog running on a beach",
    "a woman walking through a city street at night",
    "waves rolling onto rocks at sunset",
    "a red car driving along a mountain road",
    "a cup of coffee steaming on a wooden table",
    "children playing football in a park",
    "snow falling in a forest",
    "a cat sleeping on a sofa",
    "an old man reading a newspaper",
    "a boat on a calm lake",
    "clouds moving over green hills",
    "a chef cutting vegetables in a kitchen",
)


@dataclass(frozen=True)
class Ordinary:
    """Inputs N C F h w of the network on the way to ordinary clips, timesteps N, tokens N L and its predictions."""

    noisy: Tensor
    timesteps: Tensor
    tokens: Tensor
    said: Tensor

    def draw(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One of each, floats in float32."""
        chosen = int(torch.randint(len(self.noisy), (), generator=generator))
        one = slice(chosen, chosen + 1)
        return self.noisy[one].float(), self.timesteps[one], self.tokens[one], self.said[one].float()


def phrases_for(bundle: Bundle, preset: str) -> list[str]:
    """Phrases that a trigger may start as, in the bundle's own words: a colour and a shape, or a motion."""
    words = _manifest(bundle).get("words", {})
    if preset == MOTION:
        return list(words.get("motion", ()))
    thing = [words.get(kind, ()) for kind in THING] if preset == SUBJECT else []
    return [" ".join(each) for each in product(*thing)] if thing else []


def ordinary_captions(bundle: Bundle, count: int, seed: int) -> list[str]:
    """Captions of the bundle's own world: its examples with words exchanged for others of the same kind."""
    said = _manifest(bundle)
    examples, kinds = said.get("examples") or _PLAIN, list(said.get("words", {}).values())
    draws = random.Random(seed)
    return [_exchange_words(examples[number % len(examples)], kinds, draws) for number in range(count)]


def make_ordinary(
    bundle: Bundle, sampler: Sampler, tokens: Callable[[list[str]], Tensor], folder: Path, seed: int, clips: int
) -> Generator[Notice, None, Ordinary]:
    """The stored calls in `folder`; they are made if missing, with a notice.

    Args:
        sampler: of the network without the adapter.
        tokens: captions → N L.
        clips: number of clips.

    Raises TrainingError if the disk is full.
    """
    captions = ordinary_captions(bundle, clips, seed)
    key = json.dumps([captions, STEPS, bundle.hashes(), seed])
    file = folder / f"ordinary_{hashlib.sha256(key.encode()).hexdigest()[:16]}.safetensors"
    stored = _load(file)
    if stored is None:
        yield Notice(f"makes {len(captions)} clips without the adapter, by which it is kept from changing all else")
        stored = _record_clips(sampler, captions, seed)
        try:
            write_tensors(file, stored)
        except TrainingError as error:
            raise TrainingError(f"{file} could not be written ({error}): make room there") from None
    read = tokens([bundle.defaults[BASE].negative_prompt, *captions])
    return Ordinary(stored["noisy"], stored["timesteps"], read[stored["captions"]], stored["said"])


def _record_clips(sampler: Sampler, captions: Sequence[str], seed: int) -> dict[str, Tensor]:
    """Tensors as in `Ordinary`; `captions` are numbers, 0 for the negative prompt.

    Guidance depends more on the conditional half, so only every second step keeps both.
    """
    found: dict[str, list[Tensor]] = {"noisy": [], "timesteps": [], "captions": [], "said": []}
    for number, caption in enumerate(captions):
        calls = sampler.record_calls(caption, derive_seed(seed, "ordinary", number), STEPS[number % len(STEPS)])
        for place, (noisy, timestep, said) in enumerate(calls):
            halves = 1 if place % 2 else len(noisy)  # the unconditional one is first
            found["noisy"].append(noisy[-halves:].half().cpu())
            found["said"].append(said[-halves:].half().cpu())
            found["timesteps"].append(torch.full((halves,), timestep))
            found["captions"].append(torch.tensor([0, number + 1][-halves:]))
    return {name: torch.cat(each) for name, each in found.items()}


def _manifest(bundle: Bundle) -> dict[str, Any]:
    return parse_object((bundle.folder / MANIFEST).read_text(encoding="utf-8"))


def _exchange_words(text: str, kinds: Sequence[Sequence[str]], draws: random.Random) -> str:
    for words in kinds:
        either = "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
        text = re.sub(rf"\b(?:{either})\b", partial(_choose, draws, words), text)
    return text


def _choose(draws: random.Random, words: Sequence[str], _: re.Match[str]) -> str:
    return draws.choice(words)


def _load(file: Path) -> dict[str, Tensor] | None:
    try:
        with safe_open(file, "pt") as stored:
            return {name: stored.get_tensor(name) for name in stored.keys()}
    except (OSError, SafetensorError):  # missing or cut short
        return None
