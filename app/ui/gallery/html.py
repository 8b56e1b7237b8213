"""HTML of the gallery's tab: pure functions of clips and recipes, in the words of one language.

Every text that a person, a file or a model wrote is escaped here and cut at a limit. `data-key` on a button names the
key that does the same (see `handlers.press_key`).
"""

from __future__ import annotations

import html
import json
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

from app.gallery import Clip, Page
from app.gallery.clip import MAX_RATING
from app.queue.status import JobStatus
from app.recipes.job_row import FAILED, REGENERATE
from app.recipes.recipe import Recipe
from app.ui.create.form import Form
from app.ui.gallery.view_model import MAX_COMPARED, View
from app.ui.html import (
    MAX_ALT,
    STAGE_KEYS,
    action_button,
    alert,
    button,
    data_attributes,
    fold,
    format_minute,
    job_words,
    media,
    moving_picture,
    named,
    poster,
    quiet,
    table,
    table_row,
)
from app.ui.i18n import Words
from lavie.errors import LavieError, short
from lavie.request import STAGES

STAR, NO_STAR, HEART, NO_HEART, PAIR, CROSS = "★", "☆", "♥", "♡", "◧", "✕"
_BASE, _INTERPOLATION, _SUPER_RESOLUTION = STAGES
_MAX_ROWS = 60  # values of a provenance, clips of a family
_LEFT_OUT = ("prompt", "negative", "seed", "smooth", "upscale")  # form fields that `_settings` leaves out


def render_grid(page: Page, view: View, say: Words, focus: str = "") -> str:
    """The panel with a page of clips. focus: where reading goes on, if elsewhere than before."""
    number = len(view.cursors) + 1
    total = say("gallery_total" if page.total_is_exact else "gallery_total_more", count=page.total)
    if page.total == 1 and page.total_is_exact:
        total = say("gallery_total_one")
    where = total if number == 1 and page.next is None else f"{total} · {say('gallery_page', number=number)}"
    here = f' data-focus="{html.escape(focus)}"' if focus else ""
    status = f'<p class="lv-found" role="status" tabindex="-1"{here}>{html.escape(where)}</p>'
    pager = _pager(page, view, say)
    above = f'<div class="lv-tools">{status}{_offers(view, say)}{pager}</div>{alert(view.alert) if view.alert else ""}'
    if not page.clips:
        return f"<div data-refresh>{above}{_empty(view, say)}</div>"
    cards = "".join(card(clip, say, chosen=clip.id in view.chosen) for clip in page.clips)
    keys = "" if view.query.trashed else f'<p class="lv-quiet lv-keys">{html.escape(say("gallery_keys"))}</p>'
    below = f'<div class="lv-tools">{keys}{pager}</div>'
    return f'<div data-refresh>{above}<ul class="lv-cards">{cards}</ul>{below}</div>'


def render_invalid_search(message: str) -> str:
    return f"<div data-refresh>{alert(message)}</div>"


def card(clip: Clip, say: Words, *, chosen: bool = False) -> str:
    """One clip of the grid: its still (the script plays the moving one), its facts and its marks."""
    shot = action_button("show", moving_picture(clip), "lv-shot", 'tabindex="-1"', id=clip.id)
    badges = [f"×{clip.count}"] if clip.count > 1 else []
    badges += [say("gallery_is_missing")] if clip.missing else []
    badge = f'<span class="lv-badge">{html.escape(" · ".join(badges))}</span>' if badges else ""
    marks = f'<div class="lv-actions">{_trash_buttons(clip, say)}</div>' if clip.trashed else _marks(clip, say, chosen)
    attributes = f'{data_attributes(id=clip.id)} aria-label="{html.escape(clip.prompt[:MAX_ALT])}"'
    return (
        f'<li class="lv-card" tabindex="0"{attributes}>'
        f'{shot}{badge}<p class="lv-name">{html.escape(clip.prompt)}</p>{quiet(_summary(clip, say))}{marks}</li>'
    )


