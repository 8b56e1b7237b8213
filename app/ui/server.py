"""Serves the page: who is answered, what may be fetched, and the routes of our own beside gradio's.

`studio/live` pushes how the studio stands, `studio/media` gives the files of clips by their ids, `studio/candidate` the
pictures of a long video's candidates; those of adapters and trainings are `app.ui.adapters.files`'. Gradio's login
covers its own routes only; `app.ui.guard` stands in front of all.
"""

from __future__ import annotations

import errno
import importlib.util
import re
import socket
import typing

from app.config import ConfigError, StudioConfig
from app.gallery.values import is_id
from lavie.errors import LavieError

if typing.TYPE_CHECKING:
    from pathlib import Path

    import gradio as gr
    from starlette.requests import Request as HttpRequest
    from starlette.responses import Response

    from app.studio import Studio
    from app.ui.i18n import Languages
    from app.ui.live import Live

# Between gradio's looks for calls and for their progress: its own 1000 and 100 a second cost 3 % of a core for nothing.
QUEUE_SECONDS, PROGRESS_SECONDS = 0.02, 0.1
MAX_UPLOAD = "2gb"  # as `app.media.UPLOAD_LIMITS`
_MEDIA = re.compile(r"([^.]+)\.(mp4|poster\.webp|preview\.webp)")
_CANDIDATE = re.compile(r"[\w-]{1,100}\.webp", re.ASCII)
_TYPES = {"mp4": "video/mp4", "poster.webp": "image/webp", "preview.webp": "image/webp"}


def serve(page: gr.Blocks, config: StudioConfig, studio: Studio, live: Live, languages: Languages, **more) -> None:
    """Open the page at the configured address, in threads of its own. Raises OSError for one that is not free."""
    from starlette.middleware import Middleware

    from app.ui import guard, theme
    from app.ui.api import endpoints, errors
    from app.ui.public.visitors import VisitorCookie, Visitors

    early = Middleware(_EarlyScript, script=theme.early())
    visitors = Visitors(studio)
    visiting = [Middleware(VisitorCookie, visitors=visitors)] if visitors.shared else []
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
        # Where visitors share the studio, a clip goes out by our own route alone, which knows whose it is.
        allowed_paths=[] if config.shared else [str(config.clips.absolute())],
        footer_links=[],
        run_history=False,  # would keep every prompt in the browser's storage
        enable_monitoring=False,
        ssr_mode=False,  # a second server in front, which knows nothing of our routes
        show_error=False,
        max_file_size=MAX_UPLOAD,
        mcp_server=config.mcp,
        app_kwargs={
            "middleware": [*guard.middleware(config), *visiting, early],
            "exception_handlers": errors.refusals(endpoints.NAMES),
            "routes": _routes(studio, live),  # there from the first answer on: a page must not miss one
            "openapi_url": None,
        },
        prevent_thread_lock=True,
        quiet=True,  # gradio's own lines offer a public link, which this studio never makes
        **more,
    )
    if page.mcp_error:  # gradio would go on without it, in silence
        raise ConfigError(page.mcp_error)


def _routes(studio: Studio, live: Live) -> list:
    from starlette.routing import Route

    from app.ui.adapters.files import Files

    return [
        Route("/studio/live", live.respond),
        Route("/studio/media/{name}", Media(studio).respond),
        Route("/studio/candidate/{job}/{name}", Candidates(studio).respond),
        *Files(studio).routes(),
    ]


