"""Clips, videos and pictures, with prompts for the transitions between them → the job that joins them."""

from __future__ import annotations

import os
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from app.long_videos.initial_frames import InitialFramesLoader, Report
from app.long_videos.plan_edits import draw_seed
from app.recipes.initial_frames import check_fit
from app.recipes.recipe import Job
from app.workspace import Workspace
from extensions.long_video.join_plan import JoinPlan, SourceClip, Transition
from extensions.long_video.plan import MAX_SEGMENTS
from extensions.lora.tags import take_tags
from lavie.errors import RequestError, short
from lavie.request import Request

if typing.TYPE_CHECKING:
    from app.gallery import Clip

NEW_FRAMES = 8  # of a transition by default: four frames are known at each end of a window of 16
_USUAL_WINDOW = 16


@dataclass(frozen=True)
class JoinRequest:
    """Sources that are to become one video.

    Attributes:
        sources: ids of clips, or files, in their order; a `Path` is always a file.
        prompts: of each transition; the last one is repeated, and without any each has the prompt of the clip after it.
        frames: new ones in each transition, 0 for a cut [8, or as many as the model has room for].
        request: the settings; its prompt is not read.
        fit: `crop` or `letterbox`, for sources of another shape.
        strategy: [the best that the model has].
    """

    sources: Sequence[str | Path]
    prompts: Sequence[str] = ()
    frames: int | None = None
    request: Request = field(default_factory=lambda: Request("any"))
    fit: str = "crop"
    strategy: str | None = None


def plan_join(
    workspace: Workspace, loader: InitialFramesLoader, asked: JoinRequest, report: Report
) -> tuple[Job, str | None]:
    """The job, and the id of the first clip, which becomes its parent. Stores all frames that are joined.

    report: gets notices for the person on how the sources were fitted. Raises RequestError and MediaError; all that can
    be checked without reading a file is checked first.
    """
    check_fit(asked.fit)
    sources = _find_sources(workspace, asked.sources)
    card, request = workspace.card, asked.request
    window = request.frames or (card.frames if card else _USUAL_WINDOW)
    seed = draw_seed() if request.seed is None else request.seed
    shots = [SourceClip("any", 1, _prompt_of(source)) for source in sources]
    reel = JoinPlan(
        tuple(shots),
        _transitions(sources, asked, window),
        seed=seed,
        negative_prompt=request.negative_prompt,
        strategy=asked.strategy,
        window=window,
    )
    request = replace(request, prompt=_first_prompt(reel), seed=seed)
    kept = loader.load_whole(sources, request, asked.fit, report)
    shots = [replace(shot, name=one.hash, frames=one.frames) for shot, one in zip(shots, kept, strict=True)]
    job = Job(request, workspace.model, replace(reel, shots=tuple(shots)), shots=tuple(kept))
    return job, next((source.id for source in sources if not isinstance(source, Path)), None)


def _find_sources(workspace: Workspace, sources: Sequence[str | Path]) -> list[Clip | Path]:
    if not 2 <= len(sources) <= MAX_SEGMENTS:
        raise RequestError(
            f"the number of clips and files to join is {len(sources)}: give 2 to {MAX_SEGMENTS}, in the order in which "
            "they are to be seen"
        )
    return [find_source(workspace, source) for source in sources]


def find_source(workspace: Workspace, source: str | Path) -> Clip | Path:
    """The clip of this id, else the file; a `Path` is always a file. Raises RequestError if there is neither."""
    clip = None if isinstance(source, Path) else workspace.gallery.get(source)
    if clip is not None:
        return clip
    path = Path(source).expanduser()
    if not os.path.isfile(path):  # unlike Path.is_file, False for names that the system refuses
        raise RequestError(
            f"{short(str(source))} is neither a clip nor a file: `gallery list` shows the clips that are there"
        )
    return path


def _transitions(sources: Sequence[Clip | Path], asked: JoinRequest, window: int) -> tuple[Transition, ...]:
    frames = min(NEW_FRAMES, max(window - 2, 1)) if asked.frames is None else asked.frames
    prompts, count = list(asked.prompts), len(sources) - 1
    if len(prompts) > count:
        raise RequestError(
            f"there are {len(prompts)} prompts for {count} transitions: give fewer prompts, or more to join"
        )
    if prompts:
        return tuple(Transition(prompt, frames) for prompt in [*prompts, *prompts[-1:] * (count - len(prompts))])
    for source in sources[1:]:
        if frames and isinstance(source, Path):
            raise RequestError(f"nothing says what leads to {source.name}: give a prompt")
    return tuple(Transition(_prompt_of(source), frames) for source in sources[1:])


def _prompt_of(source: Clip | Path) -> str:
    """What a clip shows; of a file that is not known."""
    return "" if isinstance(source, Path) else take_tags(source.recipe.request.prompt)[0]


def _first_prompt(reel: JoinPlan) -> str:
    prompts = [*(one.prompt for one in reel.transitions), *(one.prompt for one in reel.shots)]
    for prompt in prompts:
        if prompt.strip():
            return prompt
    raise RequestError("nothing says what the video shows: give a prompt")
