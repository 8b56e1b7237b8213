"""Whether a file was cut short, where ffmpeg would in silence give fewer frames: Matroska, WebM and GIF.

Reads a file's own structure and decodes nothing. An mp4 tells by its index, which whoever reads its frames looks at.
"""

from __future__ import annotations

import io
from pathlib import Path

from lavie.errors import MediaError

_GIF_EXTENSION, _GIF_IMAGE, _GIF_END, _GIF_FILLER = 0x21, 0x2C, 0x3B, 0x00
_READ_AHEAD = 1 << 18  # of a GIF, whose image data comes in thousands of blocks of 255 bytes


def check_whole(path: Path, file: io.FileIO) -> None:
    """Raises MediaError for a file that was cut off. Leaves `file` at its beginning."""
    length = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(64)
    if head.startswith(b"\x1aE\xdf\xa3"):
        needed = _matroska_length(head)
        if needed > length:
            raise MediaError(f"{path} is cut short, {length:,} of {needed:,} bytes are there: get a whole copy")
    if head.startswith(b"GIF8") and not _gif_ends(file):
        raise MediaError(f"{path} is cut short, the end of the GIF is missing: get a whole copy")
    file.seek(0)


def _gif_ends(file: io.FileIO) -> bool:
    """Whether a GIF's blocks lead to its end mark. Some programs leave a few bytes behind it, some zeros in between."""
    file.seek(0)
    reader = io.BufferedReader(file, _READ_AHEAD)
    try:
        reader.read(10)  # signature, width and height
        reader.read(_colours(reader) + 2)  # a table, background and aspect
        while True:
            kind = _byte(reader)
            if kind == _GIF_END:
                return True
            if kind == _GIF_EXTENSION:
                reader.read(1)  # which one
            elif kind == _GIF_IMAGE:
                reader.read(8)  # place and size
                reader.read(_colours(reader) + 1)  # a table, the width of its codes
            elif kind == _GIF_FILLER:
                continue
            else:  # the file's end, or what is no block
                return False
            while size := _byte(reader):
                if size < 0 or len(reader.read(size)) < size:
                    return False
    finally:
        reader.detach()  # else it would close the file


def _colours(reader: io.BufferedReader) -> int:
    """Reads the byte that tells how large a table of colours follows: how many bytes."""
    packed = _byte(reader)
    return 3 << ((packed & 7) + 1) if packed >= 0 and packed & 0x80 else 0


def _byte(reader: io.BufferedReader) -> int:
    """The next one; −1 at the end."""
    byte = reader.read(1)
    return byte[0] if byte else -1


def _matroska_length(head: bytes) -> int:
    """Of the whole file, as its first bytes tell; 0 where they do not, as in live recordings."""
    size, start = _matroska_number(head, 4)
    start += size
    if head[start : start + 4] != b"\x18S\x80g":
        return 0
    size, start = _matroska_number(head, start + 4)
    return start + size


def _matroska_number(data: bytes, start: int) -> tuple[int, int]:
    """A number of variable length and where it ends; 0 for one that says "unknown" or is not there."""
    first = data[start] if start < len(data) else 0
    length = 9 - first.bit_length()
    end = start + length
    bits = 7 * length
    value = int.from_bytes(data[start:end], "big") & ((1 << bits) - 1)
    unknown = not first or len(data) < end or value == (1 << bits) - 1
    return (0 if unknown else value), end
