"""Lists and downloads files of a hub, resuming partial files, and explains its errors.

huggingface_hub itself starts each file anew in a new process.
"""

from __future__ import annotations

import time
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from app.models.sources import Repository, Sources
from lavie.errors import LavieError, short

if typing.TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

TIMEOUT = 20.0  # seconds without a byte
WAITS = (1.0, 2.0, 4.0, 8.0)  # seconds before each retry; received bytes reset them
AGAIN = "run the same command again, it goes on where it stopped"


class DownloadError(LavieError):
    """Weights cannot be downloaded. Downloaded bytes stay."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository.

    Attributes:
        place: path below the folder of published weights.
        sha256, blob: hash of the content, and git's hash; the hub gives one of them.
        token: whether to send the person's token.
    """

    place: str
    name: str
    repository: str
    commit: str
    endpoint: str
    bytes: int
    sha256: str | None
    blob: str | None
    token: bool


def look_up(sources: Sources, repository: Repository) -> list[RemoteFile]:
    """The files to download from the first address and name that has the repository. Raises DownloadError."""
    from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError is of the HTTP library
        GatedRepoError,
        HfHubHTTPError,
        HTTPError,
        RepositoryNotFoundError,
    )

    unreachable: list[str] = []
    absent: list[str] = []
    for endpoint in sources.endpoints:
        for name in repository.ids:
            try:
                info = _read_info(sources, endpoint, name, repository.revision)
            except RepositoryNotFoundError as error:
                if isinstance(error, GatedRepoError):
                    raise DownloadError(_explain_gate(endpoint, name)) from None
                absent.append(f"{name} at {_host(endpoint)}")
            except HfHubHTTPError as error:
                if not _is_temporary(error):
                    raise _explain(error, endpoint, name, repository.revision) from None
                unreachable.append(f"{_host(endpoint)} (error {error.response.status_code})")
                break
            except (HTTPError, OSError) as error:
                unreachable.append(f"{_host(endpoint)} ({short(str(error) or type(error).__name__)})")
                break
            else:
                return _choose_files(sources, repository, info, endpoint, name)
    if absent:
        raise DownloadError(
            f"there is no {', no '.join(absent)}: it was renamed, removed or is private; name another in sources.json "
            "(docs/weights.md), or log in by `hf auth login` if it is yours"
        )
    raise DownloadError(
        f"no network: {', '.join(unreachable)} cannot be reached; run the same command again when it can, "
        "name a --mirror, or use files that you have (docs/weights.md); Nano needs no network"
    )


def _read_info(sources: Sources, endpoint: str, name: str, revision: str) -> ModelInfo:
    from huggingface_hub import HfApi

    token = None if endpoint in sources.trusted else False  # None: the person's own token, if any
    return HfApi(endpoint=endpoint, token=token).model_info(
        name, revision=revision, files_metadata=True, timeout=TIMEOUT
    )


def _choose_files(
    sources: Sources, repository: Repository, info: ModelInfo, endpoint: str, name: str
) -> list[RemoteFile]:
    there = {file.rfilename: file for file in info.siblings or []}
    chosen = []
    for choice in repository.files:
        file = next((there[each] for each in choice if each in there), None)
        if file is None:
            raise DownloadError(
                f"{name} holds no {choice[0]} at {short(repository.revision)}: choose another by --revision, or "
                "another repository in sources.json (docs/weights.md)"
            )
        if file.size is None or not info.sha:
            raise DownloadError(f"{_host(endpoint)} does not tell the size of {choice[0]}: name another --mirror")
        chosen.append(
            RemoteFile(
                f"{repository.folder}/{file.rfilename}".lstrip("/"),
                file.rfilename,
                name,
                info.sha,
                endpoint,
                file.size,
                file.lfs.sha256 if file.lfs else None,
                None if file.lfs else file.blob_id,
                endpoint in sources.trusted,
            )
        )
    return chosen


