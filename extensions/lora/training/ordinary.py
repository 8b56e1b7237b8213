"""What must stay as it is: what the network makes of ordinary captions, and with it how things move.

No data of anyone's is needed for it: before anything is trained the network makes clips, and what it was asked and what
it said on the way to each is kept (self-distillation). So it is held where ordinary clips come by, with no second look
at the network as it was. A trigger moves as ordinary words do, also where pictures alone taught it. (Clips of what it
began as, such as "blue star", under its name would hold that outline too, even in strong noise.)
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

STEPS = (10, 11, 12)  # of the clips in turn: other numbers of steps come by other timesteps
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
    """What the network was asked on the way to ordinary clips, and what it said.

    noisy: N C F h w. timesteps: N. tokens: N L, of each one's caption. said: predictions like `noisy`.
    """

    noisy: Tensor
    timesteps: Tensor
    tokens: Tensor
    said: Tensor

    def draw(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """One of each, the tensors of numbers in float32."""
        chosen = int(torch.randint(len(self.noisy), (), generator=generator))
        one = slice(chosen, chosen + 1)
        return self.noisy[one].float(), self.timesteps[one], self.tokens[one], self.said[one].float()


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
    bundle: Bundle, sampler: Sampler, tokens: Callable[[list[str]], Tensor], folder: Path, seed: int, clips: int
) -> Generator[Notice, None, Ordinary]:
    """What is in `folder`, made there where it is not yet, which is told.

    Args:
        sampler: of the network without the adapter.
        tokens: captions → N L.
        clips: how many are made.

    Raises TrainingError: the disk is full.
    """
    captions = ordinary_captions(bundle, clips, seed)
    key = json.dumps([captions, STEPS, bundle.hashes(), seed])
    file = folder / f"ordinary_{hashlib.sha256(key.encode()).hexdigest()[:16]}.safetensors"
    stored = _stored(file)
    if stored is None:
        yield Notice(f"makes {len(captions)} clips without the adapter, by which it is kept from changing all else")
        stored = _made(sampler, captions, seed)
        _store(file, stored)
    read = tokens([sampler.negative_prompt, *captions])
    return Ordinary(stored["noisy"], stored["timesteps"], read[stored["captions"]], stored["said"])


def _made(sampler: Sampler, captions: Sequence[str], seed: int) -> dict[str, Tensor]:
    """Tensors as in `Ordinary`; `captions` are numbers, of which 0 is the negative prompt.

    Guidance takes more of the conditional half than of the other: that is kept of every second step.
    """
    found: dict[str, list[Tensor]] = {"noisy": [], "timesteps": [], "captions": [], "said": []}
    for number, caption in enumerate(captions):
        calls = sampler.calls(caption, derive_seed(seed, "ordinary", number), STEPS[number % len(STEPS)])
        for place, (noisy, timestep, said) in enumerate(calls):
            halves = 1 if place % 2 else len(noisy)  # the unconditional one first, where guidance needs it
            found["noisy"].append(noisy[-halves:].half().cpu())
            found["said"].append(said[-halves:].half().cpu())
            found["timesteps"].append(torch.full((halves,), timestep))
            found["captions"].append(torch.tensor([0, number + 1][-halves:]))
    return {name: torch.cat(each) for name, each in found.items()}


def _manifest(bundle: Bundle) -> dict:
    return json.loads((bundle.folder / MANIFEST).read_text(encoding="utf-8"))


def _exchanged(text: str, kinds: Sequence[Sequence[str]], draws: random.Random) -> str:
    for words in kinds:
        either = "|".join(map(re.escape, sorted(words, key=len, reverse=True)))
        text = re.sub(rf"\b(?:{either})\b", lambda _, words=words: draws.choice(words), text)
    return text


def _stored(file: Path) -> dict[str, Tensor] | None:
    try:
        with safe_open(file, "pt") as stored:
            return {name: stored.get_tensor(name) for name in stored.keys()}
    except (OSError, SafetensorError):  # not there, or cut short: it is made again
        return None


def _store(file: Path, tensors: dict[str, Tensor]) -> None:
    partial = file.with_suffix(".partial")
    try:
        save_file(tensors, partial)
        partial.replace(file)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise TrainingError(f"{file} could not be written ({error}): make room there") from None
