"""Who a request comes from, on a Space that many share: by the name they signed in with, else by a cookie of ours.

Knows requests and cookies; what a visitor may see is `app.sharing.visitor`'s.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
import typing

from app.sharing.limits import admission
from app.sharing.visitor import ANONYMOUS, Visitor, as_visitor
from app.studio import Studio
from app.ui.live import Live

if typing.TYPE_CHECKING:
    from starlette.requests import Request as HttpRequest
    from starlette.responses import Response

    from app.ui.i18n import Languages

COOKIE = "lavie-visitor"
_TOKEN = re.compile(r"[\w-]{32}", re.ASCII)
_MOST_PAGES = 1000  # visitors whose state is kept at hand
# For a page within the hub's: there a browser keeps only cookies that say so.
_ATTRIBUTES = "Path=/; Max-Age=31536000; HttpOnly; Secure; SameSite=None; Partitioned"


class Visitors:
    """Tells visitors apart; where the studio is not shared, all of them are nobody in particular."""

    def __init__(self, studio: Studio):
        self.shared = studio.config.shared
        self._admit = admission(studio.config)

    def of(self, request: typing.Any) -> Visitor:
        """request: starlette's, or gradio's around it; None for a call that comes from none."""
        if not self.shared:
            return ANONYMOUS
        return Visitor(hashlib.sha256(_known_by(request).encode()).hexdigest(), self._admit)


def _known_by(request: typing.Any) -> str:
    """Never the same text for two ways to be known."""
    if request is None:
        return f"nobody {secrets.token_hex(16)}"
    scope = getattr(request, "request", request).scope
    signed_in = (scope.get("session") or {}).get("oauth_info") or {}
    name = (signed_in.get("userinfo") or {}).get("preferred_username")
    if name:
        return f"hub {name}"
    token = scope.get(COOKIE) or request.cookies.get(COOKIE, "")
    return f"cookie {token if _TOKEN.fullmatch(token) else secrets.token_hex(16)}"


class VisitorCookie:
    """Gives a cookie to who has none, and says to all behind it who asks."""

    def __init__(self, app, visitors: Visitors):
        self._app, self._visitors = app, visitors

    async def __call__(self, scope, receive, send) -> None:
        from starlette.requests import HTTPConnection

        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        connection, new = HTTPConnection(scope), None
        if not _TOKEN.fullmatch(connection.cookies.get(COOKIE, "")):
            new = scope[COOKIE] = secrets.token_urlsafe(24)

        async def send_with(message) -> None:
            if new and message["type"] == "http.response.start":
                cookie = f"{COOKIE}={new}; {_ATTRIBUTES}"
                message["headers"] = [*message["headers"], (b"set-cookie", cookie.encode())]
            await send(message)

        with as_visitor(self._visitors.of(connection)):
            await self._app(scope, receive, send_with)


class LiveForEach:
    """The studio's state for each visitor's pages, as `Live` has it for all."""

    def __init__(self, studio: Studio, languages: Languages, visitors: Visitors):
        self._studio, self._languages, self._visitors = studio, languages, visitors
        self._of: dict[str, Live] = {}
        self._lock = threading.Lock()
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    @closed.setter
    def closed(self, closed: bool) -> None:
        self._closed = closed
        with self._lock:
            for live in self._of.values():
                live.closed = closed

    async def respond(self, request: HttpRequest) -> Response:
        """The route."""
        return await self.live(self._visitors.of(request)).respond(request)

    def live(self, who: Visitor) -> Live:
        """Of one visitor. The longest unasked for is forgotten; pages that are open keep theirs."""
        with self._lock:
            live = self._of.pop(who.name, None) or Live(self._studio, self._languages)
            self._of[who.name] = live
            live.closed = self._closed
            if len(self._of) > _MOST_PAGES:
                del self._of[next(iter(self._of))]
        return live
