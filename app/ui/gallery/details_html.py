"""One clip as HTML: its player, what people say of it, what can be done with it, how its jobs stand. Pure functions."""

from __future__ import annotations

import html
import typing
from collections.abc import Mapping, Sequence

from app.job_row import FAILED, REGENERATE
from app.ui.gallery import cards, facts
from app.ui.language import Words
from app.ui.present import alert, button, job_words, media
from lavie.errors import LavieError
from lavie.request import STAGES

if typing.TYPE_CHECKING:
    from app.gallery import StoredClip
    from app.snapshot import Snapshot

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


def about(clip: StoredClip, jobs: Sequence[Snapshot], said: str, say: Words) -> str:
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
    since = facts.differences(changed, [say("gallery_before"), say("gallery_now")])
    since = f"<h3>{html.escape(say('gallery_changed'))}</h3>{since}" if since else ""
    return (
        f"<h3>{html.escape(say('gallery_recipe'))}</h3>{facts.recipe_facts(recipe, say)}"
        f"<h3>{html.escape(say('gallery_file'))}</h3>{facts.file_facts(clip, say, adapters)}"
        f"{since}{facts.provenance(recipe, say)}{facts.whole_json(recipe, say)}"
    )


def lineage(clip: StoredClip, parents: Sequence[StoredClip], children: Sequence[StoredClip], say: Words) -> str:
    """Where it comes from and what came of it."""
    return f"<h3>{html.escape(say('gallery_family'))}</h3>{facts.family(clip, parents, children, say)}"


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


def _job(job: Snapshot, say: Words) -> str:
    """A job that was asked for here: what it is, how it stands, what it made."""
    what = say("kind_regenerate" if job.row.kind == REGENERATE else "kind_render")
    words = job_words(job, say)
    words = words if job.proof else f"{what}: {words}"
    if job.state == FAILED:
        return alert(f"{words} {job.row.error or ''}")
    kind = "lv-proof" if job.proof and job.proof.identical else "lv-note"
    made = f" {button('show', say, id=job.clip.id)}" if job.clip else ""
    return f'<p class="{kind}" role="status">{html.escape(words)}{made}</p>'
