"""The frames that a long video continues or joins, as jobs and recipes name them. Their latents are stored by hash."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from lavie.errors import RequestError, short
from lavie.values import check, check_whole, from_dict

CLIP, FILE = KINDS = ("clip", "file")
CROP, LETTERBOX = FITS = ("crop", "letterbox")  # ways to fit a picture of another shape
MAX_START = 64  # frames: no window sees more of them
MAX_JOINED = 4096  # frames of a clip: all of them are in memory when one is read
_HASH = re.compile(r"[0-9a-f]{64}")
_LONGEST_NAME = 500  # characters


@dataclass(frozen=True)
class InitialFrames:
    """The last frames of a clip or file. Raises RequestError for values outside their limits.

    Attributes:
        kind: `clip` of the gallery, or a person's `file`.
        name: the clip's id, or the file's name without its folder.
        hash: SHA-256 of their stored latents (`app.storage.latents`).
        frames: their count, 1 … 64.
    """

    kind: str
    name: str
    hash: str
    frames: int

    # Words for messages, and the limit; no fields.
    called = "a start"
    used = "continued"
    way = "extend"
    most = MAX_START

    def __post_init__(self) -> None:
        called, most = self.called, self.most
        check(self.kind in KINDS, f"{called} is of the kind {short(self.kind)}: choose one of {', '.join(KINDS)}")
        named = isinstance(self.name, str) and 0 < len(self.name) <= _LONGEST_NAME
        check(named, f"the name of {called} is {short(self.name)}: give a text of 1 to {_LONGEST_NAME} characters")
        hashed = isinstance(self.hash, str) and _HASH.fullmatch(self.hash)
        check(bool(hashed), f"the hash of {called} is {short(self.hash)}: give a SHA-256 in hexadecimal digits")
        check(self.frames is not None, f"frames of {called} is None: give a whole number from 1 to {most}")
        check_whole(f"frames of {called}", self.frames, 1, most)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Any) -> InitialFrames:
        """The inverse of `to_dict`. Raises RequestError for other values."""
        if not isinstance(data, dict):
            raise RequestError(f"{cls.called} is a JSON object, not {short(data)}: pass what `to_dict` gave")
        return from_dict(cls, data)


class JoinedFrames(InitialFrames):
    """All frames, 1 … 4096, of a clip or file that is joined with others."""

    called = "a joined clip"
    used = "joined"
    way = "join"
    most = MAX_JOINED


def check_fit(fit: Any) -> None:
    """Raises RequestError unless `fit` is one of `FITS`."""
    check(fit in FITS, f"fit is {short(fit)}: choose {' or '.join(FITS)}")
