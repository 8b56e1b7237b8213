"""What memory a request would need on the device, and how its stages would run there: said before it is made.

Only where memory is planned (a GPU) and the model is loaded; what past runs took is `app.estimates`.
"""

from __future__ import annotations

import typing

from lavie.errors import LavieError
from lavie.plans import MemoryPlan
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
