"""The last tab: the models, what the studio stands on, and what this browser has chosen.

All of it is written when the tab is opened, so that the page itself does not wait for it. What this browser has chosen
is kept in cookies by `assets/studio.js`; of the models, see `app.ui.settings.models`.
"""

from __future__ import annotations

import typing
from collections.abc import Iterable
from html import escape
from pathlib import Path

from app.config import ROOT
from app.status import (
    BundleStatus,
    DeviceStatus,
    DiskStatus,
    bundle_status,
    device_status,
    disk_status,
    versions,
)
from app.studio import Studio
from app.ui import html
from app.ui.context import EventContext, PageContext
from app.ui.i18n import Languages, Words
from app.ui.panels import QUICK, board, slot
from app.ui.settings.models import model_panel
from lavie.errors import LavieError

if typing.TYPE_CHECKING:
    import gradio as gr

THEMES = ("light", "dark")
# Every key that `assets/studio.js` takes, and the word that says what it does.
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


def settings_tab(shell: PageContext) -> None:
    """Lay out the tab inside the open page."""
    if shell.studio.choice.open:
        models = board(name="models")
        board(f'<section class="lv-live">{slot("weights")}</section>', name="models-live")
    panels = board(name="settings")
    show = shell.handler(lambda asked: settings_page(shell.studio, shell.languages, asked))
    shell.tab.select(show, None, panels, **QUICK)
    panels.act(show, None, panels, **QUICK)
    if shell.studio.choice.open:
        _models(shell, models, panels)


def _models(shell: PageContext, models: gr.HTML, panels: gr.HTML) -> None:
    """Wire the section of the models; another choice shows in the panels too."""
    import gradio as gr

    def answer(asked: EventContext) -> tuple:
        section = model_panel(shell.studio, asked)
        chosen = asked.told.get("act") == "model_use"
        return section, settings_page(shell.studio, shell.languages, asked) if chosen else gr.skip()

    for event in (shell.tab.select, models.act):
        event(shell.handler(answer), None, [models, panels], **QUICK)


def settings_page(studio: Studio, languages: Languages, asked: EventContext) -> str:
    """The whole tab as HTML."""
    say = asked.say
    panels = [
        _bundle(bundle_status(studio), say),
        _device(device_status(studio), say),
        _disk(studio, say),
        _looks(languages, asked),
        _keys(say),
        _panel("versions", say, _table(versions().items())),
    ]
    return f'<div class="lv-panels">{"".join(panels)}</div>'


def size(count: int) -> str:
    """Bytes for a person, in GiB, MiB or KiB, whichever there is one of."""
    for unit, bytes in (("GiB", 2**30), ("MiB", 2**20)):
        if count >= bytes:
            return f"{count / bytes:.1f} {unit}"
    return f"{count / 2**10:.0f} KiB"


def _bundle(bundle: BundleStatus, say: Words) -> str:
    facts = [(say("model_name"), bundle.name or "–"), (say("folder"), _place(bundle.folder))]
    for stage, files in bundle.missing.items():
        words = say("stage_lacks", files=", ".join(files)) if files else say("stage_whole")
        facts.append((say(html.STAGE_KEYS[stage]), words))
    weights = [(name, size(count)) for name, count in bundle.weights.items()]
    weights.append((say("weights_all"), size(sum(bundle.weights.values()))))
    other = _note(say("model_other"), "python app.py --model …")
    listed = f"<details open><summary>{escape(say('weights'))}</summary>{_table(weights)}</details>"
    return _panel("model", say, _table(facts) + listed + other)


def _device(device: DeviceStatus, say: Words) -> str:
    facts = [(say("device"), device.runs_on.get("device") or say("device_later", device=device.asked))]
    facts += [(say(name), device.runs_on[name]) for name in ("dtype", "attention", "offload") if name in device.runs_on]
    facts.append((say("memory_free"), say("free_of", free=size(device.memory.free), total=size(device.memory.total))))
    if device.memory.peak:
        facts.append((say("memory_peak"), size(device.memory.peak)))
    facts.append((say("loaded"), ", ".join(device.loaded) or say("loaded_none")))
    wrong = "" if device.state in ("ready", "loading") else html.alert(device.state)
    return _panel("machine", say, wrong + _table(facts) + html.button("look", say))


def _disk(studio: Studio, say: Words) -> str:
    try:
        disk = disk_status(studio)
    except LavieError as error:
        return _panel("data", say, html.alert(str(error)))
    return _panel("data", say, _table(_disk_facts(disk, say)) + _note(say("data_other"), "python app.py --data …"))


def _disk_facts(disk: DiskStatus, say: Words) -> list[tuple[str, str]]:
    facts = [
        (say("folder"), _place(disk.folder)),
        (say("disk_free"), say("free_of", free=size(disk.free), total=size(disk.total))),
    ]
    for name in ("clips", "trash", "work"):
        count, taken = getattr(disk, name)
        facts.append((say(f"disk_{name}"), say("disk_taken", count=count, size=size(taken))))
    return [*facts, (say("disk_database"), size(disk.database))]


def _looks(languages: Languages, asked: EventContext) -> str:
    """Two choices; the script keeps them and marks nothing, since the server reads them from the same cookies."""
    say = asked.say
    names = [("", say("as_browser")), *((name, languages.words(name)("language_name")) for name in languages)]
    themes = [("", say("as_browser")), *((name, say(f"theme_{name}")) for name in THEMES)]
    choices = _choice("language", say, names, asked.chosen) + _choice("theme", say, themes, asked.chosen)
    return _panel("looks", say, choices + f'<p class="lv-quiet">{escape(say("looks_hint"))}</p>')


def _choice(name: str, say: Words, values: Iterable[tuple[str, str]], chosen: typing.Mapping[str, str]) -> str:
    options = "".join(
        f'<option value="{value}"{" selected" if value == chosen.get(name, "") else ""}>{escape(words)}</option>'
        for value, words in values
    )
    return f'<label class="lv-choice">{escape(say(name))}<select data-setting="{name}">{options}</select></label>'


def _keys(say: Words) -> str:
    rows = "".join(
        f'<tr><th scope="row">{" ".join(f"<kbd>{escape(key)}</kbd>" for key in keys)}</th>'
        f"<td>{escape(say(word))}</td></tr>"
        for keys, word in KEYS
    )
    return _panel("keys", say, f'<table class="lv-table">{rows}</table>')


def _panel(name: str, say: Words, content: str) -> str:
    return f'<section class="lv-panel"><h2>{escape(say(f"panel_{name}"))}</h2>{content}</section>'


def _table(facts: Iterable[tuple[str, str]]) -> str:
    rows = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in facts)
    return f'<table class="lv-table">{rows}</table>'


def _note(words: str, command: str) -> str:
    return f'<p class="lv-quiet">{escape(words)} <code>{escape(command)}</code></p>'


def _place(folder: Path) -> str:
    """A folder as people know it: ours without the way to it, theirs from their home on."""
    for root, shown in ((ROOT, ""), (Path.home(), "~/")):
        if folder.is_relative_to(root):
            return f"{shown}{folder.relative_to(root).as_posix()}"
    return str(folder)
