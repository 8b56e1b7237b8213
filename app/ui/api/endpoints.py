"""The named endpoints of the HTTP interface, served by gradio's API and as MCP tools. See docs/api.md.

Each answers with JSON values, or with one line that says what is wrong. A job continues when its client leaves.
"""
# Without `from __future__ import annotations`: gradio reads the types of endpoints at run time.

import asyncio
import contextlib
import functools
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.events import api
from gradio.utils import get_upload_folder
from starlette.concurrency import run_in_threadpool

from app.gallery import Query
from app.gallery.clip import check_id
from app.gallery.search import find_clips
from app.queue.status import JobStatus
from app.recipes.comparison import Comparison
from app.recipes.job_row import CANCELLED, FAILED, INTERRUPTED
from app.recipes.options import with_options
from app.recipes.segments import last_prompt, plan_of, segments_of
from app.studio import Studio
from app.ui.api.errors import check_value_count, wrap_endpoint
from app.ui.html import media, strip_folders
from extensions.long_video.plan import Segment
from lavie.errors import LavieError, RequestError, short
from lavie.request import Request

NAMES = ("render", "extend", "join", "regenerate", "job", "cancel", "search", "clip")
MOST_WAITING = 24  # waiting clients; gradio handles 40 events at once, so others are still answered
MOST_SECONDS = 3600.0  # of waiting: gradio does not tell when a client leaves
LOOK_SECONDS = 0.25  # between two looks at a job
_JOB_FACTS = (
    *("id", "kind", "state", "asked", "stage", "step", "steps", "error", "parent"),
    *("created", "started", "finished"),
)


def create_api(page: gr.Blocks, studio: Studio) -> None:
    """Add the endpoints to the page. Call it last: it hides the events of all tabs from the interface."""
    page.validate_inputs = check_value_count  # type: ignore[method-assign]
    for event in page.fns.values():
        event.api_visibility = "private"
    endpoints = Endpoints(studio)
    for name in NAMES:
        # No limit: waiting calls do not occupy the device, the worker runs one job at a time.
        api(wrap_endpoint(getattr(endpoints, name), studio), api_name=name, queue=False, concurrency_limit=None)