def stage_words(names: str, say: Words) -> str:
    """`base+interpolation` in words; a stage that this version does not know keeps its name."""
    return " + ".join(say(STAGE_KEYS[name]) if name in STAGE_KEYS else name for name in names.split("+"))


def _summary(clip: Clip, say: Words) -> str:
    return f"{say('seed')} {clip.seed} · {stage_words(clip.stages, say)} · {clip.width} × {clip.height}"


def _marks(clip: Clip, say: Words, chosen: bool) -> str:
    # Keys do the same, so that a person without a mouse does not step through 24 times eight buttons.
    tab = ' tabindex="-1"'
    compare = _mark(PAIR, say("gallery_choose"), clip.id, "c", chosen, tab)
    reject = _mark(CROSS, say("act_reject"), clip.id, "x", False, tab).replace(' aria-pressed="false"', "")
    return f'<div class="lv-marks">{_stars(clip, say, tab)}{_heart(clip, say, tab)}{compare}{reject}</div>'


def _stars(clip: Clip, say: Words, tab: str = "") -> str:
    """Five buttons; the one of the current rating removes it."""
    buttons = []
    for number in range(1, MAX_RATING + 1):
        on, key = number <= clip.rating, 0 if number == clip.rating else number
        label = say("gallery_rate_none") if key == 0 else say("gallery_rate", number=number)
        buttons.append(_mark(STAR if on else NO_STAR, label, clip.id, str(key), on, tab))
    rating = html.escape(say("gallery_rated", number=clip.rating) if clip.rating else say("gallery_unrated"))
    return f'<span class="lv-stars" role="group" aria-label="{rating}">{"".join(buttons)}</span>'


def _heart(clip: Clip, say: Words, tab: str = "") -> str:
    return _mark(HEART if clip.favourite else NO_HEART, say("gallery_favourite"), clip.id, "f", clip.favourite, tab)


def _mark(sign: str, label: str, clip_id: str, key: str, on: bool, tab: str = "") -> str:
    """A small button that does what a key does. tab: further attributes."""
    more = f'{named(label)} aria-pressed="{str(on).lower()}"{tab}'
    return action_button("key", sign, "lv-mark", more, key=key, id=clip_id)


def _trash_buttons(clip: Clip, say: Words) -> str:
    purge = button("purge", say, id=clip.id, sure=say("gallery_sure_purge"))
    return button("restore", say, id=clip.id) + purge


def _empty(view: View, say: Words) -> str:
    if view.query.trashed:
        return f'<p class="lv-quiet lv-empty">{html.escape(say("gallery_empty_trash"))}</p>'
    key = "gallery_empty" if view.is_unfiltered else "gallery_empty_search"
    reset = "" if view.is_unfiltered else f'<div class="lv-actions">{button("reset", say)}</div>'
    return f'<div class="lv-empty">{quiet(say(key))}{reset}</div>'


def _pager(page: Page, view: View, say: Words) -> str:
    """Buttons to the previous and the next page; both are always there, so that nothing moves under the pointer."""
    buttons = [(button("earlier", say), bool(view.cursors)), (button("later", say), page.next is not None)]
    enabled = (one if there else one.replace("<button ", "<button disabled ", 1) for one, there in buttons)
    return f'<span class="lv-turn">{"".join(enabled)}</span>'


def _offers(view: View, say: Words) -> str:
    """Undo, the actions on chosen clips and on the whole trash, at a place where they move nothing."""
    parts = []
    if view.undo is not None:
        undo = button("undo", say, id=view.undo)
        parts.append(f'<span class="lv-now" role="status">{html.escape(say("gallery_rejected"))} {undo}</span>')
    if view.query.trashed:
        parts.append(button("empty", say, sure=say("gallery_sure_empty")))
    elif view.chosen:
        words = html.escape(say("gallery_chosen", count=len(view.chosen), most=MAX_COMPARED))
        buttons = button("compare", say) if len(view.chosen) > 1 else ""
        buttons += button("train", say, id=" ".join(view.chosen)) + button("unchoose", say)
        parts.append(f'<span class="lv-now">{words} {buttons}</span>')
    return f'<div class="lv-tools lv-nows">{"".join(parts)}</div>' if parts else ""


