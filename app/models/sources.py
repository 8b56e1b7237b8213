"""Where the published weights come from: repositories, revisions, mirrors.

Built-in values, changed by `sources.json` in the folder of models and by the environment: repositories move.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from app.config import ConfigError
from lavie.errors import short
from lavie.values import parse_object

HUB = "https://huggingface.co"
FILE = "sources.json"
LAVIE, SMALL, LARGE, SEINE = "lavie", "stable-diffusion-v1-4", "stable-diffusion-x4-upscaler", "seine"
Choice = tuple[str, ...]  # names of a file; the first that exists counts
_VAE: tuple[Choice, ...] = (
    ("vae/config.json",),
    ("vae/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.bin"),
)
_TEXT: tuple[Choice, ...] = (
    ("text_encoder/config.json",),
    ("text_encoder/model.safetensors", "text_encoder/pytorch_model.bin"),
    ("tokenizer/vocab.json",),
    ("tokenizer/merges.txt",),
    ("tokenizer/special_tokens_map.json",),
    ("tokenizer/tokenizer_config.json",),
)


def _is_id(name: Any) -> bool:
    owner, _, repository = name.partition("/") if isinstance(name, str) else ("", "", "")
    allowed = all(
        part and part.replace("-", "").replace("_", "").replace(".", "").isalnum() for part in (owner, repository)
    )
    return allowed and name.isascii()


def _check(holds: bool, message: str) -> None:
    if not holds:
        raise ConfigError(message)


@dataclass(frozen=True)
class Repository:
    """A repository of published files.

    Attributes:
        ids: `owner/name`, and later names of a moved repository.
        folder: of its files below the folder of published weights; empty for that folder.
        revision: branch, tag or commit.
    """

    ids: tuple[str, ...]
    files: tuple[Choice, ...]
    folder: str = ""
    revision: str = "main"

    def __post_init__(self) -> None:
        for name in self.ids:
            _check(_is_id(name), f"repository is {short(name)}: give one as owner/name")
        _check(bool(self.ids), "a repository has no id: give one as owner/name")
        whole = isinstance(self.revision, str) and bool(self.revision.strip())
        _check(whole, f"revision is {short(self.revision)}: give a branch, a tag or a commit")


@dataclass(frozen=True)
class Sources:
    """Repositories and addresses to download from. Raises ConfigError for an invalid address.

    Attributes:
        endpoint: address of the hub.
        mirrors: addresses to try if the hub cannot be reached.
        optional: repositories to download only on request.
        trusted: endpoints that may get the person's token.
    """

    repositories: Mapping[str, Repository]
    endpoint: str = HUB
    mirrors: tuple[str, ...] = ()
    optional: tuple[str, ...] = (SEINE,)
    trusted: tuple[str, ...] = (HUB,)

    def __post_init__(self) -> None:
        for address in self.endpoints:
            parts = urlsplit(address) if isinstance(address, str) else None
            known = parts is not None and parts.scheme in ("http", "https") and bool(parts.hostname)
            _check(known, f"the hub's address is {short(address)}: give one such as {HUB}")

    @property
    def endpoints(self) -> tuple[str, ...]:
        """All addresses in order."""
        return (self.endpoint, *self.mirrors)


PUBLISHED = {
    LAVIE: Repository(
        ("YaohuiW/LaVie", "Vchitect/LaVie"), (("lavie_base.pt",), ("lavie_interpolation.pt",), ("lavie_vsr.pt",))
    ),
    SMALL: Repository(("CompVis/stable-diffusion-v1-4",), (*_VAE, *_TEXT), SMALL),
    LARGE: Repository(
        ("stabilityai/stable-diffusion-x4-upscaler",),
        (*_VAE, *_TEXT, ("low_res_scheduler/scheduler_config.json",)),
        LARGE,
    ),
    SEINE: Repository(("xinyuanc91/SEINE",), (("seine.pt",),)),
}


def read_sources(
    models: Path, environ: Mapping[str, str], mirrors: Iterable[str] = (), revisions: Iterable[str] = ()
) -> Sources:
    """The sources for a folder of models. Raises ConfigError.

    Args:
        environ: `LAVIE_HUB_ENDPOINT` or `HF_ENDPOINT` gives the hub's address.
        mirrors: addresses to try first.
        revisions: such as `lavie=main`.
    """
    sources = _read_file(models / FILE, Sources(dict(PUBLISHED)))
    environment = environ.get("LAVIE_HUB_ENDPOINT") or environ.get("HF_ENDPOINT")
    if environment:
        # Like the hub's own tools, trust the address of their variable.
        trusted = (*sources.trusted, environ.get("HF_ENDPOINT", "").rstrip("/"))
        sources = replace(sources, endpoint=environment.rstrip("/"), trusted=trusted)
    first = tuple(address.rstrip("/") for address in mirrors)
    if first:
        rest = [address for address in sources.endpoints if address not in first]
        sources = replace(sources, endpoint=first[0], mirrors=(*first[1:], *rest))
    return _set_revisions(sources, revisions)


def _set_revisions(sources: Sources, revisions: Iterable[str]) -> Sources:
    repositories = dict(sources.repositories)
    for text in revisions:
        name, _, revision = text.partition("=")
        if name not in repositories:
            known = ", ".join(repositories)
            raise ConfigError(f"revision is {short(text)}: give REPOSITORY=REVISION, with one of {known}")
        repositories[name] = replace(repositories[name], revision=revision)
    return replace(sources, repositories=repositories)


def _read_file(file: Path, sources: Sources) -> Sources:
    if not file.is_file():
        return sources
    try:
        given = parse_object(file.read_text(encoding="utf-8"))
        if unknown := given.keys() - {"endpoint", "mirrors", "repositories"}:
            raise ValueError(f"{sorted(unknown)}")
        repositories = dict(sources.repositories)
        for name, changes in given.get("repositories", {}).items():
            values: dict[str, Any] = {key: tuple(value) if key == "ids" else value for key, value in changes.items()}
            if name not in repositories or not values.keys() <= {"ids", "revision"}:
                raise ValueError(f"{name}: {sorted(values)}")
            repositories[name] = replace(repositories[name], **values)
        mirrors = tuple(address.rstrip("/") for address in given.get("mirrors", ()))
        endpoint = given.get("endpoint", HUB).rstrip("/")
        return replace(sources, endpoint=endpoint, mirrors=mirrors, repositories=repositories)
    except ConfigError:
        raise
    except (OSError, ValueError, TypeError, AttributeError) as error:
        known = ", ".join(PUBLISHED)
        raise ConfigError(
            f"{file} cannot be used ({short(str(error))}): it may hold endpoint, mirrors, and repositories ({known}) "
            "with ids and revision; without the file the built-in ones are taken"
        ) from None
