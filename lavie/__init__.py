"""Text to video: the LaVie cascade as a library.

    from lavie import Cascade, Request
    cascade = Cascade.from_bundle("assets/nano")
    for event in cascade.generate(Request(prompt="a red star spinning on a navy background")):
        ...

Read on in this order: `request`, `events`, `cascade`, `stages`, `sampling`, `unet`, `layers`. Importing the values
needs no torch; `Cascade` brings it in when it is first asked for.
"""

from lavie.errors import BundleError, DeviceError, LavieError, MediaError, RequestError, TrainingError
from lavie.events import Finished, Notice, StageDone, StageStarted, Step
from lavie.request import Interpolation, Request, Sampling, SuperResolution
from lavie.video import Video

__all__ = [
    "BundleError",
    "Cascade",
    "DeviceError",
    "Finished",
    "Interpolation",
    "LavieError",
    "MediaError",
    "Notice",
    "Request",
    "RequestError",
    "Sampling",
    "StageDone",
    "StageStarted",
    "Step",
    "SuperResolution",
    "TrainingError",
    "Video",
]


def __getattr__(name: str):
    if name == "Cascade":
        from lavie.cascade import Cascade

        return Cascade
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
