"""Everything that can go wrong on purpose, as one tree. A message names the value and the next step.

LavieError
├── RequestError      what was asked for cannot be made: a size, a sampler, an empty prompt
├── BundleError       a folder of weights is missing, incomplete, damaged or of another architecture
├── DeviceError       the device asked for is not there, or its memory does not suffice
│   └── OutOfMemory   of these the last
├── MediaError        a video or image cannot be read or written
├── StorageError      the data folder or its database cannot be used
├── AdapterError      a LoRA or embedding file cannot be read, or fits no network here
└── TrainingError     a training run cannot start or go on
"""

from typing import Any


class LavieError(Exception):
    """The root: catch it to catch all below. `str(error)` is one line for a person."""


class RequestError(LavieError, ValueError):
    """A value of a request is outside its limits. Raised before anything is loaded or computed."""


class BundleError(LavieError):
    """A folder of weights cannot be used. The message names the file and what was expected."""


class DeviceError(LavieError):
    """The device asked for is not available, or ran out of memory."""


class OutOfMemory(DeviceError):
    """The device's memory did not suffice for a part of the work. A smaller rung may (`lavie.plans`)."""


class MediaError(LavieError):
    """A video or image cannot be read, or an output cannot be written."""


class StorageError(LavieError):
    """The data folder or the database in it cannot be used. What was stored stays as it was."""


class AdapterError(LavieError):
    """An adapter's file is damaged, of a kind that is not supported, or made for another model. Nothing was changed."""


class TrainingError(LavieError):
    """Training cannot start or go on. The last good checkpoint is kept."""


def short(value: Any) -> str:
    """A value for a message: as Python writes it, cut behind 100 characters."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}…"
