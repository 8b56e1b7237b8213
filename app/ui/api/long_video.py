"""What `/extend` and `/join` ask the studio for.

What a client sends is data from outside: every value is looked at here.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from app.gallery.values import check_id
from app.recipes.segments import last_prompt, plan_of, segments_of
from app.studio import Studio
from app.ui.html import without_folders
from lavie.errors import LavieError, RequestError, short
from lavie.request import Request

if typing.TYPE_CHECKING:
    from extensions.long_video.plan import Segment


def extend_from(
    studio: Studio,
    clip_id: Any,
    file: Any,
    prompts: Any,
    count: Any,
    change: Callable[[Request], Request],
    *,
    seed: Any,
    strategy: Any,
    fit: Any,
) -> str:
    """Queue a video that goes on from a clip or from an uploaded file; the job's id.

    change: of the request that is asked for. Raises RequestError.
    """
    if (clip_id is None) == (file is None):
        raise RequestError("it is not clear what to go on from: give either the id of a clip or a file")
    values = {} if strategy is None else {"strategy": strategy}
    if file is None:
        stored = studio.gallery.require(check_id(clip_id))
        segments = _segments(prompts, count, last_prompt(stored.recipe), seed)
        return studio.long.extend(stored.id, segments, change=change, **values)
    segments = _segments(prompts, count, None, None)
    request = change(Request(segments[0].prompt, seed=seed))
    path = _uploaded(file)
    try:
        start, _ = studio.long.start_from_file(path, fit)
    except LavieError as error:
        raise RequestError(without_folders(str(error), path)) from None
    plan = replace(plan_of([segments[0].prompt], **values), segments=tuple(segments))
    return studio.long.submit(request, plan, start=start)


def join_from(studio: Studio, sources: Any, prompts: Any, **asked: Any) -> str:
    """Queue one video of clips and uploaded files; the job's id. asked: see `JoinRequest`. Raises RequestError."""
    if not isinstance(sources, list):
        raise RequestError(f"sources are {short(sources)}: give a list of ids of clips and of uploaded files")
    found = [_source(studio, source) for source in sources]
    try:
        return studio.long.join(found, _texts(prompts), **asked)
    except LavieError as error:
        files = (source for source in found if isinstance(source, Path))
        raise RequestError(without_folders(str(error), *files)) from None


def _source(studio: Studio, source: Any) -> str | Path:
    """The id of a clip that is there, or where an uploaded file lies: a text is never the name of a file."""
    return studio.gallery.require(check_id(source)).id if isinstance(source, str) else _uploaded(source)


def _segments(prompts: Any, count: Any, last: str | None, seed: Any) -> list[Segment]:
    """last: the prompt where none is given; None where one has to be."""
    texts = _texts(prompts)
    if not texts and last is None:
        raise RequestError("nothing says what the video goes on with: give prompts")
    return segments_of(texts or [last], count, seed)


def _texts(prompts: Any) -> list[str]:
    """None is none of them."""
    if prompts is None:
        return []
    if not (isinstance(prompts, list) and all(isinstance(one, str) for one in prompts)):
        raise RequestError(f"prompts are {short(prompts)}: give a list of texts")
    return prompts


def _uploaded(file: Any) -> Path:
    """Where an uploaded file lies. Gradio checks what says that it is a file; a path without that is checked here."""
    from gradio.utils import get_upload_folder

    told = file.get("path") if isinstance(file, dict) else None
    if not isinstance(told, str) or "\0" in told:
        raise RequestError(f"file is {short(file)}: upload one, as with handle_file of gradio_client")
    path = Path(told).resolve()
    if not path.is_relative_to(Path(get_upload_folder()).resolve()) or not path.is_file():
        raise RequestError(f"{short(Path(told).name)} was not uploaded here: upload it, as with handle_file")
    return path
