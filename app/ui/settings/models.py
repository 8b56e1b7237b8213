"""The settings' models: which are there, which one makes new videos, and the published weights on their way to one.

What is under way is pushed (`under_way`, see `app.ui.live`); the rest is asked for again when something begins or ends.
Not shown where strangers share the studio, and where the device is lent.
"""

from __future__ import annotations

import html
import typing
from collections.abc import Callable, Sequence

from app.models.catalog import OFFICIAL, Files, KnownModel, published_files
from app.models.jobs import CONVERT, DONE, IDLE, RUNNING, STOPPED, STOPPING, Standing
from app.models.lines import of_bytes
from app.status import disk_status
from app.studio import Studio
from app.ui.html import STAGE_KEYS, alert, bar, button, duration
from app.ui.i18n import Words
from lavie.errors import LavieError
from lavie.files import RECORD
from lavie.request import STAGES

if typing.TYPE_CHECKING:
    from app.ui.context import EventContext

_HASH = 12  # characters of a checksum that are shown


def model_panel(studio: Studio, asked: EventContext) -> str:
    """Do what was asked, and show the section as it is then. What cannot be done is said in it. Imports torch."""
    say, said = asked.say, ""
    try:
        doing = _DOINGS.get(asked.told.get("act", ""))
        if doing is not None:
            doing(studio, asked.told.get("value", ""))
    except LavieError as error:
        said = alert(str(error))
    try:
        known = studio.choice.known()
        models = "".join(_model(one, studio.choice.is_used(one), say) for one in known)
        files, free = published_files(studio.config.data / "models"), disk_status(studio).free
    except LavieError as error:
        return _section(said or alert(str(error)), say)
    official = next(one for one in known if one.asked == OFFICIAL)
    below = _published(files, studio.weights.standing, official, free, say)
    return _section(f'{said}<ul class="lv-models">{models}</ul>{below}', say)


def under_way(standing: Standing, say: Words) -> str:
    """How far the work on the published weights is; nothing where there is none."""
    if not standing.under_way:
        return ""
    share = standing.done / standing.total if standing.total else 0.0
    shown = bar(say(f"weights_{standing.work}"), share, f"{share:.0%}" if standing.total else "")
    return f'{shown}<p class="lv-quiet">{html.escape(" · ".join(_facts(standing, say)))}</p>'


def _facts(standing: Standing, say: Words) -> list[str]:
    if standing.state == STOPPING:
        return [say("weights_stopping")]
    if not standing.total:
        return [say("weights_looking")]
    name = say("weights_comparing", file=standing.name) if standing.comparing else standing.name
    facts = [name, say("free_of", free=of_bytes(standing.done), total=of_bytes(standing.total))]
    facts += [say("weights_rate", size=of_bytes(standing.rate))] if standing.rate else []
    if standing.seconds_left is not None:
        facts.append(say("bar_left", time=duration(standing.seconds_left, say)))
    return facts


def _section(content: str, say: Words) -> str:
    head = f"<h2>{html.escape(say('panel_models'))}</h2>"
    return f'<section class="lv-panel" data-refresh="part">{head}{content}</section>'


def _model(known: KnownModel, used: bool, say: Words) -> str:
    """A bundle: what it can do, what it lacks, and whether new videos are made with it."""
    name = known.name or (say("weights_official") if known.asked == OFFICIAL else known.folder.name)
    if known.name is None:
        about = alert(known.problem) if known.problem else _quiet(say("weights_absent"))
    else:
        runs = [say(STAGE_KEYS.get(stage, "weights_extends")) for stage, lacks in known.stages.items() if not lacks]
        size, lacks = of_bytes(sum(known.bytes.values())), _lacks(known)
        own = [known.folder.name] if known.folder.name.lower() != known.name.lower() else []
        about = _quiet(" · ".join([*own, size, " + ".join(runs)]))
        about += _quiet(say("stage_lacks", files=", ".join(lacks))) if lacks else ""
    end = ""
    if used:
        end = f'<span class="lv-chip lv-ready">{html.escape(say("model_used"))}</span>'
    elif known.name is not None:
        end = button("model_use", say, value=known.asked)
    return f"<li><div><strong>{html.escape(name)}</strong>{about}</div>{end}</li>"


