"""The commands that make clips: `render`, `finish` and others. Each puts a job into the data folder's queue and sees it
through: in a running studio, or in this process where there is none.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import typing
from pathlib import Path
from typing import Annotated

import typer

from app.cli.adapters import LoraOption, worn
from app.cli.exit_codes import exit_codes
from app.cli.options import (
    DataOption,
    DeviceOption,
    GuidanceOption,
    Interpolate,
    JsonOption,
    ModelOption,
    OutputOption,
    SamplerOption,
    StepsOption,
    Upscale,
    request_option,
    with_options,
)
from app.cli.segment_options import (
    ScriptOption,
    SegmentPromptOption,
    SegmentsOption,
    StrategyOption,
    asked_plan,
    check_usage,
)
from app.config import read_config
from app.queue.job import CANCELLED, FAILED, INTERRUPTED
from lavie.errors import LavieError
from lavie.request import MAX_FPS, MAX_FRAMES, MAX_SEED, MAX_SIZE, Request

if typing.TYPE_CHECKING:
    from app.clip import Clip
    from app.config import StudioConfig
    from app.queue.status import JobStatus
    from app.studio import Studio
    from extensions.long_video.plan import SegmentPlan

ClipId = Annotated[str, typer.Argument(metavar="CLIP_ID", help="As `gallery list` shows it.")]


class JobFailed(LavieError):
    """The job that a command waited for was not made; the message is that of the job."""


def render(
    prompt: Annotated[
        str | None, typer.Argument(help="What the video shows; of a long one, its first segment.", metavar="PROMPT")
    ] = None,
    seed: Annotated[int | None, request_option("seed", f"0 … {MAX_SEED}; the same gives the same video.")] = None,
    steps: StepsOption = None,
    sampler: SamplerOption = None,
    guidance: GuidanceOption = None,
    negative: Annotated[str, typer.Option(metavar="TEXT", help="What to stay away from.")] = "",
    interpolate: Interpolate = False,
    upscale: Upscale = False,
    width: Annotated[int | None, request_option("width", f"8 … {MAX_SIZE} pixels, of the base stage.")] = None,
    height: Annotated[int | None, request_option("height", f"8 … {MAX_SIZE} pixels, of the base stage.")] = None,
    frames: Annotated[int | None, request_option("frames", f"1 … {MAX_FRAMES}, of the base stage.")] = None,
    fps: Annotated[float | None, request_option("fps", f"1 … {MAX_FPS:g} frames a second, of the base stage.")] = None,
    segments: SegmentsOption = None,
    segment_prompt: SegmentPromptOption = None,
    script: ScriptOption = None,
    strategy: StrategyOption = None,
    lora: LoraOption = None,
    output: OutputOption = None,
    data: DataOption = None,
    model: ModelOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make one video from PROMPT and write it to a file. With segments it becomes as long as you like."""
    check_usage(prompt, segments, segment_prompt, script, strategy)
    with exit_codes():
        config = read_config(os.environ, data=data, model=model, device=device)
        plan = asked_plan(config, prompt, segments, segment_prompt, script, strategy, frames, fps)
        first = plan.segments[0].prompt if plan else prompt
        request = with_options(
            Request(first, seed=seed, width=width, height=height, frames=frames, fps=fps),
            negative=negative,
            steps=steps,
            sampler=sampler,
            guidance=guidance,
            interpolate=interpolate,
            upscale=upscale,
        )
        tell(made(config, lambda studio: _submit(studio, request, plan, lora, output)).clip, as_json)


def finish(
    clip: ClipId,
    interpolate: Interpolate = False,
    upscale: Upscale = False,
    data: DataOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on from a stored clip: add the stages that it lacks, without making it again from the start."""
    if not (interpolate or upscale):
        raise typer.BadParameter("nothing to add: give --interpolate, --upscale or both")
    with exit_codes():
        config = read_config(os.environ, data=data, device=device)
        finished = made(config, lambda studio: studio.finish(clip, interpolate=interpolate, upscale=upscale)).clip
        tell(finished, as_json)


def remix(clip: ClipId, data: DataOption = None, device: DeviceOption = None, as_json: JsonOption = False) -> None:
    """Make a stored clip once more with another seed, and everything else as it was."""
    with exit_codes():
        config = read_config(os.environ, data=data, device=device)
        finished = made(config, lambda studio: studio.remix(clip)).clip
        tell(finished, as_json)


def regenerate(clip: ClipId, data: DataOption = None, device: DeviceOption = None, as_json: JsonOption = False) -> None:
    """Make a stored clip again from its recipe, and say whether it is bit-identical or what differs."""
    with exit_codes():
        config = read_config(os.environ, data=data, device=device)
        proof = made(config, lambda studio: studio.regenerate(clip)).proof
        print(proof.to_json() if as_json else str(proof))


def _submit(
    studio: Studio, request: Request, plan: SegmentPlan | None, lora: list[str] | None, output: Path | None
) -> str:
    place = checked_output(output)
    adapters = worn(studio.adapters, studio.config.bundle, lora)
    if plan is not None:
        return studio.long.submit(request, plan, output=place, adapters=adapters)
    return studio.submit(request, output=place, adapters=adapters)


def made(config: StudioConfig, submit: typing.Callable[[Studio], str]) -> JobStatus:
    """Put a job into the queue and wait for it, with its progress on stderr. Raises JobFailed. Ctrl-C cancels it."""
    from app.cli.progress import progress
    from app.queue.watch import Watch
    from app.studio import Studio

    if os.environ.get("LAVIE_DEBUG") != "1":
        # What the worker logs has no place among the progress: one line says at the end what went wrong.
        logging.getLogger("app").addHandler(logging.NullHandler())
    with contextlib.closing(Studio(config)) as studio:
        watch = Watch()
        with progress(sys.stderr) as show, contextlib.closing(studio.follow(submit(studio))) as snapshots:
            for snapshot in snapshots:
                for event in watch.events(snapshot):
                    show(event)
    _check_done(snapshot)
    return snapshot


def _check_done(snapshot: JobStatus) -> None:
    row = snapshot.row
    if row.state == FAILED:
        raise JobFailed(row.error)
    if row.state == CANCELLED:
        raise JobFailed(f"the job {row.id} was cancelled from elsewhere: `jobs retry {row.id}` goes on with it")
    if row.state == INTERRUPTED:
        raise JobFailed(f"{row.error}; `jobs resume {row.id}` goes on with it")


def checked_output(output: Path | None) -> Path | None:
    """Refuse a place that cannot be written before a job is stored for it."""
    if output is None:
        return None
    from app.media import check_output

    check_output(output.expanduser())
    return output.expanduser()


def tell(clip: Clip, as_json: bool) -> None:
    """Print what was made, for a person or as one JSON object."""
    if as_json:
        print(json.dumps(clip.to_dict()))
    else:
        print(clip.path)
        size = f"{clip.frames} frames, {clip.width}×{clip.height}, {clip.fps:g} fps"
        print(f"{size}, seed {clip.seed}, made in {clip.seconds:.1f} s")
