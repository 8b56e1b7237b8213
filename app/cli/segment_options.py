"""Options of long videos, and the plan that they ask for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.options import checked
from app.cli.output import print_note
from app.config import StudioConfig
from app.models.card import ModelCard
from app.recipes.segments import check_count, fitted, plan_of
from extensions.long_video.plan import MAX_SEGMENTS, STRATEGIES, Segment, SegmentPlan
from extensions.long_video.script import parse_script
from lavie.errors import RequestError

_LARGEST_SCRIPT = 4_000_000  # bytes; a thousand prompts at their longest


def _checked_strategy(name: str | None) -> object:
    return SegmentPlan((Segment("any"),), strategy=name)


SegmentsOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        callback=checked(lambda count: count is None or check_count(count)),
        help=f"1 … {MAX_SEGMENTS} segments, each going on from the one before.",
    ),
]
SegmentPromptOption = Annotated[
    list[str] | None,
    typer.Option(metavar="TEXT", help="The next segment's prompt; may be repeated, the last one goes on."),
]
ScriptOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A prompt a line, or `0s-2s: prompt` in each, in place of PROMPT.")
]
StrategyOption = Annotated[
    str | None,
    typer.Option(
        callback=checked(_checked_strategy),
        help=f"{', '.join(STRATEGIES)}: how segments are joined [default: the best that the model has].",
    ),
]


def check_usage(
    prompt: str | None, segments: int | None, prompts: list[str] | None, script: Path | None, strategy: str | None
) -> None:
    """Raises typer.BadParameter for options of `render` that do not go together."""
    if prompt is None and script is None:
        raise typer.BadParameter("Missing argument 'PROMPT': say what the video shows, or give --script")
    if script is not None and (prompt is not None or prompts):
        raise typer.BadParameter("--script stands in place of PROMPT and --segment-prompt: give either")
    if strategy is not None and not (segments or prompts or script):
        raise typer.BadParameter("--strategy says how segments are joined: give --segments too")


def asked_plan(
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
    window, fps = (frames or (card and card.frames), fps or (card and card.fps))
    values: dict[str, Any] = {"strategy": strategy}
    if script is None:
        return plan_of([prompt, *(prompts or [])], segments, **values)
    plan = SegmentPlan((Segment("any"),), **values)
    plan = fitted(plan, window) if window else plan
    found = parse_script(_text_of(script), fps or 8.0, plan.window, plan.overlap)
    for said in found.said:
        print_note(said)
    return plan_of([segment.prompt for segment in found.segments], segments, **values)


def _text_of(path: Path) -> str:
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
