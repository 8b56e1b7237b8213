"""`join`: one video of clips, videos and pictures, with new frames that lead from each to the next."""

from __future__ import annotations

import os
import typing
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
    checked,
    request_option,
    with_options,
)
from app.cli.output import print_note
from app.cli.render import checked_output, made, tell
from app.config import read_config
from extensions.long_video.join_plan import BRIDGING, JoinPlan, SourceClip, Transition
from lavie.request import MAX_FRAMES, MAX_SEED, Request

if typing.TYPE_CHECKING:
    from app.studio import Studio


def _checked_frames(frames: int | None) -> object:
    return frames is None or Transition("any", frames)


def _checked_strategy(name: str | None) -> object:
    return JoinPlan((SourceClip("any", 1),) * 2, (Transition("any"),), strategy=name)


SourcesArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE",
        help="Two or more, in their order: clips as `gallery list` shows them, or any videos and pictures.",
    ),
]
PromptsOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TEXT",
        help="What happens between one and the next; may be repeated, the last one goes on [default: the prompt of the "
        "clip that it leads to].",
    ),
]
NewFramesOption = Annotated[
    int | None,
    typer.Option(
        callback=checked(_checked_frames),
        help=f"0 … {MAX_FRAMES} new frames from one to the next, at most two fewer than the model sees at once; 0 for "
        "a cut [default: 8].",
    ),
]
BridgingOption = Annotated[
    str | None,
    typer.Option(
        callback=checked(_checked_strategy),
        help=f"{', '.join(BRIDGING)}: how the new frames meet the clips [default: the best that the model has].",
    ),
]


def join(
    sources: SourcesArgument,
    prompt: PromptsOption = None,
    frames: NewFramesOption = None,
    seed: Annotated[int | None, request_option("seed", f"0 … {MAX_SEED}, of the new frames.")] = None,
    strategy: BridgingOption = None,
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
    """Lead from one clip, video or picture to the next with new frames that the model makes: one video of all of them.

    `gallery join` only puts files one behind the other, with nothing new between them.
    """
    if len(sources) < 2:
        raise typer.BadParameter("there is nothing to lead to: give at least two SOURCEs")

    def submit(studio: Studio) -> str:
        place = checked_output(output)
        request = with_options(
            Request("any", seed=seed),  # its prompt is not read
            steps=steps,
            sampler=sampler,
            guidance=guidance,
            interpolate=interpolate,
            upscale=upscale,
        )
        asked = {"frames": frames, "request": request, "fit": fit, "strategy": strategy, "output": place}
        return studio.long.join(sources, prompt or (), tell=print_note, **asked)

    with exit_codes():
        config = read_config(os.environ, data=data, model=model, device=device)
        tell(made(config, submit).clip, as_json)
