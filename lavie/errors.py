"""The exceptions of LaVie Studio. A message names the value and the next step."""

from typing import Any


class LavieError(Exception):
    """Base class of all exceptions here. `str(error)` is one line for a person."""


class RequestError(LavieError, ValueError):
    """A value of a request is outside its limits. Raised before anything is loaded or computed."""


class BundleError(LavieError):
    """A folder of weights cannot be used. The message names the file and what was expected."""


class DeviceError(LavieError):
    """The device asked for is not available, or ran out of memory."""


class OutOfMemory(DeviceError):
    """A stage does not fit into the device's memory. It may in a smaller mode (`lavie.memory_mode`)."""


class MediaError(LavieError):
    """A video or image cannot be read, or an output cannot be written."""


class StorageError(LavieError):
    """The data folder or the database in it cannot be used. Stored data stays unchanged."""


class AdapterError(LavieError):
    """An adapter's file is damaged, of an unsupported kind, or made for another model. Nothing is changed."""


class TrainingError(LavieError):
    """Training cannot start or go on. The last good checkpoint is kept."""


def short(value: Any) -> str:
    """`repr` of a value for a message, at most 100 characters."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}…"
