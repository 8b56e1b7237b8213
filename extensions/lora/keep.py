"""A file let in: kept under its sha256, which recipes name it by, and made to say all that it needs itself."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from extensions.lora.alphas import IN_HEADER, config_beside
from extensions.lora.card import AdapterCard
from extensions.lora.header import read_header
from extensions.lora.inspection import inspect
from extensions.lora.names import Targets
from lavie.errors import AdapterError
from lavie.files import file_hash


def keep(path: Path | str, folder: Path | str, targets: Targets) -> tuple[AdapterCard, Path]:
    """Look at a file and copy it to `folder`, under its sha256; the copy appears whole or not at all.

    peft keeps the alphas in another file. They are written into the copy's header, so that one hash stands for all
    that decides what the adapter does; every other file is copied byte for byte.

    Returns the card, whose hash and size are the copy's, and the copy's path. Raises AdapterError as
    `inspection.inspect`, and where the copy cannot be written.
    """
    card, header, folder = inspect(path, targets), read_header(path), Path(folder)
    config, partial = config_beside(header), folder / f".{card.sha256}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if config is None:
            shutil.copyfile(header.path, partial)
        else:
            save_file(load_file(header.path), partial, header.metadata | {IN_HEADER: config})
        found = file_hash(partial)
        if config is None and found != card.sha256:
            raise OSError("it changed meanwhile")
        kept = folder / f"{found}.safetensors"
        os.replace(partial, kept)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            partial.unlink()
        raise AdapterError(
            f"{header.path.name} was not kept in {folder} ({error}): make room there, try again"
        ) from None
    return replace(card, sha256=found, size=kept.stat().st_size), kept
