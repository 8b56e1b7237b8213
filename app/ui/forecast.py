"""The memory plan of a request in a person's words. A pure function."""

from __future__ import annotations

from app.ui.language import Words
from app.ui.present import STAGE_KEYS
from lavie.plans import DECODING, MODEL, PLAIN, SEQUENTIAL, MemoryPlan, Rung

_GIB = 2**30
_PLACES = {**STAGE_KEYS, DECODING: "decoding"}


def forecast(plan: MemoryPlan | None, measured: bool, say: Words) -> str:
    """What the device is expected to need of its memory, unless past runs told (`measured`), and how the stages run
    that do not run everything at once; empty where nothing is planned."""
    if plan is None:
        return ""
    said = [] if measured else [say("forecast", memory=_gib(plan.peak), free=_gib(plan.free))]
    careful = {place: rung for place, rung in plan.rungs.items() if rung != PLAIN}
    said += [f"{say(_PLACES[place])}: {_words(rung, say)}" for place, rung in careful.items()]
    return " · ".join(said if plan.fits else [*said, say("forecast_tight")])


def _words(rung: Rung, say: Words) -> str:
    said = [say("rung_pieces", pixels=rung.tile)] if rung.tile else []
    said += [say("rung_halves")] if rung.halves else []
    said += {MODEL: [say("rung_model")], SEQUENTIAL: [say("rung_sequential")]}.get(rung.offload, [])
    return ", ".join(said)


def _gib(count: int) -> str:
    return f"{count / _GIB:.1f} GiB"
