"""The LaVie cascade, text to video, as a library.

    from lavie import Cascade, Request
    cascade = Cascade.from_bundle()
    for event in cascade.generate(Request(prompt="a red star spinning on a navy background")):
        ...

To read the code, follow `request`, `events`, `cascade`, `stages`, `sampling`, `unet`, `layers`. Importing the package
does not import torch; the first use of `Cascade` does.
"""

from typing import Any

from lavie.errors import BundleError, DeviceError, LavieError, MediaError, RequestError, TrainingError
from lavie.events import Finished, Notice, StageDone, StageStarted, Step
from lavie.request import Interpolation, Request, Sampling, SuperResolution
from lavie.video import Video

__version__ = "0.1.0"
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


def __getattr__(name: str) -> Any:
    if name == "Cascade":
        from lavie.cascade import Cascade

        return Cascade
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
