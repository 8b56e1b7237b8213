"""The table of segments as HTML: pure functions of a scene, in the words of one language.

Everything that a person wrote is escaped here. An element with `data-edit` is a field whose value comes back as `value`
when it has changed; what it holds when nobody types in it is what the server says (`assets/studio.js`).
"""

from __future__ import annotations

import html

from app.queue.job import FAILED
from app.ui.html import alert, button, job_words
from app.ui.i18n import Words
from app.ui.long_video.seams import seam_marks
from app.ui.long_video.view_model import ROWS, Candidate, ViewModel, hues
from app.ui.panels import answered, turns
from extensions.long_video.plan import MAX_SEGMENT_FRAMES, Segment
from lavie.values import MAX_PROMPT

_DRAWN = {
    "dice": '<rect x="2.5" y="2.5" width="11" height="11" rx="2.5"/><path d="M5.5 5.5h.01M10.5 5.5h.01M8 8h.01'
    'M5.5 10.5h.01M10.5 10.5h.01" stroke-width="2"/>',
    "locked": '<rect x="3" y="7" width="10" height="6.5" rx="1.5"/><path d="M5 7V5a3 3 0 0 1 6 0v2"/>',
    "open": '<rect x="3" y="7" width="10" height="6.5" rx="1.5"/><path d="M5 7V4.5a3 3 0 0 1 5.7-1.3"/>',
    "above": '<path d="M8 1.5v6M5 4.5h6"/><rect x="2" y="10" width="12" height="4" rx="1"/>',
    "below": '<rect x="2" y="2" width="12" height="4" rx="1"/><path d="M8 8.5v6M5 11.5h6"/>',
    "spread": '<path d="M3 3h10M8 5.5v8M4.5 10l3.5 3.5L11.5 10"/>',
    "remove": '<path d="M4 4l8 8M12 4l-8 8"/>',
}


def icon(name: str) -> str:
    """16 × 16, in the colour of the text around it."""
    return (
        f'<svg viewBox="0 0 16 16" width="16" height="16" fill="none" stroke="currentColor" stroke-width="1.5" '
        f'stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">{_DRAWN[name]}</svg>'
    )


TRIES = (2, 4, 8)  # candidates at once
ADDED = (1, 2, 4, 8, 16)  # segments at once


