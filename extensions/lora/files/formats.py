"""The families of adapter files: the structure of their keys, what they change, and the model they were made for.

`plan` maps a header to layers and factors without reading weights. Needs no torch.

Sources: kohya-ss/sd-scripts (lora), LyCORIS (loha, lokr, locon; arXiv 2309.14859), diffusers and peft (key names).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from extensions.lora.files.header import FETCH_AGAIN, Header
from extensions.lora.names import Targets, flat
from lavie.errors import AdapterError, short

SD1, LAVIE, UNKNOWN = "Stable Diffusion 1", "LaVie", "an unknown model"
_SD2, _SDXL = "Stable Diffusion 2", "SDXL"
_MOTION, _FLUX, _SD3, _OTHER = "AnimateDiff's motion modules", "Flux", "Stable Diffusion 3", "a diffusion transformer"

# Pieces of names (dots as underscores) that only one family of networks has; the first match decides.
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
    """The model that a file was made for, in words; `UNKNOWN` if nothing tells. Keys and shapes outweigh metadata."""
    found = list(modules(header))
    guesses = (_by_name(found), _by_text_width(found))
    if base := next(filter(None, guesses), None):
        return base
    said = " ".join(header.metadata.get(key, "") for key in ("ss_base_model_version", "modelspec.architecture"))
    said = said[:1000].casefold()
    return next((base for word, base in _WORDS if word in said), UNKNOWN)


def refuse_foreign(header: Header, base: str) -> None:
    """Raises AdapterError for files made for networks with other layers."""
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
    # SD 1 and LaVie have one transformer block per place, SDXL up to ten.
    deep = any(f"transformer_blocks_{number}_" in name for number in range(1, 10) for name in names)
    return _SDXL if deep else None


def _by_text_width(found: list[Module]) -> str | None:
    """Judge by the channels of the text that cross-attention reads: the second size of its lower factor."""
    widths = (
        shape[1]
        for module, role, shape in found
        if module.endswith(_READS_TEXT) and role in ("down", "hada_w1_b") and len(shape) >= 2
    )
    return next((_TEXT_WIDTHS[width] for width in widths if width in _TEXT_WIDTHS), None)


MAX_RANK = 512
DOWN, UP, MID, ALPHA = "down", "up", "mid", "alpha"
LOW_RANK, LOHA, LOKR = "LoRA", "LoHa", "LoKr"
_LOHA_ROLES = tuple(f"hada_{name}" for name in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2"))
_LOKR_ROLES = tuple(f"lokr_{name}" for name in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2"))
EMBEDDING_KEY = "emb_params"  # of a textual inversion whose word is the file's name
# Words that came with an adapter ("pivotal tuning"), as AUTOMATIC1111's web UI reads them: start, word, end.
WORD_START, WORD_END = "bundle_emb.", ".string_to_param.*"
KOHYA, DIFFUSERS, OLD_DIFFUSERS, PEFT = "kohya", "diffusers", "diffusers (old)", "peft"

_DIFFUSERS_PARTS = ("unet.", "text_encoder.")  # before peft's endings, in what its pipelines write today

_ROLES = {LOW_RANK: {DOWN, UP, MID}, LOHA: set(_LOHA_ROLES), LOKR: set(_LOKR_ROLES)}

# How a key ends → what the tensor is, and the family that writes such keys.
_ENDINGS = {
    ".lora_down.weight": (DOWN, KOHYA),
    ".lora_up.weight": (UP, KOHYA),
    ".lora_mid.weight": (MID, KOHYA),
    ".lora.down.weight": (DOWN, DIFFUSERS),
    ".lora.up.weight": (UP, DIFFUSERS),
    ".lora_linear_layer.down.weight": (DOWN, DIFFUSERS),
    ".lora_linear_layer.up.weight": (UP, DIFFUSERS),
    "_lora.down.weight": (DOWN, OLD_DIFFUSERS),
    "_lora.up.weight": (UP, OLD_DIFFUSERS),
    ".lora_A.weight": (DOWN, PEFT),
    ".lora_B.weight": (UP, PEFT),
    ".lora_A.default.weight": (DOWN, PEFT),
    ".lora_B.default.weight": (UP, PEFT),
    ".alpha": (ALPHA, None),
    **{f".{role}": (role, LOHA) for role in _LOHA_ROLES},
    **{f".{role}": (role, LOKR) for role in _LOKR_ROLES},
}
# Changes that are not sums of small matrices; they would be applied wrongly.
_UNSUPPORTED = {
    "DoRA": (".dora_scale", ".lora_magnitude_vector", ".lora_magnitude_vector.weight"),
    "whole differences of weights": (".diff", ".diff_b"),
    "changes of norms": (".w_norm", ".b_norm"),
    "OFT": (".oft_blocks", ".oft_diag", ".oft_R.weight", ".oft_r", ".boft_R", ".boft_s"),
    "(IA)³": (".on_input", ".ia3_l"),
    "GLoRA": (".a1.weight", ".a2.weight", ".b1.weight", ".b2.weight"),
    "LoRA with biases": (".lora_B.bias", ".lora_up.bias", ".lora.up.bias", ".bias"),
}

Size = tuple[int, ...]
_NO_ROOM = (0, 0)  # the size of factors that do not fit each other


def check_size(kind: str, shapes: dict[str, Size], weight: Size, where: str, base: str) -> int | None:
    """The rank of a delta; None for a LoKr with two whole factors.

    Args:
        shapes: of the factors, by role.
        weight: shape of the layer's weight.
        where, base: file and layer, and the model of the file, for messages.

    Raises AdapterError for factors that are missing, do not fit each other or do not fit the layer.
    """
    missing = _missing(kind, shapes)
    if missing:
        raise AdapterError(f"{where} lacks {missing}, it was cut short or saved in part: {FETCH_AGAIN}")
    if any(prod(shape) != 1 for role, shape in shapes.items() if role == ALPHA):
        raise AdapterError(f"{where} has an alpha of shape {list(shapes[ALPHA])}, not one number: {FETCH_AGAIN}")
    rank, size = _SIZES[kind](shapes)
    if size == _NO_ROOM:
        told = ", ".join(f"{role} {list(shape)}" for role, shape in sorted(shapes.items()))
        raise AdapterError(f"{where} has factors that do not fit each other ({told[:200]}): {FETCH_AGAIN}")
    uneven = kind == LOKR and weight[1] % _kronecker_factor(shapes, 1)[1]
    if size != (weight[0], prod(weight[1:])) or uneven:
        raise AdapterError(
            f"{where} is changed by a matrix of {size[0]} × {size[1]}, the layer here has {weight[0]} × "
            f"{prod(weight[1:])}: the file was made for {base}, bring one made for this model"
        )
    return rank


def _missing(kind: str, shapes: dict[str, Size]) -> str | None:
    """The first factor that is needed and not there."""
    needed = [DOWN, UP]
    if kind == LOHA:
        cores = ["hada_t1", "hada_t2"]
        needed = cores if any(core in shapes for core in cores) else []
        needed = ["hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", *needed]
    elif kind == LOKR:  # each factor whole, or as a product
        needed = [f"{w}_{half}" for w in ("lokr_w1", "lokr_w2") if w not in shapes for half in "ab"]
    return next((role for role in needed if role not in shapes), None)


def _low_rank(shapes: dict[str, Size]) -> tuple[int, Size]:
    down, up, mid = shapes["down"], shapes["up"], shapes.get("mid")
    rank = down[0]
    fits = len(down) >= 2 and len(up) >= 2 and prod(up[1:]) == rank
    if mid is not None:
        fits = fits and len(mid) == 4 and mid[:2] == (rank, rank) and prod(down[2:]) == 1
    return rank, (up[0], prod(down[1:]) * prod((mid or ())[2:])) if fits else _NO_ROOM


def _loha(shapes: dict[str, Size]) -> tuple[int, Size]:
    halves = {_hadamard_half(shapes, number) for number in (1, 2)}
    return shapes["hada_w1_b"][0], halves.pop() if len(halves) == 1 else _NO_ROOM


def _hadamard_half(shapes: dict[str, Size], number: int) -> Size:
    """The size of one of the two matrices that are multiplied by entry; with a core it is a Tucker product."""
    a, b, core = shapes[f"hada_w{number}_a"], shapes[f"hada_w{number}_b"], shapes.get(f"hada_t{number}")
    if len(a) != 2 or len(b) != 2:
        return _NO_ROOM
    if core is None:
        return (a[0], b[1]) if a[1] == b[0] else _NO_ROOM
    return (a[1], b[1] * prod(core[2:])) if len(core) == 4 and core[:2] == (a[0], b[0]) else _NO_ROOM


def _lokr(shapes: dict[str, Size]) -> tuple[int | None, Size]:
    first, second = (_kronecker_factor(shapes, number) for number in (1, 2))
    rank = next((shapes[role][0] for role in ("lokr_w2_b", "lokr_w1_b") if role in shapes), None)
    if _NO_ROOM in (first, second):
        return rank, _NO_ROOM
    return rank, (first[0] * second[0], first[1] * second[1])


def _kronecker_factor(shapes: dict[str, Size], number: int) -> Size:
    whole = shapes.get(f"lokr_w{number}")
    if whole is not None:
        return (whole[0], prod(whole[1:])) if len(whole) in (2, 4) else _NO_ROOM
    a, b = shapes[f"lokr_w{number}_a"], shapes[f"lokr_w{number}_b"]
    core = shapes.get("lokr_t2") if number == 2 else None
    if core is not None:
        fits = len(core) == 4 and len(a) == len(b) == 2 and core[:2] == (a[0], b[0])
        return (a[1], b[1] * prod(core[2:])) if fits else _NO_ROOM
    return (a[0], prod(b[1:])) if len(a) == 2 and len(b) >= 2 and a[1] == b[0] else _NO_ROOM


_SIZES = {LOW_RANK: _low_rank, LOHA: _loha, LOKR: _lokr}


@dataclass(frozen=True)
class Planned:
    """A layer that a file changes, the kind of delta, and the key of each factor."""

    part: str
    layer: str
    kind: str
    keys: dict[str, str]
    rank: int | None


@dataclass(frozen=True)
class Plan:
    """The layers that a file changes, its names of layers that the networks lack, and its format."""

    layers: tuple[Planned, ...]
    unmatched: tuple[str, ...]
    family: str


def plan(header: Header, targets: Targets, base: str) -> Plan:
    """Find the layers of `targets` that a file changes.

    base: the model that the file was made for, for messages. Raises AdapterError for unsupported kinds, for missing
    factors or wrong shapes, and if no layer fits.
    """
    name = header.path.name
    _refuse_unsupported(header)
    found, families, unknown = _group_keys(header, targets)
    matched = {module: place for module in found if (place := targets.find(module))}
    if len(set(matched.values())) < len(matched):
        twice = next(place for place in matched.values() if list(matched.values()).count(place) > 1)
        raise AdapterError(f"{name} changes {twice[1]} twice, under two names: {FETCH_AGAIN}")
    if not matched:
        raise AdapterError(f"{name} was made for {base}: none of its {len(found) or len(unknown)} layers is here")
    layers = tuple(_plan_layer(header, targets, base, *matched[module], found[module]) for module in matched)
    unmatched = tuple(sorted([*(module for module in found if module not in matched), *unknown]))
    return Plan(layers, unmatched, _family(header, families, layers))


def split_key(key: str) -> tuple[str, str, str | None] | None:
    """A key → module, role of the tensor and family; None if its ending is no adapter's."""
    for ending, (role, family) in _ENDINGS.items():
        if key.endswith(ending):
            return key[: -len(ending)], role, family
    return None