class Endpoints:
    """The endpoints, whose docstrings and types gradio publishes. Raise LavieError with one line for the client."""

    def __init__(self, studio: Studio):
        self._studio, self._queue = studio, WaitedQueue(studio)

    async def render(
        self,
        prompt: str,
        seed: int | None = None,
        steps: int | None = None,
        sampler: str | None = None,
        guidance: float | None = None,
        negative: str = "",
        interpolate: bool = False,
        upscale: bool = False,
        width: int | None = None,
        height: int | None = None,
        frames: int | None = None,
        fps: float | None = None,
        wait: bool = True,
    ) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Make a video from a prompt. What is left out is as the model does it.

        Parameters:
            prompt: What the video shows, at most 4000 characters.
            seed: 0 to 9007199254740991; the same gives the same video. Drawn where it is left out.
            steps: Denoising steps of every stage, 1 to 1000.
            sampler: How the base stage denoises: ddpm, ddim, euler, dpm++ or unipc.
            guidance: How close the base stage keeps to the prompt, 0 to 50.
            negative: What to stay away from.
            interpolate: Four times the frame rate.
            upscale: Four times the width and height.
            width: Pixels of the base stage, a multiple of 8 from 8 to 2048.
            height: Pixels of the base stage, a multiple of 8 from 8 to 2048.
            frames: Frames of the base stage, 1 to 64.
            fps: Frames a second of the base stage, 1 to 120.
            wait: Answer when the clip is there. False: answer at once with the job, to be asked for with /job.

        Returns:
            The clip: id, url, frames, width, height, fps, seed, frame_hash, seconds; or the job, where wait is false.
            The mp4 file; null where wait is false.
        """
        _check_switches(interpolate=interpolate, upscale=upscale, wait=wait)
        given: dict[str, Any] = {"steps": steps, "sampler": sampler, "guidance": guidance, "negative": negative}
        given |= {"interpolate": interpolate, "upscale": upscale}
        plain = Request(prompt, seed=seed, width=width, height=height, frames=frames, fps=fps)
        request = with_options(plain, **given)
        return _clip_and_file(await self._queue.submit(lambda: self._studio.submit(request), wait), wait)

    async def extend(
        self,
        id: str | None = None,
        file: dict[str, Any] | None = None,
        prompts: list[str] | None = None,
        segments: int | None = None,
        seed: int | None = None,
        strategy: str | None = None,
        fit: str = "crop",
        steps: int | None = None,
        sampler: str | None = None,
        guidance: float | None = None,
        interpolate: bool = False,
        upscale: bool = False,
        wait: bool = True,
    ) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Go on from a clip of the gallery, or from any video or picture, segment by segment: a new video that begins with it.

        Parameters:
            id: Of the clip to go on from. A long video grows; what is there of it is not made again.
            file: The video or picture to go on from, in place of id: as handle_file of gradio_client gives it.
            prompts: What the next segments show; the last one goes on. Left out: the clip's last prompt.
            segments: How many, 1 to 1000. Left out: one for each prompt.
            seed: 0 to 9007199254740991, of the new segments. Left out: the clip's, or drawn.
            strategy: conditioned, corrected, repaint or codenoise. Left out: the best that the model has.
            fit: crop or letterbox, for a file of another shape than the model's frames.
            steps: Denoising steps of every stage, 1 to 1000.
            sampler: How the base stage denoises: ddpm, ddim, euler, dpm++ or unipc.
            guidance: How close the base stage keeps to the prompts, 0 to 50.
            interpolate: Four times the frame rate.
            upscale: Four times the width and height.
            wait: Answer when the video is there. False: answer at once with the job, to be asked for with /job.

        Returns:
            As /render: the clip and its file; or the job and null, where wait is false.
        """  # noqa: E501 - gradio reads a description from one line
        _check_switches(interpolate=interpolate, upscale=upscale, wait=wait)
        given: dict[str, Any] = {"steps": steps, "sampler": sampler, "guidance": guidance}
        given |= {"interpolate": interpolate or None, "upscale": upscale or None}
        asked: dict[str, Any] = {"seed": seed, "strategy": strategy, "fit": fit}
        asked |= {"change": functools.partial(with_options, **given)}
        begin = functools.partial(extend_from, self._studio, id, file, prompts, segments, **asked)
        return _clip_and_file(await self._queue.submit(begin, wait), wait)

    async def join(
        self,
        sources: list[Any],
        prompts: list[str] | None = None,
        frames: int | None = None,
        seed: int | None = None,
        strategy: str | None = None,
        fit: str = "crop",
        steps: int | None = None,
        sampler: str | None = None,
        guidance: float | None = None,
        interpolate: bool = False,
        upscale: bool = False,
        wait: bool = True,
    ) -> tuple[dict[str, Any], dict[str, Any] | None]:
        """Lead from one clip, video or picture to the next with new frames: one video of all of them.

        Parameters:
            sources: Two or more, in their order: ids of clips, or videos and pictures as handle_file of gradio_client gives them.
            prompts: What happens between one and the next; the last one goes on. Left out: the prompt of the clip that it leads to.
            frames: New frames from one to the next, 0 to 64, at most two fewer than the model sees at once; 0 for a cut. Left out: 8.
            seed: 0 to 9007199254740991, of the new frames. Drawn where it is left out.
            strategy: conditioned, corrected or repaint: how the new frames meet the clips. Left out: the best that the model has.
            fit: crop or letterbox, for what has another shape than the model's frames.
            steps: Denoising steps of every stage, 1 to 1000.
            sampler: How the base stage denoises: ddpm, ddim, euler, dpm++ or unipc.
            guidance: How close the base stage keeps to the prompts, 0 to 50.
            interpolate: Four times the frame rate.
            upscale: Four times the width and height.
            wait: Answer when the video is there. False: answer at once with the job, to be asked for with /job.

        Returns:
            As /render: the clip and its file; or the job and null, where wait is false.
        """  # noqa: E501 - gradio reads a parameter's description from one line
        _check_switches(interpolate=interpolate, upscale=upscale, wait=wait)
        given: dict[str, Any] = {"steps": steps, "sampler": sampler, "guidance": guidance}
        given |= {"interpolate": interpolate, "upscale": upscale}
        request = with_options(Request("any", seed=seed), **given)  # its prompt is not read
        asked = {"frames": frames, "request": request, "fit": fit, "strategy": strategy}
        begin = functools.partial(join_from, self._studio, sources, prompts, **asked)
        return _clip_and_file(await self._queue.submit(begin, wait), wait)

    async def regenerate(self, id: str, wait: bool = True) -> dict[str, Any]:
        """Make a stored clip again from its recipe and say whether it is the same, bit for bit, or what differs.

        Parameters:
            id: Of the clip.
            wait: Answer when it is made. False: answer at once with the job, whose proof /job will tell.

        Returns:
            The proof: identical, psnr (dB, null where identical), differences (name, was, now), summary; or the job.
        """
        _check_switches(wait=wait)
        job = await self._queue.submit(lambda: self._studio.regenerate(check_id(id)), wait)
        if not wait or job.comparison is None:
            return job_facts(job)
        return {"job": job.row.id, **comparison_facts(job.comparison)}

    def job(self, id: str) -> dict[str, Any]:
        """Tell how a job stands.

        Parameters:
            id: Of the job, as /render gave it with wait=false; it is also the id of the clip that it makes.

        Returns:
            state (queued, running, paused, interrupted, done, failed, cancelled), stage, step, steps, notices, error,
            times, and the clip or the proof once it is done.
        """
        return job_facts(self._queue.job(id))

    def cancel(self, id: str) -> dict[str, Any]:
        """Take a waiting job out of the queue, or stop a running one behind its step. One that is over stays as it is.

        Parameters:
            id: Of the job.

        Returns:
            The job, as /job tells it. One that was running is stopping: its `asked` is cancel.
        """
        self._queue.job(id)
        self._studio.cancel(id)
        return job_facts(self._queue.job(id))

    def search(
        self, text: str = "", filters: dict[str, Any] | None = None, after: str | None = None, limit: int = 24
    ) -> dict[str, Any]:
        """Look for clips in the gallery, the newest first.

        Parameters:
            text: Words of the prompt, notes or tags; "a phrase", -without, begin*. Empty finds all.
            filters: Any of model, adapter, stages, seed, width, height, created_from, created_to, min_rating, favourite, tags (a list), parent, trashed, missing, stacked, sort (newest, oldest, rating, longest, relevance).
            after: `next` of the page before; leave it out for the first.
            limit: Clips on a page, 1 to 1000.

        Returns:
            clips, next (null at the end), total, and total_is_exact: false where there are more than total.
        """  # noqa: E501 - gradio reads a parameter's description from one line
        query = _query({} if filters is None else filters, text)
        page = find_clips(self._studio.gallery, query, after, limit)
        clips = [clip_facts(clip.to_dict()) for clip in page.clips]
        return {"clips": clips, "next": page.next, "total": page.total, "total_is_exact": page.total_is_exact}

    def clip(self, id: str) -> dict[str, Any]:
        """Tell everything about a stored clip, with the recipe that makes it again.

        Parameters:
            id: Of the clip.

        Returns:
            What /search tells of it, and recipe.
        """
        stored = self._studio.gallery.require(check_id(id))
        return {**clip_facts(stored.to_dict()), "recipe": json.loads(stored.recipe_json)}


