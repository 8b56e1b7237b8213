"""What a clip was made with, as HTML: facts, provenance, the recipe's JSON, where it comes from. Pure functions.

Recipes come out of files that anybody may have written: everything is escaped, and nothing is shown without end.
"""

from __future__ import annotations

import html
import json
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict

from app.queue.job import FAILED, REGENERATE
from app.ui.create.form import Form
from app.ui.gallery import cards
from app.ui.gallery.cards import stages
from app.ui.html import alert, button, job_words, media
from app.ui.i18n import Words
from lavie.errors import LavieError, short
from lavie.request import STAGES

if typing.TYPE_CHECKING:
    from app.gallery import StoredClip
    from app.queue.status import JobStatus
    from app.recipes.recipe import Recipe


_BASE, _INTERPOLATION, _SUPER_RESOLUTION = STAGES


def player(clip: StoredClip, say: Words) -> str:
    """The way back, and the clip, or its still where the file is gone; in its own shape before anything is loaded."""
    poster, alt = media(clip.id, "poster.webp"), html.escape(clip.prompt[:200])
    if clip.missing:
        inside = f'<img src="{poster}" alt="{alt}">'
    else:
        inside = (
            f'<video src="{media(clip.id)}" poster="{poster}" controls loop autoplay muted playsinline '
            f'aria-label="{alt}"></video>'
        )
    screen = f'<div class="lv-screen" style="aspect-ratio: {clip.width} / {clip.height}">{inside}</div>'
    return f'<div class="lv-actions">{button("close", say, focus=clip.id)}</div>{screen}'


def about(clip: StoredClip, jobs: Sequence[JobStatus], said: str, say: Words) -> str:
    """The prompt, the marks, the buttons, and what came of them. said: HTML of what happened last."""
    heading = f'<h2 class="lv-prompt">{html.escape(clip.prompt)}</h2>'
    marks = f'<div class="lv-marks">{cards.stars(clip, say)}{cards.heart(clip, say)}</div>'
    lines = "".join(_job(job, say) for job in jobs)
    state = f'<p class="lv-note">{html.escape(say("gallery_missing_note"))}</p>' if clip.missing else ""
    if clip.trashed:
        words = html.escape(say("gallery_trashed_note"))
        actions = f'<p class="lv-note">{words}</p><div class="lv-actions">{cards.trash_buttons(clip.id, say)}</div>'
    else:
        actions = _actions(clip, say)
    inside = f"{heading}{marks}{state}{said}{lines}{actions}"
    return f'<div class="lv-about" data-refresh>{inside}</div>'


def gone(message: str, say: Words) -> str:
    """In place of a clip that is not there, or not any more."""
    return f'<div class="lv-about">{button("close", say, focus="gone")}{alert(message)}</div>'


def made_with(clip: StoredClip, changed: Sequence[tuple], say: Words, adapters: Mapping[str, str]) -> str:
    """Everything that made the clip. changed: what differs from the clip that it was made from. adapters: name →
    sha256 of those that are in the library."""
    try:
        recipe = clip.recipe
    except LavieError as error:  # of a newer version
        return alert(str(error))
    since = differences(changed, [say("gallery_before"), say("gallery_now")])
    since = f"<h3>{html.escape(say('gallery_changed'))}</h3>{since}" if since else ""
    return (
        f"<h3>{html.escape(say('gallery_recipe'))}</h3>{recipe_facts(recipe, say)}"
        f"<h3>{html.escape(say('gallery_file'))}</h3>{file_facts(clip, say, adapters)}"
        f"{since}{provenance(recipe, say)}{whole_json(recipe, say)}"
    )


def lineage(clip: StoredClip, parents: Sequence[StoredClip], children: Sequence[StoredClip], say: Words) -> str:
    """Where it comes from and what came of it."""
    return f"<h3>{html.escape(say('gallery_family'))}</h3>{family(clip, parents, children, say)}"


def _actions(clip: StoredClip, say: Words) -> str:
    """What can be made of it and what of it can be used. What other tabs can do with a clip comes here too."""
    lacks = {
        "finish_smooth": _INTERPOLATION not in clip.stages.split("+"),
        "finish_upscale": _SUPER_RESOLUTION not in clip.stages.split("+"),
    }
    finish = [act for act, lacking in lacks.items() if lacking]
    finish += ["finish_both"] if len(finish) > 1 else []
    rows = [["again", "remix", "extend", "train", *finish], ["use_all", "use_prompt", "use_seed"]]
    lines = [f'<div class="lv-actions">{"".join(button(act, say, id=clip.id) for act in row)}</div>' for row in rows]
    link = ""
    if not clip.missing:
        address = f"{media(clip.id)}?download"
        link = f'<a class="lv-button" href="{address}" download>{html.escape(say("gallery_download"))}</a>'
    return f'{"".join(lines)}<div class="lv-actions">{link}{button("reject", say, id=clip.id)}</div>'


def _job(job: JobStatus, say: Words) -> str:
    """A job that was asked for here: what it is, how it stands, what it made."""
    what = say("kind_regenerate" if job.row.kind == REGENERATE else "kind_render")
    words = job_words(job, say)
    words = words if job.proof else f"{what}: {words}"
    if job.state == FAILED:
        return alert(f"{words} {job.row.error or ''}")
    kind = "lv-proof" if job.proof and job.proof.identical else "lv-note"
    made = f" {button('show', say, id=job.clip.id)}" if job.clip else ""
    return f'<p class="{kind}" role="status">{html.escape(words)}{made}</p>'


_SHOWN = 60  # values of a provenance, clips of a family
_APART = ("prompt", "negative", "seed", "smooth", "upscale")  # fields that are not told by `_settings`


