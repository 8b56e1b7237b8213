"""The studio around `lavie`: page, commands, HTTP interface, queue and gallery."""

from lavie import __version__

__all__ = ["__version__"]
