"""The studio's state as HTML fragments: pure functions of a state and one language's words.

Texts of people, files and models are escaped here. `assets/studio.js` fills each fragment into the slots (`data-live`)
of its name. A button's `data-act` names the action, its `data-id` the job.
"""

from __future__ import annotations

import base64
import html
import io
import json
import typing
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from app.gallery import Clip
from app.models.catalog import format_bytes
from app.models.jobs import STOPPING, Standing
from app.queue.status import JobStatus
from app.recipes.job_row import (
    CANCELLED,
    CANDIDATES,
    DONE,
    FAILED,
    INTERRUPTED,
    PAUSED,
    QUEUED,
    RENDER,
    RUNNING,
    TRAIN,
    JobRow,
)
from app.recipes.recipe import Recipe
from app.recipes.training import TRAINING
from app.ui.i18n import Words
from app.ui.state import StudioState, TimeLeft
from extensions.long_video.join_plan import JoinPlan
from extensions.long_video.plan import SegmentPlan
from lavie.errors import LavieError
from lavie.request import STAGES, Request

PREVIEW_FPS = 8
MAX_ALT = 200  # characters of a prompt that name a picture
STAGE_KEYS = dict(zip((*STAGES, TRAINING), ("base", "smooth", "upscale", "training"), strict=True))
_MINUTE, _HOUR = 60, 60  # seconds, minutes


def fragments(state: StudioState, say: Words) -> dict[str, typing.Any]:
    """Slot → its HTML. Other values: `sprite`, the preview's frames; `language`; the revisions `changed` and `part`."""
    current = state.current
    return {
        "status": _status(state, say),
        "head": _head(current, say) if current else quiet(say("result_empty")),
        "picture": _picture(current, say) if current else '<div class="lv-screen"></div>',
        "bars": _bars(current, state.left, say) if current and current.state == RUNNING else "",
        "queue": _queue(state, say),
        "sprite": _sprite(current.preview) if current and current.preview is not None else None,
        "changed": state.revision,
        "part": state.part_revision,
        "language": say.language,
        "weights": weights_progress(state.weights, say),
    }


def duration(seconds: float, say: Words) -> str:
    """Seconds in words: 8 s, 3 min, 2 h 5 min."""
    seconds, minutes = max(1, round(seconds)), round(seconds / _MINUTE)
    if seconds < _MINUTE:
        return say("seconds", n=seconds)
    if minutes < _HOUR:
        return say("minutes", n=minutes)
    return say("hours", h=minutes // _HOUR, m=minutes % _HOUR)


def format_memory(count: int) -> str:
    """A size in GiB, MiB or KiB."""
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count / 2**10:.0f} KiB"


def format_minute(moment: str) -> str:
    """An ISO 8601 time to the minute: 2026-01-31 12:30."""
    return moment[:16].replace("T", " ")


def alert(message: str) -> str:
    return f'<p class="lv-alert" role="alert">{html.escape(message)}</p>'


def quiet(words: str) -> str:
    return f'<p class="lv-quiet">{html.escape(words)}</p>'


def status(words: str, style: str = "lv-note") -> str:
    """News, which a screen reader tells."""
    return f'<p class="{style}" role="status">{html.escape(words)}</p>'


def listed(words: str, lines: Iterable[str], style: str = "lv-note") -> str:
    """News with a list below."""
    rows = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f'<div class="{style}" role="status">{html.escape(words)}<ul>{rows}</ul></div>'


def fold(summary: str, content: str, more: str = "") -> str:
    """HTML that is folded away under a summary. more: further attributes."""
    return f"<details{more}><summary>{html.escape(summary)}</summary>{content}</details>"


def table(rows: Iterable[tuple[str, ...]]) -> str:
    """A row is a name and its values."""
    return f'<table class="lv-table">{"".join(table_row(*row) for row in rows)}</table>'


def table_row(name: str, *values: str) -> str:
    cells = "".join(f"<td>{html.escape(value)}</td>" for value in values)
    return f'<tr><th scope="row">{html.escape(name)}</th>{cells}</tr>'


def data_attributes(**data: object) -> str:
    return "".join(f' data-{name}="{html.escape(str(value))}"' for name, value in data.items())