def render_player(clip: Clip, say: Words) -> str:
    """The way back, and the clip in its own shape; its still where the file is gone."""
    poster, alt = media(clip.id, "poster.webp"), html.escape(clip.prompt[:MAX_ALT])
    if clip.missing:
        inside = f'<img src="{poster}" alt="{alt}">'
    else:
        inside = (
            f'<video src="{media(clip.id)}" poster="{poster}" controls loop autoplay muted playsinline '
            f'aria-label="{alt}"></video>'
        )
    screen = f'<div class="lv-screen" style="aspect-ratio: {clip.width} / {clip.height}">{inside}</div>'
    return f'<div class="lv-actions">{button("close", say, focus=clip.id)}</div>{screen}'


def render_about(clip: Clip, jobs: Sequence[JobStatus], message: str, say: Words) -> str:
    """The prompt, the marks, the buttons and the jobs started from the clip. message: HTML of the last message."""
    heading = f'<h2 class="lv-prompt">{html.escape(clip.prompt)}</h2>'
    marks = f'<div class="lv-marks">{_stars(clip, say)}{_heart(clip, say)}</div>'
    lines = "".join(_job(job, say) for job in jobs)
    state = f'<p class="lv-note">{html.escape(say("gallery_missing_note"))}</p>' if clip.missing else ""
    if clip.trashed:
        words = html.escape(say("gallery_trashed_note"))
        actions = f'<p class="lv-note">{words}</p><div class="lv-actions">{_trash_buttons(clip, say)}</div>'
    else:
        actions = _actions(clip, say)
    return f'<div class="lv-about" data-refresh>{heading}{marks}{state}{message}{lines}{actions}</div>'


def render_gone(message: str, say: Words) -> str:
    """The panel in place of a clip that does not exist."""
    return f'<div class="lv-about">{button("close", say, focus="gone")}{alert(message)}</div>'


def _actions(clip: Clip, say: Words) -> str:
    """The buttons of a clip: further versions, its settings into the form, the file, the trash."""
    lacks = {
        "finish_smooth": _INTERPOLATION not in clip.stages.split("+"),
        "finish_upscale": _SUPER_RESOLUTION not in clip.stages.split("+"),
    }
    finish = [name for name, lacking in lacks.items() if lacking]
    finish += ["finish_both"] if len(finish) > 1 else []
    rows = [["again", "remix", "extend", "train", *finish], ["use_all", "use_prompt", "use_seed"]]
    lines = [f'<div class="lv-actions">{"".join(button(name, say, id=clip.id) for name in row)}</div>' for row in rows]
    link = ""
    if not clip.missing:
        address = f"{media(clip.id)}?download"
        link = f'<a class="lv-button" href="{address}" download>{html.escape(say("gallery_download"))}</a>'
    return f'{"".join(lines)}<div class="lv-actions">{link}{button("reject", say, id=clip.id)}</div>'


def _job(job: JobStatus, say: Words) -> str:
    """A job started from the clip: its kind, its state, and the clip it made."""
    kind = say("kind_regenerate" if job.row.kind == REGENERATE else "kind_render")
    words = job_words(job, say)
    words = words if job.comparison else f"{kind}: {words}"
    if job.state == FAILED:
        return alert(f"{words} {job.row.error or ''}")
    style = "lv-proof" if job.comparison and job.comparison.identical else "lv-note"
    made = f" {button('show', say, id=job.clip.id)}" if job.clip else ""
    return f'<p class="{style}" role="status">{html.escape(words)}{made}</p>'


