"""Clips, videos and pictures, and what leads from each to the next → the job of a reel. Makes nothing itself."""

from __future__ import annotations

import os
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from app.long_videos.initial_frames import InitialFramesLoader, Tell
from app.long_videos.plan_edits import draw_seed
from app.recipes.initial_frames import check_fit
from app.recipes.recipe import Job
from extensions.long_video.join_plan import JoinPlan, SourceClip, Transition
from extensions.long_video.plan import MAX_SEGMENTS
from extensions.lora.tags import take_tags
from lavie.errors import RequestError, short
from lavie.request import Request

if typing.TYPE_CHECKING:
    from app.gallery import StoredClip
    from app.studio import Studio

NEW_FRAMES = 8  # of a transition, where nobody says: four frames are known at each end of a window of 16
_USUAL_WINDOW = 16


@dataclass(frozen=True)
class JoinRequest:
    """What is to become one video. sources: ids of clips, or files, in their order; a `Path` is always a file.

    prompts: what happens between each and the next; the last one goes on, and with none it is the prompt of the clip
    behind. frames: new ones in each transition, 0 for a cut; None for 8, or as many as the model has room for.
    request: how it is made and what becomes of it; its prompt is not read. fit: of what has another shape. strategy:
    None for the best that the model has.
    """

    sources: Sequence[str | Path]
    prompts: Sequence[str] = ()
    frames: int | None = None
    request: Request = field(default_factory=lambda: Request("any"))
    fit: str = "crop"
    strategy: str | None = None


def job_of(studio: Studio, starts: InitialFramesLoader, asked: JoinRequest, tell: Tell) -> tuple[Job, str | None]:
    """The job, and the first of the clips, whose child it will be. Keeps all frames that are joined.

    tell: gets what a person should know of how they were fitted. Raises RequestError and MediaError; whatever can be
    refused without reading a file is refused before.
    """
    check_fit(asked.fit)
    sources = _found(studio, asked.sources)
    card, request = studio.card, asked.request
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
    kept = starts.joined(sources, request, asked.fit, tell)
    shots = [replace(shot, name=one.hash, frames=one.frames) for shot, one in zip(shots, kept, strict=True)]
    job = Job(request, studio.model, reel=replace(reel, shots=tuple(shots)), shots=tuple(kept))
    return job, next((source.id for source in sources if not isinstance(source, Path)), None)


def _found(studio: Studio, sources: Sequence[str | Path]) -> list[StoredClip | Path]:
    if not 2 <= len(sources) <= MAX_SEGMENTS:
        raise RequestError(
            f"the number of clips and files to join is {len(sources)}: give 2 to {MAX_SEGMENTS}, in the order in which "
            "they are to be seen"
        )
    return [source_of(studio, source) for source in sources]


def source_of(studio: Studio, source: str | Path) -> StoredClip | Path:
    """A clip by its id, else a file; a `Path` is always a file. Raises RequestError for what is neither."""
    clip = None if isinstance(source, Path) else studio.gallery.get(source)
    if clip is not None:
        return clip
    path = Path(source).expanduser()
    if not os.path.isfile(path):  # unlike Path.is_file, False for names that no system takes
        raise RequestError(
            f"{short(str(source))} is neither a clip nor a file: `gallery list` shows the clips that are there"
        )
    return path


def _transitions(sources: Sequence[StoredClip | Path], asked: JoinRequest, window: int) -> tuple[Transition, ...]:
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


def _prompt_of(source: StoredClip | Path) -> str:
    """What a clip shows; of a file nobody knows."""
    return "" if isinstance(source, Path) else take_tags(source.recipe.request.prompt)[0]


def _first_prompt(reel: JoinPlan) -> str:
    said = [one.prompt for one in (*reel.transitions, *reel.shots) if one.prompt.strip()]
    if not said:
        raise RequestError("nothing says what the video shows: give a prompt")
    return said[0]
