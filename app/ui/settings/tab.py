"""The settings tab: models and published weights, the state of studio, device and disk, and choices of this browser.

Everything is rendered when the tab is opened, so that the page itself loads faster. `assets/studio.js` stores the
browser's choices in cookies.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path

import gradio as gr

from app.config import ROOT
from app.models.catalog import OFFICIAL, Files, KnownModel, find_published, format_bytes
from app.models.jobs import CONVERT, DONE, IDLE, RUNNING, STOPPED, STOPPING, Standing
from app.status import BundleStatus, DeviceStatus, DiskStatus, bundle_status, device_status, disk_status, versions
from app.studio import Studio
from app.ui.context import EventContext, PageContext
from app.ui.html import STAGE_KEYS, alert, button, fold, format_memory, quiet, status, table
from app.ui.i18n import Languages, Words
from app.ui.panels import QUICK, options, panel, slot
from lavie.errors import LavieError
from lavie.files import RECORD
from lavie.request import STAGES

THEMES = ("light", "dark")
# Keys that `assets/studio.js` handles, and the word that describes each.
KEYS = (
    (("Ctrl", "Enter"), "key_generate"),
    (("←", "→", "↑", "↓"), "key_move"),
    (("Enter",), "key_open"),
    (("Space",), "key_play"),
    (("1", "…", "5"), "key_rate"),
    (("0",), "key_unrate"),
    (("f",), "key_favourite"),
    (("c",), "key_compare"),
    (("x",), "key_reject"),
)
_HASH = 12  # characters of a checksum that are shown
_REFRESH = ' data-refresh="part"'  # rendered again when work on the weights begins or ends


def create_tab(context: PageContext) -> None:
    """Lay out the tab inside the open page. Shared and ZeroGPU studios have no section of models."""
    studio, tab = context.studio, context.tab
    models = panel(name="models") if studio.choice.open else None
    if models:
        panel(f'<section class="lv-live">{slot("weights")}</section>', name="models-live")
    settings = panel(name="settings")
    show = context.handler(lambda event: settings_page(studio, context.languages, event))
    tab.select(show, None, settings, **QUICK)
    settings.act(show, None, settings, **QUICK)

    def act_on_models(event: EventContext) -> tuple[typing.Any, ...]:
        section = model_panel(studio, event)
        changed = event.data.get("act") == "model_use"
        return section, settings_page(studio, context.languages, event) if changed else gr.skip()

    if models:
        for event in (tab.select, models.act):
            event(context.handler(act_on_models), None, [models, settings], **QUICK)


def settings_page(studio: Studio, languages: Languages, event: EventContext) -> str:
    """All panels but the models."""
    say = event.say
    panels = [
        _bundle(bundle_status(studio.workspace), say),
        _device(device_status(studio.workspace), say),
        _disk(studio, say),
        _appearance(languages, event),
        _keys(say),
        _panel("versions", say, table(versions().items())),
    ]
    return f'<div class="lv-panels">{"".join(panels)}</div>'


def model_panel(studio: Studio, event: EventContext) -> str:
    """Run the event's action, then render the section of models with its error, if any. Imports torch."""
    say, error_html = event.say, ""
    try:
        action = _ACTIONS.get(event.data.get("act", ""))
        if action is not None:
            action(studio, event.data.get("value", ""))
    except LavieError as error:
        error_html = alert(str(error))
    try:
        known = studio.choice.list_models()
        models = "".join(_model(one, studio.choice.is_used(one), say) for one in known)
        files, free = find_published(studio.config.data / "models"), disk_status(studio.workspace).free
    except LavieError as error:
        return _panel("models", say, error_html or alert(str(error)), _REFRESH)
    official = next(one for one in known if one.asked == OFFICIAL)
    below = _published_weights(files, studio.weights.standing, official, free, say)
    return _panel("models", say, f'{error_html}<ul class="lv-models">{models}</ul>{below}', _REFRESH)


