"""What must stay as it is: what the network makes of ordinary captions, and with it how things move.

No data of anyone's is needed for it: on clips that the network made before anything was trained, the network without
the adapter is the teacher (self-distillation). A trigger moves as ordinary words do, also where pictures alone taught
it. (Clips of what it began as, such as "blue star", under its name would hold that outline too, even in strong noise.)
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from extensions.lora.training.presets import MOTION, SUBJECT
from extensions.lora.training.samples import Sampler
from lavie.bundle import MANIFEST, Bundle
from lavie.errors import TrainingError
from lavie.events import Notice
from lavie.noise import derive_seed

CLIPS = 12
STEPS = 10  # of each clip: it is noised again, fine detail does not matter
THING = ("colour", "shape")  # kinds of words that name a thing together, in a bundle that lists its words
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
    """Clips N C F h w of captions, whose tokens are N L."""

    latents: Tensor
    tokens: Tensor

    def draw(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """One clip: float32 latents 1 C F h w and tokens 1 L."""
        chosen = int(torch.randint(len(self.latents), (), generator=generator))
        one = slice(chosen, chosen + 1)
        return self.latents[one].float(), self.tokens[one]


def phrases_for(bundle: Bundle, preset: str) -> list[str]:
    """What a trigger could begin as, in the words that the bundle lists: a colour and a shape, or a motion."""
    words = _manifest(bundle).get("words", {})
    if preset == MOTION:
        return list(words.get("motion", ()))
    thing = [words.get(kind, ()) for kind in THING] if preset == SUBJECT else []
    return [" ".join(each) for each in product(*thing)] if thing else []


def ordinary_captions(bundle: Bundle, count: int, seed: int) -> list[str]:
    """Captions of the bundle's own world: its examples, their words exchanged for others of the same kind."""
    said = _manifest(bundle)
    examples, kinds = said.get("examples") or _PLAIN, list(said.get("words", {}).values())
    draws = random.Random(seed)
    return [_exchanged(examples[number % len(examples)], kinds, draws) for number in range(count)]


def ordinary_media(
    bundle: Bundle, sampler: Sampler, tokens: Callable[[list[str]], Tensor], folder: Path, seed: int
) -> Generator[Notice, None, Ordinary]:
    """Clips from `folder`, made there where they are not yet, which is told.

    Args:
        sampler: of the network without the adapter.
        tokens: captions → N L.

    Raises TrainingError: the disk is full.
    """
    captions = ordinary_captions(bundle, CLIPS, seed)
    key = json.dumps([captions, STEPS, bundle.hashes(), seed])
    file = folder / f"ordinary_{hashlib.sha256(key.encode()).hexdigest()[:16]}.safetensors"
    latents = _stored(file)
    if latents is None:
        yield Notice(f"makes {len(captions)} clips without the adapter, by which it is kept from changing all else")
        made = [sampler.latents(text, derive_seed(seed, "ordinary", n), STEPS) for n, text in enumerate(captions)]
        latents = torch.cat(made).half().cpu()
        _store(file, latents)
    return Ordinary(latents, tokens(captions))


def _manifest(bundle: Bundle) -> dict:
    return json.loads((bundle.folder / MANIFEST).read_text(encoding="utf-8"))


def _exchanged(text: str, kinds: Sequence[Sequence[str]], draws: random.Random) -> str:
    for words in kinds:
        either = "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
        text = re.sub(rf"\b(?:{either})\b", lambda _, words=words: draws.choice(words), text)
    return text


def _stored(file: Path) -> Tensor | None:
    try:
        with safe_open(file, "pt") as stored:
            return stored.get_tensor("latents")
    except (OSError, SafetensorError):  # not there, or cut short: it is made again
        return None


def _store(file: Path, latents: Tensor) -> None:
    partial = file.with_suffix(".partial")
    try:
        save_file({"latents": latents.contiguous()}, partial)
        partial.replace(file)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise TrainingError(f"{file} could not be written ({error}): make room there") from None