def _refuse_unsupported(header: Header) -> None:
    for what, endings in _UNSUPPORTED.items():
        key = next((key for key in header.shapes if key.endswith(endings)), None)
        if key is not None:
            raise AdapterError(
                f"{header.path.name} holds {what} ({short(key)}), which is not supported: bring a LoRA, LoHa or LoKr"
            )


def _group_keys(header: Header, targets: Targets) -> tuple[dict[str, dict[str, str]], set[str], list[str]]:
    """The keys by module and role, the families that wrote them, and the unknown keys."""
    found: dict[str, dict[str, str]] = {}
    families: set[str] = set()
    unknown, words = [], set(words_of(header).values())
    for key in (key for key in header.shapes if key not in words):
        split = split_key(key)
        if split is None:
            unknown.append(key)
            continue
        module, role, family = split
        if family is not None:
            families.add(DIFFUSERS if family == PEFT and module.startswith(_DIFFUSERS_PARTS) else family)
        roles = found.setdefault(module, {})
        if role in roles:
            raise AdapterError(f"{header.path.name} holds {short(key)} and {short(roles[role])}: {FETCH_AGAIN}")
        roles[role] = key
    return found, families, unknown


def _plan_layer(header: Header, targets: Targets, base: str, part: str, layer: str, keys: dict[str, str]) -> Planned:
    shapes = {role: header.shapes[key] for role, key in keys.items()}
    kinds = [kind for kind, roles in _ROLES.items() if roles & keys.keys()] or [LOW_RANK]
    if len(kinds) > 1:
        raise AdapterError(f"{header.path.name} changes {layer} as {' and as '.join(kinds)}: {FETCH_AGAIN}")
    kind = kinds[0]
    rank = check_size(kind, shapes, targets.shapes(part)[layer], f"{header.path.name}: {layer}", base)
    if rank is not None and rank > MAX_RANK:
        raise AdapterError(
            f"{header.path.name} has rank {rank} at {layer}, more than {MAX_RANK}: give one of a lower rank"
        )
    return Planned(part, layer, kind, keys, rank)