_ACTIONS: dict[str, Callable[[Studio, str], typing.Any]] = {
    "weights_fetch": lambda studio, _: studio.weights.fetch(),
    "weights_extension": lambda studio, _: studio.weights.fetch(with_optional=True),
    "weights_resume": lambda studio, _: studio.weights.fetch(),
    "weights_convert": lambda studio, _: studio.weights.convert(),
    "weights_pause": lambda studio, _: studio.weights.pause(),
    "weights_stop": lambda studio, _: studio.weights.pause(),
    "model_use": lambda studio, model: studio.choice.use(model),
}


def _model(known: KnownModel, used: bool, say: Words) -> str:
    name = known.name or (say("weights_official") if known.asked == OFFICIAL else known.folder.name)
    if known.name is None:
        about = alert(known.problem) if known.problem else quiet(say("weights_absent"))
    else:
        runs = [say(STAGE_KEYS.get(stage, "weights_extends")) for stage, lacks in known.stages.items() if not lacks]
        size, lacks = format_bytes(sum(known.bytes.values())), _missing_files(known)
        own = [known.folder.name] if known.folder.name.lower() != known.name.lower() else []
        about = quiet(" · ".join([*own, size, " + ".join(runs)]))
        about += quiet(say("stage_lacks", files=", ".join(lacks))) if lacks else ""
    end = ""
    if used:
        end = f'<span class="lv-chip lv-ready">{escape(say("model_used"))}</span>'
    elif known.name is not None:
        end = button("model_use", say, value=known.asked)
    return f"<li><div><strong>{escape(name)}</strong>{about}</div>{end}</li>"


def _published_weights(files: Files, standing: Standing, official: KnownModel, free: int, say: Words) -> str:
    whole = _has_stages(official, STAGES)
    parts = [f"<h3>{escape(say('weights_title'))}</h3>"] if not whole or files.files or standing.under_way else []
    if not whole:
        parts.append(quiet(say("weights_about", free=format_bytes(free))))
    elif not _can_extend(official):
        parts.append(quiet(say("weights_about_extension", free=format_bytes(free))))
    if standing.problem:
        parts.append(alert(standing.problem))
    parts += [f'<p class="lv-note">{escape(notice)}</p>' for notice in standing.notices]
    if standing.state in (STOPPED, DONE):
        parts.append(status(say("weights_stopped" if standing.state == STOPPED else "weights_done"), "lv-state"))
    present = sum(files.files.values()) + files.begun
    if present and standing.state != RUNNING:
        parts.append(quiet(say("weights_there", size=format_bytes(present))))
    buttons = "".join(button(action, say) for action in _weights_actions(files, standing, official))
    return f'{"".join(parts)}<div class="lv-actions">{buttons}</div>{_files_table(files, say)}'


def _weights_actions(files: Files, standing: Standing, official: KnownModel) -> list[str]:
    if standing.state == RUNNING:
        return ["weights_stop" if standing.work == CONVERT else "weights_pause"]
    if standing.state == STOPPING:
        return []
    if _has_stages(official, STAGES):
        return [] if _can_extend(official) else ["weights_extension"]
    if not any(files.missing[stage] for stage in STAGES):
        return ["weights_convert"]
    begun = files.files or files.begun or standing.state != IDLE
    return ["weights_resume" if begun else "weights_fetch"]


def _files_table(files: Files, say: Words) -> str:
    rows = []
    for name, size in files.files.items():
        sha256 = files.sha256.get(name)
        compared = say("weights_compared", sha256=sha256[:_HASH]) if sha256 else say("weights_uncompared")
        rows += [(name, format_bytes(size), compared)] if name != RECORD else []
    return fold(say("weights_files"), table(rows), ' data-fold="files"') if rows else ""


def _missing_files(known: KnownModel) -> list[str]:
    return sorted({file for files in known.stages.values() for file in files})


def _has_stages(known: KnownModel, stages: Sequence[str]) -> bool:
    return known.name is not None and all(not known.stages.get(stage, [stage]) for stage in stages)


def _can_extend(known: KnownModel) -> bool:
    from lavie.manifest import EXTENSION

    return _has_stages(known, [EXTENSION])


