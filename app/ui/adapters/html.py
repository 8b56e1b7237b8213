"""HTML of the adapters tab: the library as cards, the media of a training as cards, and its settings as fields.

Pure functions in the words of one language. Every text of an adapter or a file is a stranger's and is escaped here;
addresses hold hashes and numbers only.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from app.adapters import AdapterRow
from app.gallery import Clip
from app.queue.status import JobStatus
from app.recipes.job_row import CANCELLED, DONE, FAILED, INTERRUPTED, PAUSED, QUEUED, RUNNING, JobRow
from app.recipes.training import MAX_NAME, Training
from app.storage.training_folder import Checkpoint, Loss, Sample
from app.training.draft import NUMBERS, WHOLE, YES, number_of
from app.training.media import SetItem
from app.training.service import TrainingProgress
from app.ui import panels
from app.ui.adapters.view_model import (
    CARDS,
    DRAFT,
    MEDIA,
    MEDIA_CARDS,
    SHELF,
    TRAINING,
    Preparation,
    Shelf,
    WatchedTraining,
)
from app.ui.html import (
    action_button,
    alert,
    button,
    duration,
    fold,
    format_memory,
    job_words,
    listed,
    named,
    poster,
    quiet,
    status,
)
from app.ui.i18n import Words
from app.ui.panels import edit_attributes, options, pager, panel_content
from extensions.lora.adapter import MAX_NAME as MAX_ADAPTER_NAME
from extensions.lora.adapter import MAX_WEIGHT
from extensions.lora.training.settings import MAX_TRIGGER, NAMES
from lavie.values import MAX_PROMPT

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
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in row.notices)
    notes = fold(say("train_notes"), f"<ul>{notes}</ul>", ' data-fold="notes"') if notes else ""
    running, use = " data-running" if watched.running else "", ""
    if watched.adapter is not None:
        use = action_button("wear", html.escape(say("train_use")), "lv-button lv-main", id=watched.adapter.sha256)
    above = f"{quiet(' · '.join(facts))}{_state(progress, say)}{use}{_buttons(row, say)}"
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
    return status(words, "lv-state")


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
        action_button("take", html.escape(say("train_take", step=one.step)), id=job_id, n=one.step)
        for one in checkpoints
    )
    return f'<h3>{html.escape(say("train_files"))}</h3><div class="lv-actions">{buttons}</div>'


_HASH_DIGITS = 12  # that are shown
_MAX_WORDS = 8  # of a maker's trigger words
_MAX_REASONS = 20  # media left out that are listed with their reason
_FEW_MEDIA = 3  # fewer than this gives a warning
_FACTS = ("title", "author", "licence", "description")


def render_shelf(shelf: Shelf, say: Words) -> str:
    view = shelf.view
    message = view.message_on(SHELF)
    pages = pager("turn", view.page, -(-shelf.found // CARDS), say)
    head = f'<div class="lv-head"><h2>{html.escape(say("adapters"))}</h2>{pages}</div>'
    if not shelf.count:
        empty = html.escape(say("adapters_empty"))
        return panel_content(view.refused, f'{head}{message}<p class="lv-quiet lv-empty">{empty}</p>')
    label = html.escape(say("adapters_find"))
    find = (
        f'<input class="lv-field lv-find" type="search" maxlength="200" value="{html.escape(view.find)}" '
        f'placeholder="{label}" aria-label="{label}" {edit_attributes("find")}>'
    )
    find = find if shelf.count > 1 or view.find else ""
    cards = "".join(_card(row, shelf.clips.get(row.sha256, ()), say) for row in shelf.rows)
    none = status(say("adapters_none"), "lv-quiet lv-empty")
    cards = f'<ul class="lv-cards lv-shelf">{cards}</ul>' if cards else none
    return panel_content(view.refused, f"{head}{find}{message}{cards}")


def _card(row: AdapterRow, clips: Iterable[Clip], say: Words) -> str:
    name = html.escape(row.name)
    picture = '<span class="lv-blank" aria-hidden="true"></span>'
    if row.preview is not None:
        picture = f'<img src="studio/adapter/{row.sha256}.webp" alt="" loading="lazy">'  # see `app.ui.server`
    label = html.escape(say("adapter_name", name=row.name))
    rename = (
        f'<input class="lv-field lv-title" maxlength="{MAX_ADAPTER_NAME}" value="{name}" aria-label="{label}" '
        f"{edit_attributes('rename', id=row.sha256)}>"
    )
    label = f'aria-label="{html.escape(say("adapter_use_named", name=row.name))}"'
    use = action_button("wear", html.escape(say("adapter_use")), "lv-button lv-wear-it", label, id=row.sha256)
    remove = button("remove", say, id=row.sha256, sure=say("adapter_sure_remove", name=row.name))
    gone = "" if row.path.is_file() else f'<p class="lv-warn">{html.escape(say("adapter_gone"))}</p>'
    return (
        f'<li class="lv-card lv-adapter" data-id="{row.sha256}" aria-label="{name}">'
        f'<div class="lv-shot">{picture}</div>'
        f"{rename}{_summary(row, say)}{gone}{_trigger_words(row, say)}{_weights(row, say)}"
        f'<div class="lv-actions">{use}{remove}</div>{_clips(clips, say)}{_more_facts(row, say)}</li>'
    )


def _summary(row: AdapterRow, say: Words) -> str:
    """Family, rank, size and layers in a line, and a warning about layers that do not match the model."""
    card = row.card
    facts = [card.family, card.base_model, format_memory(card.size)]
    if card.ranks:
        ranks = f"{card.ranks[0]}" if len(card.ranks) == 1 else f"{card.ranks[0]}–{card.ranks[-1]}"
        facts.insert(1, say("adapter_rank", rank=ranks))
    what = say("adapter_vectors", count=card.vectors)
    if not card.vectors:
        what = say("adapter_layers", count=card.unet_layers + card.text_layers)
    lines = quiet(" · ".join(filter(None, facts)))
    if not card.unmatched:
        return lines + quiet(what)
    unmatched = html.escape(say("adapter_unmatched", count=card.unmatched))
    names = html.escape(", ".join(card.unmatched_names))
    warning = f'<span class="lv-warn" title="{names}">{unmatched}</span>'
    return f'{lines}<p class="lv-quiet">{html.escape(what)} · {warning}</p>'


def _trigger_words(row: AdapterRow, say: Words) -> str:
    if not row.card.trigger_words:
        return ""
    title = f'title="{html.escape(say("adapter_word"))}"'
    words = row.card.trigger_words[:_MAX_WORDS]
    chips = "".join(action_button("word", html.escape(word), "lv-word", title, word=word) for word in words)
    return f'<div class="lv-words" role="group" aria-label="{html.escape(say("adapter_words"))}">{chips}</div>'


def _weights(row: AdapterRow, say: Words) -> str:
    weight, text = f"{row.weight:g}", "" if row.set_text_weight is None else f"{row.set_text_weight:g}"
    main = _slider("weight", row, weight, say("adapter_weight"), weight)
    return main + _slider("text", row, text or weight, say("adapter_text_weight"), text or "=", follows=not text)


def _slider(which: str, row: AdapterRow, value: str, label: str, shown: str, follows: bool = False) -> str:
    """follows: whether it has no value of its own."""
    name = html.escape(f"{label}: {row.name}")
    return (
        f'<label class="lv-slide{" lv-follows" if follows else ""}"><span>{html.escape(label)}</span>'
        f'<input type="range" min="{-MAX_WEIGHT:g}" max="{MAX_WEIGHT:g}" step="0.05" value="{html.escape(value)}" '
        f'aria-label="{name}" {edit_attributes("weigh", id=row.sha256, name=which)}>'
        f"<output>{html.escape(shown)}</output></label>"
    )


def _clips(clips: Iterable[Clip], say: Words) -> str:
    """Clips made with the adapter, each a button that opens it in the gallery."""
    shots = "".join(
        action_button("show", poster(clip.id), "lv-shot", f'aria-label="{html.escape(clip.prompt[:200])}"', id=clip.id)
        for clip in clips
    )
    if not shots:
        return ""
    return f'<div class="lv-made" role="group" aria-label="{html.escape(say("adapter_made"))}">{shots}</div>'


def _more_facts(row: AdapterRow, say: Words) -> str:
    """Everything else in the adapter's file; folded."""
    card = row.card
    rows = [(say(f"adapter_{name}"), html.escape(getattr(card, name))) for name in _FACTS if getattr(card, name)]
    digest = f'<span title="{row.sha256}" tabindex="0">{row.sha256[:_HASH_DIGITS]}…</span>'
    rows.append((say("adapter_hash"), digest))
    rows.append((say("adapter_parts"), html.escape(f"UNet {card.unet_layers} · Text {card.text_layers}")))
    alphas = ", ".join(f"{alpha:g}" for alpha in card.alphas[:_MAX_WORDS])
    rows += [(say("adapter_alphas"), html.escape(alphas))] if alphas else []
    rows += [(say("adapter_tags"), html.escape(", ".join(card.tags)))] if card.tags else []
    rows += [(say("adapter_unmatched_names"), html.escape(", ".join(card.unmatched_names)))] if card.unmatched else []
    rows += [(say("adapter_notes"), html.escape("; ".join(card.notes)))] if card.notes else []
    cells = "".join(f'<tr><th scope="row">{html.escape(name)}</th><td>{value}</td></tr>' for name, value in rows)
    return fold(say("adapter_more"), f'<table class="lv-table">{cells}</table>', f' data-fold="{row.sha256}"')


