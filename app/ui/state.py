"""One open page of a tab whose answers may come while others are under way."""

from __future__ import annotations

import threading
import typing
from collections.abc import Callable

View = typing.TypeVar("View")


class PageSession(typing.Generic[View]):
    """What one open page looks at, and `turn` for what changes it. answers: how many were given.

    It is not passed on and given back: an answer that takes long would otherwise put an older view in place of what a
    later one has left.
    """

    def __init__(self, new: Callable[[], View]):
        """new: the view of a page that was just opened."""
        self.view, self.turn, self.answers, self._new = new(), threading.Lock(), 0, new

    def __deepcopy__(self, known: dict) -> PageSession[View]:
        """Each page gets a seat of its own (`gradio.State`)."""
        return PageSession(self._new)