def fetch(file: RemoteFile, partial: Path) -> Iterator[int]:
    """Append a file's missing bytes to `partial`; yields its size. Closing the generator pauses. Raises DownloadError,
    OSError."""
    from huggingface_hub.errors import HfHubHTTPError, HTTPError  # type: ignore[attr-defined]

    waits = list(WAITS)
    while True:
        before = _size(partial)
        try:
            yield from _stream(file, partial)
            return
        except HfHubHTTPError as error:
            if not _is_temporary(error) or not waits:
                raise _explain(error, file.endpoint, file.repository, file.commit, file.name) from None
        except HTTPError as error:
            if _size(partial) > before:
                waits = list(WAITS)
            if not waits:
                said = short(str(error) or type(error).__name__)
                raise DownloadError(
                    f"the connection to {_host(file.endpoint)} broke off at {_size(partial)} of {file.bytes} bytes of "
                    f"{file.place} ({said}): {AGAIN}"
                ) from None
        time.sleep(waits.pop(0))


def _stream(file: RemoteFile, partial: Path) -> Iterator[int]:
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import (  # type: ignore[attr-defined]  # lazy exports
        build_hf_headers,
        get_session,
        hf_raise_for_status,
    )

    partial.parent.mkdir(parents=True, exist_ok=True)
    url = hf_hub_url(file.repository, file.name, revision=file.commit, endpoint=file.endpoint)
    with partial.open("ab") as stream:
        have = stream.tell()
        if have > file.bytes:
            have = _truncate(stream)
        if have == file.bytes:
            yield have
            return
        headers = build_hf_headers(token=None if file.token else False) | {"Accept-Encoding": "identity"}
        headers |= {"Range": f"bytes={have}-"} if have else {}
        with get_session().stream("GET", url, headers=headers, timeout=TIMEOUT, follow_redirects=True) as response:
            if have and response.status_code == 416:
                _truncate(stream)
                return (yield from _stream(file, partial))
            hf_raise_for_status(response)
            if have and not _resumes(response, have):
                have = _truncate(stream)
            for chunk in response.iter_bytes():  # of any size: an interruption loses at most one
                stream.write(chunk)
                have += len(chunk)
                if have > file.bytes:
                    raise DownloadError(f"{_host(file.endpoint)} sends more of {file.place} than it has: {AGAIN}")
                yield have
    if have < file.bytes:
        raise DownloadError(f"{_host(file.endpoint)} sent {have} of {file.bytes} bytes of {file.place}: {AGAIN}")


def _resumes(response: Any, have: int) -> bool:
    """Whether a response begins at the requested byte; some servers ignore the range."""
    return bool(response.status_code == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-"))


def _truncate(stream: typing.BinaryIO) -> int:
    stream.truncate(0)
    stream.seek(0)
    return 0


def _size(partial: Path) -> int:
    return partial.stat().st_size if partial.is_file() else 0


def _is_temporary(error: Any) -> bool:
    """Whether a retry may help: too many requests, or an error of the server."""
    return bool(error.response.status_code == 429 or error.response.status_code >= 500)


def _explain(error: Any, endpoint: str, name: str, revision: str, file: str | None = None) -> DownloadError:
    from huggingface_hub.errors import (
        GatedRepoError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    status = error.response.status_code
    if isinstance(error, RevisionNotFoundError):
        return DownloadError(f"{name} has no revision {short(revision)}: choose another by --revision, or leave it out")
    if isinstance(error, RemoteEntryNotFoundError):
        return DownloadError(f"{name} has no {file} any more: run the same command again, it looks what is there now")
    if isinstance(error, GatedRepoError) or status == 403:
        return DownloadError(_explain_gate(endpoint, name))
    if isinstance(error, RepositoryNotFoundError) or status in (401, 404):
        return DownloadError(
            f"{_host(endpoint)} does not give {name} to you (error {status}): it was renamed, removed or is private; "
            "name another in sources.json (docs/weights.md), or log in by `hf auth login`"
        )
    return DownloadError(f"{_host(endpoint)} refuses {name} with error {status}: try again later, or name a --mirror")


def _explain_gate(endpoint: str, name: str) -> str:
    return (
        f"the licence of {name} must be accepted first: open {endpoint}/{name}, accept it there, log in here by "
        "`hf auth login`, and run the same command again"
    )


def _host(endpoint: str) -> str:
    return urlsplit(endpoint).netloc
