"""A picture in overlapping pieces, blended where they meet: memory is that of the largest piece.

A network that looks at a whole picture at once makes something slightly different of its pieces. Where one piece covers
all, nothing is cut and nothing differs. Knows spans and tensors, no network.
"""

from __future__ import annotations

import math
import typing
from collections.abc import Callable

if typing.TYPE_CHECKING:
    from torch import Tensor

OVERLAP = 8  # a piece shares an eighth of its length with the next
TRIM = 4  # a quarter of the overlap, at each of its ends, belongs to one piece alone

Span = tuple[int, int]  # where a piece begins and ends


def spans(length: int, tile: int, multiple: int = 1) -> list[Span]:
    """Pieces of equal size, at most `tile` (rounded up to `multiple`), that cover 0 … length with an overlap.

    Begin and size are multiples of `multiple` as far as the length is one, so that all see a network's grid alike.
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
    """The size of the largest piece."""
    return max(end - start for start, end in spans(length, tile, multiple))


def in_pieces(
    size: tuple[int, int],
    tile: int,
    compute: Callable[[slice, slice], Tensor],
    multiple: int = 1,
    scale: int = 1,
) -> Tensor:
    """Compute a picture piece by piece.

    Args:
        size: height and width of what is read. tile, multiple: of it, see `spans`.
        compute: rows and columns to read → what they give, … h·scale w·scale.

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
            if whole is None:
                whole = piece.new_zeros(*piece.shape[:-2], size[0] * scale, size[1] * scale)
                weights = piece.new_zeros(whole.shape[-2:])
            weight = _fade(down, row, scale, piece)[:, None] * _fade(across, column, scale, piece)
            place = (..., slice(rows[0] * scale, rows[1] * scale), slice(columns[0] * scale, columns[1] * scale))
            whole[place] += piece * weight
            weights[place] += weight
    return whole.div_(weights)


def _fade(pieces: list[Span], number: int, scale: int, like: Tensor) -> Tensor:
    """The weight of a piece along one side: rising where it overlaps the one before, falling where the next begins."""
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
    """0 … 1 over an overlap. At both its ends only the piece counts whose cut edge is further away: what is made beside
    a cut, where a network sees nothing, is dropped."""
    trim = length // TRIM
    return (like.new_tensor(range(1 - trim, length + 1 - trim)) / (length - 2 * trim + 1)).clamp(0, 1)


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
