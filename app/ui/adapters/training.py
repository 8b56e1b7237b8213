"""HTML of a training under way: its state, loss curve, samples and checkpoints. Pure functions."""

from __future__ import annotations

import html
from collections.abc import Sequence

from app.queue.status import JobStatus
from app.recipes.job_row import CANCELLED, DONE, FAILED, INTERRUPTED, PAUSED, QUEUED, RUNNING, JobRow
from app.storage.training_folder import Checkpoint, Loss, Sample
from app.training.service import TrainingProgress
from app.ui.adapters.view_model import TRAINING, WatchedTraining
from app.ui.html import alert, button, duration, job_words
from app.ui.i18n import Words
from app.ui.panels import edit_attributes, options, panel_content

_MAX_COLUMNS = 8  # steps with samples: the first and the last ones
_ACTS = {
    RUNNING: ("cancel", "pause"),
    QUEUED: ("cancel", "pause"),
    PAUSED: ("resume", "cancel"),
    INTERRUPTED: ("resume", "cancel"),
    FAILED: ("retry",),
    CANCELLED: ("retry",),
}
_WIDTH, _HEIGHT, _LEFT, _BELOW, _ABOVE = 640, 190, 64, 26, 14  # of the loss plot and its margins
_MAX_POINTS = 400  # of a line
_SMOOTHING = 0.6  # weight of the smoothed value so far at each point


def render_training(watched: WatchedTraining, say: Words) -> str:
    """The panel of a training; empty while there is none."""
    view = watched.view
    message = view.message_on(TRAINING)
    if not watched.choices:
        return panel_content(view.refused, message)
    head = f'<div class="lv-head"><h2>{html.escape(say("trainings"))}</h2>{_chooser(watched, say)}</div>'
    inside = _training(watched, watched.progress, say) if watched.progress is not None else ""
    return panel_content(view.refused, f"{head}{message}{inside}")


def _chooser(watched: WatchedTraining, say: Words) -> str:
    chosen = watched.progress.row.id if watched.progress else ""
    choices = watched.choices if watched.progress else [("", say("train_choose")), *watched.choices]
    label, attributes = html.escape(say("train_choose")), edit_attributes("training")
    return f'<select class="lv-field" aria-label="{label}" {attributes}>{options(choices, chosen)}</select>'


def _training(watched: WatchedTraining, progress: TrainingProgress, say: Words) -> str:
    row, training = progress.row, progress.training
    facts = [say(f"train_{training.preset}"), say("train_media_count", count=len(training.media))]
    about = f'<p class="lv-quiet">{html.escape(" · ".join(facts))}</p>'
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in row.notices)
    summary = f"<summary>{html.escape(say('train_notes'))}</summary>"
    notes = f'<details data-fold="notes">{summary}<ul>{notes}</ul></details>' if notes else ""
    running = " data-running" if watched.running else ""
    above = f"{about}{_state(progress, say)}{_use_button(watched, say)}{_buttons(row, say)}"
    plot = loss_plot(progress.losses, row.steps, say)
    below = f"{plot}{_samples(row.id, progress.samples, say)}{_checkpoints(row.id, progress.checkpoints, say)}{notes}"
    return f'<div class="lv-training"{running}>{above}{below}</div>'


def _state(progress: TrainingProgress, say: Words) -> str:
    row = progress.row
    if row.state == FAILED:
        return alert(row.error or say("state_failed"))
    words = job_words(JobStatus(row), say)
    if row.state in (PAUSED, INTERRUPTED, CANCELLED) and progress.stored:
        words = f"{words} {say('train_stored', step=progress.stored)}"
    if progress.eta_seconds is not None:
        words = f"{words} {say('bar_left', time=duration(progress.eta_seconds, say))}"
    return f'<p class="lv-state" role="status">{html.escape(words)}</p>'


def _use_button(watched: WatchedTraining, say: Words) -> str:
    """The button that puts the trained adapter into the prompt."""
    if watched.adapter is None:
        return ""
    words = html.escape(say("train_use"))
    return (
        f'<button type="button" class="lv-button lv-main" data-act="wear" data-id="{watched.adapter.sha256}">'
        f"{words}</button>"
    )


def _buttons(row: JobRow, say: Words) -> str:
    acts = () if row.asked is not None else _ACTS.get(row.state, ())
    buttons = "".join(button(act, say, id=row.id) for act in acts)
    if row.state in (DONE, FAILED, CANCELLED):
        buttons += button("away", say, id=row.id)
        buttons += button("forget", say, id=row.id, sure=say("train_sure_forget"))
    return f'<div class="lv-actions">{buttons}</div>'