def render_recipe(clip: Clip, changed: Sequence[tuple], say: Words, adapters: Mapping[str, str]) -> str:
    """The panel with the clip's recipe, file and provenance.

    Args:
        changed: differences from the clip it was made from.
        adapters: name → sha256 of the adapters in the library.
    """
    try:
        recipe = clip.recipe
    except LavieError as error:  # of a newer version
        return alert(str(error))
    since = render_differences(changed, [say("gallery_before"), say("gallery_now")])
    since = f"<h3>{html.escape(say('gallery_changed'))}</h3>{since}" if since else ""
    return (
        f"<h3>{html.escape(say('gallery_recipe'))}</h3>{recipe_table(recipe, say)}"
        f"<h3>{html.escape(say('gallery_file'))}</h3>{_file_table(clip, say, adapters)}"
        f"{since}{provenance(recipe, say)}{_recipe_json(recipe, say)}"
    )


def render_uploaded_recipe(recipe: Recipe, say: Words) -> str:
    """The recipe of an uploaded file, and the button that fills in the form."""
    heading = f"<h3>{html.escape(say('gallery_recipe'))}</h3>"
    folded = provenance(recipe, say) + _recipe_json(recipe, say)
    return f'{heading}{recipe_table(recipe, say)}<div class="lv-actions">{button("use_all", say)}</div>{folded}'


def recipe_table(recipe: Recipe, say: Words) -> str:
    """The request and the model, in the words of the form."""
    request = recipe.request
    rows = [(say("prompt"), request.prompt)]
    rows += [(say("negative"), request.negative_prompt)] if request.negative_prompt else []
    rows += [(say("seed"), str(request.seed)), (say("stages"), stage_words("+".join(request.stages), say))]
    rows += [(say("gallery_model"), recipe.model), *_settings(Form.of(request), say)]
    rows += [(say("gallery_created"), format_minute(recipe.created)), (say("gallery_version"), recipe.app_version)]
    return table(rows)


def _settings(form: Form, say: Words) -> list[tuple[str, str]]:
    """The form's fields that are filled in, by their labels."""
    values = {name: f"{value:g}" if isinstance(value, float) else value for name, value in asdict(form).items()}
    return [(say(name), str(value)) for name, value in values.items() if name not in _LEFT_OUT and value]


def _file_table(clip: Clip, say: Words, adapters: Mapping[str, str]) -> str:
    rows = [
        (say("gallery_size"), f"{clip.width} × {clip.height}"),
        (say("frames"), str(clip.frames)),
        (say("fps"), f"{clip.fps:g}"),
        (say("gallery_length"), say("seconds", n=f"{clip.duration:.2f}")),
        (say("gallery_bytes"), f"{clip.bytes / 1000:,.0f} kB"),
        (say("gallery_made_in"), say("seconds", n=f"{clip.seconds:.1f}")),
        (say("gallery_id"), clip.id),
    ]
    names = {sha256: f"{name} ({sha256[:12]})" for name, sha256 in adapters.items()}
    for digest, weight in clip.adapters.items():
        rows.append((say("gallery_adapter"), f"{names.get(digest, digest[:12])} × {weight:g}"))
    return table(rows)


def provenance(recipe: Recipe, say: Words) -> str:
    """Weights, device and versions that made the clip; folded."""
    rows = list(_leaves(recipe.provenance))
    if not rows:
        return ""
    return fold(say("gallery_provenance"), table((name, _cell_text(value)) for name, value in rows[:_MAX_ROWS]))


def _recipe_json(recipe: Recipe, say: Words) -> str:
    text = json.dumps(json.loads(recipe.to_json()), indent=2, ensure_ascii=False)
    return fold(say("gallery_json"), f'<pre class="lv-json" tabindex="0">{html.escape(text)}</pre>')


