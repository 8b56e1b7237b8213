"""Who is answered and how: what stands in front of every route, gradio's and ours.

Gradio's own login covers most of its routes, but not all, not those for MCP, and none of ours: here all are closed but
those that a login page needs.
"""

from __future__ import annotations

import re
import time
import typing
from collections import deque
from collections.abc import Callable, Mapping

from app.config import StudioConfig

if typing.TYPE_CHECKING:
    from starlette.middleware import Middleware

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MOST_GUESSES, MOST_GUESSES_IN_ALL = 10, 100  # bad logins within `GUESS_SECONDS`: from one address, and from everywhere
GUESS_SECONDS = 60.0
_ELSEWHERE = re.compile(r"/(file=|file/|proxy=)(https?:|//)", re.IGNORECASE)
_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"}
_OWN_FRAME = {"X-Frame-Options": "SAMEORIGIN"}
# A Space's page is shown in a frame of the hub's; X-Frame-Options could not name it.
_HUB_FRAME = {"Content-Security-Policy": "frame-ancestors 'self' https://huggingface.co https://*.huggingface.co"}
_OPEN = {"/", "/login", "/logout", "/favicon.ico", "/theme.css", "/robots.txt", "/manifest.json"}
_OPEN |= {f"/gradio_api/{name}" for name in ("startup-events", "theme.css", "token", "user", "login_check")}
_OPEN_FOLDERS = ("/assets/", "/static/", "/svelte/")  # gradio's own files
_REFUSED = b'{"detail": {"error": "Not authenticated", "auth_message": null}}'  # as gradio says it: its clients read it


def middleware(config: StudioConfig) -> list[Middleware]:
    """The outermost first."""
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    # At home, answer only to the names of this machine, so that no foreign page reaches it by a name of its own. Who
    # serves everybody, as a Space does, is known by names that only its proxy knows.
    names = [*LOOPBACK, "[::1]", *filter(None, [config.space and config.space.host])]
    hosts = [Middleware(TrustedHostMiddleware, allowed_hosts=names)] if config.host in LOOPBACK else []
    safe = Middleware(SafeHeaders, frames=_HUB_FRAME if config.space else _OWN_FRAME)
    return [*hosts, safe, Middleware(NoProxy), Middleware(FewGuesses), Middleware(SignedIn)]


class SafeHeaders:
    """Every answer says that its type is what it says, and which pages may frame it. frames: the headers for that."""

    def __init__(self, app, frames: Mapping[str, str]):
        self._app, self._headers = app, {**_HEADERS, **frames}

    async def __call__(self, scope, receive, send) -> None:
        async def send_with(message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [(name.lower().encode(), value.encode()) for name, value in self._headers.items()]
            await send(message)

        await self._app(scope, receive, send_with)


class NoProxy:
    """Gradio fetches any public address that is asked for as a file: this studio asks nobody on others' behalf."""

    def __init__(self, app):
        self._app = app

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] == "http" and _ELSEWHERE.search(scope["path"]):
            await _answer(send, 403, b"other machines' files are not served", b"text/plain")
        else:
            await self._app(scope, receive, send)


class FewGuesses:
    """Passwords cannot be tried without end. clock: seconds, never going back."""

    def __init__(self, app, clock: Callable[[], float] = time.monotonic):
        self._app, self._clock = app, clock
        self._guesses: deque[tuple[float, str]] = deque()  # when and from where; never more than may be made

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"].rstrip("/") != "/login":
            await self._app(scope, receive, send)
            return
        guess = (self._clock(), (scope.get("client") or ("",))[0])
        while self._guesses and self._guesses[0][0] <= guess[0] - GUESS_SECONDS:
            self._guesses.popleft()
        own = sum(address == guess[1] for _, address in self._guesses)
        if own >= MOST_GUESSES or len(self._guesses) >= MOST_GUESSES_IN_ALL:
            await _answer(send, 429, b'{"detail": "Too many attempts: wait a minute."}')
            return
        self._guesses.append(guess)  # before it is answered: many may come at once

        async def send_and_note(message) -> None:
            if message["type"] == "http.response.start" and message["status"] < 400 and guess in self._guesses:
                self._guesses.remove(guess)
            await send(message)

        await self._app(scope, receive, send_and_note)


class SignedIn:
    """Lets those through who are signed in, by gradio's own cookies; everybody where no password is set."""

    def __init__(self, app):
        self._app = app

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http" or _is_open(scope["path"]) or _knows(scope):
            await self._app(scope, receive, send)
        else:
            await _answer(send, 401, _REFUSED)


def _is_open(path: str) -> bool:
    return (path.rstrip("/") or "/") in _OPEN or path.startswith(_OPEN_FOLDERS)


def _knows(scope) -> bool:
    from starlette.requests import HTTPConnection

    app, cookies = scope["app"], HTTPConnection(scope).cookies
    names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
    return app.auth is None or any(cookies.get(name) in app.tokens for name in names)


async def _answer(send, status: int, body: bytes, kind: bytes = b"application/json") -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
    await send({"type": "http.response.body", "body": body})
