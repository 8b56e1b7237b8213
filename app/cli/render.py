"""The commands `render`, `finish`, `remix` and `regenerate`, and how they run a job.

A job goes into the data folder's queue. A running studio makes it, else this process.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli import options
from app.cli.adapters import LoraOption, resolve_adapters
from app.cli.exit_codes import exit_codes
from app.cli.options import check_by, request_option
from app.cli.output import print_note
from app.config import StudioConfig, read_config
from app.models.card import ModelCard
from app.recipes.job_row import CANCELLED, FAILED, INTERRUPTED
from app.recipes.options import with_options
from app.recipes.segments import check_count, fit_segments, plan_of
from extensions.long_video.plan import MAX_SEGMENTS, STRATEGIES, Segment, SegmentPlan
from extensions.long_video.script import parse_script
from lavie.errors import LavieError, RequestError
from lavie.request import MAX_FPS, MAX_FRAMES, MAX_SIZE, Request
from lavie.values import MAX_SEED

if typing.TYPE_CHECKING:
    from app.queue.status import JobStatus
    from app.studio import Studio

_LARGEST_SCRIPT = 4_000_000  # bytes; a thousand prompts at their longest


ClipId = Annotated[str, typer.Argument(metavar="CLIP_ID", help="As `gallery list` shows it.")]
SegmentsOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        callback=check_by(lambda count: count is None or check_count(count)),
        help=f"1 … {MAX_SEGMENTS} segments, each going on from the one before.",
    ),
]
StrategyOption = Annotated[
    str | None,
    typer.Option(
        callback=check_by(lambda name: SegmentPlan((Segment("any"),), strategy=name)),
        help=f"{', '.join(STRATEGIES)}: how segments are joined [default: the best that the model has].",
    ),
]


class JobFailed(LavieError):
    """The job of a command failed, or was cancelled or interrupted."""


def render(
    prompt: Annotated[
        str | None, typer.Argument(help="What the video shows; of a long one, its first segment.", metavar="PROMPT")
    ] = None,
    seed: Annotated[int | None, request_option("seed", f"0 … {MAX_SEED}; the same gives the same video.")] = None,
    steps: options.StepsOption = None,
    sampler: options.SamplerOption = None,
    guidance: options.GuidanceOption = None,
    negative: Annotated[str, typer.Option(metavar="TEXT", help="What to stay away from.")] = "",
    interpolate: options.Interpolate = False,
    upscale: options.Upscale = False,
    width: Annotated[int | None, request_option("width", f"8 … {MAX_SIZE} pixels, of the base stage.")] = None,
    height: Annotated[int | None, request_option("height", f"8 … {MAX_SIZE} pixels, of the base stage.")] = None,
    frames: Annotated[int | None, request_option("frames", f"1 … {MAX_FRAMES}, of the base stage.")] = None,
    fps: Annotated[float | None, request_option("fps", f"1 … {MAX_FPS:g} frames a second, of the base stage.")] = None,
    segments: SegmentsOption = None,
    segment_prompt: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="The next segment's prompt; may be repeated, the last one goes on."),
    ] = None,
    script: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A prompt a line, or `0s-2s: prompt` in each, in place of PROMPT."),
    ] = None,
    strategy: StrategyOption = None,
    lora: LoraOption = None,
    output: options.OutputOption = None,
    data: options.DataOption = None,
    model: options.ModelOption = None,
    device: options.DeviceOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Make one video from PROMPT and write it to a file. With segments it becomes as long as you like."""
    _check_usage(prompt, segments, segment_prompt, script, strategy)
    with exit_codes():
        config = read_config(os.environ, data=data, model=model, device=device)
        place = expand_output(output)
        plan = _make_plan(config, prompt, segments, segment_prompt, script, strategy, frames, fps)
        first = plan.segments[0].prompt if plan else prompt
        given: dict[str, Any] = {"steps": steps, "sampler": sampler, "guidance": guidance, "negative": negative}
        given |= {"interpolate": interpolate, "upscale": upscale}
        plain = Request(first or "", seed=seed, width=width, height=height, frames=frames, fps=fps)
        request = with_options(plain, **given)
        with open_studio(config) as studio:
            adapters = resolve_adapters(studio.adapters, config.bundle, lora)
            if plan is None:
                job_id = studio.submit(request, output=place, adapters=adapters)
            else:
                job_id = studio.long_videos.submit(request, plan, output=place, adapters=adapters)
            print_clip(follow_job(studio, job_id), as_json)


