"""The one place that says what the page looks like: gradio's variables here, all else in `assets/studio.css`.

Fonts are those of the machine that shows the page: nothing is fetched from elsewhere.
"""

from __future__ import annotations

import typing
from pathlib import Path

from app.config import ROOT

if typing.TYPE_CHECKING:
    import gradio as gr

CSS = ROOT / "assets" / "studio.css"
SCRIPT, EARLY = ROOT / "assets" / "studio.js", ROOT / "assets" / "early.js"
_SANS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"]
_MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]


def theme() -> gr.themes.Base:
    """Paper and ink with one accent, quiet enough that the videos are what one sees."""
    import gradio as gr

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
    """What stands in the page's head: our script, inline, since nothing else of `assets` is served."""
    return _inline(SCRIPT)


def early() -> str:
    """What must stand before all scripts of the page, gradio's own too."""
    return _inline(EARLY)


def _inline(script: Path) -> str:
    return f"<script>{script.read_text(encoding='utf-8')}</script>"
