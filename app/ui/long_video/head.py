"""What stands around the table as HTML: which long video, where it begins, its picture, what to do, its settings.

Pure functions of a scene, in the words of one language.
"""

from __future__ import annotations

import html
import typing
from collections.abc import Iterable, Sequence

from app.queue.job import CANCELLED, DONE, FAILED, INTERRUPTED, PAUSED, RUNNING
from app.ui import panels
from app.ui.create.form import Form
from app.ui.html import actions, alert, button, duration, job_words, media
from app.ui.i18n import Words
from app.ui.long_video.view_model import ViewModel
from app.ui.panels import answered
from extensions.long_video.plan import CODENOISE, MAX_RAMP, OVERLAPS, STRATEGIES, is_watched
from lavie.request import SAMPLERS

if typing.TYPE_CHECKING:
    from app.queue.status import JobStatus

# Fields of the form that a long video has too, in the order of its settings. Its frames follow from its segments.
MAIN = ("smooth", "upscale")
MORE = ("negative", "sampler", "steps", "guidance", "rescale", "width", "height", "fps")
MORE += ("smooth_steps", "upscale_steps", "noise_level")


def projects(scene: ViewModel | None, known: Sequence[tuple[str, str]], said: str, say: Words) -> str:
    """The chooser, and what can be done with a long video as a whole."""
    chosen = scene.project.id if scene else ""
    choose = html.escape(say("long_choose"))
    inside = panels.options(known, chosen)
    select = f'<select class="lv-field lv-project" data-edit="choose" aria-label="{choose}">{inside}</select>'
    acts = [button("new", say)]
    title = ""
    if scene:
        acts += [button("branch", say, id=chosen), button("forget", say, id=chosen, sure=say("long_sure_forget"))]
        label = html.escape(say("long_title"))
        title = (
            f'<input class="lv-field lv-title" maxlength="200" value="{html.escape(scene.project.title)}" '
            f'placeholder="{label}" aria-label="{label}" data-edit="title" data-id="{html.escape(chosen)}">'
        )
    where = f' data-project="{html.escape(chosen)}"' if scene else ""
    chooser = select if known else ""
    actions = f'<span class="lv-actions">{"".join(acts)}</span>'
    bar = f'<div class="lv-projects"{where}>{chooser}{title}{actions}</div>'
    empty = "" if scene else f'<p class="lv-quiet lv-empty">{html.escape(say("long_empty"))}</p>'
    return answered(scene.view.refused if scene else "", bar + said + (begins(scene, say) if scene else empty))


def begins(scene: ViewModel, say: Words) -> str:
    """What the video continues, if anything."""
    start = scene.project.start
    if start is None:
        return ""
    if start.kind == "clip":
        picture = f'<img alt="" src="{media(start.name, "poster.webp")}">'
        words, more = say("long_from_clip", frames=start.frames), button("show", say, id=start.name)
    else:
        picture, words, more = "", say("long_from_file", name=start.name, frames=start.frames), ""
    return f'<div class="lv-begins">{picture}<span>{html.escape(words)}</span>{more}</div>'


def screen(scene: ViewModel, say: Words) -> str:
    """The video that there is, or the preview of the one that is being made; and the button that makes it."""
    request, clip = scene.project.request, scene.clip
    shape = f"{request.width} / {request.height}" if request.width and request.height else "3 / 2"
    inside, facts = "", ""
    if scene.rendering or (scene.trying is not None and scene.trying.state == "running"):
        inside = f'<canvas data-sprite role="img" aria-label="{html.escape(say("preview"))}"></canvas>'
    elif clip is not None and not clip.missing:
        shape = f"{clip.width} / {clip.height}"
        name = html.escape(say("long_result"))
        inside = (
            f'<video src="{media(clip.id)}" poster="{media(clip.id, "poster.webp")}" controls loop muted playsinline '
            f'aria-label="{name}" data-player></video>'
        )
        told = say(
            "long_made", frames=clip.frames, seconds=f"{clip.duration:.1f}", width=clip.width, height=clip.height
        )
        told = f'<span class="lv-quiet">{html.escape(told)}</span>'
        facts = f'<div class="lv-actions">{told}{button("show", say, id=clip.id)}</div>'
    else:
        inside = f'<p class="lv-quiet lv-empty">{html.escape(say("long_no_result"))}</p>'
    rendering = " data-rendering" if scene.rendering else ""
    frame = f'<div class="lv-screen" style="aspect-ratio: {shape}"{rendering}>{inside}</div>'
    return answered(scene.view.refused, frame + facts + _state(scene, say) + _render(scene, say))


def _state(scene: ViewModel, say: Words) -> str:
    job = scene.job
    if job is None or job.state == DONE:
        return ""
    if job.state == FAILED:
        return alert(job.row.error or say("state_failed"))
    return f'<p class="lv-state" role="status">{html.escape(job_words(job, say))}</p>'


