"""The memory plan of a request in a person's words. A pure function."""

from __future__ import annotations

import typing

from app.ui.html import STAGE_KEYS
from app.ui.i18n import Words
from lavie.errors import LavieError
from lavie.plans import DECODING, MODEL, PLAIN, SEQUENTIAL, MemoryMode, MemoryPlan
from lavie.request import Request

if typing.TYPE_CHECKING:
    from app.studio import Studio


def memory_forecast(studio: Studio, request: Request) -> MemoryPlan | None:
    """The plan that the request would get now; None where there is none, or the request cannot be made. Runs no
    network, takes milliseconds."""
    cascade = studio.cascade
    if cascade is None:
        return None
    try:
        plan = cascade.plan(cascade.resolve(request))
    except LavieError:
        return None
    return plan if plan.free is not None else None


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


def _words(rung: MemoryMode, say: Words) -> str:
    said = [say("rung_pieces", pixels=rung.tile)] if rung.tile else []
    said += [say("rung_halves")] if rung.halves else []
    said += {MODEL: [say("rung_model")], SEQUENTIAL: [say("rung_sequential")]}.get(rung.offload, [])
    return ", ".join(said)


def _gib(count: int) -> str:
    return f"{count / _GIB:.1f} GiB"
