"""What is measured on one frame, on two and on three in a row: plain numbers, in grey levels of 0 … 255."""

from __future__ import annotations

import numpy as np

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601
BLOCK, REACH = 16, 6  # pixels of a block, and how far it is looked for
MATCHED_AT = 512  # pixels of the longer side: larger pictures are shrunk for block matching


def luma(frame: np.ndarray) -> np.ndarray:
    """uint8 H W 3 → float32 H W in 0 … 255."""
    return frame.astype(np.float32) @ LUMA


def look(frame: np.ndarray, grey: np.ndarray) -> dict[str, float]:
    """How a frame uint8 H W 3 with luma `grey` looks: mean, RMS contrast, saturation (RMS distance from grey), and
    sharpness (mean absolute Laplacian)."""
    middle = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * middle
    return {
        "luma": float(grey.mean()),
        "contrast": float(grey.std()),
        "saturation": float(np.sqrt(np.square(frame - grey[..., None]).mean())),
        "sharpness": float(np.abs(laplacian).mean()) if middle.size else 0.0,
    }


def colour(frame: np.ndarray) -> np.ndarray:
    """Mean and standard deviation of red, green and blue: six numbers."""
    pixels = frame.reshape(-1, 3).astype(np.float32)
    return np.concatenate([pixels.mean(0), pixels.std(0)])


def matched_difference(before: np.ndarray, after: np.ndarray) -> float:
    """What is left of the difference of two lumas H W once each block was looked for where it came from.

    Mean over blocks of the smallest mean absolute difference within `REACH` pixels: motion is forgiven, a redrawn or
    missing detail is not.
    """
    before, after = _shrunk(before), _shrunk(after)
    block = min(BLOCK, *after.shape)
    height, width = (size // block * block for size in after.shape)
    after = after[:height, :width]
    padded = np.pad(before, REACH, mode="edge")
    best = None
    for down in range(2 * REACH + 1):
        for across in range(2 * REACH + 1):
            difference = np.abs(after - padded[down : down + height, across : across + width])
            means = difference.reshape(height // block, block, width // block, block).mean((1, 3))
            best = means if best is None else np.minimum(best, means)
    return float(best.mean())


def _shrunk(grey: np.ndarray) -> np.ndarray:
    """Averaged down by a whole factor until block matching takes no longer than a step of the network."""
    factor = -(-max(grey.shape) // MATCHED_AT)
    if factor == 1:
        return grey
    height, width = (size // factor * factor for size in grey.shape)
    return grey[:height, :width].reshape(height // factor, factor, width // factor, factor).mean((1, 3))
