"""The alphas that a file does not hold as tensors: those of peft's configuration. Needs no torch.

diffusers writes it into the header, for each part with its prefix; peft writes `adapter_config.json` beside the file.
"""

from __future__ import annotations

import json
import math
import re

from extensions.lora.files.header import FETCH_AGAIN, Header
from extensions.lora.names import UNET
from lavie.errors import AdapterError, short

IN_HEADER, _BESIDE = "lora_adapter_metadata", "adapter_config.json"
_MAX_TEXT = 2**20  # bytes
_PREFIXES = {UNET: "unet.", "text": "text_encoder."}


class Alphas:
    """What the configuration of a file says of a layer's alpha; nothing, where there is no configuration.

    Raises AdapterError for a configuration that cannot be read: without it the file would be applied too strongly.
    """

    def __init__(self, header: Header):
        self.name = header.path.name
        self._config = self._read(header)

    def of(self, part: str, layer: str, rank: int | None) -> float:
        """The alpha of a layer, `rank` where nothing is said: a scale of 1."""
        rank = rank or 1
        config = self._of_part(part)
        alpha = config.get("lora_alpha", config.get("alpha"))
        pattern = config.get("alpha_pattern") or {}
        if not isinstance(pattern, dict):
            raise self._unusable("alpha_pattern", pattern)
        alpha = next((value for name, value in pattern.items() if self._means(name, layer)), alpha)
        if alpha is None:
            return rank
        if not isinstance(alpha, (int, float)) or isinstance(alpha, bool) or not math.isfinite(alpha):
            raise self._unusable("lora_alpha", alpha)
        return alpha * math.sqrt(rank) if config.get("use_rslora") else alpha

    def _of_part(self, part: str) -> dict:
        own = {
            key.removeprefix(_PREFIXES[part]): value
            for key, value in self._config.items()
            if key.startswith(_PREFIXES[part])
        }
        return own or self._config

    def _means(self, pattern: str, layer: str) -> bool:
        """peft's patterns are regular expressions; a stranger's is never run. Names, with a ^ before them, suffice."""
        name = pattern.replace("\\.", ".")
        if not re.fullmatch(r"\^?[\w.]+", name):
            raise self._unusable("alpha_pattern", pattern)
        return layer == name.removeprefix("^") or (not name.startswith("^") and layer.endswith(f".{name}"))

    def _read(self, header: Header) -> dict:
        text = header.metadata.get(IN_HEADER)
        text = config_beside(header) if text is None else text
        if text is None:
            return {}
        try:
            config = json.loads(text) if len(text) <= _MAX_TEXT else None
        except (ValueError, RecursionError):
            config = None
        if not isinstance(config, dict):
            raise self._unusable("a configuration", text)
        return config

    def _unusable(self, what: str, value) -> AdapterError:
        return AdapterError(f"{self.name}: peft says {what} {short(value)}, which is not understood: {FETCH_AGAIN}")


def config_beside(header: Header) -> str | None:
    """The configuration that a file has beside it and needs: its own alphas, or one in its header, stand above it."""
    if IN_HEADER in header.metadata or any(key.endswith(".alpha") for key in header.shapes):
        return None
    try:
        with header.path.with_name(_BESIDE).open("rb") as stream:
            return stream.read(_MAX_TEXT + 1).decode("utf-8", "replace")
    except OSError:
        return None
