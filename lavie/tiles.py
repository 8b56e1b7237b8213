"""Computes a picture in overlapping pieces and blends them, in the memory of the largest piece.

A network gives slightly different results for pieces than for the whole picture. A single piece is the whole picture.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Callable

if typing.TYPE_CHECKING:
    from torch import Tensor

OVERLAP = 8  # pieces overlap by an eighth of their length
TRIM = 4  # one piece alone counts in a quarter of the overlap at each of its ends

Span = tuple[int, int]  # where a piece begins and ends


def spans(length: int, tile: int, multiple: int = 1) -> list[Span]:
    """Pieces of equal size, at most `tile` (rounded up to `multiple`), that cover 0 … length with an overlap.

    Starts and sizes are multiples of `multiple` where the length is one, so that all pieces fit a network's grid.
    """
    tile = _up(tile, multiple)
    if length <= tile:
        return [(0, length)]
    overlap = min(_up(max(tile // OVERLAP, 2 * multiple), multiple), tile // 2)
    count = math.ceil((length - overlap) / (tile - overlap))
    size = min(_up(math.ceil((length + (count - 1) * overlap) / count), multiple), tile)
    steps = (index * (length - size) / (count - 1) for index in range(count))
    starts = [math.floor(step / multiple) * multiple for step in steps]
    return [(start, start + size) for start in (*starts[:-1], length - size)]


def largest(length: int, tile: int, multiple: int = 1) -> int:
    return max(end - start for start, end in spans(length, tile, multiple))


def in_pieces(
    size: tuple[int, int], tile: int, compute: Callable[[slice, slice], Tensor], multiple: int = 1, scale: int = 1
) -> Tensor:
    """Compute a picture piece by piece.

    Args:
        size: height and width of the input. tile, multiple: in its pixels, see `spans`.
        compute: rows and columns of the input → their result, … h·scale w·scale.

    Returns:
        … height·scale width·scale; in float32 where there is more than one piece.
    """
    down, across = (spans(length, tile, multiple) for length in size)
    if len(down) == len(across) == 1:
        return compute(slice(None), slice(None))
    whole = weights = None
    for row, rows in enumerate(down):
        for column, columns in enumerate(across):
            piece = compute(slice(*rows), slice(*columns)).float()
            if whole is None or weights is None:
                whole = piece.new_zeros(*piece.shape[:-2], size[0] * scale, size[1] * scale)
                weights = piece.new_zeros(whole.shape[-2:])
            weight = _fade(down, row, scale, piece)[:, None] * _fade(across, column, scale, piece)
            place = (..., slice(rows[0] * scale, rows[1] * scale), slice(columns[0] * scale, columns[1] * scale))
            whole[place] += piece * weight
            weights[place] += weight
    assert whole is not None and weights is not None
    return whole.div_(weights)


def _fade(pieces: list[Span], number: int, scale: int, like: Tensor) -> Tensor:
    """The weight of a piece along one side: it rises over the overlap before it and falls over the one behind it."""
    begin, end = pieces[number]
    weight = like.new_ones((end - begin) * scale)
    if number > 0:
        shared = (pieces[number - 1][1] - begin) * scale
        weight[:shared] *= _ramp(shared, like)
    if number + 1 < len(pieces):
        shared = (end - pieces[number + 1][0]) * scale
        weight[len(weight) - shared :] *= _ramp(shared, like).flip(0)
    return weight


def _ramp(length: int, like: Tensor) -> Tensor:
    """0 … 1 over an overlap. Results beside a cut, where a network lacks context, get the weight 0."""
    trim = length // TRIM
    return (like.new_tensor(range(1 - trim, length + 1 - trim)) / (length - 2 * trim + 1)).clamp(0, 1)


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