def _render(scene: ViewModel, say: Words) -> str:
    """Make what is to be made, or stop; and how long that takes, a segment and all."""
    known = html.escape(scene.project.id)
    job = scene.job
    if job is not None and job.open:
        return f'<div class="lv-actions">{_stop(job, say)}</div>'
    count, all_of_them = len(scene.stale), len(scene.project.plan.segments)
    words = say("long_render_all") if count == all_of_them else say("long_render_some", count=count)
    if not count:
        words = say("long_render_again" if scene.clip is None else "long_render_none")
    if job is not None and job.state in (CANCELLED, FAILED) and count:
        words = say("long_go_on", count=count)
    times = []
    if scene.seconds.segment is not None and count:
        times.append(say("long_time_segment", time=duration(scene.seconds.segment, say)))
    if scene.seconds.whole is not None:
        times.append(say("long_time_whole", time=duration(scene.seconds.whole, say)))
    told = " · ".join(times) or say("estimate_none")
    main = (
        f'<button type="button" class="lv-button lv-main" id="lv-long-render" data-act="render" data-id="{known}">'
        f"{html.escape(words)}</button>"
    )
    return f'{main}<p class="lv-facts">{html.escape(told)}</p>'


def _stop(job: JobStatus, say: Words) -> str:
    """What can be done about a job that is not over."""
    if job.state == RUNNING:
        return actions(job, say)
    resume = button("resume", say, id=job.row.id) if job.state in (PAUSED, INTERRUPTED) else ""
    return resume + button("cancel", say, id=job.row.id)


def settings(scene: ViewModel, say: Words) -> str:
    """What most people want to decide: the later stages, and the seed of all."""
    form, project = Form.of(scene.project.request), scene.project
    switches = "".join(
        _switch(scene, "form", name, getattr(form, name), say(name), say(f"{name}_hint")) for name in MAIN
    )
    seed = _input(
        scene, "plan", "seed", "" if project.plan.seed is None else str(project.plan.seed), say("long_seed"), ""
    )
    dice = (
        f'<button type="button" class="lv-button" data-act="reseed" data-id="{html.escape(project.id)}">'
        f"{html.escape(say('seed_dice'))}</button>"
    )
    inside = f'<div class="lv-settings">{switches}<div class="lv-with">{seed}{dice}</div></div>'
    return answered(scene.view.refused, inside)


def advanced(scene: ViewModel, say: Words) -> str:
    """How segments are joined, and what few people need; each with a line that says what it does."""
    plan, form = scene.project.plan, Form.of(scene.project.request)
    known = [name for name in STRATEGIES if name != CODENOISE or scene.layout.start == 0]
    strategies = [("", say("long_as_model")), *((name, say(f"strategy_{name}")) for name in known)]
    does = say(f"strategy_{plan.strategy}_does") if plan.strategy else say("long_as_model_does")
    anchored, guarded = (is_watched(plan.strategy, asked) for asked in (plan.anchored, plan.guarded))
    joining = [
        _select(scene, "plan", "strategy", strategies, plan.strategy or "", say("long_strategy"), does),
        _select(
            scene, "plan", "overlap", [(str(n), str(n)) for n in OVERLAPS], str(plan.overlap), say("long_overlap"),
            say("long_overlap_hint"),
        ),
        _input(
            scene, "plan", "ramp", str(plan.ramp), say("long_ramp"), say("long_ramp_hint"),
            f'type="number" min="0" max="{MAX_RAMP}"',
        ),
        _switch(scene, "plan", "anchored", anchored, say("long_anchored"), say("long_anchored_hint")),
        _switch(scene, "plan", "guarded", guarded, say("long_guarded"), say("long_guarded_hint")),
    ]  # fmt: skip
    samplers = [("", "–"), *((name, name) for name in SAMPLERS)]
    more = []
    for name in MORE:
        value = getattr(form, name)
        if name == "sampler":
            more.append(_select(scene, "form", name, samplers, value, say(name), ""))
        else:
            shown = value if isinstance(value, str) else "" if value is None else f"{value:g}"
            hint = say("negative_hint") if name == "negative" else say("model_default")
            more.append(_input(scene, "form", name, shown, say(name), "", f'placeholder="{html.escape(hint)}"'))
    heading = f"<h3>{html.escape(say('long_sampling'))}</h3>"
    joined = f'<div class="lv-settings">{"".join(joining)}</div>'
    return answered(scene.view.refused, f'{joined}{heading}<div class="lv-settings lv-many">{"".join(more)}</div>')


def _attributes(scene: ViewModel, kind: str, name: str) -> str:
    return panels.editing(kind, name=name, id=scene.project.id)


def _switch(scene: ViewModel, kind: str, name: str, on: bool, label: str, hint: str) -> str:
    return panels.switch(_attributes(scene, kind, name), on, label, hint)


def _input(scene: ViewModel, kind: str, name: str, value: str, label: str, hint: str, more: str = "") -> str:
    return panels.text(_attributes(scene, kind, name), value, label, hint, more)


def _select(
    scene: ViewModel, kind: str, name: str, choices: Iterable[tuple[str, str]], value: str, label: str, hint: str
) -> str:
    return panels.choice(_attributes(scene, kind, name), choices, value, label, hint)
