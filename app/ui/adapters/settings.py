"""How a training is to be done, as fields: pure functions of what is prepared, in the words of one language."""

from __future__ import annotations

import html

from app.recipes.training import MAX_NAME, Training
from app.training.draft import NUMBERS, WHOLE, YES
from app.ui import panels
from app.ui.adapters.view_model import DRAFT, Preparing
from app.ui.i18n import Words
from app.ui.panels import answered
from app.ui.settings.tab import size
from extensions.lora.training.presets import NAMES
from extensions.lora.training.settings import MAX_TRIGGER

_FEW = 3  # media, below which a person is told that more are better


def wanted(of: Preparing, say: Words) -> str:
    """What is to be learned: the preset, the word that calls it, a name."""
    presets = [(name, say(f"train_{name}")) for name in NAMES]
    does = say(f"train_{of.draft.preset}_does")
    trigger = panels.text(
        panels.editing("set", name="trigger"),
        of.draft.trigger,
        say("train_trigger"),
        say("train_trigger_hint"),
        f'maxlength="{MAX_TRIGGER}" placeholder="zkw" autocapitalize="off" spellcheck="false"',
    )
    name = panels.text(
        panels.editing("set", name="name"), of.draft.values.get("name", ""), say("train_name"), say("train_name_hint"),
        f'maxlength="{MAX_NAME}" placeholder="{html.escape(of.draft.trigger)}"',
    )  # fmt: skip
    chosen = panels.choice(panels.editing("set", name="preset"), presets, of.draft.preset, say("train_preset"), does)
    head = f'<div class="lv-head"><h2>{html.escape(say("train_new"))}</h2></div>{of.view.said_on(DRAFT)}'
    return answered(of.view.refused, f'{head}<div class="lv-settings">{chosen}{trigger}{_word(of, say)}{name}</div>')


def advanced(of: Preparing, say: Words) -> str:
    """What few people need; an empty field is as the preset has it."""
    inside = [_number(of, name, say) for name in (*WHOLE, *NUMBERS)]
    on = of.draft.values.get("gradient_checkpointing") == YES
    name = "gradient_checkpointing"
    switch = panels.switch(panels.editing("set", name=name), on, say(f"train_{name}"), say(f"train_{name}_hint"))
    prompts = panels.lines(
        panels.editing("set", name="prompts"), of.draft.values.get("prompts", ""), say("train_prompts"),
        say("train_prompts_hint"),
    )  # fmt: skip
    many = f'<div class="lv-settings lv-many">{"".join(inside)}</div>'
    return answered(of.view.refused, f'{many}<div class="lv-settings">{switch}{prompts}</div>')


def begin(of: Preparing, say: Words) -> str:
    """The button, and what the training will take."""
    ready = bool(of.media.usable and of.draft.trigger)
    lacks = "" if ready else say("train_lacks_word" if of.media.usable else "train_lacks_media")
    main = (
        f'<button type="button" class="lv-button lv-main" id="lv-train-start" data-act="start"'
        f"{'' if ready else ' disabled'}>{html.escape(say('train_start'))}</button>"
    )
    said = f'<p class="lv-facts">{html.escape(lacks or _takes(of, say))}</p>'
    return answered(of.view.refused, f"{main}{said}{_warnings(of, say) if ready else ''}")


def _word(of: Preparing, say: Words) -> str:
    """What the model makes of the trigger."""
    if not of.word:
        return ""
    kind = "lv-warn" if of.word == "ordinary" else "lv-quiet"
    words = html.escape(say(f"train_word_{of.word}", word=of.draft.trigger))
    return f'<p class="lv-word-said {kind}" role="status">{words}</p>'


def _number(of: Preparing, name: str, say: Words) -> str:
    kind = "numeric" if name in WHOLE else "decimal"
    more = f'inputmode="{kind}" placeholder="{html.escape(_usual(of, name, say))}"'
    label = say(name if name in ("steps", "seed") else f"train_{name}")
    return panels.text(panels.editing("set", name=name), of.draft.values.get(name, ""), label, "", more)


def _usual(of: Preparing, name: str, say: Words) -> str:
    """What an empty field means."""
    if name in Training.__dataclass_fields__ and getattr(Training, name) is not None:
        return str(getattr(Training, name))
    if of.usual is None:
        return say("model_default")
    value = of.usual.steps(max(len(of.media.usable), 1)) if name == "steps" else getattr(of.usual, name)
    return f"{value:g}"


def _takes(of: Preparing, say: Words) -> str:
    steps = of.draft.values.get("steps") or _usual(of, "steps", say)
    words = [say("train_takes_steps", steps=steps, media=len(of.media.usable))]
    if of.needed is not None and of.free is not None:
        words.append(say("train_takes_memory", needed=size(of.needed), free=size(of.free)))
    return " · ".join(words)


def _warnings(of: Preparing, say: Words) -> str:
    said = []
    if of.needed is not None and of.free is not None and of.needed >= of.free:
        said.append(say("train_too_large"))
    if len(of.media.usable) < _FEW:
        said.append(say("train_few", count=len(of.media.usable)))
    return "".join(f'<p class="lv-warn" role="status">{html.escape(words)}</p>' for words in said)
