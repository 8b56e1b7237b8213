"""What a clip was made with, as HTML: facts, provenance, the recipe's JSON, where it comes from. Pure functions.

Recipes come out of files that anybody may have written: everything is escaped, and nothing is shown without end.
"""

from __future__ import annotations

import html
import json
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict

from app.ui.form import Form
from app.ui.gallery.cards import stages
from app.ui.language import Words
from app.ui.present import media
from lavie.errors import short

if typing.TYPE_CHECKING:
    from app.gallery import StoredClip
    from app.recipe import Recipe

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