def _clip_and_file(job: JobStatus, wait: bool) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """A finished job's clip and file, else the job and None."""
    if not wait:
        return job_facts(job), None
    if job.clip is None:
        raise RequestError(f"the clip {job.row.id} was removed before it could be given out")
    file = {"path": str(job.clip.path), "orig_name": f"{job.clip.id}.mp4", "meta": {"_type": "gradio.FileData"}}
    return clip_facts(job.clip.result(job.stage_seconds)), file


def _check_switches(**values: bool) -> None:
    for name, value in values.items():
        if not isinstance(value, bool):
            raise RequestError(f"{name} is {short(value)}: give true or false")


def _query(filters: Any, text: Any) -> Query:
    if not isinstance(filters, dict) or "text" in filters:
        raise RequestError(f"filters are {short(filters)}: give an object of names and values, with no text among them")
    try:
        return Query.from_json(json.dumps({**filters, "text": text}))
    except RecursionError:
        raise RequestError("filters are nested without end: give an object of names and values") from None


def clip_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """A clip's JSON values with addresses below the page's in place of the file's path."""
    kinds = {"url": "mp4", "poster": "poster.webp", "preview": "preview.webp"}
    shown = {name: value for name, value in facts.items() if name != "path"}
    return shown | {name: media(facts["id"], kind) for name, kind in kinds.items()}


def job_facts(job: JobStatus) -> dict[str, Any]:
    """A job's state and result."""
    row = job.row
    facts = {name: getattr(row, name) for name in _JOB_FACTS} | {"notices": list(row.notices)}
    clip = clip_facts(job.clip.result(job.stage_seconds)) if job.clip else None
    return facts | {"clip": clip, "proof": comparison_facts(job.comparison) if job.comparison else None}


def comparison_facts(comparison: Comparison) -> dict[str, Any]:
    """The outcome of regenerating a clip."""
    return {**json.loads(comparison.to_json()), "summary": str(comparison)}


