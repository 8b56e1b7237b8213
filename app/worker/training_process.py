"""A process that trains one adapter for the studio, and ends with it: an end of memory or a crash stays in here.

    python -m app.worker.training_process

The first line of stdin says what to do, as JSON (`values_of`); any later line is the wish that it ends behind its step,
with a checkpoint, and so is SIGTERM. When stdin closes, who started it is gone: it ends at once. On stdout it tells
what happens, a JSON object a line with `event`: `notice` (text), `step` (step, steps), `loss` (step, steps, loss,
eta_seconds, seconds_a_step), `samples` and `kept` (step), `error` (text), `done`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
import traceback
import typing
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

if typing.TYPE_CHECKING:
    from extensions.lora.training.settings import Settings

STOPPED, GONE = 3, 4  # how it ends before its first step where it is asked to, and where nobody is left to tell
LESS_MEMORY = "begin it anew with gradient checkpointing or a smaller rank, or close other programs and try it again"
_LOCK = "training.lock"
_LOCK_SECONDS = 60  # for one that was told to end to be gone
_TELL_SECONDS = 0.1  # between two steps that are told
_NICE = 5

Tell = Callable[..., None]


def values_of(settings: Settings, threads: int) -> str:
    """What the process is told to do: one line."""
    values = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(settings).items()}
    values["images"] = [str(path) for path in settings.images]
    return json.dumps({"threads": threads, "settings": values})


def main() -> int:
    """Train; the exit code."""
    tell = _teller()
    asked = json.loads(sys.stdin.readline())
    stop = _Stop(tell)
    threading.Thread(target=stop.listen, name="who started it", daemon=True).start()
    with contextlib.suppress(ValueError, OSError):
        signal.signal(signal.SIGTERM, lambda *_: stop.ask())
    with contextlib.suppress(AttributeError, OSError):  # Windows has no such thing
        os.nice(_NICE)
    settings = _settings(asked["settings"])
    try:
        _train(settings, asked["threads"], tell, stop)
    except Exception as error:
        tell("error", text=_without_folders(_words(error), settings))
        return 1
    return 0


class _Stop:
    """Whether it is to end. Asked for before the first step there is nothing to wait for."""

    def __init__(self, tell: Tell):
        self._tell, self._asked, self._begun, self._told = tell, threading.Event(), False, 0.0

    def ask(self) -> None:
        self._asked.set()
        if not self._begun:
            os._exit(STOPPED)  # what is encoded by now is whole on the disk

    def listen(self) -> None:
        for _ in sys.stdin:
            self.ask()
        os._exit(GONE)

    def behind(self, done: int, steps: int) -> bool:
        """Tell of a step; whether it was the last for now."""
        self._begun = True
        if done == steps or time.monotonic() - self._told >= _TELL_SECONDS:
            self._told = time.monotonic()
            self._tell("step", step=done, steps=steps)
        return self._asked.is_set()


def _teller() -> Tell:
    """Take stdout for ourselves: what libraries print there goes where their errors go."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lock = threading.Lock()

    def tell(event: str, **values: typing.Any) -> None:
        with lock, contextlib.suppress(BrokenPipeError):
            print(json.dumps({"event": event, **values}), file=out, flush=True)

    return tell


def _settings(values: dict[str, typing.Any]) -> Settings:
    from extensions.lora.training.settings import Settings
    from lavie.training.loop import CHECKPOINT

    paths = {name: Path(values[name]) for name in ("model", "output", "work")}
    lists = {"images": tuple(map(Path, values["images"])), "prompts": tuple(values["prompts"])}
    return Settings(**{**values, **paths, **lists, "resume": (paths["work"] / CHECKPOINT).exists()})


def _train(settings: Settings, threads: int, tell: Tell, stop: _Stop) -> None:
    import torch
    from filelock import FileLock, Timeout

    from app.media import UPLOAD_LIMITS, frames_of
    from extensions.lora.training.session import LoraSession
    from lavie.errors import TrainingError

    torch.set_num_threads(threads)
    try:
        with FileLock(settings.work / _LOCK, timeout=_LOCK_SECONDS):
            session = LoraSession(settings, lambda path: frames_of(path, UPLOAD_LIMITS), stop.behind)
            for event in session.run():
                _pass_on(event, settings, tell)
    except Timeout:
        raise TrainingError("another process trains in this folder: wait for it to end and try again") from None
    if settings.output.is_file():
        tell("done")


def _pass_on(event: typing.Any, settings: Settings, tell: Tell) -> None:
    from app.storage.training_folder import write_samples
    from extensions.lora.training.session import Kept
    from lavie.events import Notice
    from lavie.training.loop import Progress
    from lavie.training.tuning.session import Samples

    match event:
        case Kept():
            tell("kept", step=event.step)
        case Notice():
            tell("notice", text=_without_folders(event.message, settings))
        case Progress():
            said = {"step": event.step, "steps": event.steps, "loss": event.loss}
            tell("loss", **said, eta_seconds=event.eta_seconds, seconds_a_step=event.seconds_a_step)
        case Samples():
            write_samples(event, settings.work / "samples")
            tell("samples", step=event.step)


def _without_folders(text: str, settings: Settings) -> str:
    """Files by their names alone: where the studio keeps them is no concern of who reads this."""
    for folder in (*settings.images, settings.work):
        text = text.replace(f"{folder}{os.sep}", "")
    return text


def _words(error: Exception) -> str:
    """One line for a person; where it is none of ours, the rest goes to stderr."""
    from lavie.errors import LavieError

    if isinstance(error, LavieError):
        return " ".join(str(error).split())
    traceback.print_exc()
    torch = sys.modules.get("torch")
    out_of_memory = (MemoryError, *((torch.cuda.OutOfMemoryError,) if torch else ()))
    if isinstance(error, out_of_memory) or "can't allocate memory" in str(error):
        return f"the memory did not suffice: {LESS_MEMORY}"
    return f"something went wrong inside ({type(error).__name__}: {' '.join(str(error).split())[:300]})"


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # nothing is left to be done, and no library's thread may hold it up
