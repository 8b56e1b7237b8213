"""HTML of the long-video tab: pure functions of a `ViewModel`, in the words of one language.

Every text that a person wrote is escaped here. A field with `data-edit` sends its value when it has changed, and shows
the stored value while nobody types in it (`assets/studio.js`).
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from app.queue.status import JobStatus
from app.recipes.job_row import CANCELLED, DONE, FAILED, INTERRUPTED, PAUSED, RUNNING
from app.ui import panels
from app.ui.create.form import Form
from app.ui.html import (
    action_button,
    actions,
    alert,
    button,
    data_attributes,
    duration,
    job_state,
    job_words,
    media,
    named,
    status,
)
from app.ui.i18n import Words
from app.ui.long_video.timeline import seam_marks
from app.ui.long_video.view_model import ROWS, Candidate, ViewModel, assign_hues
from app.ui.panels import pager, panel_content
from extensions.long_video.plan import (
    CODENOISE,
    MAX_RAMP,
    MAX_SEGMENT_FRAMES,
    OVERLAPS,
    STRATEGIES,
    Segment,
    resolve_flag,
)
from lavie.request import SAMPLERS
from lavie.values import MAX_PROMPT

TRIES = (2, 4, 8)  # candidates at once
ADDED = (1, 2, 4, 8, 16)  # segments at once
# Fields of the form that a long video has too, in the order of its settings. Its segments give its frames.
MAIN = ("smooth", "upscale")
MORE = (
    *("negative", "sampler", "steps", "guidance", "rescale", "width", "height", "fps"),
    *("smooth_steps", "upscale_steps", "noise_level"),
)
_ICONS = {
    "dice": '<rect x="2.5" y="2.5" width="11" height="11" rx="2.5"/><path d="M5.5 5.5h.01M10.5 5.5h.01M8 8h.01'
    'M5.5 10.5h.01M10.5 10.5h.01" stroke-width="2"/>',
    "locked": '<rect x="3" y="7" width="10" height="6.5" rx="1.5"/><path d="M5 7V5a3 3 0 0 1 6 0v2"/>',
    "open": '<rect x="3" y="7" width="10" height="6.5" rx="1.5"/><path d="M5 7V4.5a3 3 0 0 1 5.7-1.3"/>',
    "above": '<path d="M8 1.5v6M5 4.5h6"/><rect x="2" y="10" width="12" height="4" rx="1"/>',
    "below": '<rect x="2" y="2" width="12" height="4" rx="1"/><path d="M8 8.5v6M5 11.5h6"/>',
    "spread": '<path d="M3 3h10M8 5.5v8M4.5 10l3.5 3.5L11.5 10"/>',
    "remove": '<path d="M4 4l8 8M12 4l-8 8"/>',
}


def render_projects(video: ViewModel | None, projects: Sequence[tuple[str, str]], message: str, say: Words) -> str:
    """The chooser of long videos, the title and the actions on the whole video."""
    chosen = video.project.id if video else ""
    label = html.escape(say("long_choose"))
    options = panels.options(projects, chosen)
    select = f'<select class="lv-field lv-project" data-edit="choose" aria-label="{label}">{options}</select>'
    buttons = [button("new", say)]
    title = ""
    if video:
        buttons += [button("branch", say, id=chosen), button("forget", say, id=chosen, sure=say("long_sure_forget"))]
        label = html.escape(say("long_title"))
        title = (
            f'<input class="lv-field lv-title" maxlength="200" value="{html.escape(video.project.title)}" '
            f'placeholder="{label}" aria-label="{label}" data-edit="title" data-id="{html.escape(chosen)}">'
        )
    where = f' data-project="{html.escape(chosen)}"' if video else ""
    row = f'<span class="lv-actions">{"".join(buttons)}</span>'
    bar = f'<div class="lv-projects"{where}>{select if projects else ""}{title}{row}</div>'
    empty = f'<p class="lv-quiet lv-empty">{html.escape(say("long_empty"))}</p>'
    below = _start(video, say) if video else empty
    return panel_content(video.view.refused if video else "", bar + message + below)


def _start(video: ViewModel, say: Words) -> str:
    """The clip or file that the video continues, if any."""
    start = video.project.start
    if start is None:
        return ""
    if start.kind == "clip":
        picture = f'<img alt="" src="{media(start.name, "poster.webp")}">'
        words, more = say("long_from_clip", frames=start.frames), button("show", say, id=start.name)
    else:
        picture, words, more = "", say("long_from_file", name=start.name, frames=start.frames), ""
    return f'<div class="lv-begins">{picture}<span>{html.escape(words)}</span>{more}</div>'


def render_screen(video: ViewModel, say: Words) -> str:
    """The rendered video or the preview of the one being made, its state, and the button that renders it."""
    request, clip = video.project.request, video.clip
    shape = f"{request.width} / {request.height}" if request.width and request.height else "3 / 2"
    facts = ""
    if video.rendering or (video.candidate_job is not None and video.candidate_job.state == RUNNING):
        inside = f'<canvas data-sprite role="img" aria-label="{html.escape(say("preview"))}"></canvas>'
    elif clip is not None and not clip.missing:
        shape = f"{clip.width} / {clip.height}"
        label = html.escape(say("long_result"))
        inside = (
            f'<video src="{media(clip.id)}" poster="{media(clip.id, "poster.webp")}" controls loop muted playsinline '
            f'aria-label="{label}" data-player></video>'
        )
        words = say(
            "long_made", frames=clip.frames, seconds=f"{clip.duration:.1f}", width=clip.width, height=clip.height
        )
        words = f'<span class="lv-quiet">{html.escape(words)}</span>'
        facts = f'<div class="lv-actions">{words}{button("show", say, id=clip.id)}</div>'
    else:
        inside = f'<p class="lv-quiet lv-empty">{html.escape(say("long_no_result"))}</p>'
    rendering = " data-rendering" if video.rendering else ""
    frame = f'<div class="lv-screen" style="aspect-ratio: {shape}"{rendering}>{inside}</div>'
    state = "" if video.job is None or video.job.state == DONE else job_state(video.job, say)
    return panel_content(video.view.refused, frame + facts + state + _render_button(video, say))


def _render_button(video: ViewModel, say: Words) -> str:
    """The button that renders the outdated segments with its estimate, or the buttons of the open job."""
    job = video.job
    if job is not None and job.open:
        return f'<div class="lv-actions">{_job_buttons(job, say)}</div>'
    count, total = len(video.outdated), len(video.project.plan.segments)
    words = say("long_render_all") if count == total else say("long_render_some", count=count)
    if not count:
        words = say("long_render_again" if video.clip is None else "long_render_none")
    if job is not None and job.state in (CANCELLED, FAILED) and count:
        words = say("long_go_on", count=count)
    times = []
    if video.estimate is not None:
        times += [say("long_time_segment", time=duration(video.estimate.segment, say))] if count else []
        times.append(say("long_time_whole", time=duration(video.estimate.whole, say)))
    more = 'id="lv-long-render"'
    main = action_button("render", html.escape(words), "lv-button lv-main", more, id=video.project.id)
    return f'{main}<p class="lv-facts">{html.escape(" · ".join(times) or say("estimate_none"))}</p>'


def _job_buttons(job: JobStatus, say: Words) -> str:
    if job.state == RUNNING:
        return actions(job, say)
    resume = button("resume", say, id=job.row.id) if job.state in (PAUSED, INTERRUPTED) else ""
    return resume + button("cancel", say, id=job.row.id)


def render_settings(video: ViewModel, say: Words) -> str:
    """The settings that most people use: the later stages, and the seed of all segments."""
    form, project = Form.of(video.project.request), video.project
    switches = "".join(
        panels.switch(_set("form", name, video), getattr(form, name), say(name), say(f"{name}_hint")) for name in MAIN
    )
    value = "" if project.plan.seed is None else str(project.plan.seed)
    seed = panels.text(_set("plan", "seed", video), value, say("long_seed"))
    dice = _button("reseed", say("seed_dice"), video)
    inside = f'<div class="lv-settings">{switches}<div class="lv-with">{seed}{dice}</div></div>'
    return panel_content(video.view.refused, inside)


def render_advanced(video: ViewModel, say: Words) -> str:
    """How segments are joined, and the settings that few people use; each with a line that explains it."""
    plan, form = video.project.plan, Form.of(video.project.request)
    names = [name for name in STRATEGIES if name != CODENOISE or video.layout.start == 0]
    strategies = [("", say("long_as_model")), *((name, say(f"strategy_{name}")) for name in names)]
    effect = say(f"strategy_{plan.strategy}_does") if plan.strategy else say("long_as_model_does")
    anchored, guarded = (resolve_flag(plan.strategy, on) for on in (plan.anchored, plan.guarded))
    overlaps = [(str(count), str(count)) for count in OVERLAPS]
    ramp = f'type="number" min="0" max="{MAX_RAMP}"'
    joining = [
        panels.choice(_set("plan", "strategy", video), strategies, plan.strategy or "", say("long_strategy"), effect),
        panels.choice(
            _set("plan", "overlap", video), overlaps, str(plan.overlap), say("long_overlap"), say("long_overlap_hint")
        ),
        panels.text(_set("plan", "ramp", video), str(plan.ramp), say("long_ramp"), say("long_ramp_hint"), ramp),
        *(
            panels.switch(_set("plan", name, video), on, say(f"long_{name}"), say(f"long_{name}_hint"))
            for name, on in (("anchored", anchored), ("guarded", guarded))
        ),
    ]
    samplers = [("", "–"), *((name, name) for name in SAMPLERS)]
    more = []
    for name in MORE:
        value = getattr(form, name)
        if name == "sampler":
            more.append(panels.choice(_set("form", name, video), samplers, value, say(name)))
        else:
            text = value if isinstance(value, str) else "" if value is None else f"{value:g}"
            hint = say("negative_hint") if name == "negative" else say("model_default")
            attributes = f'placeholder="{html.escape(hint)}"'
            more.append(panels.text(_set("form", name, video), text, say(name), "", attributes))
    heading = f"<h3>{html.escape(say('long_sampling'))}</h3>"
    first = f'<div class="lv-settings">{"".join(joining)}</div>'
    return panel_content(video.view.refused, f'{first}{heading}<div class="lv-settings lv-many">{"".join(more)}</div>')


def _set(act: str, name: str, video: ViewModel) -> str:
    return panels.edit_attributes(act, name=name, id=video.project.id)


def render_segments(video: ViewModel, say: Words) -> str:
    """The table: a row for each segment of the page, and the button that adds more."""
    plan, view = video.project.plan, video.view
    count, first = len(plan.segments), view.page * ROWS
    hues = assign_hues([segment.prompt for segment in plan.segments])
    numbers = range(first, min(first + ROWS, count))
    rows = "".join(_row(video, number, hues[number], say) for number in numbers)
    pages = pager("turn", view.page, -(-count // ROWS), say)
    head = f'<div class="lv-head"><h2>{html.escape(say("long_segments"))}</h2>{pages}</div>'
    summary = status(_summary(video, say), "lv-quiet")
    undo = ""
    if view.undo is not None:
        words = html.escape(say("long_undo"))
        undo = f'<p class="lv-now" role="status">{words} {button("undo", say, id=video.project.id)}</p>'
    table = f'<ol class="lv-segments" start="{first + 1}">{rows}</ol>'
    return panel_content(view.refused, head + summary + undo + table + _add_segments(video, say))


def _summary(video: ViewModel, say: Words) -> str:
    layout, count = video.layout, len(video.project.plan.segments)
    length = say("long_length", count=count, frames=layout.frames, seconds=f"{layout.frames / video.fps:.1f}")
    if not video.outdated:
        return f"{length} · {say('long_all_made')}"
    if len(video.outdated) == count:
        return f"{length} · {say('long_none_made')}"
    return f"{length} · {say('long_some_made', count=len(video.outdated))}"


def _row(video: ViewModel, number: int, hue: int, say: Words) -> str:
    segment, view, state = video.project.plan.segments[number], video.view, video.state_of(number)
    label = html.escape(say("long_segment", number=number + 1))
    here = ' aria-current="true"' if view.chosen == number else ""
    focus = _focus(video, number, "row")
    badge = f'<span class="lv-stand lv-stand-{state}">{html.escape(say(f"long_state_{state}"))}</span>'
    begin, frames = video.layout.frames_of(number).start / video.fps, len(video.layout.frames_of(number))
    return (
        f'<li class="lv-segment lv-is-{state}" id="lv-segment-{number}" tabindex="-1" aria-label="{label}"'
        f"{here}{focus}>"
        f'<div class="lv-seghead"><span class="lv-number lv-hue-{hue}">{number + 1}</span>{badge}'
        f'<span class="lv-quiet">{begin:.1f} s</span>{_row_buttons(video, number, segment, say)}</div>'
        f"{_prompt(video, number, segment, say)}{_fields(video, number, segment, frames, say)}"
        f"{_candidates(video, number, say)}</li>"
    )


def _prompt(video: ViewModel, number: int, segment: Segment, say: Words) -> str:
    label = html.escape(say("long_prompt_of", number=number + 1))
    # Browsers drop a line break behind the tag: the prompt's own first one needs another before it.
    attributes = f"{_target(video, number)}{_readonly(segment)}{_focus(video, number, 'type')}"
    return (
        f'<textarea class="lv-field" rows="1" maxlength="{MAX_PROMPT}" data-edit="prompt" aria-label="{label}" '
        f"{attributes}>\n{html.escape(segment.prompt)}</textarea>"
    )


def _fields(video: ViewModel, number: int, segment: Segment, frames: int, say: Words) -> str:
    """Seed and length of a segment; empty fields take those of the video."""
    target, readonly = _target(video, number), _readonly(segment)
    seed = "" if segment.seed is None else str(segment.seed)
    length = "" if segment.frames is None else str(segment.frames)
    hint = html.escape(say("long_seed_video"))
    dice = "" if segment.locked else _icon("reroll", "dice", say("long_reroll", number=number + 1), video, number)
    seed_label = html.escape(say("long_seed_of", number=number + 1))
    frames_label = html.escape(say("long_frames_of", number=number + 1))
    seconds = html.escape(say("seconds", n=f"{frames / video.fps:.1f}"))
    return (
        f'<div class="lv-segfields"><label><span>{html.escape(say("seed"))}</span>'
        f'<input class="lv-field lv-seed" inputmode="numeric" value="{seed}" placeholder="{hint}" '
        f'data-edit="seed" aria-label="{seed_label}" {target}{readonly}></label>{dice}'
        f'<label><span>{html.escape(say("frames"))}</span><input class="lv-field lv-frames" type="number" min="1" '
        f'max="{MAX_SEGMENT_FRAMES}" value="{length}" placeholder="{frames}" data-edit="frames" '
        f'aria-label="{frames_label}" {target}{readonly}></label><span class="lv-quiet">{seconds}</span>'
        f"{_try(video, number, segment, say)}</div>"
    )


def _row_buttons(video: ViewModel, number: int, segment: Segment, say: Words) -> str:
    place, count = number + 1, len(video.project.plan.segments)
    acts = {"lock": "locked" if segment.locked else "open", "insert_above": "above", "insert_below": "below"}
    acts |= {"spread": "spread"} if place < count else {}
    acts |= {"remove": "remove"} if count > 1 and not segment.locked else {}
    icons = [_icon(act, name, say(f"long_{act}", number=place), video, number) for act, name in acts.items()]
    icons[0] = icons[0].replace("<button ", f'<button aria-pressed="{str(segment.locked).lower()}" ', 1)
    return f'<span class="lv-segbuttons">{"".join(icons)}</span>'


def _try(video: ViewModel, number: int, segment: Segment, say: Words) -> str:
    """The button that makes candidates: the segment with other seeds."""
    if segment.locked:
        return ""
    counts = _counts(f"try-{number}", say("long_try_count", number=number + 1), TRIES, TRIES[1])
    return (
        f'<span class="lv-try">{_button("try", say("long_try"), video, n=number, take=f"try-{number}")}{counts}</span>'
    )


def _candidates(video: ViewModel, number: int, say: Words) -> str:
    job = video.candidate_job
    if job is not None and job.row.job.plan and len(job.row.job.plan.segments) == number + 1:
        if job.state == FAILED:
            return alert(job.row.error or say("state_failed"))
        if job.open:
            words = f"{say('long_trying', number=number + 1)} {job_words(job, say)}"
            return status(words) + button("cancel", say, id=job.row.id)
    candidates = video.candidates.get(number, ())
    if not candidates:
        return ""
    figures = "".join(_candidate(video, number, place, one, say) for place, one in enumerate(candidates, 1))
    done = _button("tried", say("long_tried_done"), video, n=number, job=candidates[0].job)
    return f'<div class="lv-candidates">{figures}</div><div class="lv-actions">{done}</div>'


def _candidate(video: ViewModel, number: int, place: int, one: Candidate, say: Words) -> str:
    label = html.escape(say("long_candidate", place=place, seed=one.seed))
    motion = "" if one.motion is None else html.escape(say("long_motion", value=f"{one.motion:.1f}"))
    more = f'aria-label="{label}" aria-pressed="{str(one.seed == video.project.plan.seed_of(number)).lower()}"'
    picture = f'<img src="{html.escape(one.preview)}" alt="">'
    pick = action_button("pick", picture, "lv-shot", more, seed=one.seed, id=video.project.id, n=number)
    return f"<figure>{pick}<figcaption>{seam_marks(one.seam, say)}<span>{motion}</span></figcaption></figure>"


def _add_segments(video: ViewModel, say: Words) -> str:
    add = _button("add", say("long_add"), video, take="add") + _counts("add", say("long_add_count"), ADDED, 4)
    return f'<div class="lv-actions">{add}<span class="lv-quiet">{html.escape(say("long_add_hint"))}</span></div>'


def _counts(name: str, label: str, counts: Iterable[int], chosen: int) -> str:
    """The choice of a number, which the event of the button with `data-take` of this name brings along."""
    options = "".join(f"<option{' selected' if count == chosen else ''}>{count}</option>" for count in counts)
    return f'<select class="lv-field" id="lv-{name}" data-keep aria-label="{html.escape(label)}">{options}</select>'


def _target(video: ViewModel, number: int) -> str:
    """Attributes that name the video and the segment: the page sends them together with what was typed."""
    return data_attributes(id=video.project.id, n=number)


def _focus(video: ViewModel, number: int, how: str) -> str:
    """The attribute that moves the focus here. how: `row` or `type`."""
    view = video.view
    here = view.chosen == number and view.focus.startswith(how)
    return f' data-focus="{html.escape(view.focus)}"' if here else ""


def _readonly(segment: Segment) -> str:
    return " readonly" if segment.locked else ""


def _icon(act: str, name: str, label: str, video: ViewModel, number: int) -> str:
    """A button with an icon of 16 × 16 in the colour of the text around it."""
    drawing = (
        f'<svg viewBox="0 0 16 16" width="16" height="16" fill="none" stroke="currentColor" stroke-width="1.5" '
        f'stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">{_ICONS[name]}</svg>'
    )
    return action_button(act, drawing, "lv-mark", named(label), id=video.project.id, n=number)


def _button(act: str, words: str, video: ViewModel, **data: object) -> str:
    return action_button(act, html.escape(words), "lv-button", "", id=video.project.id, **data)