class UnlessGone:
    """A file's answer, or 404 where the file was purged after it was found: said before anything else is."""

    def __init__(self, response: Response):
        self._response = response

    async def __call__(self, scope, receive, send) -> None:
        from starlette.responses import Response

        held, begun = [], False

        async def send_with_body(message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                held.append(message)  # the file is opened behind it
                return
            begun = True
            while held:
                await send(held.pop())
            await send(message)

        try:
            await self._response(scope, receive, send_with_body)
        except (FileNotFoundError, RuntimeError):  # what starlette makes of a file that it does not find
            if begun:
                raise
            await Response("no such clip", status_code=404)(scope, receive, send)


class Media:
    """Files of clips by name: `<id>.mp4`, `<id>.poster.webp`, `<id>.preview.webp`. No name becomes a path."""

    def __init__(self, studio: Studio):
        self._studio = studio

    async def respond(self, request: HttpRequest) -> Response:
        """The route. A clip's bytes never change, so that a browser need not ask again."""
        from starlette.concurrency import run_in_threadpool
        from starlette.responses import FileResponse, Response

        found = await run_in_threadpool(self._find, request.path_params["name"])
        if found is None:
            return Response("no such clip", status_code=404)
        path, kind = found
        # The wildcard would let a browser keep it for other people on the same machine.
        headers = {"Cache-Control": "private, max-age=86400"}
        name = path.name if "download" in request.query_params else None
        return UnlessGone(FileResponse(path, media_type=_TYPES[kind], headers=headers, filename=name))

    def _find(self, name: str):
        match = _MEDIA.fullmatch(name)
        if match is None or not is_id(match[1]):
            return None
        gallery, (clip_id, kind) = self._studio.gallery, match.groups()
        clip = gallery.get(clip_id)
        if clip is None:
            return None
        path = {
            "mp4": gallery.path(clip),
            "poster.webp": gallery.poster(clip_id),
            "preview.webp": gallery.preview(clip_id),
        }
        return (path[kind], kind) if path[kind].is_file() else None


class Candidates:
    """Moving pictures of candidates for a segment, by job and name. No name becomes a path."""

    def __init__(self, studio: Studio):
        self._studio = studio

    async def respond(self, request: HttpRequest) -> Response:
        """The route. A candidate's bytes never change."""
        from starlette.concurrency import run_in_threadpool
        from starlette.responses import FileResponse, Response

        found = await run_in_threadpool(self._find, request.path_params["job"], request.path_params["name"])
        if found is None:
            return Response("no such candidate", status_code=404)
        headers = {"Cache-Control": "private, max-age=86400"}
        return UnlessGone(FileResponse(found, media_type="image/webp", headers=headers))

    def _find(self, job_id: str, name: str) -> Path | None:
        if not is_id(job_id) or not _CANDIDATE.fullmatch(name):
            return None
        try:
            return self._studio.long.candidate_picture(job_id, name)
        except LavieError:
            return None


def check_mcp(config: StudioConfig) -> None:
    """Gradio goes on in silence without what MCP needs. Raises ConfigError."""
    if config.mcp and importlib.util.find_spec("mcp") is None:
        raise ConfigError("--mcp needs a package that is not installed: pip install 'gradio[mcp]'")


def check_address(host: str, port: int) -> None:
    """Try the address before anything is built: gradio names neither the port nor the way out. Raises ConfigError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does, after a restart
            trial.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(f"port {port} of {host} is taken: stop what uses it or give another --port") from None
        raise ConfigError(
            f"{host}:{port} cannot be served on ({error.strerror}): give another --host or --port"
        ) from None


class _EarlyScript:
    """Puts a script in front of all of gradio's, which puts what it is given as `head` behind its own."""

    def __init__(self, app, script: str):
        self._app, self._script = app, script.encode()

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or scope["path"] != "/":
            await self._app(scope, receive, send)
            return
        start = None  # held back until the first bytes are there: the script makes them more

        async def send_with(message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            if start is not None:
                before, head, behind = message.get("body", b"").partition(b"<head>")
                if head:
                    message = {**message, "body": before + head + self._script + behind}
                    start["headers"] = [_longer(header, len(self._script)) for header in start["headers"]]
                await send(start)
                start = None
            await send(message)

        await self._app(scope, receive, send_with)


def _longer(header: tuple[bytes, bytes], by: int) -> tuple[bytes, bytes]:
    name, value = header
    return (name, str(int(value) + by).encode()) if name.lower() == b"content-length" else header
