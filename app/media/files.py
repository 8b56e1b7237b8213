"""Writes files whole or not at all: under a hidden name beside their place, synced, then renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from lavie.errors import MediaError

_PROBE_BYTES = 1 << 16  # written to test an output: enough to need disk space, and quick
_PARTIAL = re.compile(r"\.lavie-[0-9a-f]{16}\.partial\.[a-z0-9]+")
_CAUSES = {
    errno.ENOSPC: "the disk is full: free some space or write elsewhere",
    errno.EDQUOT: "your quota of the disk is used up: free some space or write elsewhere",
    errno.EFBIG: "the file would be larger than this system allows: write elsewhere or raise the limit",
    errno.EACCES: "no permission: choose a folder that you may write to",
    errno.EPERM: "no permission: choose a folder that you may write to",
    errno.EROFS: "the disk is read-only: choose another folder",
    errno.ENAMETOOLONG: "the name is too long: shorten it",
    errno.EILSEQ: "the name holds a character that no file name can: rename it",
}


def is_partial(name: str) -> bool:
    """Whether a file name, without folder, is that of an unfinished file."""
    return _PARTIAL.fullmatch(name) is not None


def sweep_partials(folder: Path) -> list[Path]:
    """Remove unfinished files of killed processes from `folder`, not below it; the removed files.

    Only the folder's owner may call this: files that another process is writing are removed too.
    """
    removed = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if is_partial(entry.name) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError):  # in use on Windows, or gone already
                    os.unlink(entry.path)
                    removed.append(Path(entry.path))
    return removed


def check_output(path: Path, suffix: str = ".mp4", sources: tuple[Path, ...] = ()) -> None:
    """Check before any work that `path` can be written, by writing a file beside it. An existing file stays.

    sources: files that it must not replace. Raises MediaError with the path and the reason.
    """
    path = Path(path)
    if os.path.isdir(path):  # unlike Path.is_dir, False for impossible names
        raise MediaError(f"the output {path} is a folder: name a file in it, such as {path / f'clip{suffix}'}")
    if path.suffix.lower() != suffix:
        raise MediaError(f"the output {path} does not end in {suffix}: name it {path.with_suffix(suffix)}")
    if not os.path.isdir(path.parent):
        raise MediaError(f"the folder {path.parent} of the output {path.name} does not exist: create it first")
    if os.path.exists(path) and any(os.path.exists(source) and os.path.samefile(path, source) for source in sources):
        raise MediaError(f"the output {path} would replace what it is made from: choose another name")
    with temporary(path) as partial, open(partial, "xb", buffering=0) as file:
        file.write(bytes(_PROBE_BYTES))
        os.fsync(file.fileno())


@contextlib.contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """A hidden name beside `path`, on the same disk so that it can be renamed in one step; removed at the end.

    Errors of the system inside the block become MediaError: `path` could not be written.
    """
    import av

    # Absolute: ffmpeg takes the text before a colon in a relative name for a protocol.
    folder = Path(os.path.abspath(path)).parent
    partial = folder / f".lavie-{secrets.token_hex(8)}.partial{path.suffix.lower()}"
    try:
        _check_name(path.name)
        yield partial
    except (OSError, av.FFmpegError) as error:
        raise MediaError(f"{path} cannot be written, {_cause(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()


def _check_name(name: str) -> None:
    """Raises OSError for a name that the final rename would refuse."""
    try:
        encoded = os.fsencode(name)
    except UnicodeEncodeError:
        raise OSError(errno.EILSEQ, "not a name") from None
    if b"\0" in encoded:
        raise OSError(errno.EILSEQ, "not a name")
    if len(encoded) > 255:
        raise OSError(errno.ENAMETOOLONG, "name too long")


def _cause(error: Exception) -> str:
    """What to do about an error of the system, or of ffmpeg, which gives the system's error only in words."""
    number = getattr(error, "errno", None)
    if number in _CAUSES:
        return _CAUSES[number]
    for known, cause in _CAUSES.items():
        if os.strerror(known) in str(error):
            return cause
    lines = str(getattr(error, "strerror", None) or error).strip().splitlines() or [type(error).__name__]
    return f"{lines[-1]}: choose another place"
