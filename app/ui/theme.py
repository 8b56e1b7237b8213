"""How the page looks: gradio's theme, and the style sheet and scripts in `assets`. Fonts are the viewer's own."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.config import ROOT

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
