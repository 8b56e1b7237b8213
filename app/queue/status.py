"""How a job stands at a moment, as a value: for pages, commands and scripts that follow it."""

from __future__ import annotations

import typing
from dataclasses import dataclass

from app.clip import Clip
from app.queue.job import RUNNING, JobRow
from app.recipes.comparison import Comparison

if typing.TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class JobStatus:
    """A job as it stands now.

    row: what the database says of it. preview: uint8 F h w 3 at the size of the latents, while it runs in this process.
    clip: what it made, when it is done. proof: what came out of making a clip again.
    """

    row: JobRow
    preview: np.ndarray | None = None
    clip: Clip | None = None
    proof: Comparison | None = None

    @property
    def state(self) -> str:
        return self.row.state

    @property
    def open(self) -> bool:
        """Whether something is still going to happen."""
        return self.row.open

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop and is finishing its step."""
        return self.state == RUNNING and self.row.asked is not None