def _bundle(bundle: BundleStatus, say: Words) -> str:
    facts = [(say("model_name"), bundle.name or "–"), (say("folder"), _place(bundle.folder))]
    for stage, files in bundle.missing.items():
        words = say("stage_lacks", files=", ".join(files)) if files else say("stage_whole")
        facts.append((say(STAGE_KEYS[stage]), words))
    weights = [(name, format_memory(count)) for name, count in bundle.weights.items()]
    weights.append((say("weights_all"), format_memory(sum(bundle.weights.values()))))
    other = _note(say("model_other"), "python app.py --model …")
    return _panel("model", say, table(facts) + fold(say("weights"), table(weights), " open") + other)


def _device(device: DeviceStatus, say: Words) -> str:
    runs_on = {name: str(value) for name, value in device.runs_on.items()}
    facts = [(say("device"), runs_on.get("device") or say("device_later", device=device.asked))]
    facts += [(say(name), runs_on[name]) for name in ("dtype", "attention", "offload") if name in runs_on]
    memory = say("free_of", free=format_memory(device.memory.free), total=format_memory(device.memory.total))
    facts.append((say("memory_free"), memory))
    if device.memory.peak:
        facts.append((say("memory_peak"), format_memory(device.memory.peak)))
    facts.append((say("loaded"), ", ".join(device.loaded) or say("loaded_none")))
    wrong = "" if device.state in ("ready", "loading") else alert(device.state)
    return _panel("machine", say, wrong + table(facts) + button("look", say))


def _disk(studio: Studio, say: Words) -> str:
    try:
        disk = disk_status(studio.workspace)
    except LavieError as error:
        return _panel("data", say, alert(str(error)))
    return _panel("data", say, table(_disk_facts(disk, say)) + _note(say("data_other"), "python app.py --data …"))


def _disk_facts(disk: DiskStatus, say: Words) -> list[tuple[str, str]]:
    facts = [
        (say("folder"), _place(disk.folder)),
        (say("disk_free"), say("free_of", free=format_memory(disk.free), total=format_memory(disk.total))),
    ]
    for name in ("clips", "trash", "work"):
        count, taken = getattr(disk, name)
        facts.append((say(f"disk_{name}"), say("disk_taken", count=count, size=format_memory(taken))))
    return [*facts, (say("disk_database"), format_memory(disk.database))]


def _appearance(languages: Languages, event: EventContext) -> str:
    """Language and theme. The script stores them in cookies, from which the server marks the current choice."""
    say = event.say
    names = [("", say("as_browser")), *((name, languages.words(name)("language_name")) for name in languages)]
    themes = [("", say("as_browser")), *((name, say(f"theme_{name}")) for name in THEMES)]
    choices = _choice("language", say, names, event.cookies) + _choice("theme", say, themes, event.cookies)
    return _panel("looks", say, choices + quiet(say("looks_hint")))


def _choice(name: str, say: Words, values: Iterable[tuple[str, str]], cookies: typing.Mapping[str, str]) -> str:
    choices = options(values, cookies.get(name, ""))
    return f'<label class="lv-choice">{escape(say(name))}<select data-setting="{name}">{choices}</select></label>'


def _keys(say: Words) -> str:
    rows = "".join(
        f'<tr><th scope="row">{" ".join(f"<kbd>{escape(key)}</kbd>" for key in keys)}</th>'
        f"<td>{escape(say(word))}</td></tr>"
        for keys, word in KEYS
    )
    return _panel("keys", say, f'<table class="lv-table">{rows}</table>')


def _panel(name: str, say: Words, content: str, attributes: str = "") -> str:
    return f'<section class="lv-panel"{attributes}><h2>{escape(say(f"panel_{name}"))}</h2>{content}</section>'


def _note(words: str, command: str) -> str:
    return f'<p class="lv-quiet">{escape(words)} <code>{escape(command)}</code></p>'


def _place(folder: Path) -> str:
    """A folder relative to the checkout or to the home directory, where it lies there."""
    for root, shown in ((ROOT, ""), (Path.home(), "~/")):
        if folder.is_relative_to(root):
            return f"{shown}{folder.relative_to(root).as_posix()}"
    return str(folder)