def _family(header: Header, families: set[str], layers: tuple[Planned, ...]) -> str:
    for kind in (LOHA, LOKR):
        if kind in families:
            return f"LyCORIS {kind}"
    if families == {KOHYA}:
        kernels = (header.shapes[layer.keys[DOWN]][2:] for layer in layers)
        if any(MID in layer.keys for layer in layers) or any(n > 1 for kernel in kernels for n in kernel):
            return "kohya LoCon"
    return " and ".join(sorted(families))


def embedding_of(header: Header) -> tuple[str | None, tuple[int, int]] | None:
    """A textual inversion's word, if the file has it, and its size (vectors, channels); None for other files.

    Raises AdapterError for one of SDXL, which has parts for two text encoders.
    """
    if set(header.shapes) == {"clip_g", "clip_l"}:
        raise AdapterError(f"{header.path.name} is an embedding for SDXL: bring one made for Stable Diffusion 1")
    if len(header.shapes) > 1:
        return None
    (key, shape), *_ = header.shapes.items()
    if split_key(key) or len(shape) not in (1, 2):
        return None
    return None if key == EMBEDDING_KEY else key, (shape[0] if len(shape) == 2 else 1, shape[-1])


def words_of(header: Header) -> dict[str, str]:
    """The words that an adapter brings vectors for: word → key."""
    flat = [key for key, shape in header.shapes.items() if len(shape) in (1, 2)]
    keys = [key for key in flat if key.startswith(WORD_START) and key.endswith(WORD_END)]
    return {key[len(WORD_START) : -len(WORD_END)]: key for key in keys}


def modules(header: Header) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Each module that a file names, with underscores in place of dots; and role and shape of each of its tensors."""
    for key, shape in header.shapes.items():
        module, role, _ = split_key(key) or (key, "", None)
        yield flat(module), role, shape
