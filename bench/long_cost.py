"""What a long video costs as it grows: the command `render`, in a process of its own for each length.

    python -m bench.long_cost --model FOLDER [--segments 4 100] [--steps 4] [--stages base|all]

So everything that the studio does is in it: parts kept on disk, frames measured and written one by one. Prints a JSON
array. A small process, for `bench.long` to start: what starts `render` must itself have little memory
(`bench.render.run`), and `bench.long` has networks in its own.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from app.queue.estimates import Timings
from app.storage.database import Database
from bench.render import PROMPT, ROOT, run

STAGES = {"base": (), "all": ("--interpolate", "--upscale")}  # what may be asked for → options of `render`
BASE = "base"


def measure(model: str, segments: int, steps: int, stages: str) -> dict:
    """What a video of so many segments needs.

    Raises SystemExit where the command fails. Seconds are those of the wall clock; `segment_seconds` are those of each
    segment of the base stage, in their order, and `writing` is what comes behind all stages: decoding, measuring and
    coding.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = ("--segments", str(segments), "--steps", str(steps), *STAGES[stages])
        found = run(model, PROMPT, folder, *options)
        clip = found["clip"]
        with contextlib.closing(Database(Path(folder))) as database:
            times = Timings(database).of_job(clip["id"])
    return {
        "segments": segments,
        "frames": clip["frames"],
        "video_seconds": round(clip["frames"] / clip["fps"], 3),
        "peak_memory_mib": found["peak_memory_mib"],
        "wall_seconds": found["wall_seconds"],
        "seconds": round(clip["seconds"], 3),
        "stages": clip["stages"],
        "writing": round(clip["seconds"] - sum(clip["stages"].values()), 3),
        "segment_seconds": [round(seconds, 3) for stage, seconds in times if stage == BASE],
    }


def measured_apart(model: str, lengths: list[int], steps: int, stages: str) -> list[dict]:
    """The same for several lengths, each started by a small process. Raises SystemExit where that fails."""
    command = [sys.executable, "-m", "bench.long_cost", "--model", str(Path(model).resolve())]
    command += ["--segments", *map(str, lengths), "--steps", str(steps), "--stages", stages]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"the cost of {lengths} segments was not measured: see above, or leave it out by --no-memory")
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of a bundle")
    parser.add_argument("--segments", type=int, nargs="+", default=[4, 100], metavar="N", help="lengths of videos")
    parser.add_argument("--steps", type=int, default=4, help="denoising steps of each stage")
    parser.add_argument("--stages", choices=STAGES, default=BASE)
    asked = parser.parse_args()
    print(json.dumps([measure(asked.model, count, asked.steps, asked.stages) for count in asked.segments]))


if __name__ == "__main__":
    main()
