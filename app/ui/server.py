"""Serves the page with gradio, and our own routes beside it: the pushed state and files by id.

Gradio's login covers its own routes only; the middlewares of `app.ui.guard` cover all.
"""

from __future__ import annotations

import errno
import importlib.util
import re
import socket
import typing
from collections.abc import Callable
from pathlib import Path

import gradio as gr
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request as HttpRequest
from starlette.responses import FileResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from app.config import ConfigError, StudioConfig
from app.gallery.clip import is_id
from app.storage.training_folder import MEDIA, SAMPLES, training_folder
from app.studio import Studio
from app.training.media import thumb_of
from app.ui import guard, theme
from app.ui.api import endpoints, errors
from app.ui.i18n import Languages
from app.ui.live import Live, LiveForEach
from app.ui.public.visitors import VisitorCookie, Visitors
from lavie.errors import LavieError

# Seconds between gradio's checks for calls and for their progress. Its defaults use 3 % of a core when idle.
QUEUE_SECONDS, PROGRESS_SECONDS = 0.02, 0.1
MAX_UPLOAD = "2gb"  # as `app.media.UPLOAD_LIMITS`
_CLIP_FILE = re.compile(r"([^.]+)\.(mp4|poster\.webp|preview\.webp)")
_CANDIDATE = re.compile(r"[\w-]{1,100}\.webp", re.ASCII)
_ADAPTER_PICTURE = re.compile(r"([0-9a-f]{64})\.webp")
_THUMB = re.compile(r"(\d{1,8})\.webp", re.ASCII)
_SAMPLE = re.compile(r"step_\d{1,9}(_\d{1,3})?\.(mp4|png)", re.ASCII)
_TYPES = {".webp": "image/webp", ".png": "image/png", ".mp4": "video/mp4"}


def serve(
    page: gr.Blocks,
    config: StudioConfig,
    studio: Studio,
    live: Live | LiveForEach,
    languages: Languages,
    **more: typing.Any,
) -> None:
    """Serve the page at the configured address on background threads. Raises OSError if the address is in use."""
    visitors = Visitors(studio)
    cookie = [Middleware(VisitorCookie, visitors=visitors)] if visitors.shared else []
    early_script = Middleware(theme.EarlyScript)
    page.queue(max_size=64)
    page._queue.sleep_when_free, page._queue.progress_update_sleep_when_free = QUEUE_SECONDS, PROGRESS_SECONDS
    page.launch(
        server_name=config.host,
        server_port=config.port,
        auth=config.auth,
        theme=theme.theme(),
        css_paths=theme.CSS,
        head=theme.head(),
        i18n=languages.gradio(),
        # On a shared Space only our own route serves clips: it knows whose they are.
        allowed_paths=[] if config.shared else [str(config.clips.absolute())],
        footer_links=[],
        run_history=False,  # would store every prompt in the browser
        enable_monitoring=False,
        ssr_mode=False,  # a second server in front, without our routes
        show_error=False,
        max_file_size=MAX_UPLOAD,
        mcp_server=config.mcp,
        app_kwargs={
            "middleware": [*guard.middleware(config), *cookie, early_script],
            "exception_handlers": errors.exception_handlers(endpoints.NAMES),
            "routes": [Route("/studio/live", live.respond), *Files(studio).routes()],
            "openapi_url": None,
        },
        prevent_thread_lock=True,
        quiet=True,  # gradio's messages offer a public link
        **more,
    )
    if page.mcp_error:  # gradio continues silently
        raise ConfigError(page.mcp_error)


class Files:
    """Routes of clips, candidates, adapters and trainings. Files are looked up by id; no name becomes a path."""

    def __init__(self, studio: Studio):
        self._studio = studio

    def routes(self) -> list[Route]:
        return [
            self._route("/studio/media/{name}", self._clip, "clip"),
            self._route("/studio/candidate/{job}/{name}", self._candidate, "candidate"),
            self._route("/studio/adapter/{name}", self._adapter, "picture"),
            self._route("/studio/training/{id}/media/{name}", self._medium, "picture"),
            self._route("/studio/training/{id}/samples/{name}", self._sample, "picture"),
        ]

    @staticmethod
    def _route(address: str, find: Callable[..., Path | None], what: str) -> Route:
        """A route that serves what `find` returns for the address's parameters, else 404 with `what` in its message."""

        async def respond(request: HttpRequest) -> Response | FileOrNotFound:
            path = await run_in_threadpool(find, **request.path_params)
            if path is None:
                return Response(f"no such {what}", status_code=404)
            # The files never change. `private`: caches must not show them to other people on the same machine.
            headers = {"Cache-Control": "private, max-age=86400"}
            name = path.name if "download" in request.query_params else None
            return FileOrNotFound(FileResponse(path, media_type=_TYPES[path.suffix], headers=headers, filename=name))

        return Route(address, respond)

    def _clip(self, name: str) -> Path | None:
        match = _CLIP_FILE.fullmatch(name)
        if match is None or not is_id(match[1]):
            return None
        gallery, (clip_id, kind) = self._studio.gallery, match.groups()
        clip = gallery.get(clip_id)
        if clip is None:
            return None
        paths = {
            "mp4": clip.path,
            "poster.webp": gallery.poster(clip_id),
            "preview.webp": gallery.preview(clip_id),
        }
        return paths[kind] if paths[kind].is_file() else None

    def _candidate(self, job: str, name: str) -> Path | None:
        if not is_id(job) or not _CANDIDATE.fullmatch(name):
            return None
        try:
            return self._studio.long_videos.candidate_picture(job, name)
        except LavieError:
            return None

    def _adapter(self, name: str) -> Path | None:
        match = _ADAPTER_PICTURE.fullmatch(name)
        row = self._studio.adapters.get(match[1]) if match else None
        return row.preview if row and row.preview and row.preview.is_file() else None

    def _medium(self, id: str, name: str) -> Path | None:
        match = _THUMB.fullmatch(name)
        return thumb_of(self._training(id) / MEDIA, match[1]) if match and is_id(id) else None

    def _sample(self, id: str, name: str) -> Path | None:
        path = self._training(id) / SAMPLES / name if is_id(id) and _SAMPLE.fullmatch(name) else None
        return path if path and path.is_file() else None

    def _training(self, job_id: str) -> Path:
        return training_folder(self._studio.config.data, job_id)


class FileOrNotFound:
    """ASGI response: a file, or 404 if the file was deleted after the lookup."""

    def __init__(self, response: FileResponse):
        self._response = response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        held: list[Message] = []
        begun = False

        async def send_with_body(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                held.append(message)  # starlette opens the file after this message
                return
            begun = True
            while held:
                await send(held.pop())
            await send(message)

        try:
            await self._response(scope, receive, send_with_body)
        except (FileNotFoundError, RuntimeError):  # starlette raises RuntimeError for a missing file
            if begun:
                raise
            await Response("no such clip", status_code=404)(scope, receive, send)


def check_mcp(config: StudioConfig) -> None:
    """Raise ConfigError if MCP is on without its package: gradio would continue silently."""
    if config.mcp and importlib.util.find_spec("mcp") is None:
        raise ConfigError("--mcp needs a package that is not installed: pip install 'gradio[mcp]'")


def check_address(host: str, port: int) -> None:
    """Raise ConfigError if the address cannot be served on: gradio's own message names neither port nor remedy."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
            trial.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(f"port {port} of {host} is taken: stop what uses it or give another --port") from None
        raise ConfigError(
            f"{host}:{port} cannot be served on ({error.strerror}): give another --host or --port"
        ) from None
