"""Follows one prompt from the command to the gallery and prints the functions on its way.

    python tools/trace_prompt.py [--json]

Runs a real `render` with Nano on a temporary data folder, once with the base stage alone and once with
`--interpolate --upscale`. At each landmark it reads the call stack; the functions of this repository that stand on one
of these stacks are the hops of the prompt.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from app.cli.main import main  # noqa: E402

PROMPT = "a red star spinning on a navy background"
PACKAGES = tuple(str(ROOT / package) + "/" for package in ("app", "lavie", "extensions"))
# What happens to the prompt → the function that does it, as `file:name`.
LANDMARKS = {
    "queued": "app/queue/queue.py:add",
    "taken": "app/queue/worker_side.py:take",
    "recipe stored": "app/queue/worker_side.py:store_recipe",
    "prompt encoded": "lavie/text.py:encode",
    "denoised": "lavie/sampling.py:denoise",
    "decoded": "lavie/vae.py:decode",
    "encoded": "app/media/encode.py:encode_h264",
    "clip row": "app/gallery/gallery.py:insert",
    "job done": "app/queue/worker_side.py:finish",
    "told": "app/cli/render.py:print_clip",
}


@dataclass
class Trace:
    """The functions seen at the landmarks, in the order in which they were first seen."""

    stages: tuple[str, ...]
    functions: dict[CodeType, str] = field(default_factory=dict)
    reached: set[str] = field(default_factory=set)

    def add(self, landmark: str, frame: FrameType | None) -> None:
        """Adds the functions on the stack of `frame`, the outermost first."""
        self.reached.add(landmark)
        stack = []
        while frame is not None:
            stack.append(frame.f_code)
            frame = frame.f_back
        for code in reversed(stack):
            if code.co_filename.startswith(PACKAGES) and not code.co_name.startswith("<"):
                self.functions.setdefault(code, landmark)

    @property
    def files(self) -> list[str]:
        return sorted({code.co_filename for code in self.functions})

    @property
    def lines(self) -> int:
        return sum(count_lines(code) for code in self.functions)


def count_lines(code: CodeType) -> int:
    """The lines of a function, from its first (decorators included) to its last."""
    last = max((line for _, _, line in code.co_lines() if line is not None), default=code.co_firstlineno)
    nested = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return max([last, *(inner.co_firstlineno + count_lines(inner) - 1 for inner in nested)]) - code.co_firstlineno + 1


def trace_render(*stages: str) -> Trace:
    """Renders the prompt in this process and returns what was on the stacks at the landmarks.

    Raises RuntimeError if the command fails or a landmark is not reached.
    """
    trace = Trace(stages)
    wanted = {(str(ROOT / place.split(":")[0]), place.split(":")[1]): name for name, place in LANDMARKS.items()}

    def watch(frame: FrameType, _event: str, _argument: object) -> None:
        if name := wanted.get((frame.f_code.co_filename, frame.f_code.co_name)):
            trace.add(name, frame)

    with tempfile.TemporaryDirectory() as data:
        command = ["app.py", "render", PROMPT, "--seed", "7", "--steps", "2", "--data", data, *stages]
        before, sys.argv = sys.argv, command
        threading.settrace(watch)  # called at each call of a Python function
        sys.settrace(watch)
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as errors:
                main()
        except SystemExit as end:
            if end.code:
                raise RuntimeError(f"render ended with {end.code}: {errors.getvalue().strip()[-200:]}") from None
        finally:
            sys.settrace(None)
            threading.settrace(None)
            sys.argv = before
    missed = sorted(LANDMARKS.keys() - trace.reached)
    if missed:
        raise RuntimeError(f"landmarks not reached: {', '.join(missed)}: correct LANDMARKS in {Path(__file__).name}")
    return trace


def print_trace(trace: Trace) -> None:
    print(f"render {' '.join(trace.stages)}".strip())
    for code, landmark in trace.functions.items():
        where = f"{Path(code.co_filename).relative_to(ROOT)}:{code.co_firstlineno}"
        print(f"  {landmark:15} {where:45} {code.co_name} ({count_lines(code)})")
    print(f"  {len(trace.functions)} hops, {len(trace.files)} files, {trace.lines} lines\n")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")
    return parser.parse_args()


if __name__ == "__main__":
    options = parse_arguments()
    traces = {"base": trace_render(), "cascade": trace_render("--interpolate", "--upscale")}
    if options.json:
        figures = {
            name: {"hops": len(t.functions), "files": len(t.files), "lines": t.lines} for name, t in traces.items()
        }
        print(json.dumps(figures))
    else:
        for trace in traces.values():
            print_trace(trace)
