"""How much of a foreign file may be taken in, and what is said when there is more. Opens nothing itself."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lavie.errors import MediaError


@dataclass(frozen=True)
class Limits:
    """The most that a file may hold. bytes: of the file. pixels: of one frame. codecs: ffmpeg's names, None for any."""

    bytes: int
    seconds: float
    pixels: int
    frames: int
    codecs: frozenset[str] | None


UPLOAD_LIMITS = Limits(
    bytes=2 << 30,
    seconds=600,
    pixels=4096 * 4096,
    frames=36_000,  # ten minutes at 60 frames a second
    codecs=frozenset(
        {"h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "prores", "ffv1", "mjpeg", "gif", "png", "jpeg", "webp"}
    ),
)

_WORDS = {  # name of a limit → how a value of it is said, and the way out
    "bytes": ("{:,} bytes", "cut it shorter or compress it more"),
    "seconds": ("{:,.2f} seconds", "cut it shorter"),
    "pixels": ("{:,} pixels a frame", "scale it down"),
    "frames": ("{:,} frames", "cut it shorter"),
}


def check(path: Path, limits: Limits | None, codec: str | None = None, **found: float | None) -> None:
    """Raise MediaError for the first value of `found` (named as the limits are) that is too large; None is unknown."""
    if limits is None:
        return
    for name, value in found.items():
        limit = getattr(limits, name)
        if value is not None and value > limit:
            words, way_out = _WORDS[name]
            has, may = words.format(value), words.format(limit)
            raise MediaError(f"{path} has {has}, more than the {may} allowed: {way_out}")
    if codec is not None and limits.codecs is not None and codec not in limits.codecs:
        allowed = ", ".join(sorted(limits.codecs))
        raise MediaError(f"{path} is coded as {codec}, which is not taken: convert it to one of {allowed}")
