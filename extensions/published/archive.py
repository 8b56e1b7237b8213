"""The zip that `torch.save` writes, looked at before torch opens it. Needs no torch.

torch packs nothing: each entry is stored as it is, one behind the other. So anything packed, overlapping, of a name of
its own, or larger than the file is none of its work: a bomb, a script, or damage.
"""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path

from lavie.errors import BundleError, short

MAX_ENTRIES = 20_000  # LaVie's largest has 1 163
MAX_PICKLE = 16 * 2**20  # bytes; of 1 158 tensors it takes 0.3 MB
_KNOWN = re.compile(
    r"data\.pkl|byteorder|version|\.format_version|\.storage_alignment|\.data/serialization_id|data/\d+"
)
_START = b"PK\x03\x04"
_LOCAL_HEADER = 30  # bytes before an entry's name
_ENCRYPTED = 1
FETCH_AGAIN = "get the file again from where it came"


@dataclass(frozen=True)
class Archive:
    """pickle: what names the tensors. storages: key → bytes of each block of numbers."""

    pickle: bytes
    storages: dict[str, int]


def read_archive(path: Path) -> Archive:
    """The pickle and the sizes, with nothing run or unpacked. Raises BundleError for what torch did not write."""
    with path.open("rb") as stream:
        if stream.read(len(_START)) != _START:
            raise BundleError(
                f"{path.name} is no archive of torch (1.6 or newer): an older pickle can run code as it is opened; "
                f"{FETCH_AGAIN}"
            )
    try:
        with zipfile.ZipFile(path) as file:
            entries = _checked(path, file)
            pickle = file.read(entries["data.pkl"])
            order = file.read(entries["byteorder"]) if "byteorder" in entries else b"little"
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise BundleError(f"{path.name} is damaged or cut short ({short(str(error))}): {FETCH_AGAIN}") from None
    if order != b"little":
        raise BundleError(f"{path.name} has the byte order {short(order)}: save it again on a usual machine")
    storages = {name[5:]: entry.file_size for name, entry in entries.items() if name.startswith("data/")}
    return Archive(pickle, storages)


def _checked(path: Path, file: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Entries by their name below the archive's one folder."""
    found = file.infolist()
    if len(found) > MAX_ENTRIES:
        raise BundleError(f"{path.name} holds {len(found)} entries, more than {MAX_ENTRIES}: {FETCH_AGAIN}")
    entries = {entry.filename.partition("/")[2]: entry for entry in found}
    if len(entries) != len(found) or len({entry.filename.partition("/")[0] for entry in found}) != 1:
        raise BundleError(f"{path.name} holds two entries of one name, or two folders: {FETCH_AGAIN}")
    for name, entry in entries.items():
        if not _KNOWN.fullmatch(name):
            raise BundleError(f"{path.name} holds {short(entry.filename)}, which is no tensor: {FETCH_AGAIN}")
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise BundleError(
                f"{path.name}: {short(entry.filename)} unpacks from {entry.compress_size} to {entry.file_size} bytes, "
                f"torch packs nothing: {FETCH_AGAIN}"
            )
        if entry.flag_bits & _ENCRYPTED:
            raise BundleError(f"{path.name} asks for a password: {FETCH_AGAIN}")
    if "data.pkl" not in entries:
        raise BundleError(f"{path.name} holds no data.pkl: it is a zip, but not one of weights; {FETCH_AGAIN}")
    if entries["data.pkl"].file_size > MAX_PICKLE:
        size = entries["data.pkl"].file_size
        raise BundleError(f"{path.name} names its tensors in {size} bytes, more than {MAX_PICKLE}: {FETCH_AGAIN}")
    _check_places(path, found, file.start_dir)
    return entries


def _check_places(path: Path, found: list[zipfile.ZipInfo], end: int) -> None:
    """Nothing before the first entry, and none over another: what Python reads here is what torch reads later."""
    expected = 0
    for entry in sorted(found, key=lambda entry: entry.header_offset):
        if entry.header_offset < expected or (expected == 0 and entry.header_offset != 0):
            raise BundleError(f"{path.name}: {short(entry.filename)} lies over another entry: {FETCH_AGAIN}")
        expected = entry.header_offset + _LOCAL_HEADER + len(entry.filename) + entry.file_size
    if expected > end:
        raise BundleError(f"{path.name} announces more bytes than it has: {FETCH_AGAIN}")
