"""A hub on this machine: the few addresses that a download asks, and what can go wrong at each."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from app.models.sources import PUBLISHED

COMMIT = "c" * 40
LARGE_FROM = 100  # bytes from which a file has a sha256, as those that the hub keeps apart from git
PIECE = 20_000  # bytes
CONFIGS = ("config.json", "special_tokens_map.json", "tokenizer_config.json", "scheduler_config.json")


class Hub:
    """Serves repositories, `owner/name` → file → content, from a thread of its own. Change it between requests.

    gated, closed: repositories whose licence waits, or that nobody may see. lies: files whose checksum is wrong.
    breaks: how many replies end behind `break_after` bytes. ignores_ranges: files are sent from their start. failing:
    how many requests get an error of the server. pieces: each `PIECE` bytes of a file wait for one of these, where they
    are given. requests: what was asked, in order, with the range or "".
    """

    def __init__(self, repositories: Mapping[str, dict[str, bytes]]):
        self.repositories = dict(repositories)
        self.gated, self.closed, self.lies = set(), set(), set()
        self.breaks, self.break_after, self.failing, self.ignores_ranges = 0, 0, 0, False
        self.pieces: threading.Semaphore | None = None
        self.requests: list[tuple[str, str]] = []
        self.tokens: list[str | None] = []
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def asked_for(self, file: str) -> list[str]:
        """The ranges in which a file was asked for."""
        return [part for path, part in self.requests if path.endswith(f"/{file}")]


def published_hub(folder: Path) -> Hub:
    """A hub with all that is published, at toy size. Imports torch."""
    from tests.extensions.published.toys import write_published

    files, repositories = write_published(folder), {}
    for repository in PUBLISHED.values():
        below, content = files / repository.folder, {}
        for choice in repository.files:
            there = [name for name in choice if (below / name).is_file()]
            content |= {name: (below / name).read_bytes() for name in there}
            content |= {choice[0]: b"{}"} if not there and choice[0].endswith(CONFIGS) else {}
        repositories[repository.ids[0]] = content
    return Hub(repositories)


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        pass

    def do_GET(self) -> None:
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        hub.requests.append((path, self.headers.get("Range", "")))
        hub.tokens.append(self.headers.get("Authorization"))
        if hub.failing:
            hub.failing -= 1
            return self._refuse(503, "")
        about = re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/(.+)", path)
        content = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        repository = (about or content)[1] if about or content else None
        if repository not in hub.repositories or repository in hub.closed:
            return self._refuse(401 if repository in hub.closed else 404, "RepoNotFound")
        if (about or content)[2] not in ("main", COMMIT):
            return self._refuse(404, "RevisionNotFound")
        if about:
            return self._about(repository)
        if repository in hub.gated:
            return self._refuse(403, "GatedRepo")
        return self._content(hub.repositories[repository][content[3]])

    def _about(self, repository: str) -> None:
        siblings = []
        for name, content in self.hub.repositories[repository].items():
            right = b"" if name in self.hub.lies else content
            blob = hashlib.sha1(b"blob %d\0" % len(right) + right).hexdigest()
            file = {"rfilename": name, "size": len(content), "blobId": blob}
            if len(content) >= LARGE_FROM:
                sha256 = hashlib.sha256(right).hexdigest()
                file["lfs"] = {"size": len(content), "sha256": sha256, "pointerSize": 130}
            siblings.append(file)
        self._send(200, json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings}).encode(), {})

    def _content(self, content: bytes) -> None:
        hub, start = self.hub, 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and not hub.ignores_ranges:
            start = int(asked[1])
        said = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        rest = content[start:]
        if hub.breaks and len(rest) > hub.break_after:
            hub.breaks -= 1
            self._send(206 if start else 200, rest, said, sent=hub.break_after)
            self.close_connection = True
        else:
            self._send(206 if start else 200, rest, said)

    def _refuse(self, status: int, code: str) -> None:
        self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": "no"})

    def _send(self, status: int, body: bytes, headers: dict[str, str], sent: int | None = None) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        pieces = self.hub.pieces
        if pieces is None or len(body) <= PIECE:
            self.wfile.write(body[:sent])
            return
        for start in range(0, len(body), PIECE):
            pieces.acquire()
            self.wfile.write(body[start : start + PIECE])