def named(label: str) -> str:
    """The attributes of an element without words: its name, for screen readers and under the pointer."""
    return f'aria-label="{html.escape(label)}" title="{html.escape(label)}"'


def action_button(act: str, inside: str, style: str = "lv-button", more: str = "", **data: object) -> str:
    """A button of a panel with HTML inside. more: further attributes. data: see `data_attributes`."""
    more = f" {more}" if more else ""
    return f'<button type="button" class="{style}" data-act="{act}"{data_attributes(**data)}{more}>{inside}</button>'


def button(act: str, say: Words, **data: object) -> str:
    """The button of an action that has the word `act_<name>`."""
    return action_button(act, html.escape(say(f"act_{act}")), "lv-button", "", **data)


def media(clip_id: str, kind: str = "mp4") -> str:
    """URL of a clip's file. kind: `mp4`, `poster.webp` or `preview.webp`."""
    return f"studio/media/{html.escape(clip_id)}.{kind}"


def poster(clip_id: str) -> str:
    """A clip's still, which says nothing that is not in words beside it."""
    return f'<img alt="" src="{media(clip_id, "poster.webp")}" loading="lazy">'


def moving_picture(clip: Clip) -> str:
    """A clip's still, in whose place the script plays the moving one."""
    still, moving = media(clip.id, "poster.webp"), media(clip.id, "preview.webp")
    alt = html.escape(clip.prompt[:MAX_ALT])
    return f'<img src="{still}" data-still="{still}" data-moving="{moving}" alt="{alt}" loading="lazy">'


def strip_folders(message: str, *paths: Path | str) -> str:
    """The message with names of files in place of their paths."""
    for path in paths:
        message = message.replace(str(path), Path(path).name)
    return message


def _status(state: StudioState, say: Words) -> str:
    kind, words = "ready", say("state_idle")
    if state.current and state.current.state == RUNNING:
        row = state.current.row
        stage = say(STAGE_KEYS[row.stage]) if row.stage else say("state_running")
        where = f"{row.part} / {row.parts} · {row.step} / {row.steps}" if row.parts else f"{row.step} / {row.steps}"
        kind, words = "busy", f"{stage} {where}" if row.stage else stage
    elif state.model == "loading":
        kind, words = "busy", say("state_model_loading")
    elif state.model != "ready":
        kind, words = "wrong", f"{say('state_model_failed')}: {state.model}"
    waiting = f" · {say('queue_count', count=_waiting_count(state))}" if _waiting_count(state) else ""
    lost = html.escape(say("state_lost"))  # the style sheet shows it while the page has no connection
    return f'<span class="lv-chip lv-{kind}" data-lost="{lost}">{html.escape(words)}{html.escape(waiting)}</span>'


def _head(job: JobStatus, say: Words) -> str:
    row = job.row
    notes = "".join(f'<p class="lv-note">{html.escape(note)}</p>' for note in row.notices)
    prompt = f'<p class="lv-prompt">{html.escape(row.prompt)}</p>'
    return f'{prompt}{notes}{job_state(job, say)}<div class="lv-actions">{actions(job, say)}</div>'


def job_state(job: JobStatus, say: Words) -> str:
    """The job's state as a paragraph; an error where it failed."""
    if job.state == FAILED:
        return alert(job.row.error or say("state_failed"))
    return status(job_words(job, say), "lv-state")


def part_words(row: JobRow, say: Words) -> str:
    """The current segment, transition, window or candidate of a long video, in words."""
    of_base = "part_transition" if isinstance(_long(row), JoinPlan) else "part_segment"
    key = of_base if row.stage == STAGES[0] else "part_window"
    return say("part_candidate" if row.kind == CANDIDATES else key, part=row.part, parts=row.parts)


