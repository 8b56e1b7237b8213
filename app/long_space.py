"""How much of the disk a long video takes while it is made: its parts stay there until its file is written.

Knows what latents are stored as, and the disk; nothing of how they are made.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from app.long_plan import course_of
from app.model_card import ModelCard
from app.recipe import Job
from lavie.errors import RequestError

# Bytes of a frame's latents for each pixel of a small frame: 4 channels of float32, an eighth of its sides, or all.
_SMALL, _LARGE = 4 * 4 / 64, 4 * 4
_WINDOWS = 4 / 3  # windows of the later stages are kept whole, and each shows some frames of the one before


def bytes_needed(job: Job, card: ModelCard) -> int:
    """Of the parts of a long video, all of them, none made yet."""
    request = card.resolved(job.request)
    frames = course_of(job).frames
    needed = _SMALL * frames
    if request.interpolation is not None:
        frames = card.outcome(request)["frames"] * frames // request.frames
        needed += _SMALL * frames * _WINDOWS
    if request.super_resolution is not None:
        needed += _LARGE * frames * _WINDOWS
    return round(needed * request.width * request.height)


def check_space(job: Job, card: ModelCard | None, folder: Path) -> None:
    """Raises RequestError where the disk of `folder` has not room for the parts of a long video.

    Does nothing without a card: then nobody knows how large the frames are.
    """
    if card is None or job.long is None:
        return
    needed, free = bytes_needed(job, card), shutil.disk_usage(folder).free
    if needed > free:
        raise RequestError(
            f"this video needs about {needed / 1e9:.1f} GB in {folder} while it is made, and {free / 1e9:.1f} GB are "
            "free: free some, choose fewer segments or clips, or leave super-resolution out"
        )
