"""From a job to a finished file: the one way that the studio and the command `render` both go.

Knows the order of things and where a clip lies. Does not know who is waiting for it, nor how progress is shown.
"""

from __future__ import annotations

import contextlib
import secrets
import typing
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from app.config import StudioConfig
from app.media import check_output, write_mp4
from app.recipe import Job, Recipe
from lavie.errors import MediaError
from lavie.events import Event, Finished, StageDone

if typing.TYPE_CHECKING:
    from lavie.cascade import Cascade


@dataclass(frozen=True)
class Clip:
    """A finished file. width, height: pixels. fps: frames a second. seconds: the making took, in all; `stages`: each.

    frame_hash: of the frames as they were made, before encoding.
    """

    id: str
    path: str
    frames: int
    width: int
    height: int
    fps: float
    seed: int
    frame_hash: str
    seconds: float
    stages: dict[str, float]

    def to_dict(self) -> dict[str, typing.Any]:
        """The fields as JSON values."""
        return asdict(self)


def new_id() -> str:
    """A name for a clip, unlike any other; sorted by name is sorted by time. Safe in file names and addresses."""
    now = datetime.now(timezone.utc)
    return f"{now:%Y%m%d-%H%M%S}-{now.microsecond:06d}-{secrets.token_hex(3)}"


def clip_path(config: StudioConfig, clip_id: str) -> Path:
    """Where a clip lies in the data folder, which is made here if it is missing. Raises MediaError if it cannot be."""
    try:
        config.clips.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MediaError(
            f"the folder {config.clips} cannot be made, {error.strerror}: choose another data folder"
        ) from error
    return config.clips / f"{clip_id}.mp4"


def load_cascade(config: StudioConfig) -> Cascade:
    """The model that the settings name, on their device. Imports torch. Raises BundleError, DeviceError."""
    from lavie.cascade import Cascade

    return Cascade.from_bundle(config.bundle, device=config.device)


def make_clip(load: Callable[[], Cascade], job: Job, clip_id: str, path: Path) -> Iterator[Event | Clip]:
    """Make a job's video and write it to `path`: the cascade's events as they come, at the end the clip.

    What costs nothing is checked first: the output, then (with `load`) the model, then the request. Closing the
    iterator cancels within a step, and no file is left. Raises LavieError.
    """
    check_output(path)
    cascade = load()
    request = cascade.resolve(job.request)
    stages: dict[str, float] = {}
    finished = None
    with contextlib.closing(cascade.generate(request)) as events:
        for event in events:
            if isinstance(event, StageDone):
                stages[event.stage] = event.seconds
            if isinstance(event, Finished):
                finished = event
            yield event
    if finished is None:
        raise RuntimeError("the cascade ended without a video")
    video = finished.video
    recipe = Recipe(finished.request, job.model, cascade.provenance(), frame_hash=video.frame_hash)
    write_mp4(path, video, recipe.to_json())
    yield Clip(
        id=clip_id,
        path=str(path.absolute()),
        frames=len(video),
        width=video.width,
        height=video.height,
        fps=video.fps,
        seed=finished.request.seed,
        frame_hash=recipe.frame_hash,
        seconds=round(finished.seconds, 3),
        stages={stage: round(seconds, 3) for stage, seconds in stages.items()},
    )