def render_family(clip: Clip, parents: Sequence[Clip], children: Sequence[Clip], say: Words) -> str:
    """The panel with the clips it was made from and those made from it, each a button that opens the clip."""
    heading = f"<h3>{html.escape(say('gallery_family'))}</h3>"
    if not parents and not children and clip.parent is None:
        return heading + quiet(say("gallery_family_none"))
    above = [_relative(parent, say) for parent in reversed(parents[:_MAX_ROWS])]
    oldest = parents[-1] if parents else clip
    if oldest.parent is not None:  # the parent was purged
        gone = html.escape(say("gallery_parent_gone", id=oldest.parent))
        above.insert(0, f'<span class="lv-quiet">{gone}</span>')
    below = [_relative(child, say) for child in children[:_MAX_ROWS]]
    more = len(children) - _MAX_ROWS
    below += [f'<span class="lv-quiet">{html.escape(say("gallery_more", count=more))}</span>'] if more > 0 else []
    inner = f"<ul>{''.join(f'<li>{one}</li>' for one in below)}</ul>" if below else ""
    line = "".join(f"<li>{one}</li>" for one in above)
    return f'{heading}<ul class="lv-tree">{line}<li>{_relative(clip, say, here=True)}{inner}</li></ul>'


def _relative(clip: Clip, say: Words, *, here: bool = False) -> str:
    inside = f"{poster(clip.id)}<span>{html.escape(_summary(clip, say))}</span>"
    if here:
        return f'<span class="lv-member" aria-current="true">{inside}</span>'
    return action_button("show", inside, "lv-member", id=clip.id)


def render_comparison(clips: Sequence[Clip], below: str, say: Words) -> str:
    """Players side by side with one control for all. below: HTML of the differences."""
    ratio = max(clip.height / clip.width for clip in clips)
    players = "".join(_compared_player(number, clip, ratio, say) for number, clip in enumerate(clips, 1))
    play, scrub = html.escape(say("gallery_play")), html.escape(say("gallery_scrub"))
    control = (
        f'<div class="lv-tools"><button type="button" class="lv-button" data-play>{play}</button>'
        f'<input type="range" class="lv-scrub" min="0" max="1" step="0.001" value="0" data-scrub aria-label="{scrub}">'
        f"</div>"
    )
    back = f'<div class="lv-actions">{button("close", say, focus="compare")}</div>'
    heading = f'<h2 class="lv-prompt">{html.escape(say("gallery_compare"))}</h2>'
    title = f"<h3>{html.escape(say('gallery_difference'))}</h3>"
    return f'{back}{heading}<div class="lv-compared">{players}</div>{control}{title}{below}'


def _compared_player(number: int, clip: Clip, ratio: float, say: Words) -> str:
    alt = html.escape(f"{number}: {clip.prompt[:MAX_ALT]}")
    source = f'src="{media(clip.id)}" poster="{media(clip.id, "poster.webp")}"'
    video = f'<video {source} loop muted playsinline preload="auto" aria-label="{alt}"></video>'
    words = html.escape(f"{number} · {say('seed')} {clip.seed}")
    actions = button("show", say, id=clip.id) + button("reject", say, id=clip.id)
    return (
        f'<figure><div class="lv-screen" style="aspect-ratio: {1 / ratio:.4f}">{video}</div>'
        f'<figcaption>{words}<div class="lv-actions">{actions}</div></figcaption></figure>'
    )


def render_differences(rows: Sequence[tuple[typing.Any, ...]], heads: Sequence[str]) -> str:
    """A table of what differs, a column a clip; a row is a name and a value for each."""
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in heads)
    body = "".join(table_row(name, *map(_cell_text, values)) for name, *values in rows[:_MAX_ROWS])
    return f'<div class="lv-wide"><table class="lv-table"><thead><tr><td></td>{head}</tr></thead>{body}</table></div>'


def _cell_text(value: typing.Any) -> str:
    """A value, shortened; None is a value that one of two does not have."""
    if value is None:
        return "–"
    text = value if isinstance(value, str) else short(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def _leaves(value: typing.Any, above: str = "") -> Iterator[tuple[str, typing.Any]]:
    """The leaves of nested objects by their path."""
    if not isinstance(value, dict):
        yield above, value
        return
    for name, inner in value.items():
        yield from _leaves(inner, f"{above}: {name}" if above else str(name))
