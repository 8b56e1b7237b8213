"""Do the factors of a layer's change belong together, and is their product as large as the layer's weight?

Answered from shapes alone, before a weight is read. Needs no torch.
"""

from __future__ import annotations

from math import prod

from extensions.lora.header import FETCH_AGAIN
from lavie.errors import AdapterError

Size = tuple[int, ...]
_NO_ROOM = (0, 0)  # the size of factors that do not go together


def check_size(kind: str, shapes: dict[str, Size], weight: Size, where: str, base: str) -> int | None:
    """The rank of a change; None where both factors of a LoKr are whole, which knows no rank.

    Args:
        kind: `LoRA`, `LoHa` or `LoKr`. shapes: of the factors, by their roles.
        weight: the layer's. where, base: file and layer, and what the file was made for, for messages.

    Raises AdapterError for factors that are missing, do not fit each other, or do not fit the layer.
    """
    missing = _missing(kind, shapes)
    if missing:
        raise AdapterError(f"{where} lacks {missing}, it was cut short or saved in part: {FETCH_AGAIN}")
    if any(prod(shape) != 1 for role, shape in shapes.items() if role == "alpha"):
        raise AdapterError(f"{where} has an alpha of shape {list(shapes['alpha'])}, not one number: {FETCH_AGAIN}")
    rank, size = _SIZES[kind](shapes)
    if size == _NO_ROOM:
        told = ", ".join(f"{role} {list(shape)}" for role, shape in sorted(shapes.items()))
        raise AdapterError(f"{where} has factors that do not fit each other ({told[:200]}): {FETCH_AGAIN}")
    uneven = kind == "LoKr" and weight[1] % _kronecker_factor(shapes, 1)[1]
    if size != (weight[0], prod(weight[1:])) or uneven:
        raise AdapterError(
            f"{where} is changed by a matrix of {size[0]} × {size[1]}, the layer here has {weight[0]} × "
            f"{prod(weight[1:])}: the file was made for {base}, bring one made for this model"
        )
    return rank


def _missing(kind: str, shapes: dict[str, Size]) -> str | None:
    needed = {"LoRA": ("down", "up"), "LoHa": ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"), "LoKr": ()}[kind]
    if kind == "LoHa" and ("hada_t1" in shapes) != ("hada_t2" in shapes):
        needed = ("hada_t1", "hada_t2")
    if kind == "LoKr":
        needed = tuple(
            role for w in ("lokr_w1", "lokr_w2") if w not in shapes for role in (f"{w}_a", f"{w}_b")
        )  # each factor whole, or as a product
    return next((role for role in needed if role not in shapes), None)


def _low_rank(shapes: dict[str, Size]) -> tuple[int, Size]:
    down, up, mid = shapes["down"], shapes["up"], shapes.get("mid")
    rank = down[0]
    fits = len(down) >= 2 and len(up) >= 2 and prod(up[1:]) == rank
    if mid is not None:
        fits = fits and len(mid) == 4 and mid[:2] == (rank, rank) and prod(down[2:]) == 1
    return rank, (up[0], prod(down[1:]) * prod((mid or ())[2:])) if fits else _NO_ROOM


def _loha(shapes: dict[str, Size]) -> tuple[int, Size]:
    halves = {_hadamard_half(shapes, number) for number in (1, 2)}
    return shapes["hada_w1_b"][0], halves.pop() if len(halves) == 1 else _NO_ROOM


def _hadamard_half(shapes: dict[str, Size], number: int) -> Size:
    """The size of one of the two matrices whose entries are multiplied; with a core it is a Tucker product."""
    a, b, core = shapes[f"hada_w{number}_a"], shapes[f"hada_w{number}_b"], shapes.get(f"hada_t{number}")
    if len(a) != 2 or len(b) != 2:
        return _NO_ROOM
    if core is None:
        return (a[0], b[1]) if a[1] == b[0] else _NO_ROOM
    return (a[1], b[1] * prod(core[2:])) if len(core) == 4 and core[:2] == (a[0], b[0]) else _NO_ROOM


def _lokr(shapes: dict[str, Size]) -> tuple[int | None, Size]:
    first, second = (_kronecker_factor(shapes, number) for number in (1, 2))
    rank = next((shapes[role][0] for role in ("lokr_w2_b", "lokr_w1_b") if role in shapes), None)
    if _NO_ROOM in (first, second):
        return rank, _NO_ROOM
    return rank, (first[0] * second[0], first[1] * second[1])


def _kronecker_factor(shapes: dict[str, Size], number: int) -> Size:
    whole = shapes.get(f"lokr_w{number}")
    if whole is not None:
        return (whole[0], prod(whole[1:])) if len(whole) in (2, 4) else _NO_ROOM
    a, b = shapes[f"lokr_w{number}_a"], shapes[f"lokr_w{number}_b"]
    core = shapes.get("lokr_t2") if number == 2 else None
    if core is not None:
        fits = len(core) == 4 and len(a) == len(b) == 2 and core[:2] == (a[0], b[0])
        return (a[1], b[1] * prod(core[2:])) if fits else _NO_ROOM
    return (a[0], prod(b[1:])) if len(a) == 2 and len(b) >= 2 and a[1] == b[0] else _NO_ROOM


_SIZES = {"LoRA": _low_rank, "LoHa": _loha, "LoKr": _lokr}
