"""The commands `extend` and `join`, which continue clips and files and connect them."""

from __future__ import annotations

import os
import typing
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli import options
from app.cli.exit_codes import exit_codes
from app.cli.options import check_by, request_option
from app.cli.output import print_note
from app.cli.render import SegmentsOption, StrategyOption, expand_output, follow_job, open_studio, print_clip
from app.config import read_config
from app.recipes.options import with_options
from app.recipes.segments import last_prompt, plan_of, segments_of
from extensions.long_video.join_plan import TRANSITION_STRATEGIES, JoinPlan, SourceClip, Transition
from lavie.errors import RequestError
from lavie.request import MAX_FRAMES, Request
from lavie.values import MAX_SEED

if typing.TYPE_CHECKING:
    from app.studio import Studio


def extend(
    source: Annotated[
        str,
        typer.Argument(
            metavar="CLIP_ID|VIDEO_FILE|IMAGE_FILE", help="A clip as `gallery list` shows it, or any video or picture."
        ),
    ],
    segments: SegmentsOption = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="What the next segment shows; may be repeated, the last one goes on [default: the clip's last].",
        ),
    ] = None,
    seed: Annotated[int | None, request_option("seed", f"0 … {MAX_SEED}, of the new segments.")] = None,
    strategy: StrategyOption = None,
    fit: options.FitOption = "crop",
    steps: options.StepsOption = None,
    sampler: options.SamplerOption = None,
    guidance: options.GuidanceOption = None,
    interpolate: options.Interpolate = False,
    upscale: options.Upscale = False,
    output: options.OutputOption = None,
    data: options.DataOption = None,
    model: options.ModelOption = None,
    device: options.DeviceOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Go on from a clip of the gallery, or from any video or picture: a new video that begins with it."""
    given: dict[str, Any] = {"steps": steps, "sampler": sampler, "guidance": guidance}
    given |= {"interpolate": interpolate or None, "upscale": upscale or None}

    def change(request: Request) -> Request:
        return with_options(request, **given)

    def submit(studio: Studio) -> str:
        from app.long_videos.join import find_source

        place = expand_output(output)
        values = {} if strategy is None else {"strategy": strategy}
        found = find_source(studio.workspace, source)
        if not isinstance(found, Path):
            new = segments_of(prompt or [last_prompt(found.recipe)], segments, seed)
            return studio.long_videos.extend(source, new, change=change, output=place, **values)
        if not prompt:
            raise RequestError(f"nothing says what {found.name} goes on with: give --prompt")
        new = segments_of(prompt, segments)
        start, notices = studio.long_videos.start_from_file(found, fit)
        for notice in notices:
            print_note(notice)
        request = change(Request(prompt[0], seed=seed))
        return studio.long_videos.submit(request, plan_of(prompt, len(new), **values), start=start, output=place)

    with exit_codes(), open_studio(read_config(os.environ, data=data, model=model, device=device)) as studio:
        print_clip(follow_job(studio, submit(studio)), as_json)


def _check_strategy(name: str | None) -> object:
    return JoinPlan((SourceClip("any", 1),) * 2, (Transition("any"),), strategy=name)


def join(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Two or more, in their order: clips as `gallery list` shows them, or any videos and pictures.",
        ),
    ],
    prompt: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT",
            help="What happens between one and the next; may be repeated, the last one goes on [default: the prompt of "
            "the clip that it leads to].",
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            callback=check_by(lambda frames: frames is None or Transition("any", frames)),
            help=f"0 … {MAX_FRAMES} new frames from one to the next, at most two fewer than the model sees at once; 0 "
            "for a cut [default: 8].",
        ),
    ] = None,
    seed: Annotated[int | None, request_option("seed", f"0 … {MAX_SEED}, of the new frames.")] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            callback=check_by(_check_strategy),
            help=f"{', '.join(TRANSITION_STRATEGIES)}: how the new frames meet the clips "
            "[default: the best that the model has].",
        ),
    ] = None,
    fit: options.FitOption = "crop",
    steps: options.StepsOption = None,
    sampler: options.SamplerOption = None,
    guidance: options.GuidanceOption = None,
    interpolate: options.Interpolate = False,
    upscale: options.Upscale = False,
    output: options.OutputOption = None,
    data: options.DataOption = None,
    model: options.ModelOption = None,
    device: options.DeviceOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Lead from one clip, video or picture to the next with new frames that the model makes: one video of all of them.

    `gallery join` only puts files one behind the other, with nothing new between them.
    """
    if len(sources) < 2:
        raise typer.BadParameter("there is nothing to lead to: give at least two SOURCEs")

    given: dict[str, Any] = {"steps": steps, "sampler": sampler, "guidance": guidance}
    given |= {"interpolate": interpolate, "upscale": upscale}
    with exit_codes(), open_studio(read_config(os.environ, data=data, model=model, device=device)) as studio:
        asked: dict[str, Any] = {"frames": frames, "fit": fit, "strategy": strategy, "output": expand_output(output)}
        request = with_options(Request("any", seed=seed), **given)  # its prompt is not read
        job_id = studio.long_videos.join(sources, prompt or (), request=request, report=print_note, **asked)
        print_clip(follow_job(studio, job_id), as_json)
