"""Media → latents, once: each medium's clips in a file of the work folder, from which a loss draws.

A file is named by what its content depends on: the medium's bytes, how clips are cut, and the autoencoder's weights. So
the next start finds it under any name of the medium, and never mistakes it for another one.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from lavie.errors import MediaError, TrainingError
from lavie.training.data.cuts import Cut, Unusable
from lavie.training.data.items import Fault, Item
from lavie.training.media import cut_pieces, write_tensors

NAMED = 3  # examples for each reason


def summary(faults: list[Fault], usable: int) -> str:
    """One sentence for all: “3 of 12 left out: its caption is empty (a.mp4, b.mp4); it is too short (c.mp4: …)”."""
    if not faults:
        return f"all {usable} media are usable"
    return f"{len(faults)} of {len(faults) + usable} left out: {reasons(faults)}"


def reasons(faults: Iterable[Fault]) -> str:
    """The reasons, the most frequent first, each with a few examples."""
    kinds: dict[str, list[Fault]] = {}
    for fault in faults:
        kinds.setdefault(fault.kind, []).append(fault)
    parts = []
    for kind, found in sorted(kinds.items(), key=lambda entry: -len(entry[1])):
        examples = [f"{fault.name}: {fault.detail}" if fault.detail else fault.name for fault in found[:NAMED]]
        more = [f"{len(found) - NAMED} more"] if len(found) > NAMED else []
        parts.append(f"{len(found)} × {kind} ({', '.join(examples + more)})")
    return "; ".join(parts)


LATENTS, SMALL = "latents", "small"
HELD_OUT = 0.05  # share of the media that only validation sees

# A file → its frames, uint8 H W 3, one at a time. Raises MediaError.
Reader = Callable[[Path], Generator[np.ndarray, None, None]]
# A clip, uint8 F H W 3 → tensors: latents C F h w in float16, and what else a loss draws beside them.
Encode = Callable[[np.ndarray], dict[str, Tensor]]


@dataclass(frozen=True)
class Encoding:
    """How far encoding has come, in media."""

    done: int
    total: int
    seconds_left: float


@dataclass(frozen=True)
class Encoded:
    """The clips of one medium. digest: of its bytes; count: clips in `file`."""

    item: Item
    digest: str
    file: Path
    count: int

    @property
    def lot(self) -> float:
        """0 … 1, a number that the medium's content has drawn."""
        return int(self.digest[:8], 16) / 2**32


@dataclass(frozen=True)
class Encoder:
    """Encodes media into files in `folder`. mark: what the latents depend on besides medium and cut."""

    folder: Path
    read: Reader
    cut: Cut
    encode: Encode
    mark: str

    def load_or_encode(self, item: Item) -> Encoded | Fault:
        """The clips of a medium, from its file or newly made. Raises TrainingError where the disk is full."""
        try:
            digest = item.digest()
            file = self._file(digest)
            if not (count := _count_clips(file)):
                clips = self._clips(item)
                count = len(clips)
                self._write(file, clips)
            return Encoded(item, digest, file, count)
        except Unusable as reason:
            return Fault(item.name, reason.kind, reason.detail)
        except OSError as error:
            return Fault(item.name, "it cannot be read", error.strerror or str(error))

    def _clips(self, item: Item) -> list[np.ndarray]:
        with item.file() as path:
            frames = self.read(path)
            try:
                return self.cut.clips(frames)
            except MediaError as error:  # a fault names the item itself; of what is in a shard this was a copy
                raise Unusable("it cannot be read", str(error).removeprefix(str(path)).strip()) from error
            finally:
                frames.close()

    def _write(self, file: Path, clips: list[np.ndarray]) -> None:
        encoded = [self.encode(clip) for clip in clips]
        try:
            write_tensors(file, {name: torch.stack([clip[name] for clip in encoded]) for name in encoded[0]})
        except TrainingError as error:
            raise TrainingError(f"latents could not be written to {file.parent} ({error}): make room there") from None

    def _file(self, digest: str) -> Path:
        key = json.dumps([digest, asdict(self.cut), self.mark])
        name = hashlib.sha256(key.encode()).hexdigest()
        return self.folder / name[:2] / f"{name}.safetensors"


