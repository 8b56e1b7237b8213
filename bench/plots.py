"""Figures as pictures, drawn with Pillow: bars of per cents, and curves on a logarithmic axis. No library of plots is
needed for two kinds of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

INK, GRID, PAPER = (30, 30, 36), (222, 222, 228), (255, 255, 255)
SERIES = ((42, 98, 180), (212, 108, 40), (52, 148, 92), (168, 62, 120), (120, 104, 200), (120, 120, 60))
# In pixels: left of the bars, of 100 per cent, of a line of text, above a heading, around everything.
LABELS, BAR, ROW, GAP, MARGIN = 190, 520, 20, 14, 16
CURVE_SIZE = (900, 460)
NEW = 0.1  # least share of a new value in the heavy line over a noisy one


def bars(groups: dict[str, dict[str, float]], title: str) -> Image.Image:
    """Group → name → per cent, one bar each, the groups under headings."""
    height = ROW * (sum(len(values) for values in groups.values()) + 1) + (ROW + GAP) * len(groups)
    image = Image.new("RGB", (LABELS + BAR + 90, 2 * MARGIN + height), PAPER)
    draw, font, y = ImageDraw.Draw(image), ImageFont.load_default(13), MARGIN
    draw.text((MARGIN, y), title, INK, font)
    for number, (group, values) in enumerate(groups.items()):
        y += ROW + GAP
        draw.text((MARGIN, y), group, INK, font)
        for name, value in values.items():
            y += ROW
            draw.text((LABELS - 8, y), name, INK, font, anchor="ra")
            draw.rectangle((LABELS, y + 2, LABELS + BAR, y + ROW - 5), fill=GRID)
            draw.rectangle((LABELS, y + 2, LABELS + BAR * value / 100, y + ROW - 5), fill=SERIES[number % len(SERIES)])
            draw.text((LABELS + BAR + 8, y), f"{value:.0f} %", INK, font)
    return image


def curves(series: dict[str, Sequence[tuple[float, float]]], title: str) -> Image.Image:
    """Name → points (x, y > 0) in order of x, over a logarithmic axis: thin as they are, heavy smoothed."""
    width, height = CURVE_SIZE
    image = Image.new("RGB", CURVE_SIZE, PAPER)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    left, right, top, bottom = 70, width - 20, 50, height - 40
    points = [point for line in series.values() for point in line if point[1] > 0]
    draw.text((MARGIN, MARGIN), title, INK, font)
    if not points:
        return image
    furthest = max(x for x, _ in points) or 1
    low, high = (f(math.log10(y) for _, y in points) for f in (min, max))
    high = max(high, low + 0.1)

    def place(x: float, y: float) -> tuple[float, float]:
        return left + (right - left) * x / furthest, bottom - (bottom - top) * (math.log10(y) - low) / (high - low)

    for step in range(6):
        value = 10 ** (low + (high - low) * step / 5)
        y = place(0, value)[1]
        draw.line((left, y, right, y), GRID)
        draw.text((left - 6, y), f"{value:.3g}", INK, font, anchor="rm")
        draw.text((left + (right - left) * step / 5, bottom + 8), f"{furthest * step / 5:.0f}", INK, font, anchor="ma")
    for number, (name, line) in enumerate(series.items()):
        colour = SERIES[number % len(SERIES)]
        line = [(x, y) for x, y in line if y > 0]
        draw.line([place(*point) for point in line], tuple((c + 2 * 255) // 3 for c in colour))
        draw.line([place(*point) for point in smoothed(line)], colour, 2)
        draw.text((right - 8, top + 18 * number), name, colour, font, anchor="ra")
    return image


def smoothed(line: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """An exponential mean of the values, which begins at the first; a short line is smoothed less."""
    found, mean, new = [], None, max(NEW, min(1, 4 / max(len(line), 1)))
    for x, y in line:
        mean = y if mean is None else mean + new * (y - mean)
        found.append((x, mean))
    return found
