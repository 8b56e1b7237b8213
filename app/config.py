"""The studio's settings, decided once from arguments and environment. Creates nothing and loads nothing.

Knows where data and bundles lie by default. Does not know what is in them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lavie.errors import LavieError

ROOT = Path(__file__).resolve().parent.parent  # the folder of app.py, assets included
RECOVERIES = ("resume", "ask", "never")
MAX_KEEP_DAYS = 36_500  # a hundred years: for ever
SPACE_DATA = Path("/data")  # where a Hugging Face Space mounts what outlives a restart


class ConfigError(LavieError):
    """A setting is outside its limits, or the studio cannot open with it."""


@dataclass(frozen=True)
class StudioConfig:
    """Where the studio keeps its data and how it opens.

    data: folder of clips and downloaded models, made when first needed. model: `nano`, `official` or a folder.
    device: as `Cascade.from_bundle` takes it. host, port: where the page is served; port is 1 … 65535.
    auth: (user, password) that the page asks for, or None. mcp: whether the HTTP endpoints are tools for MCP too.
    recovery: what becomes of a job that a kill interrupted, at the next start: `resume` goes on (not twice behind the
    same failure), `ask` and `never` leave it to a person. keep_work_days: how long the latents of a failed or cancelled
    job are kept for a new try, 0 … 36500; looked at when a worker starts.
    Raises ConfigError for a value that is none of these.
    """

    data: Path = Path("data")
    model: str = "nano"
    device: str = "auto"
    host: str = "127.0.0.1"
    port: int = 7860
    auth: tuple[str, str] | None = None
    mcp: bool = False
    recovery: str = "resume"
    keep_work_days: float = 7

    def __post_init__(self):
        if not 1 <= self.port <= 65535:
            raise ConfigError(f"port is {self.port}: give a number from 1 to 65535")
        if self.recovery not in RECOVERIES:
            raise ConfigError(f"recovery is {self.recovery!r}: choose one of {', '.join(RECOVERIES)}")
        if not 0 <= self.keep_work_days <= MAX_KEEP_DAYS:
            raise ConfigError(f"keep_work_days is {self.keep_work_days}: give days from 0 to {MAX_KEEP_DAYS}")

    @property
    def clips(self) -> Path:
        """The folder of finished clips, `<id>.mp4`."""
        return self.data / "clips"

    @property
    def bundle(self) -> Path:
        """The folder of weights that `model` means. It may be missing: `Cascade.from_bundle` says so."""
        known = {"nano": ROOT / "assets" / "nano", "official": self.data / "models" / "official"}
        return known.get(self.model) or Path(self.model).expanduser()


def _writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK)


def read_config(
    environ: Mapping[str, str],
    *,
    data: Path | None = None,
    model: str | None = None,
    device: str | None = None,
    host: str | None = None,
    port: int | None = None,
    auth: str | None = None,
    mcp: bool = False,
    writable: Callable[[Path], bool] = _writable,
) -> StudioConfig:
    """Settings from arguments, then `LAVIE_DATA`, `LAVIE_MODEL`, `LAVIE_DEVICE`, `LAVIE_HOST`, `LAVIE_PORT`,
    `LAVIE_AUTH`, then defaults; `LAVIE_RECOVERY` and `LAVIE_KEEP_WORK_DAYS` from the environment alone. An empty
    variable counts as absent.

    auth: `user:password`; in the environment it does not show in the list of processes. Raises ConfigError.
    """
    on_space = bool(environ.get("SPACE_ID"))
    folder = data or environ.get("LAVIE_DATA") or (SPACE_DATA if on_space and writable(SPACE_DATA) else "data")
    return StudioConfig(
        data=Path(folder).expanduser(),
        model=model or environ.get("LAVIE_MODEL") or "nano",
        device=device or environ.get("LAVIE_DEVICE") or "auto",
        # A Space is reached through a proxy from outside its container; at home only this machine is served.
        host=host or environ.get("LAVIE_HOST") or ("0.0.0.0" if on_space else "127.0.0.1"),
        port=_port(environ) if port is None else port,
        auth=_auth(auth or environ.get("LAVIE_AUTH")),
        mcp=mcp,
        recovery=environ.get("LAVIE_RECOVERY") or StudioConfig.recovery,
        keep_work_days=_days(environ),
    )


def _port(environ: Mapping[str, str]) -> int:
    text = environ.get("LAVIE_PORT") or str(StudioConfig.port)
    if not (text.isascii() and text.isdigit()):
        raise ConfigError(f"LAVIE_PORT is {text!r}: give a number from 1 to 65535")
    return int(text)


def _days(environ: Mapping[str, str]) -> float:
    text = environ.get("LAVIE_KEEP_WORK_DAYS") or str(StudioConfig.keep_work_days)
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"LAVIE_KEEP_WORK_DAYS is {text!r}: give days from 0 to {MAX_KEEP_DAYS}") from None


def _auth(text: str | None) -> tuple[str, str] | None:
    """The two halves of `user:password`. The message does not repeat the value: it may be a password."""
    if not text:
        return None
    user, _, password = text.partition(":")
    if not user or not password:
        raise ConfigError("auth is not of the form user:password: give both, with a colon between them")
    return user, password
