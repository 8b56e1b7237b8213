"""What a page shows of the studio, as HTML: pure functions of what is, in the words of one language.

Everything that a person, a file or a model wrote is escaped here. The names of the fragments are those of the slots
(`data-live`) that `assets/studio.js` fills; `data-act` on a button is what it does to the job `data-id`.
"""

from __future__ import annotations

import base64
import html
import io
import json
import typing
from dataclasses import dataclass
from pathlib import Path

from app.queue.job import (
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
from app.recipes.training import TRAINING
from app.ui.i18n import Words
from extensions.long_video.join_plan import JoinPlan
from extensions.long_video.plan import SegmentPlan
from lavie.errors import LavieError
from lavie.request import STAGES

if typing.TYPE_CHECKING:
    import numpy as np

    from app.queue.status import JobStatus
    from app.ui.live import Board

PREVIEW_FPS = 8
STAGE_KEYS = dict(zip((*STAGES, TRAINING), ("base", "smooth", "upscale", "training"), strict=True))
_MINUTE, _HOUR = 60, 60  # seconds, minutes


@dataclass(frozen=True)
class Left:
    """Seconds that are left: of the stage under way, and of the whole job where that is known.

    share: of the whole job's time that has passed, 0 … 1. part: seconds of the segment or window under way of a long
    video.
    """

    stage: float
    whole: float | None = None
    share: float | None = None
    part: float | None = None


def fragments(board: Board, say: Words) -> dict[str, typing.Any]:
    """Slot → what it shows. No HTML: `sprite`, the frames of the preview; `language`, a name; `changed` and `part`,
    other texts whenever something is new (see `live.Board`)."""
    current = board.current
    return {
        "status": _status(board, say),
        "head": _head(current, say) if current else f'<p class="lv-quiet">{say("result_empty")}</p>',
        "picture": _picture(current, say) if current else '<div class="lv-screen"></div>',
        "bars": _bars(current, board.left, say) if current and current.state == RUNNING else "",
        "queue": _queue(board, say),
        "sprite": _sprite(current.preview) if current and current.preview is not None else None,
        "changed": board.changed,
        "part": board.part,
        "language": say.language,
    }


def duration(seconds: float, say: Words) -> str:
    """A time for a person: 8 s, 3 min, 2 h 5 min."""
    seconds, minutes = max(1, round(seconds)), round(seconds / _MINUTE)
    if seconds < _MINUTE:
        return say("seconds", n=seconds)
    if minutes < _HOUR:
        return say("minutes", n=minutes)
    return say("hours", h=minutes // _HOUR, m=minutes % _HOUR)


def alert(message: str) -> str:
    """What went wrong, where it did."""
    return f'<p class="lv-alert" role="alert">{html.escape(message)}</p>'


def button(act: str, say: Words, **data: str) -> str:
    """A button of a board; data: what the event brings along, as `data-…`."""
    known = "".join(f' data-{name}="{html.escape(str(value))}"' for name, value in data.items())
    return f'<button type="button" class="lv-button" data-act="{act}"{known}>{html.escape(say(f"act_{act}"))}</button>'


def media(clip_id: str, kind: str = "mp4") -> str:
    """The address of a clip's file: `mp4`, `poster.webp` or `preview.webp`. See `app.ui.server`."""
    return f"studio/media/{html.escape(clip_id)}.{kind}"


def without_folders(message: str, *paths: Path | str) -> str:
    """A message with the files' names alone: the folders of this machine are nobody else's concern."""
    for path in paths:
        message = message.replace(str(path), Path(path).name)
    return message


def _status(board: Board, say: Words) -> str:
    """One line at the top of the page, the same on every tab."""
    kind, words = "ready", say("state_idle")
    if board.current and board.current.state == RUNNING:
        row = board.current.row
        stage = say(STAGE_KEYS[row.stage]) if row.stage else say("state_running")
        where = f"{row.part} / {row.parts} · {row.step} / {row.steps}" if row.parts else f"{row.step} / {row.steps}"
        kind, words = "busy", f"{stage} {where}" if row.stage else stage
    elif board.model == "loading":
        kind, words = "busy", say("state_model_loading")
    elif board.model != "ready":
        kind, words = "wrong", f"{say('state_model_failed')}: {board.model}"
    waiting = f" · {say('queue_count', count=_waiting(board))}" if _waiting(board) else ""
    lost = html.escape(say("state_lost"))  # shown by the page itself when nobody can tell it anything any more
    return f'<span class="lv-chip lv-{kind}" data-lost="{lost}">{html.escape(words)}{html.escape(waiting)}</span>'


def _head(job: JobStatus, say: Words) -> str:
    """The job's prompt, how it stands, and what can be done about it."""
    row = job.row
    notes = "".join(f'<p class="lv-note">{html.escape(note)}</p>' for note in row.notices)
    prompt = f'<p class="lv-prompt">{html.escape(row.prompt)}</p>'
    if row.state == FAILED:
        said = alert(row.error or say("state_failed"))
    else:
        said = f'<p class="lv-state" role="status">{html.escape(job_words(job, say))}</p>'
    return f'{prompt}{notes}{said}<div class="lv-actions">{actions(job, say)}</div>'


def part_words(row: JobRow, say: Words) -> str:
    """Of a long video: which segment or transition, which window of a later stage, or which candidate is under way."""
    of_base = "part_transition" if isinstance(_long(row), JoinPlan) else "part_segment"
    key = of_base if row.stage == STAGES[0] else "part_window"
    return say("part_candidate" if row.kind == CANDIDATES else key, part=row.part, parts=row.parts)


def job_words(job: JobStatus, say: Words) -> str:
    """How a job stands, or what came of it."""
    row = job.row
    if row.kind == CANDIDATES and row.state == DONE:
        return say("candidates_done")
    if row.kind == TRAIN and row.state == DONE:
        return say("training_done", name=json.loads(row.result)["name"])
    if job.clip is not None:
        clip = job.clip
        facts = {"seed": clip.seed, "frames": clip.frames, "width": clip.width, "height": clip.height}
        return say("result", **facts, fps=f"{clip.fps:g}", seconds=f"{clip.seconds:.1f}")
    if job.proof is not None:
        return say("proof_identical") if job.proof.identical else say("proof_differs", proof=job.proof)
    if row.state == RUNNING:
        asked = {"cancel": "state_stopping", "pause": "state_stopping", "keep": "state_keeping"}.get(row.asked)
        if asked is None and row.stage and row.parts:
            return say("state_writing") if 0 < row.steps == row.step else f"{part_words(row, say)} …"
        return say(asked or ("state_running" if row.stage else "state_loading"))
    key = {DONE: "state_gone"}.get(row.state, f"state_{row.state}")
    return f"{say(key)} {row.error or ''}".strip() if row.state == INTERRUPTED else say(key)


def actions(job: JobStatus, say: Words) -> str:
    """What can be done about a job that is not waiting."""
    row = job.row
    if row.state == RUNNING and row.asked is None:
        keep = [button("keep", say, id=row.id)] if _has_finished_stage(row) else []
        return "".join([button("cancel", say, id=row.id), button("pause", say, id=row.id), *keep])
    if row.state in (FAILED, CANCELLED):
        return button("retry", say, id=row.id)
    if job.clip is not None or job.proof is not None:
        return button("open", say, id=job.clip.id if job.clip else row.parent)
    return ""


def _has_finished_stage(row: JobRow) -> bool:
    """Whether stopping now would leave a clip: of a long video, one of its finished segments."""
    return row.kind == RENDER and (row.stage in STAGES[1:] or row.part > 1)


def _picture(job: JobStatus, say: Words) -> str:
    """The preview while it runs, the clip when it is done; always in the clip's shape, so that nothing jumps."""
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


def _request(row: JobRow):
    from app.recipes.recipe import Recipe

    try:
        return Recipe.from_json(row.recipe).request if row.recipe else row.job.request
    except LavieError:
        return None


def _bars(job: JobStatus, left: Left | None, say: Words) -> str:
    """A bar for each stage: full before the one under way, empty after it; then one for the whole."""
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
    """A line with a bar, 0 … 1, and what stands behind it."""
    filled = f'<progress aria-label="{html.escape(name)}" value="{share:.3f}" max="1"></progress>'
    return f'<div class="lv-bar"><span>{html.escape(name)}</span>{filled}<span>{html.escape(words)}</span></div>'


def _sprite(frames: np.ndarray) -> dict[str, typing.Any]:
    """Frames F h w 3 below each other in one PNG, inline: no file is written for each step."""
    from PIL import Image

    count, height, width, _ = frames.shape
    buffer = io.BytesIO()
    Image.fromarray(frames.reshape(count * height, width, 3)).save(buffer, format="PNG", compress_level=1)
    source = f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return {"src": source, "frames": count, "fps": PREVIEW_FPS}


def _waiting(board: Board) -> int:
    return sum(board.counts[state] for state in (QUEUED, PAUSED, INTERRUPTED))


def _queue(board: Board, say: Words) -> str:
    """The jobs that wait, each with what can be done about it."""
    waiting = _waiting(board)
    paused = f'<p class="lv-note" role="status">{say("queue_paused")}</p>' if board.paused else ""
    acts = [button("resume_queue" if board.paused else "pause_queue", say)]
    acts += [button("cancel_all", say, sure=say("sure_cancel_all"))] if waiting else []
    head = f'<div class="lv-head"><h2>{say("queue")}</h2><div class="lv-actions">{"".join(acts)}</div></div>{paused}'
    if not waiting:
        return f'{head}<p class="lv-quiet">{say("queue_empty")}</p>'
    words = say("queue_count", count=waiting)
    if board.waiting_seconds is not None:
        words = say("queue_time", count=waiting, time=duration(board.waiting_seconds, say))
    rows = "".join(_job(row, say) for row in board.line)
    more = waiting - len(board.line)
    more = f'<p class="lv-quiet">{say("queue_more", count=more)}</p>' if more > 0 else ""
    return f'{head}<p class="lv-quiet">{html.escape(words)}</p><ol class="lv-jobs">{rows}</ol>{more}'


def _job(row: JobRow, say: Words) -> str:
    acts = ["front", "up", "down", "edit", "duplicate", "pause" if row.state == QUEUED else "resume", "remove"]
    request, long = _request(row), _long(row)
    if row.kind != RENDER or row.state != QUEUED or long:
        acts.remove("edit")
    buttons = "".join(button(act, say, id=row.id) for act in acts)
    stages = " + ".join(say(STAGE_KEYS[stage]) for stage in request.stages) if request else ""
    facts = [stages if row.kind == RENDER else say(f"kind_{row.kind}")]
    facts += [] if long is None else [_length(long, say)]
    facts += [] if request is None or request.seed is None else [f"{say('seed')} {request.seed}"]
    facts += [] if row.state == QUEUED else [_waits(row, say)]
    thumbnail = (
        f'<img alt="" src="{media(row.parent, "poster.webp")}" loading="lazy">' if row.parent else "<span></span>"
    )
    return (
        f'<li class="lv-job">{thumbnail}<div><p class="lv-prompt">{html.escape(row.prompt)}</p>'
        f'<p class="lv-quiet">{html.escape(" · ".join(facts))}</p></div><div class="lv-actions">{buttons}</div></li>'
    )


def _long(row: JobRow) -> SegmentPlan | JoinPlan | None:
    """What makes it a long video; None for a clip, and for what cannot be read."""
    try:
        return row.job.long
    except LavieError:
        return None


def _length(long: SegmentPlan | JoinPlan, say: Words) -> str:
    if isinstance(long, JoinPlan):
        return say("lead_count", count=len(long.shots))
    return say("long_segments_count", count=len(long.segments))


def _waits(row: JobRow, say: Words) -> str:
    words = say(f"state_{row.state}")
    return f"{words} {row.error}" if row.error else words
