"""The loss of a training as a small drawing: an SVG that is written here, from numbers alone."""

from __future__ import annotations

import html
import typing
from collections.abc import Sequence

from app.ui.i18n import Words

if typing.TYPE_CHECKING:
    from app.storage.training_folder import Loss

_WIDTH, _HEIGHT, _LEFT, _BELOW, _ABOVE = 640, 190, 64, 26, 14  # of the drawing, and what stands around the curve
_MOST = 400  # points of a line: a browser draws no more anyway
_SMOOTH = 0.6  # how much of the line so far is kept at each point


def loss_plot(curve: Sequence[Loss], steps: int, say: Words) -> str:
    """Each mean as a dot's line, and a smooth line through them; nothing where there are fewer than two.

    steps: of the whole training, so that the line grows to the right.
    """
    if len(curve) < 2:
        return ""
    points = curve[:: max(1, -(-len(curve) // _MOST))]
    values = [point.loss for point in points]
    low, high = min(values), max(values)
    room = (high - low) or abs(high) or 1.0
    last = max(steps, points[-1].step)

    def place(step: int, value: float) -> str:
        x = _LEFT + (_WIDTH - _LEFT) * step / last
        y = _ABOVE + (_HEIGHT - _ABOVE - _BELOW) * (1 - (value - low) / room)
        return f"{x:.1f},{y:.1f}"

    raw = " ".join(place(point.step, point.loss) for point in points)
    smooth = " ".join(place(point.step, value) for point, value in zip(points, _smoothed(values), strict=True))
    words = say("train_loss_said", first=f"{values[0]:.4g}", last=f"{values[-1]:.4g}", step=points[-1].step)
    return (
        f'<figure class="lv-plot"><figcaption>{html.escape(words)}</figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(words)}">{_frame(low, high, last)}'
        f'<polyline class="lv-raw" points="{raw}"/><polyline class="lv-smooth" points="{smooth}"/></svg></figure>'
    )


def _frame(low: float, high: float, last: int) -> str:
    """Two lines across with what they mean, and the steps below."""
    bottom = _HEIGHT - _BELOW
    lines = "".join(f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{y}" y2="{y}"/>' for y in (_ABOVE, bottom))
    texts = [(_LEFT - 6, _ABOVE + 4, "end", f"{high:.3g}"), (_LEFT - 6, bottom, "end", f"{low:.3g}")]
    texts += [(_LEFT, _HEIGHT - 6, "start", "0"), (_WIDTH, _HEIGHT - 6, "end", str(last))]
    said = "".join(f'<text x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>' for x, y, anchor, text in texts)
    return f'<g aria-hidden="true">{lines}{said}</g>'


def _smoothed(values: Sequence[float]) -> list[float]:
    found = [values[0]]
    for value in values[1:]:
        found.append(_SMOOTH * found[-1] + (1 - _SMOOTH) * value)
    return found