def table(scene: ViewModel, say: Words) -> str:
    """A row for each segment of the page, and what can be done with all."""
    plan, view = scene.project.plan, scene.view
    count, first = len(plan.segments), view.page * ROWS
    colours = hues([segment.prompt for segment in plan.segments])
    numbers = range(first, min(first + ROWS, count))
    rows = "".join(_row(scene, number, colours[number], say) for number in numbers)
    pages = turns("turn", view.page, -(-count // ROWS), say)
    head = f'<div class="lv-head"><h2>{html.escape(say("long_segments"))}</h2>{pages}</div>'
    status = f'<p class="lv-quiet" role="status">{html.escape(summary(scene, say))}</p>'
    listed = f'<ol class="lv-segments" start="{first + 1}">{rows}</ol>'
    return answered(view.refused, head + status + _undo(scene, say) + listed + _extend(scene, say))


def summary(scene: ViewModel, say: Words) -> str:
    """How long the video will be, and how much of it is there."""
    layout, count = scene.layout, len(scene.project.plan.segments)
    length = say("long_length", count=count, frames=layout.frames, seconds=f"{layout.frames / scene.fps:.1f}")
    if not scene.stale:
        return f"{length} · {say('long_all_made')}"
    if len(scene.stale) == count:
        return f"{length} · {say('long_none_made')}"
    return f"{length} · {say('long_some_made', count=len(scene.stale))}"


def _undo(scene: ViewModel, say: Words) -> str:
    """What was taken away can come back."""
    if scene.view.undo is None:
        return ""
    words = html.escape(say("long_undo"))
    return f'<p class="lv-now" role="status">{words} {button("undo", say, id=scene.project.id)}</p>'


def _row(scene: ViewModel, number: int, hue: int, say: Words) -> str:
    segment, view, state = scene.project.plan.segments[number], scene.view, scene.state_of(number)
    name = html.escape(say("long_segment", number=number + 1))
    here = ' aria-current="true"' if view.chosen == number else ""
    focus = _focus(scene, number, "row")
    badge = f'<span class="lv-stand lv-stand-{state}">{html.escape(say(f"long_state_{state}"))}</span>'
    begin, frames = scene.layout.frames_of(number).start / scene.fps, len(scene.layout.frames_of(number))
    at = f"{begin:.1f} s"
    return (
        f'<li class="lv-segment lv-is-{state}" id="lv-segment-{number}" tabindex="-1" aria-label="{name}"{here}{focus}>'
        f'<div class="lv-seghead"><span class="lv-number lv-hue-{hue}">{number + 1}</span>{badge}'
        f'<span class="lv-quiet">{at}</span>{_buttons(scene, number, segment, say)}</div>'
        f"{_prompt(scene, number, segment, say)}{_fields(scene, number, segment, frames, say)}"
        f"{_tried(scene, number, say)}</li>"
    )


def _prompt(scene: ViewModel, number: int, segment: Segment, say: Words) -> str:
    label = html.escape(say("long_prompt_of", number=number + 1))
    # A line break behind the tag is not part of the text: one that is must stand behind another.
    attributes = f"{_which(scene, number)}{_readonly(segment)}{_focus(scene, number, 'type')}"
    return (
        f'<textarea class="lv-field" rows="1" maxlength="{MAX_PROMPT}" data-edit="prompt" aria-label="{label}" '
        f"{attributes}>\n{html.escape(segment.prompt)}</textarea>"
    )


def _fields(scene: ViewModel, number: int, segment: Segment, frames: int, say: Words) -> str:
    """Seed and length; empty is as the video has it."""
    which, readonly = _which(scene, number), _readonly(segment)
    seed = "" if segment.seed is None else str(segment.seed)
    length = "" if segment.frames is None else str(segment.frames)
    hint = html.escape(say("long_seed_video"))
    dice = "" if segment.locked else _icon("reroll", "dice", say("long_reroll", number=number + 1), scene, number)
    ahead = html.escape(say("long_seed_of", number=number + 1))
    long = html.escape(say("long_frames_of", number=number + 1))
    seconds = html.escape(say("seconds", n=f"{frames / scene.fps:.1f}"))
    return (
        f'<div class="lv-segfields"><label><span>{html.escape(say("seed"))}</span>'
        f'<input class="lv-field lv-seed" inputmode="numeric" value="{seed}" placeholder="{hint}" '
        f'data-edit="seed" aria-label="{ahead}" {which}{readonly}></label>{dice}'
        f'<label><span>{html.escape(say("frames"))}</span><input class="lv-field lv-frames" type="number" min="1" '
        f'max="{MAX_SEGMENT_FRAMES}" value="{length}" placeholder="{frames}" data-edit="frames" aria-label="{long}" '
        f'{which}{readonly}></label><span class="lv-quiet">{seconds}</span>{_try(scene, number, segment, say)}</div>'
    )


def _buttons(scene: ViewModel, number: int, segment: Segment, say: Words) -> str:
    """What can be done with a segment, small enough for a row."""
    place = number + 1
    lock = _icon("lock", "locked" if segment.locked else "open", say("long_lock", number=place), scene, number)
    lock = lock.replace("<button ", f'<button aria-pressed="{str(segment.locked).lower()}" ', 1)
    icons = [lock, _icon("insert_above", "above", say("long_insert_above", number=place), scene, number)]
    icons.append(_icon("insert_below", "below", say("long_insert_below", number=place), scene, number))
    if place < len(scene.project.plan.segments):
        icons.append(_icon("spread", "spread", say("long_spread", number=place), scene, number))
    if len(scene.project.plan.segments) > 1 and not segment.locked:
        icons.append(_icon("remove", "remove", say("long_remove", number=place), scene, number))
    return f'<span class="lv-segbuttons">{"".join(icons)}</span>'


def _try(scene: ViewModel, number: int, segment: Segment, say: Words) -> str:
    """Some seeds side by side, to choose from."""
    if segment.locked:
        return ""
    label = html.escape(say("long_try_count", number=number + 1))
    options = "".join(f"<option{' selected' if count == TRIES[1] else ''}>{count}</option>" for count in TRIES)
    words = html.escape(say("long_try"))
    return (
        f'<span class="lv-try"><button type="button" class="lv-button" data-act="try" data-take="try-{number}" '
        f'{_which(scene, number)}>{words}</button><select class="lv-field" id="lv-try-{number}" data-keep '
        f'aria-label="{label}">{options}</select></span>'
    )


def _tried(scene: ViewModel, number: int, say: Words) -> str:
    """The candidates of a segment, or how their job stands."""
    job = scene.trying
    if job is not None and job.row.job.plan and len(job.row.job.plan.segments) == number + 1:
        if job.state == FAILED:
            return alert(job.row.error or say("state_failed"))
        if job.open:
            words = html.escape(f"{say('long_trying', number=number + 1)} {job_words(job, say)}")
            return f'<p class="lv-note" role="status">{words}</p>{button("cancel", say, id=job.row.id)}'
    found = scene.tried.get(number, ())
    if not found:
        return ""
    chosen = scene.project.plan.seed_of(number)
    figures = "".join(_candidate(scene, number, place, one, chosen, say) for place, one in enumerate(found, 1))
    done = _button("tried", say("long_tried_done"), scene, number).replace(
        "data-act", f'data-job="{html.escape(found[0].job)}" data-act', 1
    )
    return f'<div class="lv-candidates">{figures}</div><div class="lv-actions">{done}</div>'


def _candidate(scene: ViewModel, number: int, place: int, one: Candidate, chosen: int | None, say: Words) -> str:
    label = html.escape(say("long_candidate", place=place, seed=one.seed))
    motion = "" if one.motion is None else html.escape(say("long_motion", value=f"{one.motion:.1f}"))
    return (
        f'<figure><button type="button" class="lv-shot" data-act="pick" data-seed="{one.seed}" aria-label="{label}" '
        f'aria-pressed="{str(one.seed == chosen).lower()}" {_which(scene, number)}>'
        f'<img src="{html.escape(one.preview)}" alt=""></button>'
        f"<figcaption>{seam_marks(one.seam, say)}<span>{motion}</span></figcaption></figure>"
    )


def _extend(scene: ViewModel, say: Words) -> str:
    """More segments behind the last one."""
    options = "".join(f"<option{' selected' if count == 4 else ''}>{count}</option>" for count in ADDED)
    label = html.escape(say("long_add_count"))
    return (
        f'<div class="lv-actions">{_button("add", say("long_add"), scene, take="add")}'
        f'<select class="lv-field" id="lv-add" data-keep aria-label="{label}">{options}</select>'
        f'<span class="lv-quiet">{html.escape(say("long_add_hint"))}</span></div>'
    )


def _which(scene: ViewModel, number: int | None = None) -> str:
    """The attributes that say what an event is about: they come from the page together with what was typed."""
    place = "" if number is None else f' data-n="{number}"'
    return f'data-id="{html.escape(scene.project.id)}"{place}'


def _focus(scene: ViewModel, number: int, how: str) -> str:
    """Whether the person goes on here."""
    view = scene.view
    here = view.chosen == number and view.focus.startswith(how)
    return f' data-focus="{html.escape(view.focus)}"' if here else ""


def _readonly(segment: Segment) -> str:
    return " readonly" if segment.locked else ""


def _icon(act: str, sign: str, label: str, scene: ViewModel, number: int) -> str:
    name = html.escape(label)
    return (
        f'<button type="button" class="lv-mark" data-act="{act}" {_which(scene, number)} aria-label="{name}" '
        f'title="{name}">{icon(sign)}</button>'
    )


def _button(act: str, words: str, scene: ViewModel, number: int | None = None, take: str = "") -> str:
    taken = f' data-take="{take}"' if take else ""
    return (
        f'<button type="button" class="lv-button" data-act="{act}"{taken} {_which(scene, number)}>'
        f"{html.escape(words)}</button>"
    )