def loss_plot(curve: Sequence[Loss], steps: int, say: Words) -> str:
    """The loss as an SVG of a raw and a smoothed line; empty for fewer than two values.

    steps: of the whole training; the lines grow to the right.
    """
    if len(curve) < 2:
        return ""
    points = curve[:: max(1, -(-len(curve) // _MAX_POINTS))]
    values = [point.loss for point in points]
    low, high = min(values), max(values)
    span = (high - low) or abs(high) or 1.0
    last = max(steps, points[-1].step)

    def place(step: int, value: float) -> str:
        x = _LEFT + (_WIDTH - _LEFT) * step / last
        y = _ABOVE + (_HEIGHT - _ABOVE - _BELOW) * (1 - (value - low) / span)
        return f"{x:.1f},{y:.1f}"

    raw = " ".join(place(point.step, point.loss) for point in points)
    smooth = " ".join(place(point.step, value) for point, value in zip(points, _smooth(values), strict=True))
    words = html.escape(
        say("train_loss_said", first=f"{values[0]:.4g}", last=f"{values[-1]:.4g}", step=points[-1].step)
    )
    return (
        f'<figure class="lv-plot"><figcaption>{words}</figcaption>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{words}">{_plot_frame(low, high, last)}'
        f'<polyline class="lv-raw" points="{raw}"/><polyline class="lv-smooth" points="{smooth}"/></svg></figure>'
    )


def _plot_frame(low: float, high: float, last: int) -> str:
    """Two horizontal lines with their values, and the steps below."""
    bottom = _HEIGHT - _BELOW
    lines = "".join(f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{y}" y2="{y}"/>' for y in (_ABOVE, bottom))
    labels = [(_LEFT - 6, _ABOVE + 4, "end", f"{high:.3g}"), (_LEFT - 6, bottom, "end", f"{low:.3g}")]
    labels += [(_LEFT, _HEIGHT - 6, "start", "0"), (_WIDTH, _HEIGHT - 6, "end", str(last))]
    texts = "".join(f'<text x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>' for x, y, anchor, text in labels)
    return f'<g aria-hidden="true">{lines}{texts}</g>'


def _smooth(values: Sequence[float]) -> list[float]:
    """Exponential moving average."""
    smooth = [values[0]]
    for value in values[1:]:
        smooth.append(_SMOOTHING * smooth[-1] + (1 - _SMOOTHING) * value)
    return smooth


def _samples(job_id: str, samples: Sequence[Sample], say: Words) -> str:
    """Samples of the same prompts and seeds: a step a column, a prompt a row."""
    columns = samples if len(samples) <= _MAX_COLUMNS else [samples[0], *samples[1 - _MAX_COLUMNS :]]
    if not columns:
        return ""
    heads = "".join(f'<th scope="col">{html.escape(say("train_step", step=one.step))}</th>' for one in columns)
    rows = "".join(
        f"<tr>{''.join(_sample(job_id, one, number, say) for one in columns)}</tr>"
        for number in range(max(len(one.videos) for one in columns))
    )
    label = html.escape(say("train_samples"))
    return (
        f'<h3>{label}</h3><div class="lv-wide" tabindex="0" role="group" aria-label="{label}">'
        f'<table class="lv-samples"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _sample(job_id: str, sample: Sample, number: int, say: Words) -> str:
    if number >= len(sample.videos):
        return "<td></td>"
    label = html.escape(say("train_sample", number=number + 1, step=sample.step))
    name = html.escape(sample.videos[number].name)
    source = f"studio/training/{html.escape(job_id)}/samples/{name}"  # see `app.ui.server`
    return f'<td><video src="{source}" autoplay loop muted playsinline aria-label="{label}"></video></td>'


def _checkpoints(job_id: str, checkpoints: Sequence[Checkpoint], say: Words) -> str:
    """A button for each of the last checkpoints that adds it to the library."""
    if not checkpoints:
        return ""
    buttons = "".join(
        f'<button type="button" class="lv-button" data-act="take" data-id="{html.escape(job_id)}" '
        f'data-n="{one.step}">{html.escape(say("train_take", step=one.step))}</button>'
        for one in checkpoints
    )
    return f'<h3>{html.escape(say("train_files"))}</h3><div class="lv-actions">{buttons}</div>'