def recipe_facts(recipe: Recipe, say: Words) -> str:
    """What was asked for and with which model, in the words of the form."""
    request = recipe.request
    rows = [(say("prompt"), request.prompt)]
    rows += [(say("negative"), request.negative_prompt)] if request.negative_prompt else []
    rows += [(say("seed"), request.seed), (say("stages"), stages("+".join(request.stages), say))]
    rows += [(say("gallery_model"), recipe.model), *_settings(Form.of(request), say)]
    rows += [(say("gallery_created"), moment(recipe.created)), (say("gallery_version"), recipe.app_version)]
    return table(rows)


def file_facts(clip: StoredClip, say: Words, adapters: Mapping[str, str]) -> str:
    """What is in the clip's file. adapters: name → sha256 of those that are in the library."""
    rows = [
        (say("gallery_size"), f"{clip.width} × {clip.height}"),
        (say("frames"), clip.frames),
        (say("fps"), f"{clip.fps:g}"),
        (say("gallery_length"), say("seconds", n=f"{clip.duration:.2f}")),
        (say("gallery_bytes"), f"{clip.bytes / 1000:,.0f} kB"),
        (say("gallery_made_in"), say("seconds", n=f"{clip.seconds:.1f}")),
        (say("gallery_id"), clip.id),
    ]
    known = {sha256: f"{name} ({sha256[:12]})" for name, sha256 in adapters.items()}
    for digest, weight in clip.adapters.items():
        rows.append((say("gallery_adapter"), f"{known.get(digest, digest[:12])} × {weight:g}"))
    return table(rows)


def provenance(recipe: Recipe, say: Words) -> str:
    """On which weights, device and versions it was made; folded up."""
    rows = list(_leaves(recipe.provenance))
    if not rows:
        return ""
    shown = table([(name, _text(value)) for name, value in rows[:_SHOWN]])
    return f"<details><summary>{html.escape(say('gallery_provenance'))}</summary>{shown}</details>"


def whole_json(recipe: Recipe, say: Words) -> str:
    """The recipe as the file has it; folded up."""
    text = json.dumps(json.loads(recipe.to_json()), indent=2, ensure_ascii=False)
    block = f'<pre class="lv-json" tabindex="0">{html.escape(text)}</pre>'
    return f"<details><summary>{html.escape(say('gallery_json'))}</summary>{block}</details>"


def differences(rows: Sequence[tuple[typing.Any, ...]], heads: Sequence[str]) -> str:
    """What differs, a column a clip; a row is a name and a value for each."""
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in heads)
    body = "".join(_row(name, *map(_text, values)) for name, *values in rows[:_SHOWN])
    return f'<div class="lv-wide"><table class="lv-table"><thead><tr><td></td>{head}</tr></thead>{body}</table></div>'


def family(clip: StoredClip, parents: Sequence[StoredClip], children: Sequence[StoredClip], say: Words) -> str:
    """The clip among those it was made from and those made from it; each of them opens when it is pressed."""
    if not parents and not children and clip.parent is None:
        return f'<p class="lv-quiet">{html.escape(say("gallery_family_none"))}</p>'
    above = [_member(parent, say) for parent in reversed(parents[:_SHOWN])]
    oldest = parents[-1] if parents else clip
    if oldest.parent is not None:  # a link outlives what it points at
        gone = html.escape(say("gallery_parent_gone", id=oldest.parent))
        above.insert(0, f'<span class="lv-quiet">{gone}</span>')
    below = [_member(child, say) for child in children[:_SHOWN]]
    more = len(children) - _SHOWN
    below += [f'<span class="lv-quiet">{html.escape(say("gallery_more", count=more))}</span>'] if more > 0 else []
    inner = f"<ul>{''.join(f'<li>{one}</li>' for one in below)}</ul>" if below else ""
    line = "".join(f"<li>{one}</li>" for one in above)
    return f'<ul class="lv-tree">{line}<li>{_member(clip, say, here=True)}{inner}</li></ul>'


def table(rows: Iterable[tuple[str, typing.Any]]) -> str:
    """Names and values below each other."""
    return f'<table class="lv-table">{"".join(_row(name, str(value)) for name, value in rows)}</table>'


def moment(text: str) -> str:
    """A time of ISO 8601 to the minute."""
    return text[:16].replace("T", " ")


def _row(name: str, *values: str) -> str:
    cells = "".join(f"<td>{html.escape(value)}</td>" for value in values)
    return f'<tr><th scope="row">{html.escape(name)}</th>{cells}</tr>'


def _settings(form: Form, say: Words) -> list[tuple[str, typing.Any]]:
    """The fields of the form that say something, under their labels."""
    shown = {name: f"{value:g}" if isinstance(value, float) else value for name, value in asdict(form).items()}
    return [(say(name), value) for name, value in shown.items() if name not in _APART and value]


def _member(clip: StoredClip, say: Words, *, here: bool = False) -> str:
    picture = f'<img alt="" src="{media(clip.id, "poster.webp")}" loading="lazy">'
    words = f"{say('seed')} {clip.seed} · {stages(clip.stages, say)} · {clip.width} × {clip.height}"
    inside = f"{picture}<span>{html.escape(words)}</span>"
    if here:
        return f'<span class="lv-member" aria-current="true">{inside}</span>'
    return f'<button type="button" class="lv-member" data-act="show" data-id="{html.escape(clip.id)}">{inside}</button>'


def _leaves(value: typing.Any, above: str = "") -> Iterator[tuple[str, typing.Any]]:
    if not isinstance(value, dict):
        yield above, value
        return
    for name, inner in value.items():
        yield from _leaves(inner, f"{above}: {name}" if above else str(name))


def _text(value: typing.Any) -> str:
    """As short as a table needs it; None is what one of two does not have."""
    if value is None:
        return "–"
    text = value if isinstance(value, str) else short(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
