"""Where the gallery keeps its things: the database, and the files of a clip in the data folder.

Knows names and places. Does not know what a clip is.

    clips/<id>.mp4      the clip           clips/<id>.json     its sidecar, see `app.gallery.sidecar`
    clips/<id>.*        pictures of it     trash/<id>/         on its way out, see `app.gallery.trash`
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from app.media.files import temporary
from app.storage.database import Database
from lavie.errors import StorageError
from lavie.files import publish

BLOCK = 1 << 20  # bytes read at once


@dataclass(frozen=True)
class Store:
    """A database and the data folder that it lies in."""

    database: Database
    folder: Path

    @property
    def clips(self) -> Path:
        """The folder of clips and all that is beside them."""
        return self.folder / "clips"

    @property
    def trash(self) -> Path:
        """The folder of what is being purged."""
        return self.folder / "trash"

    def sidecar(self, clip_id: str) -> Path:
        """Where a clip's sidecar lies, wherever the clip itself may be."""
        return self.clips / f"{clip_id}.json"

    def stored(self, path: Path) -> str:
        """A path as the database has it: relative, with `/`, in the data folder; else absolute."""
        path = Path(os.path.abspath(path))
        inside = self._inside(path)
        return str(path) if inside is None else inside.as_posix()

    def path(self, stored: str) -> Path:
        """The inverse of `stored`."""
        if Path(stored).is_absolute():
            return Path(stored)
        return Path(os.path.abspath(self.folder)).joinpath(*PurePosixPath(stored).parts)

    def owns(self, path: Path) -> bool:
        """Whether a file is ours to move: in the folder of clips, by its name and by what links make of it."""
        within = Path(os.path.abspath(path)).is_relative_to(os.path.abspath(self.clips))
        return within and path.resolve().is_relative_to(self.clips.resolve())

    def picture(self, clip_id: str, kind: str) -> Path:
        """Where a clip's `poster` or `preview` lies."""
        return self.clips / f"{clip_id}.{kind}.webp"

    def beside(self, clip_id: str) -> list[Path]:
        """The files of a clip that bear its id: the clip itself, its sidecar, its pictures."""
        with storage_errors(self.clips):
            return sorted(path for path in self.clips.glob(f"{clip_id}.*") if not path.is_dir())

    def videos(self) -> Iterator[Path]:
        """Every mp4 under the folder of clips. Hidden names are unfinished work; links may lead anywhere."""
        with storage_errors(self.clips):
            for folder, names, files in os.walk(self.clips, followlinks=False):
                names[:] = sorted(name for name in names if not name.startswith("."))
                for name in sorted(files):
                    path = Path(folder, name)
                    if path.suffix.lower() == ".mp4" and not name.startswith(".") and not path.is_symlink():
                        yield path

    def _inside(self, path: Path) -> Path | None:
        root = Path(os.path.abspath(self.folder))
        return path.relative_to(root) if path.is_relative_to(root) else None


def hash_file(path: Path) -> str:
    """SHA-256. Raises StorageError if the file cannot be read."""
    digest = hashlib.sha256()
    with storage_errors(path), open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a small file whole or not at all. Raises MediaError."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with temporary(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")
        publish(partial, path)


def move(source: Path, target: Path) -> None:
    """Give a file another name in the same data folder, over what bore it. Raises StorageError."""
    with storage_errors(source):
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """What the system says about a file, as one line with a way out."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise StorageError(
            f"{path} cannot be read or written ({reason}): check the disk and your permissions"
        ) from error
