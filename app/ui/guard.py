"""Middlewares in front of every route: host names, headers, no proxying, login attempts, login.

Gradio's login covers only most of its own routes. Here every route is closed except those that the login page needs.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Mapping

from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.config import StudioConfig

LOOPBACK = ("127.0.0.1", "localhost", "::1")
MOST_GUESSES, MOST_GUESSES_IN_ALL = 10, 100  # failed logins within `GUESS_SECONDS`: from one address, from all
GUESS_SECONDS = 60.0
_ELSEWHERE = re.compile(r"/(file=|file/|proxy=)(https?:|//)", re.IGNORECASE)
_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "same-origin"}
_OWN_FRAME = {"X-Frame-Options": "SAMEORIGIN"}
# The hub shows a Space's page in a frame; X-Frame-Options cannot name the hub.
_HUB_FRAME = {"Content-Security-Policy": "frame-ancestors 'self' https://huggingface.co https://*.huggingface.co"}
_OPEN = {"/", "/login", "/logout", "/favicon.ico", "/theme.css", "/robots.txt", "/manifest.json"}
_OPEN |= {f"/gradio_api/{name}" for name in ("startup-events", "theme.css", "token", "user", "login_check")}
_OPEN_FOLDERS = ("/assets/", "/static/", "/svelte/")  # gradio's own files
_REFUSED = b'{"detail": {"error": "Not authenticated", "auth_message": null}}'  # gradio's wording: its clients read it


def middleware(config: StudioConfig) -> list[Middleware]:
    # On this machine only its own names are answered: a foreign page cannot reach it by DNS rebinding. A Space's proxy
    # uses names that are not known here.
    names = [*LOOPBACK, "[::1]"]
    if config.space and config.space.host:
        names.append(config.space.host)
    hosts = [Middleware(TrustedHostMiddleware, allowed_hosts=names)] if config.host in LOOPBACK else []
    headers = Middleware(SafeHeaders, frames=_HUB_FRAME if config.space else _OWN_FRAME)
    return [*hosts, headers, Middleware(NoProxy), Middleware(FewGuesses), Middleware(SignedIn)]


class SafeHeaders:
    """Adds security headers to every response.

    Args:
        frames: Headers that say which pages may frame this one.
    """

    def __init__(self, app: ASGIApp, frames: Mapping[str, str]):
        self._app, self._headers = app, {**_HEADERS, **frames}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [(name.lower().encode(), value.encode()) for name, value in self._headers.items()]
            await send(message)

        await self._app(scope, receive, send_with_headers)


class NoProxy:
    """Disables gradio's file proxy: it would fetch arbitrary URLs (SSRF)."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _ELSEWHERE.search(scope["path"]):
            await _answer(send, 403, b"other machines' files are not served", b"text/plain")
        else:
            await self._app(scope, receive, send)


class FewGuesses:
    """Limits failed logins.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, app: ASGIApp, clock: Callable[[], float] = time.monotonic):
        self._app, self._clock = app, clock
        self._guesses: deque[tuple[float, str]] = deque()  # time and address of each, at most MOST_GUESSES_IN_ALL

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
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
        self._guesses.append(guess)  # counted before the answer, since many may arrive at once

        async def send_and_uncount(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < 400 and guess in self._guesses:
                self._guesses.remove(guess)
            await send(message)

        await self._app(scope, receive, send_and_uncount)


class SignedIn:
    """Requires gradio's login cookie where a password is set."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _is_open(scope["path"]) or _is_signed_in(scope):
            await self._app(scope, receive, send)
        else:
            await _answer(send, 401, _REFUSED)


def _is_open(path: str) -> bool:
    return (path.rstrip("/") or "/") in _OPEN or path.startswith(_OPEN_FOLDERS)


def _is_signed_in(scope: Scope) -> bool:
    app, cookies = scope["app"], HTTPConnection(scope).cookies
    names = (f"access-token-{app.cookie_id}", f"access-token-unsecure-{app.cookie_id}")
    return app.auth is None or any(cookies.get(name) in app.tokens for name in names)


async def _answer(send: Send, status: int, body: bytes, kind: bytes = b"application/json") -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
    await send({"type": "http.response.body", "body": body})
