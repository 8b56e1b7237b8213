"""Which model a file was made for, as far as its keys, its shapes and its words tell. Needs no torch."""

from __future__ import annotations

from extensions.lora.files.formats import modules
from extensions.lora.files.header import Header
from lavie.errors import AdapterError

SD1, LAVIE, UNKNOWN = "Stable Diffusion 1", "LaVie", "an unknown model"
_SD2, _SDXL = "Stable Diffusion 2", "SDXL"
_MOTION, _FLUX, _SD3, _OTHER = "AnimateDiff's motion modules", "Flux", "Stable Diffusion 3", "a diffusion transformer"

# Pieces of names (dots as underscores) that only one family of networks has; the first that is found decides.
_PIECES = (
    (_MOTION, ("motion_modules",)),
    (_SD3, ("joint_blocks", "lora_te3_")),
    (_FLUX, ("double_blocks", "single_blocks", "single_transformer_blocks")),
    (_SDXL, ("lora_te1_", "lora_te2_", "text_encoder_2_", "lora_unet_input_blocks", "lora_unet_output_blocks")),
)
_TRANSFORMER = ("transformer_", "diffusion_model_", "lora_transformer_")
_READS_TEXT = tuple(f"attn2_{processor}to_{letter}" for processor in ("", "processor_") for letter in "kv")
_TEXT_WIDTHS = {768: SD1, 1024: _SD2, 2048: _SDXL}
Module = tuple[str, str, tuple[int, ...]]  # as `formats.modules` tells them
_WORDS = (("sdxl", _SDXL), ("stable-diffusion-xl", _SDXL), ("sd_v2", _SD2), ("stable-diffusion-v2", _SD2)) + (
    ("sd3", _SD3),
    ("flux", _FLUX),
    ("lavie", LAVIE),
    ("sd_v1", SD1),
    ("stable-diffusion-v1", SD1),
)
_FOREIGN = (_SD2, _SDXL, _MOTION, _FLUX, _SD3, _OTHER)


def guess_base(header: Header) -> str:
    """The model in words; `UNKNOWN` where nothing tells. What the file is made of is believed before what it says."""
    found = list(modules(header))
    guesses = (_by_name(found), _by_text_width(found))
    if base := next(filter(None, guesses), None):
        return base
    said = " ".join(header.metadata.get(key, "") for key in ("ss_base_model_version", "modelspec.architecture"))
    said = said[:1000].casefold()
    return next((base for word, base in _WORDS if word in said), UNKNOWN)


def refuse_foreign(header: Header, base: str) -> None:
    """Raises AdapterError for what was made for a network of another build."""
    if base in _FOREIGN:
        raise AdapterError(
            f"{header.path.name} was made for {base}, whose layers are others than LaVie's: bring a file made for "
            f"{SD1} or for LaVie"
        )


def _by_name(found: list[Module]) -> str | None:
    names = [module for module, _, _ in found]
    if any("attn_temp" in name for name in names):
        return LAVIE
    for base, pieces in _PIECES:
        if any(piece in name for piece in pieces for name in names):
            return base
    if any(name.startswith(_TRANSFORMER) for name in names):
        return _OTHER
    # SD 1 and LaVie have one transformer block at a place, SDXL up to ten.
    deep = any(f"transformer_blocks_{number}_" in name for number in range(1, 10) for name in names)
    return _SDXL if deep else None


def _by_text_width(found: list[Module]) -> str | None:
    """From the channels of the text that cross-attention reads: the second size of its lower factor."""
    widths = (
        shape[1]
        for module, role, shape in found
        if module.endswith(_READS_TEXT) and role in ("down", "hada_w1_b") and len(shape) >= 2
    )
    return next((_TEXT_WIDTHS[width] for width in widths if width in _TEXT_WIDTHS), None)