def job_words(job: JobStatus, say: Words) -> str:
    row = job.row
    if row.kind == CANDIDATES and row.state == DONE:
        return say("candidates_done")
    if row.kind == TRAIN and row.state == DONE:
        return say("training_done", name=json.loads(row.result or "")["name"])
    if job.clip is not None:
        clip = job.clip
        facts = {"seed": clip.seed, "frames": clip.frames, "width": clip.width, "height": clip.height}
        return say("result", **facts, fps=f"{clip.fps:g}", seconds=f"{clip.seconds:.1f}")
    if job.comparison is not None:
        return say("proof_identical") if job.comparison.identical else say("proof_differs", proof=job.comparison)
    if row.state == RUNNING:
        asked = {"cancel": "state_stopping", "pause": "state_stopping", "keep": "state_keeping"}.get(row.asked or "")
        if asked is None and row.stage and row.parts:
            return say("state_writing") if 0 < row.steps == row.step else f"{part_words(row, say)} …"
        return say(asked or ("state_running" if row.stage else "state_loading"))
    key = {DONE: "state_gone"}.get(row.state, f"state_{row.state}")
    return f"{say(key)} {row.error or ''}".strip() if row.state == INTERRUPTED else say(key)


def actions(job: JobStatus, say: Words) -> str:
    """Buttons of a job that is not waiting."""
    row = job.row
    if row.state == RUNNING and row.asked is None:
        keep = [button("keep", say, id=row.id)] if _has_finished_stage(row) else []
        return "".join([button("cancel", say, id=row.id), button("pause", say, id=row.id), *keep])
    if row.state in (FAILED, CANCELLED):
        return button("retry", say, id=row.id)
    if job.clip is not None or job.comparison is not None:
        return button("open", say, id=job.clip.id if job.clip else row.parent)
    return ""


def _has_finished_stage(row: JobRow) -> bool:
    """Whether stopping now leaves a clip: a finished stage, or finished segments of a long video."""
    return row.kind == RENDER and (row.stage in STAGES[1:] or row.part > 1)


def _picture(job: JobStatus, say: Words) -> str:
    """The running job's preview or the finished clip, with the clip's aspect ratio so that the page does not jump."""
    request = _request(job.row)
    shape = f"{request.width} / {request.height}" if request and request.width and request.height else "3 / 2"
    inside = ""
    if job.state == RUNNING:
        inside = f'<canvas data-sprite role="img" aria-label="{html.escape(say("preview"))}"></canvas>'
    elif job.clip is not None:
        clip = job.clip
        source, poster = media(clip.id), media(clip.id, "poster.webp")
        inside = f'<video src="{source}" poster="{poster}" controls loop autoplay muted playsinline></video>'
    return f'<div class="lv-screen" style="aspect-ratio: {shape}">{inside}</div>'


def _request(row: JobRow) -> Request | None:
    try:
        return Recipe.from_json(row.recipe).request if row.recipe else row.job.request
    except LavieError:
        return None


def _bars(job: JobStatus, left: TimeLeft | None, say: Words) -> str:
    """Progress bars: of the long video's part, of each stage, and of the whole job."""
    row, request = job.row, _request(job.row)
    stages = (TRAINING,) if row.kind == TRAIN else request.stages if request else ()
    current = stages.index(row.stage) if row.stage in stages else -1
    rows = []
    if row.parts and current >= 0:
        words = say("bar_left", time=duration(left.part, say)) if left and left.part is not None else ""
        rows.append(bar(part_words(row, say), (row.part - 1) / row.parts, words))
    for place, stage in enumerate(stages):
        share, words = (1.0, say("bar_done")) if place < current else (0.0, "")
        if place == current:
            share, words = row.step / max(row.steps, 1), f"{row.step} / {row.steps}"
            words += f" · {say('bar_left', time=duration(left.stage, say))}" if left else ""
        rows.append(bar(say(STAGE_KEYS[stage]), share, words))
    if len(stages) > 1 and current >= 0:
        share = (current + row.step / max(row.steps, 1)) / len(stages)
        share = left.share if left and left.share is not None else share
        words = say("bar_left", time=duration(left.whole, say)) if left and left.whole is not None else ""
        rows.append(bar(say("bar_whole"), share, words))
    return "".join(rows)


def bar(name: str, share: float, words: str) -> str:
    """A labelled progress bar with words behind it. share: 0 … 1."""
    filled = f'<progress aria-label="{html.escape(name)}" value="{share:.3f}" max="1"></progress>'
    return f'<div class="lv-bar"><span>{html.escape(name)}</span>{filled}<span>{html.escape(words)}</span></div>'