def finish(
    clip: ClipId,
    interpolate: options.Interpolate = False,
    upscale: options.Upscale = False,
    data: options.DataOption = None,
    device: options.DeviceOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Go on from a stored clip: add the stages that it lacks, without making it again from the start."""
    if not (interpolate or upscale):
        raise typer.BadParameter("nothing to add: give --interpolate, --upscale or both")
    with exit_codes(), open_studio(read_config(os.environ, data=data, device=device)) as studio:
        job_id = studio.finish(clip, interpolate=interpolate, upscale=upscale)
        print_clip(follow_job(studio, job_id), as_json)


def remix(
    clip: ClipId,
    data: options.DataOption = None,
    device: options.DeviceOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Make a stored clip once more with another seed, and everything else as it was."""
    with exit_codes(), open_studio(read_config(os.environ, data=data, device=device)) as studio:
        print_clip(follow_job(studio, studio.remix(clip)), as_json)


def regenerate(
    clip: ClipId,
    data: options.DataOption = None,
    device: options.DeviceOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Make a stored clip again from its recipe, and say whether it is bit-identical or what differs."""
    with exit_codes(), open_studio(read_config(os.environ, data=data, device=device)) as studio:
        comparison = follow_job(studio, studio.regenerate(clip)).comparison
        print(comparison.to_json() if as_json and comparison else comparison)


def _check_usage(
    prompt: str | None, segments: int | None, prompts: list[str] | None, script: Path | None, strategy: str | None
) -> None:
    if prompt is None and script is None:
        raise typer.BadParameter("Missing argument 'PROMPT': say what the video shows, or give --script")
    if script is not None and (prompt is not None or prompts):
        raise typer.BadParameter("--script stands in place of PROMPT and --segment-prompt: give either")
    if strategy is not None and not (segments or prompts or script):
        raise typer.BadParameter("--strategy says how segments are joined: give --segments too")


def _make_plan(
    config: StudioConfig,
    prompt: str | None,
    segments: int | None,
    prompts: list[str] | None,
    script: Path | None,
    strategy: str | None,
    frames: int | None,
    fps: float | None,
) -> SegmentPlan | None:
    """The plan of a long video; None for a clip. Raises RequestError."""
    if not (segments or prompts or script):
        return None
    card = ModelCard.read(config.bundle)
    window = frames or (card.frames if card else None)
    rate = fps or (card.fps if card else 8.0)
    values: dict[str, Any] = {"strategy": strategy}
    if script is None:
        return plan_of([prompt or "", *(prompts or [])], segments, **values)
    plan = SegmentPlan((Segment("any"),), **values)
    plan = fit_segments(plan, window) if window else plan
    found = parse_script(_read_script(script), rate, plan.window, plan.overlap)
    for note in found.said:
        print_note(note)
    return plan_of([segment.prompt for segment in found.segments], segments, **values)


def _read_script(path: Path) -> str:
    try:
        with open(path.expanduser(), "rb") as file:
            content = file.read(_LARGEST_SCRIPT + 1)
        if len(content) > _LARGEST_SCRIPT:
            raise RequestError(
                f"{path} has more than {_LARGEST_SCRIPT:,} bytes: it is no script of {MAX_SEGMENTS} lines"
            )
        return content.decode("utf-8-sig")
    except OSError as error:
        raise RequestError(f"the script {path} cannot be read ({error.strerror}): check the name") from None
    except UnicodeDecodeError:
        raise RequestError(f"the script {path} is no text in UTF-8: save it as that") from None


def expand_output(output: Path | None) -> Path | None:
    """A path with `~` expanded. Raises MediaError if it cannot be written, before a job is stored for it."""
    if output is None:
        return None
    from app.media import check_output

    check_output(output.expanduser())
    return output.expanduser()


@contextlib.contextmanager
def open_studio(config: StudioConfig) -> Iterator[Studio]:
    """A studio without a page, closed at the end. Its log is hidden: one line tells what went wrong."""
    from app.studio import Studio

    if os.environ.get("LAVIE_DEBUG") != "1":
        logging.getLogger("app").addHandler(logging.NullHandler())
    with contextlib.closing(Studio(config)) as studio:
        yield studio


def follow_job(studio: Studio, job_id: str) -> JobStatus:
    """Wait for a job, with progress on stderr. Raises JobFailed. Ctrl-C cancels the job."""
    from app.cli.progress import progress
    from app.queue.status import Watch

    watch = Watch()
    with progress(sys.stderr) as show, contextlib.closing(studio.follow(job_id)) as stream:
        for job in stream:
            for event in watch.events(job):
                show(event)
    _check_done(job)
    return job


def _check_done(job: JobStatus) -> None:
    row = job.row
    if row.state == FAILED:
        raise JobFailed(row.error)
    if row.state == CANCELLED:
        raise JobFailed(f"the job {row.id} was cancelled from elsewhere: `jobs retry {row.id}` goes on with it")
    if row.state == INTERRUPTED:
        raise JobFailed(f"{row.error}; `jobs resume {row.id}` goes on with it")


def print_clip(job: JobStatus, as_json: bool) -> None:
    """Print the clip that a job has made, for a person or as one JSON object."""
    clip = job.clip
    if clip is None:
        raise JobFailed(f"the clip {job.row.id} was removed meanwhile")
    if as_json:
        print(json.dumps(clip.result(job.stage_seconds)))
    else:
        print(clip.path)
        size = f"{clip.frames} frames, {clip.width}×{clip.height}, {clip.fps:g} fps"
        print(f"{size}, seed {clip.seed}, made in {clip.seconds:.1f} s")
