"""`extend`: a new video that begins with a clip, or with what a file shows last, and goes on from there."""

from __future__ import annotations

import os
import typing
from pathlib import Path
from typing import Annotated

import typer

from app.cli.exit_codes import exit_codes
from app.cli.options import (
    DataOption,
    DeviceOption,
    FitOption,
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
from app.cli.output import print_note
from app.cli.render import checked_output, made, tell
from app.cli.segment_options import SegmentsOption, StrategyOption
from app.config import read_config
from app.recipes.segments import last_prompt, plan_of, segments_of
from lavie.errors import RequestError
from lavie.request import MAX_SEED, Request

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
    fit: FitOption = "crop",
    steps: StepsOption = None,
    sampler: SamplerOption = None,
    guidance: GuidanceOption = None,
    interpolate: Interpolate = False,
    upscale: Upscale = False,
    output: OutputOption = None,
    data: DataOption = None,
    model: ModelOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on from a clip of the gallery, or from any video or picture: a new video that begins with it."""

    def change(request: Request) -> Request:
        given = {"steps": steps, "sampler": sampler, "guidance": guidance}
        return with_options(request, **given, interpolate=interpolate or None, upscale=upscale or None)

    def submit(studio: Studio) -> str:
        place = checked_output(output)
        values = {} if strategy is None else {"strategy": strategy}
        found = studio.long.source(source)
        if not isinstance(found, Path):
            new = segments_of(prompt or [last_prompt(found.recipe)], segments, seed)
            return studio.long.extend(source, new, change=change, output=place, **values)
        if not prompt:
            raise RequestError(f"nothing says what {found.name} goes on with: give --prompt")
        new = segments_of(prompt, segments)
        start, notices = studio.long.start_from_file(found, fit)
        for notice in notices:
            print_note(notice)
        request = change(Request(prompt[0], seed=seed))
        return studio.long.submit(request, plan_of(prompt, len(new), **values), start=start, output=place)

    with exit_codes():
        config = read_config(os.environ, data=data, model=model, device=device)
        tell(made(config, submit).clip, as_json)
