"""The named endpoints of the HTTP interface: what scripts ask the studio for, over gradio's own API and as MCP tools.

A function that is an endpoint documents itself: gradio shows its docstring and its types. Each answers with JSON
values or with one line that says what is wrong. A job does not hang on who waits for it. See docs/api.md.
"""
# No `from __future__ import annotations` here: gradio reads the types of endpoints, not their names.

import functools
import json
import typing
from typing import Any

from app.cli.options import with_options
from app.gallery import Query
from app.gallery.values import check_id
from app.queue.status import JobStatus
from app.studio import Studio
from app.ui.api.errors import answering, check_count
from app.ui.api.facts import clip_facts, job_facts, proof_facts
from app.ui.api.long_video import extend_from, join_from
from app.ui.api.waiting import WaitedQueue
from lavie.errors import RequestError, short
from lavie.request import Request

if typing.TYPE_CHECKING:
    import gradio as gr

NAMES = ("render", "extend", "join", "regenerate", "job", "cancel", "search", "clip")


def create_api(page: "gr.Blocks", studio: Studio) -> None:
    """Add the endpoints to the open page, behind all that is laid out on it."""
    import gradio as gr

    page.validate_inputs = check_count
    for event in page.fns.values():  # whatever a tab forgot to say: what serves the page is no endpoint and no tool
        event.api_visibility = "private"
    endpoints = Endpoints(studio)
    for name in NAMES:
        # None of them occupies the device: the worker does, one job after another.
        gr.api(answering(getattr(endpoints, name), studio), api_name=name, queue=False, concurrency_limit=None)


class Endpoints:
    """What each endpoint does. Raises LavieError with one line for the client."""

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
        request = with_options(
            Request(prompt, seed=seed, width=width, height=height, frames=frames, fps=fps),
            negative=negative,
            steps=steps,
            sampler=sampler,
            guidance=guidance,
            interpolate=interpolate,
            upscale=upscale,
        )
        return _given_out(await self._queue.made(lambda: self._studio.submit(request), wait), wait)

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
        begin = functools.partial(
            extend_from, self._studio, id, file, prompts, segments, seed=seed, strategy=strategy, fit=fit
        )
        given = {"steps": steps, "sampler": sampler, "guidance": guidance}
        given |= {"interpolate": interpolate or None, "upscale": upscale or None}
        return _given_out(
            await self._queue.made(lambda: begin(lambda request: with_options(request, **given)), wait), wait
        )

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
        request = with_options(
            Request("any", seed=seed),  # its prompt is not read
            steps=steps,
            sampler=sampler,
            guidance=guidance,
            interpolate=interpolate,
            upscale=upscale,
        )
        asked = {"frames": frames, "request": request, "fit": fit, "strategy": strategy}
        return _given_out(
            await self._queue.made(lambda: join_from(self._studio, sources, prompts, **asked), wait), wait
        )

    async def regenerate(self, id: str, wait: bool = True) -> dict[str, Any]:
        """Make a stored clip again from its recipe and say whether it is the same, bit for bit, or what differs.

        Parameters:
            id: Of the clip.
            wait: Answer when it is made. False: answer at once with the job, whose proof /job will tell.

        Returns:
            The proof: identical, psnr (dB, null where identical), differences (name, was, now), summary; or the job.
        """
        _check_switches(wait=wait)
        job = await self._queue.made(lambda: self._studio.regenerate(check_id(id)), wait)
        return {"job": job.row.id, **proof_facts(job)} if wait else job_facts(job)

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
        page = self._studio.gallery.page(query, after, limit)
        clips = [clip_facts(clip) for clip in page.clips]
        return {"clips": clips, "next": page.next, "total": page.total, "total_is_exact": page.total_is_exact}

    def clip(self, id: str) -> dict[str, Any]:
        """Tell everything about a stored clip, with the recipe that makes it again.

        Parameters:
            id: Of the clip.

        Returns:
            What /search tells of it, and recipe.
        """
        stored = self._studio.gallery.require(check_id(id))
        return {**clip_facts(stored), "recipe": json.loads(stored.recipe_json)}


def _given_out(job: JobStatus, wait: bool) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """What is told of a job that makes a clip, and its file once it is there."""
    if not wait:
        return job_facts(job), None
    if job.clip is None:
        raise RequestError(f"the clip {job.row.id} was removed before it could be given out")
    file = {"path": job.clip.path, "orig_name": f"{job.clip.id}.mp4", "meta": {"_type": "gradio.FileData"}}
    return clip_facts(job.clip), file


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
