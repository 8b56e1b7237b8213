"""How many threads a training computes with: said once, for all commands that train."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Annotated

import typer

Threads = Annotated[int, typer.Option(min=1, help="Threads to compute with on a CPU: one, if anything else runs.")]


@contextlib.contextmanager
def threads_for(count: int) -> Iterator[None]:
    """Compute with so many; whoever called from Python has as many as before afterwards, and so the same bits."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
