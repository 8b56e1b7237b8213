"""What a training shows on its way, as files that are whole or not there: for the command and for the studio."""

from __future__ import annotations

import typing
from pathlib import Path

if typing.TYPE_CHECKING:
    from lavie.training.tuning.session import Samples


def write_samples(samples: Samples, folder: Path) -> Path:
    """A picture of all of them, `step_000100.png`, and a video of each, `step_000100_1.mp4`; the picture's path.

    The picture comes last: where it is there, all are. Raises MediaError.
    """
    from app.media import write_mp4
    from app.media.partial import temporary
    from lavie.files import publish
    from lavie.training.sheet import contact_sheet

    folder.mkdir(parents=True, exist_ok=True)
    sheet = folder / f"step_{samples.step:06}.png"
    for number, video in enumerate(samples.videos, 1):
        write_mp4(folder / f"step_{samples.step:06}_{number}.mp4", video, "")
    with temporary(sheet) as partial:
        contact_sheet([video.frames for video in samples.videos]).save(partial)
        publish(partial, sheet)
    return sheet
