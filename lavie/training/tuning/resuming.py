"""A work folder that holds a run already: whether to go on from it, and what is different this time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from lavie.errors import TrainingError
from lavie.events import Notice
from lavie.training.loop import CHECKPOINT


def check_work(work: Path, resume: bool) -> None:
    """Raises TrainingError for the checkpoint of a run that nobody asked to go on with."""
    if (work / CHECKPOINT).exists() and not resume:
        raise TrainingError(f"{work} holds the checkpoint of a run: give --resume to go on from it, or another --work")


def begin_work(work: Path, resume: bool, decides: dict) -> Iterator[Notice]:
    """Keep what decides the bits of a run beside its checkpoint, and tell what a resumed run does differently.

    decides: name → plain value.
    """
    file, resumed = work / "run.json", (work / CHECKPOINT).exists()
    if resume:
        yield Notice("goes on from its last checkpoint" if resumed else "no checkpoint yet: begins at step 0")
    before = json.loads(file.read_text(encoding="utf-8")) if resumed and file.exists() else decides
    changed = [f"{name} was {before.get(name)}, is {now}" for name, now in decides.items() if before.get(name) != now]
    if changed:
        yield Notice(f"not the run that it was: {'; '.join(changed)}")
    file.write_text(json.dumps(decides, indent=1) + "\n", encoding="utf-8")
