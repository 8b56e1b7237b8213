"""What a finished clip is to those who asked for it, and what making one needs: its name, its place, the model."""

from __future__ import annotations

import secrets
import threading
import typing
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from app.config import StudioConfig
from lavie.errors import MediaError

if typing.TYPE_CHECKING:
    from app.gallery import StoredClip
    from lavie.cascade import Cascade

_IMPORTING = threading.Lock()


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

    @classmethod
    def of(cls, stored: StoredClip, stages: dict[str, float]) -> Clip:
        """A clip of the gallery. stages: see above."""
        shared = cls.__dataclass_fields__.keys() - {"path", "stages"}
        values = {name: getattr(stored, name) for name in shared}
        return cls(path=str(stored.path.absolute()), stages=stages, **values)

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


def import_networks() -> None:
    """Import torch and the libraries of networks. Threads that do so at the same time would get halves of them: who may
    be the first calls this."""
    with _IMPORTING:
        import lavie.cascade  # noqa: F401


def load_cascade(config: StudioConfig) -> Cascade:
    """The model that the settings name, on their device. Imports torch. Raises BundleError, DeviceError."""
    import_networks()
    from lavie.cascade import Cascade

    return Cascade.from_bundle(config.bundle, device=config.device)
