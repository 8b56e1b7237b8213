"""The process that trains one adapter for the studio, so that running out of memory or a crash stays in it.

    python -m app.worker.training_process

The first line of stdin holds the settings as JSON (`values_of`). Any later line, or SIGTERM, asks it to stop after its
step, with a checkpoint. It ends at once when stdin closes: its parent is gone. It writes events to stdout, a JSON
object a line with `event`: `notice` (text), `step` (step, steps), `loss` (step, steps, loss, eta_seconds,
seconds_a_step), `samples` and `kept` (step), `error` (text), `done`.
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

STOPPED, GONE = 3, 4  # exit codes: asked to stop before the first step; the parent is gone
LESS_MEMORY = "begin it anew with gradient checkpointing or a smaller rank, or close other programs and try it again"
_LOCK = "training.lock"
_LOCK_SECONDS = 60  # for a former process to end
_STEP_SECONDS = 0.1  # between two `step` events
_NICE = 5

Send = Callable[..., None]


def values_of(settings: Settings, threads: int) -> str:
    """The settings for the process, as one line."""
    values = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(settings).items()}
    values["images"] = [str(path) for path in settings.images]
    return json.dumps({"threads": threads, "settings": values})


def main() -> int:
    """Train; the exit code."""
    send = _open_output()
    orders = json.loads(sys.stdin.readline())
    stop = _Stop(send)
    threading.Thread(target=stop.listen, name="parent", daemon=True).start()
    with contextlib.suppress(ValueError, OSError):
        signal.signal(signal.SIGTERM, lambda *_: stop.ask())
    with contextlib.suppress(AttributeError, OSError):  # not on Windows
        os.nice(_NICE)
    settings = _settings(orders["settings"])
    try:
        _train(settings, orders["threads"], send, stop)
    except Exception as error:
        send("error", text=_without_folders(_describe(error), settings))
        return 1
    return 0


class _Stop:
    """Whether the training is to stop. Before the first step the process ends at once."""

    def __init__(self, send: Send):
        self._send, self._asked, self._begun, self._sent = send, threading.Event(), False, 0.0

    def ask(self) -> None:
        self._asked.set()
        if not self._begun:
            os._exit(STOPPED)  # encoded media are whole on the disk

    def listen(self) -> None:
        for _ in sys.stdin:
            self.ask()
        os._exit(GONE)

    def after_step(self, done: int, steps: int) -> bool:
        """Report a step; whether to stop after it."""
        self._begun = True
        if done == steps or time.monotonic() - self._sent >= _STEP_SECONDS:
            self._sent = time.monotonic()
            self._send("step", step=done, steps=steps)
        return self._asked.is_set()


def _open_output() -> Send:
    """Reserve stdout for events; what libraries print there goes to stderr."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lock = threading.Lock()

    def send(event: str, **values: typing.Any) -> None:
        with lock, contextlib.suppress(BrokenPipeError):
            print(json.dumps({"event": event, **values}), file=out, flush=True)

    return send


def _settings(values: dict[str, typing.Any]) -> Settings:
    from extensions.lora.training.settings import Settings
    from lavie.training.loop import CHECKPOINT

    paths = {name: Path(values[name]) for name in ("model", "output", "work")}
    lists = {"images": tuple(map(Path, values["images"])), "prompts": tuple(values["prompts"])}
    return Settings(**{**values, **paths, **lists, "resume": (paths["work"] / CHECKPOINT).exists()})


def _train(settings: Settings, threads: int, send: Send, stop: _Stop) -> None:
    import torch
    from filelock import FileLock, Timeout

    from app.media import UPLOAD_LIMITS, frames_of
    from extensions.lora.training.session import LoraSession
    from lavie.errors import TrainingError

    torch.set_num_threads(threads)
    try:
        with FileLock(settings.work / _LOCK, timeout=_LOCK_SECONDS):
            session = LoraSession(settings, lambda path: frames_of(path, UPLOAD_LIMITS), stop.after_step)
            for event in session.run():
                _send_event(event, settings, send)
    except Timeout:
        raise TrainingError("another process trains in this folder: wait for it to end and try again") from None
    if settings.output.is_file():
        send("done")


def _send_event(event: typing.Any, settings: Settings, send: Send) -> None:
    from app.storage.training_folder import write_samples
    from extensions.lora.training.session import Kept
    from lavie.events import Notice
    from lavie.training.loop import Progress
    from lavie.training.tuning.session import Samples

    match event:
        case Kept():
            send("kept", step=event.step)
        case Notice():
            send("notice", text=_without_folders(event.message, settings))
        case Progress():
            said = {"step": event.step, "steps": event.steps, "loss": event.loss}
            send("loss", **said, eta_seconds=event.eta_seconds, seconds_a_step=event.seconds_a_step)
        case Samples():
            write_samples(event, settings.work / "samples")
            send("samples", step=event.step)


def _without_folders(text: str, settings: Settings) -> str:
    """The text with file names instead of paths: readers need not know the folders of the studio."""
    for folder in (*settings.images, settings.work):
        text = text.replace(f"{folder}{os.sep}", "")
    return text


def _describe(error: Exception) -> str:
    """One line for a person; the trace of an unexpected error goes to stderr."""
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
    os._exit(code)  # at once: threads of libraries may not delay the end
