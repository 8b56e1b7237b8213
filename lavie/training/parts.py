"""The connected parts of a mask, and the one or two of them that are followed over time."""

from __future__ import annotations

import numpy as np

SMALLEST = 20  # pixels of a connected part, at 64 rows; anything less is noise


def _parts(mask: np.ndarray) -> np.ndarray:
    """The connected parts of each frame of a mask F H W, numbered throughout (0: none), as F H W."""
    first = mask & ~np.pad(mask[:, :, :-1], ((0, 0), (0, 0), (1, 0)))
    runs = first.cumsum().reshape(mask.shape) * mask
    one, two = (side[mask[:, 1:] & mask[:, :-1]] for side in (runs[:, 1:], runs[:, :-1]))  # runs that touch
    number = np.arange(runs.max() + 1)
    while (number[one] != number[two]).any():
        lower = np.minimum(number[one], number[two])
        np.minimum.at(number, number[one], lower)
        np.minimum.at(number, number[two], lower)
        number = number[number]
    return number[runs]


def followed(mask: np.ndarray) -> list[np.ndarray]:
    """The masks F H W of a colour's one or two subjects: the largest part of each frame or, where two are there most of
    the time, the two largest, each by its way (neither while they touch or one is gone)."""
    labels = _parts(mask)
    sizes = np.bincount(labels.ravel())
    y, x = (np.bincount(labels.ravel(), (labels > 0).ravel() * place.ravel()) for place in np.indices(mask.shape)[1:])
    places = np.stack([x, y], axis=1) / np.maximum(sizes, 1)[:, None]
    numbers = [np.unique(frame[frame > 0]) for frame in labels]
    found = [sorted(n[sizes[n] >= SMALLEST].tolist(), key=lambda i: -sizes[i])[:2] for n in numbers]
    if sum(len(f) == 2 for f in found) < max(1, 0.5 * sum(map(bool, found))):
        return [labels == np.array([f[0] if f else -1 for f in found])[:, None, None]]
    chosen, last = np.full((len(found), 2), -1), next(f for f in found if len(f) == 2)
    for moment, pair in enumerate(found):
        if len(pair) == 2:
            last = min(pair, pair[::-1], key=lambda p: np.linalg.norm(places[p] - places[last]))
            chosen[moment] = last
    return [labels == column[:, None, None] for column in chosen.T]
