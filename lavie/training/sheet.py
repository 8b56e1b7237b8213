"""Many clips in one picture that a person can look at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

ROWS, COLUMNS = 12, 8


def contact_sheet(clips: Sequence[np.ndarray]) -> Image.Image:
    """One clip (uint8 F H W 3, all of one size) a row, a few of its frames from left to right."""
    rows = []
    for clip in clips[:ROWS]:
        chosen = np.linspace(0, len(clip) - 1, COLUMNS).round().astype(int)
        rows.append(np.concatenate(list(clip[chosen]), axis=1))
    return Image.fromarray(np.concatenate(rows))