def render_media(preparation: Preparation, say: Words) -> str:
    """The panel of the media that the training learns from, with captions to write in."""
    view, draft, media_set = preparation.view, preparation.draft, preparation.media
    usable, message = media_set.usable, view.message_on(MEDIA)
    if not media_set.items:
        return panel_content(view.refused, message + quiet(say("train_no_media")))
    count = html.escape(say("train_media_count", count=len(usable)))
    pages = pager("media_turn", view.media_page, -(-len(usable) // MEDIA_CARDS), say)
    clear = button("clear", say, sure=say("train_sure_clear"))
    head = f'<div class="lv-head"><span class="lv-found" role="status">{count}</span>{pages}{clear}</div>'
    captions = media_set.captions(draft.trigger or "…")
    first = view.media_page * MEDIA_CARDS
    cards = "".join(
        _medium(draft.id, item, captions[item.file.name], place, say)
        for place, item in enumerate(usable[first : first + MEDIA_CARDS], first + 1)
    )
    cards = f'<ul class="lv-cards lv-media">{cards}</ul>' if cards else ""
    left_out = _left_out([item for item in media_set.items if item.path is None], say)
    return panel_content(view.refused, f"{message}{head}{left_out}{cards}")


def _medium(set_id: str, item: SetItem, caption: str, place: int, say: Words) -> str:
    label = html.escape(say("train_caption_of", number=place))
    drop = action_button("drop", "✕", "lv-mark lv-cross", named(say("train_drop", number=place)), name=item.file.name)
    note = f'<p class="lv-quiet" title="{html.escape(item.note)}">{html.escape(item.note)}</p>' if item.note else ""
    thumb = f"studio/training/{html.escape(set_id)}/media/{number_of(item)}.webp"  # see `app.ui.server`
    return (
        f'<li class="lv-card lv-medium"><div class="lv-shot"><img src="{thumb}" '
        f'alt="{html.escape(item.name[:200])}" loading="lazy"></div>'
        f'{drop}{note}<textarea class="lv-field" rows="2" maxlength="{MAX_PROMPT}" aria-label="{label}" '
        f"{edit_attributes('caption', name=item.file.name)}>\n{html.escape(caption)}</textarea></li>"
    )


def _left_out(items: Sequence[SetItem], say: Words) -> str:
    if not items:
        return ""
    lines = [f"{item.name}: {item.problem or ''}" for item in items[:_MAX_REASONS]]
    more = len(items) - _MAX_REASONS
    lines += [say("queue_more", count=more)] if more > 0 else []
    return listed(say("train_left_out", count=len(items)), lines, "lv-note lv-left-out")


def render_draft(preparation: Preparation, say: Words) -> str:
    """The panel of what is learned: the preset, the trigger word and a name."""
    view, draft = preparation.view, preparation.draft
    presets = [(name, say(f"train_{name}")) for name in NAMES]
    effect = say(f"train_{draft.preset}_does")
    trigger = panels.text(
        edit_attributes("set", name="trigger"), draft.trigger, say("train_trigger"), say("train_trigger_hint"),
        f'maxlength="{MAX_TRIGGER}" placeholder="zkw" autocapitalize="off" spellcheck="false"',
    )  # fmt: skip
    name = panels.text(
        edit_attributes("set", name="name"), draft.values.get("name", ""), say("train_name"), say("train_name_hint"),
        f'maxlength="{MAX_NAME}" placeholder="{html.escape(draft.trigger)}"',
    )  # fmt: skip
    preset = panels.choice(edit_attributes("set", name="preset"), presets, draft.preset, say("train_preset"), effect)
    head = f'<div class="lv-head"><h2>{html.escape(say("train_new"))}</h2></div>{view.message_on(DRAFT)}'
    fields = f"{preset}{trigger}{_word_note(preparation, say)}{name}"
    return panel_content(view.refused, f'{head}<div class="lv-settings">{fields}</div>')


def _word_note(preparation: Preparation, say: Words) -> str:
    if not preparation.word:
        return ""
    kind = "lv-warn" if preparation.word == "ordinary" else "lv-quiet"
    return status(say(f"train_word_{preparation.word}", word=preparation.draft.trigger), f"lv-word-said {kind}")


def render_advanced(preparation: Preparation, say: Words) -> str:
    """The panel of rarely used settings; an empty field takes the preset's value."""
    values = preparation.draft.values
    numbers = "".join(_number(preparation, name, say) for name in (*WHOLE, *NUMBERS))
    name = "gradient_checkpointing"
    switch = panels.switch(
        edit_attributes("set", name=name), values.get(name) == YES, say(f"train_{name}"), say(f"train_{name}_hint")
    )
    prompts = panels.lines(
        edit_attributes("set", name="prompts"), values.get("prompts", ""), say("train_prompts"),
        say("train_prompts_hint"),
    )  # fmt: skip
    many = f'<div class="lv-settings lv-many">{numbers}</div>'
    return panel_content(preparation.view.refused, f'{many}<div class="lv-settings">{switch}{prompts}</div>')


def _number(preparation: Preparation, name: str, say: Words) -> str:
    kind = "numeric" if name in WHOLE else "decimal"
    more = f'inputmode="{kind}" placeholder="{html.escape(_usual_value(preparation, name, say))}"'
    label = say(name if name in ("steps", "seed") else f"train_{name}")
    return panels.text(edit_attributes("set", name=name), preparation.draft.values.get(name, ""), label, "", more)


def _usual_value(preparation: Preparation, name: str, say: Words) -> str:
    if name in Training.__dataclass_fields__ and getattr(Training, name) is not None:
        return str(getattr(Training, name))
    if preparation.preset is None:
        return say("model_default")
    count = max(len(preparation.media.usable), 1)
    return f"{preparation.preset.steps(count) if name == 'steps' else getattr(preparation.preset, name):g}"


def render_start(preparation: Preparation, say: Words) -> str:
    """The panel with the start button, and what the training takes or lacks."""
    usable, trigger = preparation.media.usable, preparation.draft.trigger
    ready = bool(usable and trigger)
    lacks = "" if ready else say("train_lacks_word" if usable else "train_lacks_media")
    more = f'id="lv-train-start"{"" if ready else " disabled"}'
    main = action_button("start", html.escape(say("train_start")), "lv-button lv-main", more)
    facts = f'<p class="lv-facts">{html.escape(lacks or _demand(preparation, say))}</p>'
    warnings = _warnings(preparation, say) if ready else ""
    return panel_content(preparation.view.refused, f"{main}{facts}{warnings}")


def _demand(preparation: Preparation, say: Words) -> str:
    steps = preparation.draft.values.get("steps") or _usual_value(preparation, "steps", say)
    words = [say("train_takes_steps", steps=steps, media=len(preparation.media.usable))]
    needed, free = preparation.needed, preparation.free
    if needed is not None and free is not None:
        words.append(say("train_takes_memory", needed=format_memory(needed), free=format_memory(free)))
    return " · ".join(words)


def _warnings(preparation: Preparation, say: Words) -> str:
    needed, free, count = preparation.needed, preparation.free, len(preparation.media.usable)
    warnings = [say("train_too_large")] if needed is not None and free is not None and needed >= free else []
    warnings += [say("train_few", count=count)] if count < _FEW_MEDIA else []
    return "".join(status(words, "lv-warn") for words in warnings)
