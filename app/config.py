"""The studio's settings, decided once from arguments and environment. Creates nothing and loads nothing.

Knows where data and bundles lie by default. Does not know what is in them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lavie.errors import LavieError

ROOT = Path(__file__).resolve().parent.parent  # the folder of app.py, assets included
RECOVERIES = ("resume", "ask", "never")
MAX_KEEP_DAYS = 36_500  # a hundred years: for ever
SPACE_STORAGE = Path("/data")  # where a Hugging Face Space mounts what outlives a restart, if it has such storage
_WORKERS = re.compile(r"local|ray(?::([1-9][0-9]{0,3}))?")


class ConfigError(LavieError):
    """A setting is outside its limits, or the studio cannot open with it."""


@dataclass(frozen=True)
class Space:
    """The Hugging Face Space that the studio runs on.

    host: the name that its page is reached by; empty where it does not say. zero_gpu: whether the device is lent to
    single events (ZeroGPU) and is not there otherwise. shared: whether each visitor has what is theirs; else it is one
    person's, as at home. sign_in: whether visitors can sign in with their account of the hub.
    """

    host: str = ""
    zero_gpu: bool = False
    shared: bool = True
    sign_in: bool = False


@dataclass(frozen=True)
class Limits:
    """What one visitor of a Space may have under way at once; None: as much as they like.

    jobs: that wait or run, 1 or more. seconds: of video that these make together, more than 0.
    Raises ConfigError for others.
    """

    jobs: int | None = None
    seconds: float | None = None

    def __post_init__(self):
        if self.jobs is not None and self.jobs < 1:
            raise ConfigError(f"the limit of jobs is {self.jobs}: give a whole number from 1 on, or none")
        if self.seconds is not None and not 0 < self.seconds < float("inf"):
            raise ConfigError(f"the limit of seconds is {self.seconds}: give a number above 0, or none")


@dataclass(frozen=True)
class StudioConfig:
    """Where the studio keeps its data and how it opens.

    data: folder of clips and downloaded models, made when first needed. model: `nano`, `official` or a folder.
    model_named: whether a person named it at this start; else the page goes on with the one chosen there last.
    device: as `Cascade.from_bundle` takes it. host, port: where the page is served; port is 1 … 65535.
    auth: (user, password) that the page asks for, or None. mcp: whether the HTTP endpoints are tools for MCP too.
    recovery: what becomes of a job that a kill interrupted, at the next start: `resume` goes on (not twice behind the
    same failure), `ask` and `never` leave it to a person. keep_work_days: how long the latents of a failed or cancelled
    job are kept for a new try, 0 … 36500; looked at when a worker starts. space: where it runs on one, else None.
    snapshots: folder that outlives this machine, where copies of the data folder are kept, or None. limits: see there.
    workers: `local`, this process; `ray` or `ray:N`, N devices of a Ray cluster at once [one; as many as it has GPUs].
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
    space: Space | None = None
    snapshots: Path | None = None
    limits: Limits = Limits()
    workers: str = "local"
    model_named: bool = False

    def __post_init__(self):
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
        """Whether the device is lent to single events, and is not there otherwise."""
        return self.space is not None and self.space.zero_gpu

    @property
    def over_ray(self) -> bool:
        """Whether clips are made on devices of a Ray cluster."""
        return self.workers != "local"

    @property
    def devices(self) -> int | None:
        """How many of them; None where that is left open."""
        number = _WORKERS.fullmatch(self.workers)[1]
        return int(number) if number else None

    @property
    def shared(self) -> bool:
        """Whether visitors who do not know each other share the studio."""
        return self.space is not None and self.space.shared

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
    workers: str | None = None,
    writable: Callable[[Path], bool] = _writable,
) -> StudioConfig:
    """Settings from arguments, then `LAVIE_DATA`, `LAVIE_MODEL`, `LAVIE_DEVICE`, `LAVIE_HOST`, `LAVIE_PORT`,
    `LAVIE_AUTH`, `LAVIE_WORKERS`, then defaults; `LAVIE_RECOVERY`, `LAVIE_KEEP_WORK_DAYS`, `LAVIE_SNAPSHOTS`,
    `LAVIE_LIMIT_…` and `LAVIE_PRIVATE` from the environment alone. An empty variable counts as absent. A Space says by
    `SPACE_ID` that it is one.

    auth: `user:password`; in the environment it does not show in the list of processes. Raises ConfigError.
    """
    space = _space(environ)
    # Never the data itself: a database is not safe on a mounted bucket, and its copies are.
    kept = environ.get("LAVIE_SNAPSHOTS") or (SPACE_STORAGE / "studio" if space and writable(SPACE_STORAGE) else None)
    return StudioConfig(
        data=Path(data or environ.get("LAVIE_DATA") or "data").expanduser(),
        model=model or environ.get("LAVIE_MODEL") or "nano",
        model_named=bool(model or environ.get("LAVIE_MODEL")),
        device=device or environ.get("LAVIE_DEVICE") or "auto",
        # A Space is reached through a proxy from outside its container; at home only this machine is served.
        host=host or environ.get("LAVIE_HOST") or ("0.0.0.0" if space else "127.0.0.1"),
        port=_port(environ) if port is None else port,
        auth=_auth(auth or environ.get("LAVIE_AUTH")),
        mcp=mcp,
        recovery=environ.get("LAVIE_RECOVERY") or StudioConfig.recovery,
        keep_work_days=_days(environ),
        space=space,
        snapshots=Path(kept).expanduser() if kept else None,
        limits=Limits(_limit(environ, "JOBS", int), _limit(environ, "SECONDS", float)),
        workers=workers or environ.get("LAVIE_WORKERS") or StudioConfig.workers,
    )


def _space(environ: Mapping[str, str]) -> Space | None:
    if not environ.get("SPACE_ID"):
        return None
    zero_gpu, private = (
        environ.get(name, "").lower() in ("1", "true") for name in ("SPACES_ZERO_GPU", "LAVIE_PRIVATE")
    )
    return Space(environ.get("SPACE_HOST", ""), zero_gpu, not private, bool(environ.get("OAUTH_CLIENT_ID")))


def _limit(environ: Mapping[str, str], what: str, kind: type[int] | type[float]) -> float | None:
    text = environ.get(f"LAVIE_LIMIT_{what}")
    try:
        return kind(text) if text else None
    except ValueError:
        raise ConfigError(f"LAVIE_LIMIT_{what} is {text!r}: give a number, or nothing") from None


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