def _sprite(frames: np.ndarray) -> dict[str, typing.Any]:
    """The preview's frames (F H W 3, uint8) below each other in one inline PNG."""
    count, height, width, _ = frames.shape
    buffer = io.BytesIO()
    Image.fromarray(frames.reshape(count * height, width, 3)).save(buffer, format="PNG", compress_level=1)
    source = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return {"src": source, "frames": count, "fps": PREVIEW_FPS}


def _waiting_count(state: StudioState) -> int:
    return sum(state.counts[name] for name in (QUEUED, PAUSED, INTERRUPTED))


def _queue(state: StudioState, say: Words) -> str:
    waiting = _waiting_count(state)
    paused = status(say("queue_paused")) if state.paused else ""
    buttons = [button("resume_queue" if state.paused else "pause_queue", say)]
    buttons += [button("cancel_all", say, sure=say("sure_cancel_all"))] if waiting else []
    head = f'<div class="lv-head"><h2>{say("queue")}</h2><div class="lv-actions">{"".join(buttons)}</div></div>{paused}'
    if not waiting:
        return head + quiet(say("queue_empty"))
    words = say("queue_count", count=waiting)
    if state.waiting_seconds is not None:
        words = say("queue_time", count=waiting, time=duration(state.waiting_seconds, say))
    rows = "".join(_job(row, say) for row in state.line)
    hidden = waiting - len(state.line)
    more = quiet(say("queue_more", count=hidden)) if hidden > 0 else ""
    return f'{head}{quiet(words)}<ol class="lv-jobs">{rows}</ol>{more}'


def _job(row: JobRow, say: Words) -> str:
    names = ["front", "up", "down", "edit", "duplicate", "pause" if row.state == QUEUED else "resume", "remove"]
    request, long = _request(row), _long(row)
    if row.kind != RENDER or row.state != QUEUED or long:
        names.remove("edit")
    buttons = "".join(button(name, say, id=row.id) for name in names)
    stages = " + ".join(say(STAGE_KEYS[stage]) for stage in request.stages) if request else ""
    facts = [stages if row.kind == RENDER else say(f"kind_{row.kind}")]
    facts += [] if long is None else [_length(long, say)]
    facts += [] if request is None or request.seed is None else [f"{say('seed')} {request.seed}"]
    facts += [] if row.state == QUEUED else [_waiting_words(row, say)]
    thumbnail = poster(row.parent) if row.parent else "<span></span>"
    words = f'<p class="lv-prompt">{html.escape(row.prompt)}</p>{quiet(" · ".join(facts))}'
    return f'<li class="lv-job">{thumbnail}<div>{words}</div><div class="lv-actions">{buttons}</div></li>'


def _long(row: JobRow) -> SegmentPlan | JoinPlan | None:
    """The plan of a long video; None for a short clip or a job that cannot be read."""
    try:
        return row.job.long
    except LavieError:
        return None


def _length(long: SegmentPlan | JoinPlan, say: Words) -> str:
    if isinstance(long, JoinPlan):
        return say("lead_count", count=len(long.shots))
    return say("long_segments_count", count=len(long.segments))


def _waiting_words(row: JobRow, say: Words) -> str:
    words = say(f"state_{row.state}")
    return f"{words} {row.error}" if row.error else words


def weights_progress(standing: Standing, say: Words) -> str:
    """Progress of the job on the published weights; empty when none runs."""
    if not standing.under_way:
        return ""
    share = standing.done / standing.total if standing.total else 0.0
    shown = bar(say(f"weights_{standing.work}"), share, f"{share:.0%}" if standing.total else "")
    return shown + quiet(" · ".join(_weights_facts(standing, say)))


def _weights_facts(standing: Standing, say: Words) -> list[str]:
    if standing.state == STOPPING:
        return [say("weights_stopping")]
    if not standing.total:
        return [say("weights_looking")]
    name = say("weights_comparing", file=standing.name) if standing.comparing else standing.name
    facts = [name, say("free_of", free=format_bytes(standing.done), total=format_bytes(standing.total))]
    facts += [say("weights_rate", size=format_bytes(standing.rate))] if standing.rate else []
    if standing.seconds_left is not None:
        facts.append(say("bar_left", time=duration(standing.seconds_left, say)))
    return facts
