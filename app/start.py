"""The frames that a long video continues, as a job and a recipe name them. The latents are kept by their hash.

Knows neither files nor torch.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from lavie.errors import RequestError, short
from lavie.values import check, check_whole, from_dict

CLIP, FILE = KINDS = ("clip", "file")
MAX_START = 64  # frames: more of them no window sees
_HASH = re.compile(r"[0-9a-f]{64}")
_LONGEST_NAME = 500  # characters


@dataclass(frozen=True)
class Start:
    """kind: `clip` of the gallery, or a person's `file`. name: the clip's id, or the file's name without its folder.

    hash: SHA-256 of what their latents are stored as (`app.starts`). frames: how many there are, 1 … 64.
    Raises RequestError on any value outside its limits.
    """

    kind: str
    name: str
    hash: str
    frames: int

    def __post_init__(self):
        check(self.kind in KINDS, f"a start is of the kind {short(self.kind)}: choose one of {', '.join(KINDS)}")
        named = isinstance(self.name, str) and 0 < len(self.name) <= _LONGEST_NAME
        check(named, f"the name of a start is {short(self.name)}: give a text of 1 to {_LONGEST_NAME} characters")
        hashed = isinstance(self.hash, str) and _HASH.fullmatch(self.hash)
        check(bool(hashed), f"the hash of a start is {short(self.hash)}: give a SHA-256 in hexadecimal digits")
        check(self.frames is not None, f"frames of a start is None: give a whole number from 1 to {MAX_START}")
        check_whole("frames of a start", self.frames, 1, MAX_START)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Any) -> Start:
        """The inverse of `to_dict`. Raises RequestError for anything else."""
        if not isinstance(data, dict):
            raise RequestError(f"a start is a JSON object, not {short(data)}: pass what `to_dict` gave")
        return from_dict(cls, data)