class WaitedQueue:
    """The studio's queue for clients who may wait for their job."""

    def __init__(self, studio: Studio):
        self._studio = studio
        self.waiting = 0  # clients; only the server's event loop changes it

    def job(self, job_id: str) -> JobStatus:
        status = self._studio.job(check_id(job_id))
        if status is None:
            raise RequestError(f"no job has the id {job_id}")
        return status

    async def submit(self, submit: Callable[[], str], wait: bool) -> JobStatus:
        """Queue a job by `submit`. Returns its status at its end, or at once if the client does not wait."""
        zero_gpu = self._studio.config.zero_gpu
        if zero_gpu and not wait:
            raise RequestError("the device is lent to a call for as long as it waits: ask with wait=true")
        with self._count_waiting() if wait else contextlib.nullcontext():
            job_id = await run_in_threadpool(submit)
            if zero_gpu:
                await run_in_threadpool(self._studio.drain)
            job, end = await run_in_threadpool(self.job, job_id), time.monotonic() + MOST_SECONDS
            while wait and job.open and job.state != INTERRUPTED:
                if time.monotonic() > end:
                    raise RequestError(f"the job {job_id} takes long: it goes on, ask /job for it")
                await asyncio.sleep(LOOK_SECONDS)
                job = await run_in_threadpool(self.job, job_id)
        if wait:
            _check_done(job)
        return job

    @contextlib.contextmanager
    def _count_waiting(self) -> Iterator[None]:
        if self.waiting >= MOST_WAITING:
            raise RequestError(f"{MOST_WAITING} clients wait for videos already: ask with wait=false, then with /job")
        self.waiting += 1
        try:
            yield
        finally:
            self.waiting -= 1


def _check_done(job: JobStatus) -> None:
    row = job.row
    if row.state == FAILED:
        raise RequestError(row.error or "the job failed")
    if row.state == CANCELLED:
        raise RequestError(f"the job {row.id} was cancelled")
    if row.state == INTERRUPTED:
        raise RequestError(f"the job {row.id} was interrupted: {row.error}")


def extend_from(
    studio: Studio,
    clip_id: Any,
    file: Any,
    prompts: Any,
    count: Any,
    *,
    change: Callable[[Request], Request],
    seed: Any,
    strategy: Any,
    fit: Any,
) -> str:
    """Queue an extension of a clip or an uploaded file. Returns the job's id. change: sets the request's options."""
    if (clip_id is None) == (file is None):
        raise RequestError("it is not clear what to go on from: give either the id of a clip or a file")
    values = {} if strategy is None else {"strategy": strategy}
    if file is None:
        stored = studio.gallery.require(check_id(clip_id))
        segments = _segments(prompts, count, last_prompt(stored.recipe), seed)
        return studio.long_videos.extend(stored.id, segments, change=change, **values)
    segments = _segments(prompts, count, None, None)
    request = change(Request(segments[0].prompt, seed=seed))
    path = _uploaded(file)
    try:
        start, _ = studio.long_videos.start_from_file(path, fit)
    except LavieError as error:
        raise RequestError(strip_folders(str(error), path)) from None
    plan = replace(plan_of([segments[0].prompt], **values), segments=tuple(segments))
    return studio.long_videos.submit(request, plan, start=start)


def join_from(studio: Studio, sources: Any, prompts: Any, **options: Any) -> str:
    """Queue a join of clips and uploaded files. Returns the job's id. options: fields of `JoinRequest`."""
    if not isinstance(sources, list):
        raise RequestError(f"sources are {short(sources)}: give a list of ids of clips and of uploaded files")
    found = [_source(studio, source) for source in sources]
    try:
        return studio.long_videos.join(found, _texts(prompts), **options)
    except LavieError as error:
        files = (source for source in found if isinstance(source, Path))
        raise RequestError(strip_folders(str(error), *files)) from None


def _source(studio: Studio, source: Any) -> str | Path:
    """The id of a clip, or the path of an uploaded file. A text is never a path."""
    return studio.gallery.require(check_id(source)).id if isinstance(source, str) else _uploaded(source)


def _segments(prompts: Any, count: Any, last: str | None, seed: Any) -> list[Segment]:
    """Segments to add. last: the prompt if none is given; None requires prompts."""
    texts = _texts(prompts)
    if not texts and last is None:
        raise RequestError("nothing says what the video goes on with: give prompts")
    return segments_of(texts or [last or ""], count, seed)


def _texts(prompts: Any) -> list[str]:
    if prompts is None:
        return []
    if not (isinstance(prompts, list) and all(isinstance(one, str) for one in prompts)):
        raise RequestError(f"prompts are {short(prompts)}: give a list of texts")
    return prompts


def _uploaded(file: Any) -> Path:
    """The path of an uploaded file. Gradio checks typed files only, so that the path is checked here."""
    given = file.get("path") if isinstance(file, dict) else None
    if not isinstance(given, str) or "\0" in given:
        raise RequestError(f"file is {short(file)}: upload one, as with handle_file of gradio_client")
    path = Path(given).resolve()
    if not path.is_relative_to(Path(get_upload_folder()).resolve()) or not path.is_file():
        raise RequestError(f"{short(Path(given).name)} was not uploaded here: upload it, as with handle_file")
    return path


# No `from __future__ import annotations` here: gradio reads the types of endpoints, not their names.