def _published(files: Files, standing: Standing, official: KnownModel, free: int, say: Words) -> str:
    """The files as they were published: what there is of them, and what can be done next."""
    whole = _runs(official, STAGES)
    parts = [f"<h3>{html.escape(say('weights_title'))}</h3>"] if not whole or files.files or standing.under_way else []
    if not whole:
        parts.append(_quiet(say("weights_about", free=of_bytes(free))))
    elif not _extends(official):
        parts.append(_quiet(say("weights_about_extension", free=of_bytes(free))))
    if standing.problem:
        parts.append(alert(standing.problem))
    parts += [f'<p class="lv-note">{html.escape(notice)}</p>' for notice in standing.notices]
    if standing.state == STOPPED:
        parts.append(_state(say("weights_stopped")))
    if standing.state == DONE:
        parts.append(_state(say("weights_done")))
    there = sum(files.files.values()) + files.begun
    if there and standing.state != RUNNING:
        parts.append(_quiet(say("weights_there", size=of_bytes(there))))
    acts = "".join(button(act, say) for act in _acts(files, standing, official))
    return f'{"".join(parts)}<div class="lv-actions">{acts}</div>{_table(files, say)}'


def _acts(files: Files, standing: Standing, official: KnownModel) -> list[str]:
    if standing.state == RUNNING:
        return ["weights_stop" if standing.work == CONVERT else "weights_pause"]
    if standing.state == STOPPING:
        return []
    if _runs(official, STAGES):
        return [] if _extends(official) else ["weights_extension"]
    if not any(files.missing[stage] for stage in STAGES):
        return ["weights_convert"]
    begun = files.files or files.begun or standing.state != IDLE
    return ["weights_resume" if begun else "weights_fetch"]


def _table(files: Files, say: Words) -> str:
    """Each file with its size, and the checksum that was compared when it came."""
    rows = "".join(
        f'<tr><th scope="row">{html.escape(name)}</th><td>{of_bytes(size)}</td>'
        f"<td>{html.escape(_checksum(files.sha256.get(name), say))}</td></tr>"
        for name, size in files.files.items()
        if name != RECORD
    )
    if not rows:
        return ""
    summary = f"<summary>{html.escape(say('weights_files'))}</summary>"
    return f'<details data-fold="files">{summary}<table class="lv-table">{rows}</table></details>'


def _checksum(sha256: str | None, say: Words) -> str:
    return say("weights_compared", sha256=sha256[:_HASH]) if sha256 else say("weights_uncompared")


def _lacks(known: KnownModel) -> list[str]:
    return sorted({file for files in known.stages.values() for file in files})


def _runs(known: KnownModel, stages: Sequence[str]) -> bool:
    """Whether nothing is missing for any of these."""
    return known.name is not None and all(not known.stages.get(stage, [stage]) for stage in stages)


def _extends(known: KnownModel) -> bool:
    """Whether it goes on from given frames."""
    from lavie.bundle import EXTENSION

    return _runs(known, [EXTENSION])


def _quiet(words: str) -> str:
    return f'<p class="lv-quiet">{html.escape(words)}</p>'


def _state(words: str) -> str:
    return f'<p class="lv-state" role="status">{html.escape(words)}</p>'


_DOINGS: dict[str, Callable[[Studio, str], typing.Any]] = {
    "weights_fetch": lambda studio, _: studio.weights.fetch(),
    "weights_extension": lambda studio, _: studio.weights.fetch(with_optional=True),
    "weights_resume": lambda studio, _: studio.weights.fetch(),
    "weights_convert": lambda studio, _: studio.weights.convert(),
    "weights_pause": lambda studio, _: studio.weights.pause(),
    "weights_stop": lambda studio, _: studio.weights.pause(),
    "model_use": lambda studio, asked: studio.choice.use(asked),
}
