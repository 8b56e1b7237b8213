"""A zip of media, unpacked within limits. Its names and numbers are a stranger's: nothing leads out of the folder, and
no more is unpacked than was announced. Needs no torch.
"""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path, PurePosixPath

from lavie.errors import TrainingError

MAX_MEMBERS = 2000
MAX_BYTES = 4 * 2**30  # of all members, unpacked
MAX_RATIO = 100  # of unpacked to packed; pictures and videos hardly shrink, captions tenfold at most
SMALL_BYTES = 2**20  # members up to here may shrink as they like: long captions of few words do
_LINK = 0o120000  # the kind of a Unix file that is a symbolic link
_KIND = 0o170000


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack `archive` into `folder`, which appears whole or not at all and is left alone where it is there already.

    Raises TrainingError for damage, a password, too much of anything, and names that lead elsewhere.
    """
    if folder.is_dir():
        return folder
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with zipfile.ZipFile(archive) as file:
            members = _checked(archive, file.infolist())
            for member in members:
                target = partial / member.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with file.open(member) as source, target.open("wb") as out:
                    shutil.copyfileobj(source, out)  # never more than the announced size: zipfile stops there
        partial.mkdir(parents=True, exist_ok=True)  # of a zip with nothing in it
        partial.replace(folder)
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise TrainingError(
            f"{archive.name} cannot be unpacked ({str(error)[:200]}): pack the pictures again as a plain zip"
        ) from None
    return folder


def _checked(archive: Path, found: list[zipfile.ZipInfo]) -> list[zipfile.ZipInfo]:
    """The plain files of a zip. Raises TrainingError for what nobody packs who means well."""
    members = [member for member in found if not member.is_dir() and not _is_clutter(member)]
    if len(members) > MAX_MEMBERS:
        raise TrainingError(f"{archive.name} holds {len(members)} files, more than {MAX_MEMBERS}: pack fewer")
    if (total := sum(member.file_size for member in members)) > MAX_BYTES:
        raise TrainingError(f"{archive.name} unpacks to {total} bytes, more than {MAX_BYTES}: pack fewer or smaller")
    for member in members:
        name = PurePosixPath(member.filename.replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts or ":" in name.parts[0]:
            raise TrainingError(f"{archive.name} holds {member.filename[:200]!r}, which leads out of it: pack again")
        if member.external_attr >> 16 & _KIND == _LINK:
            raise TrainingError(f"{archive.name} holds the link {member.filename[:200]!r}: pack the file itself")
        if member.file_size > max(SMALL_BYTES, MAX_RATIO * member.compress_size):
            raise TrainingError(
                f"{archive.name}: {member.filename[:200]!r} unpacks from {member.compress_size} to {member.file_size} "
                "bytes, which no picture does: leave it out"
            )
    return members


def _is_clutter(member: zipfile.ZipInfo) -> bool:
    """What macOS puts beside each file."""
    return member.filename.startswith("__MACOSX/")
