"""The studio's settings, from arguments and environment. Creates and loads nothing."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from lavie.errors import LavieError
from lavie.manifest import NANO

ROOT = Path(__file__).resolve().parent.parent  # the folder of app.py, assets included
RECOVERIES = ("resume", "ask", "never")
MAX_KEEP_DAYS = 36_500  # a hundred years
SPACE_STORAGE = Path("/data")  # where a Hugging Face Space mounts persistent storage, if it has any
N = TypeVar("N", int, float)
D = TypeVar("D")
_NUMBERS = {
    "LAVIE_PORT": "a number from 1 to 65535",
    "LAVIE_KEEP_WORK_DAYS": f"days from 0 to {MAX_KEEP_DAYS}",
}
_WORKERS = re.compile(r"local|ray(?::([1-9][0-9]{0,3}))?")


class ConfigError(LavieError):
    """A setting is outside its limits, or the studio cannot open with it."""


@dataclass(frozen=True)
class Space:
    """The Hugging Face Space that the studio runs on.

    Attributes:
        host: the host name of its page; empty if unknown.
        zero_gpu: whether the device is lent to single events (ZeroGPU).
        shared: whether each visitor has jobs and clips of their own; else it is one person's, as at home.
        sign_in: whether visitors can sign in with their account of the hub.
    """

    host: str = ""
    zero_gpu: bool = False
    shared: bool = True
    sign_in: bool = False


@dataclass(frozen=True)
class Limits:
    """Limits for the open jobs of one visitor of a Space, and the seconds of video that these make together; None is
    no limit. Raises ConfigError."""

    jobs: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.jobs is not None and self.jobs < 1:
            raise ConfigError(f"the limit of jobs is {self.jobs}: give a whole number from 1 on, or none")
        if self.seconds is not None and not 0 < self.seconds < float("inf"):
            raise ConfigError(f"the limit of seconds is {self.seconds}: give a number above 0, or none")


@dataclass(frozen=True)
class StudioConfig:
    """The settings of a studio. Raises ConfigError for values outside their limits.

    Attributes:
        data: folder of clips and downloaded models, created when first needed.
        model: `nano`, `official` or a folder.
        model_named: whether the model was named at this start; else the page uses its last choice.
        device: see `Cascade.from_bundle`.
        host, port: of the page; port is 1 … 65535.
        auth: (user, password) for the page.
        mcp: whether the HTTP endpoints are MCP tools too.
        recovery: for jobs that a kill interrupted: `resume` goes on at the next start (not twice after the same
            failure), `ask` and `never` leave them to a person.
        keep_work_days: how long the latents of failed and cancelled jobs are kept, 0 … 36500; applied at each start.
        snapshots: folder for backups, which outlives this machine, or None.
        workers: `local`, this process; `ray` or `ray:N`, N devices of a Ray cluster at once [its number of GPUs].
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
    space: Space | None = None
    snapshots: Path | None = None
    limits: Limits = Limits()
    workers: str = "local"
    model_named: bool = False

    def __post_init__(self) -> None:
        if not _WORKERS.fullmatch(self.workers):
            raise ConfigError(f"workers is {self.workers!r}: give local, ray, or ray:N for N devices from 1 to 9999")
        if self.over_ray and self.zero_gpu:
            raise ConfigError(f"workers is {self.workers!r} where ZeroGPU lends the device: give local")
        if not 1 <= self.port <= 65535:
            raise ConfigError(f"port is {self.port}: give a number from 1 to 65535")
        if self.recovery not in RECOVERIES:
            raise ConfigError(f"recovery is {self.recovery!r}: choose one of {', '.join(RECOVERIES)}")
        if not 0 <= self.keep_work_days <= MAX_KEEP_DAYS:
            raise ConfigError(f"keep_work_days is {self.keep_work_days}: give days from 0 to {MAX_KEEP_DAYS}")

    @property
    def zero_gpu(self) -> bool:
        """Whether the device is lent to single events (ZeroGPU)."""
        return self.space is not None and self.space.zero_gpu

    @property
    def over_ray(self) -> bool:
        """Whether clips are made on the devices of a Ray cluster."""
        return self.workers != "local"

    @property
    def devices(self) -> int | None:
        """The number of Ray devices; None if it is left open."""
        found = _WORKERS.fullmatch(self.workers)
        return int(found[1]) if found and found[1] else None

    @property
    def shared(self) -> bool:
        """Whether visitors share the studio, each with jobs and clips of their own."""
        return self.space is not None and self.space.shared

    @property
    def clips(self) -> Path:
        """The folder of finished clips, `<id>.mp4`."""
        return self.data / "clips"

    @property
    def bundle(self) -> Path:
        """The folder of the model's weights. It may be missing, which `Cascade.from_bundle` reports."""
        known = {"nano": NANO, "official": self.data / "models" / "official"}
        return known.get(self.model) or Path(self.model).expanduser()


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
    workers: str | None = None,
    writable: Callable[[Path], bool] = lambda folder: os.access(folder, os.W_OK),
) -> StudioConfig:
    """Settings from arguments, then `LAVIE_DATA`, `LAVIE_MODEL`, `LAVIE_DEVICE`, `LAVIE_HOST`, `LAVIE_PORT`,
    `LAVIE_AUTH`, `LAVIE_WORKERS`, then defaults; `LAVIE_RECOVERY`, `LAVIE_KEEP_WORK_DAYS`, `LAVIE_SNAPSHOTS`,
    `LAVIE_LIMIT_…` and `LAVIE_PRIVATE` from the environment alone. An empty variable counts as absent. `SPACE_ID` marks
    a Space. Raises ConfigError.

    Args:
        auth: `user:password`; in the environment it does not show in the list of processes.
        writable: whether a folder can be written.
    """
    space = _space(environ)
    # For backups only: a database is not safe on a mounted bucket.
    kept = environ.get("LAVIE_SNAPSHOTS") or (SPACE_STORAGE / "studio" if space and writable(SPACE_STORAGE) else None)
    return StudioConfig(
        data=Path(data or environ.get("LAVIE_DATA") or "data").expanduser(),
        model=model or environ.get("LAVIE_MODEL") or "nano",
        model_named=bool(model or environ.get("LAVIE_MODEL")),
        device=device or environ.get("LAVIE_DEVICE") or "auto",
        # A Space is reached through a proxy outside its container; at home only this machine is served.
        host=host or environ.get("LAVIE_HOST") or ("0.0.0.0" if space else "127.0.0.1"),
        port=port if port is not None else _number(environ, "LAVIE_PORT", int, StudioConfig.port),
        auth=_auth(auth or environ.get("LAVIE_AUTH")),
        mcp=mcp,
        recovery=environ.get("LAVIE_RECOVERY") or StudioConfig.recovery,
        keep_work_days=_number(environ, "LAVIE_KEEP_WORK_DAYS", float, StudioConfig.keep_work_days),
        space=space,
        snapshots=Path(kept).expanduser() if kept else None,
        limits=Limits(
            _number(environ, "LAVIE_LIMIT_JOBS", int, None), _number(environ, "LAVIE_LIMIT_SECONDS", float, None)
        ),
        workers=workers or environ.get("LAVIE_WORKERS") or StudioConfig.workers,
    )


def _space(environ: Mapping[str, str]) -> Space | None:
    if not environ.get("SPACE_ID"):
        return None
    zero_gpu, private = (
        environ.get(name, "").lower() in ("1", "true") for name in ("SPACES_ZERO_GPU", "LAVIE_PRIVATE")
    )
    return Space(environ.get("SPACE_HOST", ""), zero_gpu, not private, bool(environ.get("OAUTH_CLIENT_ID")))


def _number(environ: Mapping[str, str], name: str, kind: type[N], default: D) -> N | D:
    text = environ.get(name)
    try:
        return kind(text) if text else default
    except ValueError:
        raise ConfigError(f"{name} is {text!r}: give {_NUMBERS.get(name, 'a number, or nothing')}") from None


def _auth(text: str | None) -> tuple[str, str] | None:
    """The two halves of `user:password`. The message does not repeat the value, which may be a password."""
    if not text:
        return None
    user, _, password = text.partition(":")
    if not user or not password:
        raise ConfigError("auth is not of the form user:password: give both, with a colon between them")
    return user, password
