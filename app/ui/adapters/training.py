"""A training on its way, as HTML: how it stands, its loss, its samples, its last files. Pure functions."""

from __future__ import annotations

import html
import typing
from collections.abc import Sequence

from app.queue.job import CANCELLED, DONE, FAILED, INTERRUPTED, PAUSED, QUEUED, RUNNING, JobRow
from app.queue.status import JobStatus
from app.ui.adapters.plot import loss_plot
from app.ui.adapters.view_model import WATCHED, Watched
from app.ui.html import alert, button, duration, job_words
from app.ui.i18n import Words
from app.ui.panels import answered, editing, options

if typing.TYPE_CHECKING:
    from app.storage.training_folder import Checkpoint, Sample
    from app.training.service import TrainingProgress

_COLUMNS = 8  # steps that are shown, the first and the last ones
_ACTS = {
    RUNNING: ("cancel", "pause"),
    QUEUED: ("cancel", "pause"),
    PAUSED: ("resume", "cancel"),
    INTERRUPTED: ("resume", "cancel"),
    FAILED: ("retry",),
    CANCELLED: ("retry",),
}


def watched(of: Watched, say: Words) -> str:
    """The whole board; nothing as long as there was no training."""
    if not of.known:
        return answered(of.view.refused, of.view.said_on(WATCHED))
    head = f'<div class="lv-head"><h2>{html.escape(say("trainings"))}</h2>{_choose(of, say)}</div>'
    inside = _one(of, of.progress, say) if of.progress is not None else ""
    return answered(of.view.refused, f"{head}{of.view.said_on(WATCHED)}{inside}")


def sample(job_id: str, name: str) -> str:
    """The address of a sample. See `app.ui.adapters.files`."""
    return f"studio/training/{html.escape(job_id)}/samples/{html.escape(name)}"


def _choose(of: Watched, say: Words) -> str:
    chosen = of.progress.row.id if of.progress else ""
    known = of.known if of.progress else [("", say("train_choose")), *of.known]
    label = html.escape(say("train_choose"))
    return f'<select class="lv-field" aria-label="{label}" {editing("training")}>{options(known, chosen)}</select>'


def _one(of: Watched, found: TrainingProgress, say: Words) -> str:
    row, training = found.row, found.training
    facts = [say(f"train_{training.preset}"), say("train_media_count", count=len(training.media))]
    about = f'<p class="lv-quiet">{html.escape(" · ".join(facts))}</p>'
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in row.notices)
    summary = f"<summary>{html.escape(say('train_notes'))}</summary>"
    notes = f'<details data-fold="notes">{summary}<ul>{notes}</ul></details>' if notes else ""
    running = " data-running" if of.running else ""
    plot = loss_plot(found.losses, row.steps, say)
    shown = f"{plot}{_grid(row.id, found, say)}{_files(row.id, found.checkpoints, say)}{notes}"
    above = f"{about}{_state(found, say)}{_result(of, say)}{_acts(row, say)}"
    return f'<div class="lv-training"{running}>{above}{shown}</div>'


def _state(found: TrainingProgress, say: Words) -> str:
    row = found.row
    if row.state == FAILED:
        return alert(row.error or say("state_failed"))
    words = job_words(JobStatus(row), say)
    if row.state in (PAUSED, INTERRUPTED, CANCELLED) and found.stored:
        words = f"{words} {say('train_stored', step=found.stored)}"
    if found.eta_seconds is not None:
        words = f"{words} {say('bar_left', time=duration(found.eta_seconds, say))}"
    return f'<p class="lv-state" role="status">{html.escape(words)}</p>'


def _result(of: Watched, say: Words) -> str:
    """The adapter that came of it, one click from its use."""
    if of.adapter is None:
        return ""
    words = html.escape(say("train_use"))
    return (
        f'<button type="button" class="lv-button lv-main" data-act="wear" data-id="{of.adapter.sha256}">'
        f"{words}</button>"
    )


def _acts(row: JobRow, say: Words) -> str:
    acts = [] if row.asked is not None else list(_ACTS.get(row.state, ()))
    buttons = "".join(button(act, say, id=row.id) for act in acts)
    if row.state in (DONE, FAILED, CANCELLED):
        buttons += button("away", say, id=row.id)
        buttons += button("forget", say, id=row.id, sure=say("train_sure_forget"))
    return f'<div class="lv-actions">{buttons}</div>'


def _grid(job_id: str, found: TrainingProgress, say: Words) -> str:
    """What the network made of the same prompts and seeds: a step a column, a prompt a row."""
    columns = _columns(found.samples)
    if not columns:
        return ""
    heads = "".join(f'<th scope="col">{html.escape(say("train_step", step=one.step))}</th>' for one in columns)
    rows = "".join(
        f"<tr>{''.join(_cell(job_id, one, number, say) for one in columns)}</tr>"
        for number in range(max(len(one.videos) for one in columns))
    )
    label = html.escape(say("train_samples"))
    return (
        f'<h3>{label}</h3><div class="lv-wide" tabindex="0" role="group" aria-label="{label}">'
        f'<table class="lv-samples"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _columns(samples: Sequence[Sample]) -> Sequence[Sample]:
    return samples if len(samples) <= _COLUMNS else [samples[0], *samples[1 - _COLUMNS :]]


def _cell(job_id: str, one: Sample, number: int, say: Words) -> str:
    if number >= len(one.videos):
        return "<td></td>"
    label = html.escape(say("train_sample", number=number + 1, step=one.step))
    source = sample(job_id, one.videos[number].name)
    return f'<td><video src="{source}" autoplay loop muted playsinline aria-label="{label}"></video></td>'


def _files(job_id: str, checkpoints: Sequence[Checkpoint], say: Words) -> str:
    """The last steps that are kept as files; each can be let into the library."""
    if not checkpoints:
        return ""
    known = html.escape(job_id)
    buttons = "".join(
        f'<button type="button" class="lv-button" data-act="take" data-id="{known}" data-n="{one.step}">'
        f"{html.escape(say('train_take', step=one.step))}</button>"
        for one in checkpoints
    )
    return f'<h3>{html.escape(say("train_files"))}</h3><div class="lv-actions">{buttons}</div>'
