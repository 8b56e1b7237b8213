"""Recognizes the visitors of a shared Space by their Hugging Face login or by a cookie.

What a visitor may see is decided in `app.sharing`.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import typing

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.sharing import ANONYMOUS, Visitor, as_visitor, limit_admission
from app.studio import Studio

COOKIE = "lavie-visitor"
_TOKEN = re.compile(r"[\w-]{32}", re.ASCII)
# The Space's page is framed by the hub's: browsers then keep only cookies with these attributes.
_ATTRIBUTES = "Path=/; Max-Age=31536000; HttpOnly; Secure; SameSite=None; Partitioned"


class Visitors:
    """Maps requests to visitors. Where the studio is not shared, everybody is `ANONYMOUS`."""

    def __init__(self, studio: Studio):
        self.shared = studio.config.shared
        self._admit = limit_admission(studio.config)

    def of(self, request: typing.Any) -> Visitor:
        """The visitor of a starlette request or gradio's wrapper; None is a call without a request."""
        if not self.shared:
            return ANONYMOUS
        return Visitor(hashlib.sha256(_identity(request).encode()).hexdigest(), self._admit)


def _identity(request: typing.Any) -> str:
    """The login name, else the cookie's token, else a random text. Prefixes keep the three kinds apart."""
    if request is None:
        return f"nobody {secrets.token_hex(16)}"
    scope = getattr(request, "request", request).scope
    login = (scope.get("session") or {}).get("oauth_info") or {}
    name = (login.get("userinfo") or {}).get("preferred_username")
    if name:
        return f"hub {name}"
    token = scope.get(COOKIE) or request.cookies.get(COOKIE, "")
    return f"cookie {token if _TOKEN.fullmatch(token) else secrets.token_hex(16)}"


class VisitorCookie:
    """ASGI middleware: sets the visitor cookie and the current visitor of the request."""

    def __init__(self, app: ASGIApp, visitors: Visitors):
        self._app, self._visitors = app, visitors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        connection, new = HTTPConnection(scope), None
        if not _TOKEN.fullmatch(connection.cookies.get(COOKIE, "")):
            new = scope[COOKIE] = secrets.token_urlsafe(24)

        async def send_with_cookie(message: Message) -> None:
            if new and message["type"] == "http.response.start":
                cookie = f"{COOKIE}={new}; {_ATTRIBUTES}"
                message["headers"] = [*message["headers"], (b"set-cookie", cookie.encode())]
            await send(message)

        with as_visitor(self._visitors.of(connection)):
            await self._app(scope, receive, send_with_cookie)
