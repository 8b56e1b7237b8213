"""Ends commands with an exit code and at most one line on stderr, without a traceback.

0 done · 1 failed, one line says why · 2 wrong usage · 130 Ctrl-C · 143 SIGTERM.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import NoReturn

import typer

from lavie.errors import LavieError


class _Terminated(KeyboardInterrupt):
    """SIGTERM. Unwinds like Ctrl-C, so that no unfinished file is left."""


def _terminate(*_: object) -> None:
    raise _Terminated


@contextlib.contextmanager
def exit_codes(left: str = "no unfinished file is left") -> Iterator[None]:
    """Turn errors and signals into an exit code and one line on stderr. left: the words about files after a stop."""
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except LavieError as error:
        _stop(1, f"error: {error}")
    except _Terminated:
        _stop(143, f"stopped: {left}")
    except KeyboardInterrupt:
        _stop(130, f"cancelled: {left}")
    except Exception as error:
        if os.environ.get("LAVIE_DEBUG") == "1":
            raise
        _stop(1, f"error: something unexpected happened ({type(error).__name__}: {error}); LAVIE_DEBUG=1 shows where")
    finally:
        signal.signal(signal.SIGTERM, previous)


def _stop(code: int, message: str) -> NoReturn:
    print(" ".join(message.split()), file=sys.stderr)
    raise typer.Exit(code) from None
