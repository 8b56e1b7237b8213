"""The first page: a prompt and three switches in, a video out. Shows how a job stands by asking the studio.

Knows widgets and `Studio`. The job does not hang on the page: it goes on when the tab closes, and is shown again to the
browser that comes back.
"""

from __future__ import annotations

import base64
import html
import io
import typing

from app.job_row import DONE, FAILED, INTERRUPTED, PAUSED, QUEUED
from app.studio import Snapshot, Studio
from app.watching import stages_of
from lavie.errors import LavieError, RequestError
from lavie.events import BASE, INTERPOLATION, SUPER_RESOLUTION
from lavie.request import Interpolation, Request, SuperResolution

if typing.TYPE_CHECKING:
    import gradio as gr
    import numpy as np

POLL_SECONDS = 0.5
STAGE_LABELS = {BASE: "Base", INTERPOLATION: "Smooth", SUPER_RESOLUTION: "Upscale"}  # in the order they run


def create_tab(page: gr.Blocks, studio: Studio) -> None:
    """Lay out the tab inside the open `page` and wire it to the studio."""
    import gradio as gr

    with gr.Row():
        with gr.Column():
            prompt = gr.Textbox(label="Prompt", lines=3, placeholder="a red star spinning on a navy background")
            seed = gr.Textbox(label="Seed", placeholder="empty: a new one each time", max_lines=1)
            with gr.Row():
                # A switch that cannot be turned off, to show that there is always a base stage.
                gr.Checkbox(label=STAGE_LABELS[BASE], value=True, interactive=False)
                smooth = gr.Checkbox(label=STAGE_LABELS[INTERPOLATION], info="four times the frame rate")
                upscale = gr.Checkbox(label=STAGE_LABELS[SUPER_RESOLUTION], info="four times the size")
            with gr.Row():
                generate = gr.Button("Generate", variant="primary")
                cancel = gr.Button("Cancel", interactive=False)
        with gr.Column():
            video = gr.Video(label="Video", interactive=False, buttons=["download"], loop=True, autoplay=True)
            status = gr.HTML()

    # Key and secret are fixed so that a value outlives a restart of the server. It holds an id, and keeps no secret.
    mine = gr.BrowserState(None, storage_key="lavie-job", secret="lavie-job")
    timer = gr.Timer(POLL_SECONDS, active=False)
    shown = [status, video, generate, cancel, timer]

    def submit(prompt: str, seed: str, smooth: bool, upscale: bool, job_id: str | None):
        current = studio.job(job_id)
        if current and current.open:  # the Enter key works while the button is off: one job a page
            return gr.skip(), *_widgets(current)
        try:
            job_id = studio.submit(_request(prompt, seed, smooth, upscale))
        except LavieError as error:
            return gr.skip(), _alert(str(error)), *[gr.skip()] * 4
        return job_id, *_widgets(studio.job(job_id))

    def follow(job_id: str | None):
        job = studio.job(job_id)
        return _widgets(job) if job else _idle()

    def stop(job_id: str | None):
        if job_id:
            studio.cancel(job_id)
        return follow(job_id)

    # Quick calls that only ask or tell the worker: none needs a place in gradio's own queue.
    quick = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    asked = [prompt, seed, smooth, upscale, mine]
    gr.on([generate.click, prompt.submit, seed.submit], submit, asked, [mine, *shown], **quick)
    cancel.click(stop, mine, shown, **quick)
    timer.tick(follow, mine, shown, **quick)
    page.load(follow, mine, shown, **quick)


def _request(prompt: str, seed: str, smooth: bool, upscale: bool) -> Request:
    """The request that the widgets describe. Raises RequestError."""
    text = (seed or "").strip()
    if text and not (text.isascii() and text.isdigit()):
        raise RequestError(f"seed is {text!r}: give a whole number, or leave it empty")
    return Request(
        prompt or "",
        seed=int(text) if text else None,
        interpolation=Interpolation() if smooth else None,
        super_resolution=SuperResolution() if upscale else None,
    )


def _idle():
    """No job to show, or one that went with an earlier run of the studio."""
    import gradio as gr

    return gr.skip(), gr.skip(), gr.Button(interactive=True), gr.Button(interactive=False), gr.Timer(active=False)


def _widgets(job: Snapshot):
    """What the page shows of a job: status, video, the two buttons, and whether to ask again."""
    import gradio as gr

    return (
        _status(job),
        job.clip.path if job.clip else None,
        gr.Button(interactive=not job.open),
        gr.Button(interactive=job.open and not job.stopping),
        gr.Timer(active=job.open),
    )


def _status(job: Snapshot) -> str:
    """The job as HTML: notices, then how it stands. Everything from outside is escaped."""
    row = job.row
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in row.notices)
    if job.state == FAILED:
        return notes + _alert(row.error)
    if not job.open:
        return f'{notes}<p role="status">{html.escape(_outcome(job))}</p>'
    words = {QUEUED: "Waiting for its turn …", PAUSED: "Paused.", INTERRUPTED: "Interrupted."}
    head = words.get(job.state) or ("Working …" if row.stage else "Loading the model …")
    head = "Stopping after this step …" if job.stopping else head
    return f'{notes}<p role="status">{head}</p>{_bars(job)}{_preview(job.preview)}'


def _outcome(job: Snapshot) -> str:
    if job.clip is None:
        return "Removed from the gallery since." if job.state == DONE else "Cancelled."
    clip = job.clip
    return (
        f"Seed {clip.seed} · {clip.frames} frames · {clip.width} × {clip.height} · {clip.fps:g} frames a second · "
        f"made in {clip.seconds:.1f} s"
    )


def _bars(job: Snapshot) -> str:
    """A bar for each stage of the job: full before the one under way, empty after it."""
    row = job.row
    stages = stages_of(row.job.request)
    current = stages.index(row.stage) if row.stage in stages else -1
    rows = []
    for place, stage in enumerate(stages):
        name = STAGE_LABELS[stage]
        share, words = (1.0, "done") if place < current else (0.0, "")
        if place == current:
            share, words = row.step / max(row.steps, 1), f"{row.step} / {row.steps}"
        bar = f'<progress aria-label="{name}" value="{share:.3f}" max="1"></progress>'
        rows.append(f'<div class="lv-stage"><span>{name}</span>{bar}<span>{words}</span></div>')
    return "".join(rows)


def _preview(frames: np.ndarray | None) -> str:
    """The middle frame as a tiny inline PNG that the browser enlarges: no file is written for each step."""
    if frames is None:
        return ""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(frames[len(frames) // 2]).save(buffer, format="PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img class="lv-preview" alt="Preview of the middle frame" src="data:image/png;base64,{data}">'


def _alert(message: str) -> str:
    return f'<p class="lv-error" role="alert">{html.escape(message)}</p>'