def hash_weights(network: nn.Module) -> str:
    """sha256 of a network's weights in memory, names and number types included."""
    digest = hashlib.sha256()
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def collect(encoder: Encoder, items: Sequence[Item], faults: list[Fault]) -> Generator[Encoding, None, list[Encoded]]:
    """Encode items and return those that can be used. Yields progress; adds what is wrong with others to `faults`."""
    media: list[Encoded] = []
    began = reported = time.monotonic()
    for done, item in enumerate(items, 1):
        found = encoder.load_or_encode(item)
        if isinstance(found, Encoded):
            media.append(found)
        else:
            faults.append(found)
        now = time.monotonic()
        if now - reported >= 10 or done == len(items):
            reported = now
            yield Encoding(done, len(items), (now - began) / done * (len(items) - done))
    return media


def hold_out(media: list[Encoded]) -> tuple[list[Encoded], list[Encoded]]:
    """(trained on, held out), chosen by content alone: a medium stays on its side as a folder grows, and copies of one
    stand on the same side. Of two or more at least one is held out; a single one is trained on."""
    lots = sorted({each.lot for each in media})
    if len(lots) < 2:
        return media, []
    border = max(HELD_OUT, lots[0])
    return [each for each in media if each.lot > border], [each for each in media if each.lot <= border]


class StoredClips:
    """Clips in files, and their captions as tokens. Holds no latents in memory."""

    def __init__(self, media: Sequence[Encoded], tokens: Callable[[list[str]], Tensor], frames: int):
        """tokens: captions → B L. frames: of each clip."""
        self.frames = frames
        self.captions = [each.item.caption for each in media]
        self._clips = [(each.file, index, number) for number, each in enumerate(media) for index in range(each.count)]
        self._tokens = tokens(self.captions) if self.captions else torch.empty(0, 0, dtype=torch.long)

    def __len__(self) -> int:
        return len(self._clips)

    def read(self, number: int) -> dict[str, Tensor]:
        """The stored tensors of clip `number`. Raises TrainingError where its file is gone or damaged."""
        file, index, _ = self._clips[number]
        try:
            with safe_open(file, "pt") as stored:
                return {name: stored.get_slice(name)[index] for name in stored.keys()}
        except (OSError, SafetensorError) as error:
            raise TrainingError(f"{file} cannot be read any more ({error}): run the same command again") from None

    def caption(self, number: int) -> str:
        return self.captions[self._clips[number][2]]

    def _draw_stored(self, count: int, generator: torch.Generator) -> tuple[list[dict[str, Tensor]], Tensor]:
        """The stored tensors of `count` clips, drawn with replacement, and their captions' tokens B L."""
        chosen = torch.randint(len(self), (count,), generator=generator).tolist()
        tokens = self._tokens[torch.tensor([self._clips[each][2] for each in chosen])]
        return [self.read(each) for each in chosen], tokens


class EncodedSet(StoredClips):
    """As `media.Media`, and as `media.LargeMedia` where small frames are stored beside the latents."""

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        drawn, tokens = self._draw_stored(count, generator)
        return torch.stack([stored[LATENTS].float() for stored in drawn]), tokens

    def draw_large(self, count: int, frames: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        drawn, tokens = self._draw_stored(count, generator)
        return *cut_pieces([(stored[LATENTS], stored[SMALL]) for stored in drawn], frames, generator), tokens


def _count_clips(file: Path) -> int:
    """The number of clips in a file, 0 where it is not there or damaged."""
    try:
        with safe_open(file, "pt") as stored:
            return stored.get_slice(LATENTS).get_shape()[0]
    except (OSError, SafetensorError):
        return 0
