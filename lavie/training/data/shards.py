"""What is in a WebDataset shard: an uncompressed tar whose members stand together by the first part of their name.

Nothing is extracted. Only where each member lies is noted, and that piece of the shard is read when it is needed; so no
name, link or device in a tar can touch anything outside it.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Member:
    """A plain file in a shard. start, size: where it lies there, in bytes."""

    name: str
    start: int
    size: int

    @property
    def sample(self) -> str:
        """The name up to the first dot behind the last slash: members that share it belong together."""
        folder, slash, last = self.name.rpartition("/")
        return folder + slash + last.partition(".")[0]

    @property
    def ending(self) -> str:
        """What follows that dot, with it: `.mp4`, `.txt`."""
        return self.name[len(self.sample) :].lower()

    def stream(self, shard: Path) -> io.BufferedReader:
        """The member's bytes."""
        return io.BufferedReader(_Piece(shard, self.start, self.size))


class _Piece(io.RawIOBase):
    """A part of a file, read once from its beginning to its end."""

    def __init__(self, path: Path, start: int, size: int):
        self._file, self._left = path.open("rb"), size
        self._file.seek(start)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        data = self._file.read(min(len(buffer), self._left))
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def members(shard: Path) -> Iterator[Member | tuple[str, str]]:
    """The plain files of a shard in order; (name, reason) for what is left out, with no name where it is the shard."""
    length, end = shard.stat().st_size, 0
    try:
        with tarfile.open(shard, "r:") as tar:
            for info in tar:
                end = info.offset_data + (info.size if info.isreg() else 0)
                if info.isdir():
                    continue
                if not info.isreg() or info.issparse():
                    yield info.name, "it is no plain file"
                elif end > length:
                    yield info.name, "the shard is cut short"
                else:
                    yield Member(info.name, info.offset_data, info.size)
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        yield "", f"the shard cannot be read to its end ({error})"
    else:
        if length < end + tarfile.BLOCKSIZE:  # every tar ends in blocks of zeros; tarfile does not miss them
            yield "", "the shard is cut short"
