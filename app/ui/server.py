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
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.config import ROOT, ConfigError, StudioConfig
from app.gallery.clip import is_id
from app.storage.training_folder import MEDIA, SAMPLES, training_folder
from app.studio import Studio
from app.training.media import thumb_of
from app.ui import guard
from app.ui.api import endpoints, errors
from app.ui.i18n import Languages
from app.ui.live import Live, LiveForEach
from app.ui.public.visitors import VisitorCookie, Visitors
from lavie.errors import LavieError

CSS = ROOT / "assets" / "studio.css"
SCRIPT, EARLY = ROOT / "assets" / "studio.js", ROOT / "assets" / "early.js"
_SANS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"]
_MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]


def theme() -> gr.themes.Base:
    """Gradio's variables for both colour schemes: neutral, with one accent colour."""
    accent = gr.themes.Color(
        c50="#eef1ff", c100="#dfe4ff", c200="#c3ccff", c300="#9dabff", c400="#7886fb", c500="#5a63f0",
        c600="#484bdc", c700="#3d3db8", c800="#343693", c900="#2f3375", c950="#1c1d45",
    )  # fmt: skip
    return gr.themes.Base(
        primary_hue=accent, secondary_hue=accent, neutral_hue="slate", radius_size="md", font=_SANS, font_mono=_MONO
    ).set(
        body_background_fill="#f7f8fa",
        body_background_fill_dark="#0e1116",
        background_fill_primary_dark="#151922",
        background_fill_secondary_dark="#0e1116",
        block_background_fill_dark="#151922",
        border_color_primary_dark="#2a3140",
        input_background_fill_dark="#0e1116",
        block_shadow="none",
        block_label_text_weight="500",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_text_color="white",
        body_text_color_subdued="#545d6d",
        body_text_color_subdued_dark="#a5adbb",
        block_info_text_color="#545d6d",
        block_info_text_color_dark="#a5adbb",
    )


def head() -> str:
    """The page's script, inline: no other file of `assets` is served."""
    return _inline(SCRIPT)


class EarlyScript:
    """ASGI middleware: inserts `early.js` before gradio's scripts. Gradio puts its own `head` behind them."""

    def __init__(self, app: ASGIApp):
        self._app, self._script = app, _inline(EARLY).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or scope["path"] != "/":
            await self._app(scope, receive, send)
            return
        start: Message | None = None  # held back: the script changes the content length

        async def send_with_script(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            if start is not None:
                before, head, after = message.get("body", b"").partition(b"<head>")
                if head:
                    message = {**message, "body": before + head + self._script + after}
                    start["headers"] = [_lengthen(header, len(self._script)) for header in start["headers"]]
                await send(start)
                start = None
            await send(message)

        await self._app(scope, receive, send_with_script)


def _lengthen(header: tuple[bytes, bytes], count: int) -> tuple[bytes, bytes]:
    """The header, with `count` added if it is the content length."""
    name, value = header
    return (name, str(int(value) + count).encode()) if name.lower() == b"content-length" else header


def _inline(script: Path) -> str:
    return f"<script>{script.read_text(encoding='utf-8')}</script>"


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
    early_script = Middleware(EarlyScript)
    page.queue(max_size=64)
    page._queue.sleep_when_free, page._queue.progress_update_sleep_when_free = QUEUE_SECONDS, PROGRESS_SECONDS
    page.launch(
        server_name=config.host,
        server_port=config.port,
        auth=config.auth,
        theme=theme(),
        css_paths=CSS,
        head=head(),
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
