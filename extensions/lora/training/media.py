"""Media → latents of one size, with their captions; what cannot be used is told."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from extensions.lora.training.losses import WEIGHT
from extensions.lora.training.moving import MovedCut
from extensions.lora.training.pictures import MaskedCut
from extensions.lora.training.presets import Preset
from extensions.lora.training.settings import Settings, names_trigger
from extensions.lora.training.sources import find_media, middle_frame
from lavie import vae as vae_module
from lavie.bundle import VAE, Bundle
from lavie.errors import TrainingError
from lavie.events import Notice
from lavie.training.data.cuts import Cut
from lavie.training.data.encoded import LATENTS, Encoded, Encoder, Encoding, Reader, collect, weights_mark
from lavie.training.data.items import Fault, Item
from lavie.training.data.report import reasons, summary


def encoded_media(
    settings: Settings, preset: Preset, bundle: Bundle, vae: nn.Module, read: Reader
) -> Generator[Notice | Encoding, None, list[Encoded]]:
    """Find and encode media, telling how it goes; all that can be used.

    Args:
        preset: says whether clips are wanted or pictures, and in how many views.
        vae: on the device where it shall run.
        read: a video's path → its frames.

    Raises TrainingError where nothing is usable, with the reasons.
    """
    items, faults = find_media(settings.images, settings.work / "unpacked", settings.caption)
    from_clips = preset.from_clips
    cut = _cut(bundle) if from_clips else _still_cut(MaskedCut, bundle, views=preset.views)
    encoder = _encoder(settings, cut, bundle, vae, read if from_clips else middle_frame(read))
    if from_clips:
        faults += [Fault(item.name, "a picture, a motion is learned from videos") for item in items if item.is_picture]
        items = [item for item in items if not item.is_picture]
    found = yield from collect(encoder, items, faults)
    if not found:
        names = ", ".join(map(str, settings.images))
        why = reasons(faults) if faults else "there is no file that is one"
        raise TrainingError(f"{names} holds no usable {'video' if from_clips else 'picture'}: {why}")
    yield Notice(summary(faults, len(found)))
    yield from map(Notice, _told(settings, from_clips, [each.item for each in found]))
    return found


def moved_media(
    found: list[Encoded], settings: Settings, bundle: Bundle, vae: nn.Module, read: Reader, ways: Sequence[str]
) -> Generator[Encoding, None, list[Encoded]]:
    """Pictures that were found, in motion (`moving.MovedCut`), telling how it goes."""
    cut = _still_cut(MovedCut, bundle, length=bundle.frames, ways=tuple(ways))
    encoder = _encoder(settings, cut, bundle, vae, middle_frame(read))
    return (yield from collect(encoder, [each.item for each in found], []))


def _told(settings: Settings, from_clips: bool, items: list[Item]) -> Iterator[str]:
    """What a person should know of the media before they wait for a result."""
    if len(items) == 1:
        yield "there is one medium only: it will be learned by heart, with its background; five or more are better"
    videos = sum(not item.is_picture for item in items)
    if videos and not from_clips:
        yield f"{videos} of {len(items)} are videos: the frame in the middle of each is taken as a picture"
    silent = [item for item in items if not names_trigger(item.caption, settings.trigger)]
    if silent:
        examples = ", ".join(item.name for item in silent[:3])
        yield f"{len(silent)} of {len(items)} captions do not hold “{settings.trigger}” ({examples}): add it to them"


def _cut(bundle: Bundle) -> Cut:
    return Cut(bundle.frames, bundle.width, bundle.height)


def _still_cut(kind: type[MaskedCut], bundle: Bundle, **how) -> MaskedCut:
    return kind(**vars(replace(_cut(bundle), frames=1, most=1)), **how)


def _encoder(settings: Settings, cut: Cut, bundle: Bundle, vae: nn.Module, read: Reader) -> Encoder:
    factor = bundle.halvings(VAE)
    return Encoder(settings.work / "latents", read, cut, lambda clip: _encoded(vae, clip, factor), weights_mark(vae))


@torch.no_grad()
def _encoded(vae: nn.Module, clip: np.ndarray, factor: int) -> dict[str, Tensor]:
    """uint8 F H W 3, or 4 with how much each pixel counts → latents C F h w, and with them weights 1 F h w."""
    frames = vae_module.from_uint8(torch.from_numpy(np.ascontiguousarray(clip[..., :3]))).transpose(0, 1)[None]
    stored = {LATENTS: vae_module.encode(vae, frames.to(vae.device))[0].cpu().half()}
    if clip.shape[-1] == 4:
        plane = torch.from_numpy(np.ascontiguousarray(clip[..., 3])).float() / 255
        stored[WEIGHT] = F.avg_pool2d(plane[:, None], factor).transpose(0, 1).half()
    return stored
