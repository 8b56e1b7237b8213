"""A folder of weights → the parts of a cascade: what is there, what is missing, what is damaged. Runs no network.

The layout is that of diffusers, one sub-folder a component with `config.json` and safetensors, and `cascade.json`
beside them with what belongs to the cascade as a whole: its name, its sizes and how each stage runs where a request is
silent.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL
from safetensors import SafetensorError, safe_open
from transformers import CLIPTextConfig, CLIPTextModel

from lavie import vae as vae_module
from lavie.errors import BundleError, RequestError
from lavie.events import BASE, INTERPOLATION, STAGES, SUPER_RESOLUTION
from lavie.files import read_record, unchanged_hash
from lavie.key_frames import CONDITIONINGS, NEAREST, NEIGHBOURS
from lavie.request import Interpolation, Sampling, SuperResolution
from lavie.sampling import EPSILON, PREDICTION_TYPES, SAMPLE
from lavie.text import TextEncoder, load_tokenizer
from lavie.unet import BaseUNet, InterpolationUNet, SuperResolutionUNet
from lavie.windows import Windows

FORMAT = 1
MANIFEST = "cascade.json"
NETWORK_FILE, TEXT_FILE = "diffusion_pytorch_model.safetensors", "model.safetensors"
VAE, TEXT_ENCODER, TOKENIZER = "vae", "text_encoder", "tokenizer"
EXTENSION = "extension"  # goes on from given frames, in the base network's place; not every bundle has one
UPSCALER_VAE, UPSCALER_TEXT, UPSCALER_TOKENIZER = (
    f"{SUPER_RESOLUTION}_{part}" for part in (VAE, TEXT_ENCODER, TOKENIZER)
)
CLASSES = {
    BASE: BaseUNet,
    EXTENSION: BaseUNet,
    INTERPOLATION: InterpolationUNet,
    SUPER_RESOLUTION: SuperResolutionUNet,
    VAE: AutoencoderKL,
    UPSCALER_VAE: AutoencoderKL,
    TEXT_ENCODER: CLIPTextModel,
    UPSCALER_TEXT: CLIPTextModel,
}
NEEDED = {
    BASE: (BASE, VAE, TEXT_ENCODER, TOKENIZER),
    EXTENSION: (EXTENSION, VAE, TEXT_ENCODER, TOKENIZER),
    INTERPOLATION: (INTERPOLATION, VAE, TEXT_ENCODER, TOKENIZER),
    SUPER_RESOLUTION: (SUPER_RESOLUTION, VAE, UPSCALER_VAE, TEXT_ENCODER, TOKENIZER),
}
HOW_TO_GET = "copy the folder again from where it came (Nano: `git checkout assets/nano`; LaVie: docs/weights.md)"


@dataclass(frozen=True)
class StageDefaults:
    """How a stage of this bundle runs where a request is silent.

    windows: what its network sees at once, in frames of its output. conditioning: what interpolation's network sees of
    the key frames (`key_frames`). preview: 4 × 3, latent channels → RGB in -1 … 1.
    """

    sampling: Sampling
    prediction_type: str = EPSILON
    prompt_suffix: str = ""
    negative_prompt: str = ""
    noise_level: int = 0
    windows: Windows = field(default_factory=lambda: Windows(16, 16))
    conditioning: str = NEAREST
    preview: tuple[tuple[float, float, float], ...] | None = None


class Bundle:
    """What is in a folder of weights. Opening it reads the manifest and looks at files; weights are read by `load`."""

    def __init__(self, folder: Path | str):
        """Raises BundleError: the folder is none, or no bundle of this format."""
        self.folder = Path(folder)
        manifest = _read_json(self.folder, MANIFEST)
        if manifest.get("format") != FORMAT:
            raise BundleError(
                f"{self.folder / MANIFEST} has format {manifest.get('format')!r}, this version reads {FORMAT}: "
                "convert the weights again with this version"
            )
        try:
            self.name = str(manifest["name"])
            self.width, self.height = int(manifest["width"]), int(manifest["height"])
            self.frames, self.fps = int(manifest["frames"]), float(manifest["fps"])
            known = [stage for stage in (*STAGES, EXTENSION) if stage in manifest]
            self.defaults = {stage: _stage_defaults(stage, manifest[stage]) for stage in known}
        except (KeyError, TypeError, ValueError, RequestError) as error:
            raise BundleError(
                f"{self.folder / MANIFEST} is not what a cascade needs ({error!r}): {HOW_TO_GET}"
            ) from None

    def missing(self, stage: str) -> list[str]:
        """Files that `stage` needs and that are not there, relative to the folder."""
        if stage not in self.defaults:
            return [f"{MANIFEST}: “{stage}”"]
        files = [self._file(component) for component in self.needed(stage)]
        return [str(file.relative_to(self.folder)) for file in files if not file.is_file()]

    def needed(self, stage: str) -> list[str]:
        """The components that run in a stage."""
        shared = [component for component in NEEDED[stage] if component not in (TEXT_ENCODER, TOKENIZER)]
        return [*shared, *self.text_components(stage)]

    def require(self, stage: str) -> None:
        """Raises BundleError where `stage` cannot run, with the files it lacks."""
        if missing := self.missing(stage):
            raise BundleError(f"{self.folder} cannot run {stage}: {', '.join(missing)} missing; {HOW_TO_GET}")

    def text_components(self, stage: str) -> tuple[str, str]:
        """The text encoder and tokenizer of `stage`; super-resolution may have its own pair."""
        if stage == SUPER_RESOLUTION and (self.folder / UPSCALER_TEXT).is_dir():
            return UPSCALER_TEXT, UPSCALER_TOKENIZER
        return TEXT_ENCODER, TOKENIZER

    def text_encoder(self, stage: str) -> TextEncoder:
        """The tokenizer of `stage`, read once."""
        component = self.text_components(stage)[1]
        if component not in self._tokenizers:
            try:
                self._tokenizers[component] = TextEncoder(load_tokenizer(self.folder / component))
            except Exception as error:  # the library's parser raises bare exceptions
                raise BundleError(
                    f"{self.folder / component} is no tokenizer ({_short(error)}): {HOW_TO_GET}"
                ) from None
        return self._tokenizers[component]

    @cached_property
    def _tokenizers(self) -> dict[str, TextEncoder]:
        return {}

    def load(self, component: str, dtype: torch.dtype) -> torch.nn.Module:
        """A component on the CPU, its weights read straight into place. Raises BundleError with the file's name."""
        network = self._build(component)
        with _weights(self._file(component)) as weights:
            self._check(component, weights, network)
            state = {name: _placed(weights.get_tensor(name), stored_type(name, dtype)) for name in weights.keys()}
        network.load_state_dict(state, strict=True, assign=True)
        network = network.requires_grad_(False).eval()
        return vae_module.prepare(network) if isinstance(network, AutoencoderKL) else network

    def check(self, component: str) -> None:
        """Raises BundleError where a component's file lacks names or shapes of its network; weights are not read."""
        with _weights(self._file(component)) as weights:
            self._check(component, weights, self._build(component))

    def shapes(self, component: str) -> dict[str, list[int]]:
        """Parameter name → shape, as the component's config says; its weights need not be there."""
        return _shapes(self._build(component))

    def components(self) -> list[str]:
        """The components with weights that are there."""
        return [name for name in CLASSES if self._file(name).is_file()]

    def downscale_factor(self, stage: str) -> int:
        """By how much the frames of `stage` shrink on the way through its autoencoder and network."""
        vae = VAE if stage != SUPER_RESOLUTION else UPSCALER_VAE
        return self.halvings(stage) * self.halvings(vae)

    def halvings(self, component: str) -> int:
        """How many times smaller the smallest picture inside a network or autoencoder is: a power of 2."""
        widths = self.config(component).get("block_out_channels")
        if not isinstance(widths, list) or not widths:
            raise BundleError(
                f"{self.folder / component / 'config.json'} has block_out_channels {widths!r}, not a list of widths: "
                f"{HOW_TO_GET}"
            )
        return 2 ** (len(widths) - 1)

    def config(self, component: str) -> dict:
        return _read_json(self.folder / component, "config.json")

    def hashes(self) -> dict[str, str]:
        """sha256 of every weight file, by its path in the bundle; as kept beside them while they are unchanged."""
        record, files = read_record(self.folder), sorted(self.folder.rglob("*.safetensors"))
        names = [file.relative_to(self.folder).as_posix() for file in files]
        return {name: unchanged_hash(self.folder, name, record) for name in names}

    def size(self, component: str) -> int:
        """Bytes of a component's weights on disk, 0 where they are not there."""
        return self._file(component).stat().st_size if self._file(component).is_file() else 0

    def _check(self, component: str, weights, network: torch.nn.Module) -> None:
        found = {name: weights.get_slice(name).get_shape() for name in weights.keys()}
        _check_shapes(self._file(component), found, network)

    def _file(self, component: str) -> Path:
        kinds = {TEXT_ENCODER: TEXT_FILE, UPSCALER_TEXT: TEXT_FILE}
        other = NETWORK_FILE if component in CLASSES else "tokenizer_config.json"
        return self.folder / component / kinds.get(component, other)

    def _build(self, component: str) -> torch.nn.Module:
        """The component's class with its own config: parameters on the meta device, buffers that no file holds real."""
        expected, config = CLASSES[component], self.config(component)
        named = config.get("_class_name") or config.get("architectures")
        if named not in (expected.__name__, [expected.__name__]):
            raise BundleError(
                f"{self.folder / component / 'config.json'} describes a {named!r}, {component} needs a "
                f"{expected.__name__!r}: put the right folder there"
            )
        try:
            with init_empty_weights(include_buffers=False):
                if expected is CLIPTextModel:
                    return CLIPTextModel(CLIPTextConfig.from_dict(config))
                return expected.from_config(config)
        except Exception as error:  # whatever a layer or a library raises at a value it cannot use
            raise BundleError(
                f"{self.folder / component / 'config.json'} builds no {component} ({_short(error)}): {HOW_TO_GET}"
            ) from None


def stored_type(name: str, dtype: torch.dtype) -> torch.dtype:
    """Rotary frequencies stay in float32: they are multiplied by the frame's number, and so are their errors."""
    return torch.float32 if name.endswith("rotary_emb.freqs") else dtype


def _placed(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A mapped tensor in memory; 2-D convolutions' weights laid out as the networks lay out their activations."""
    return tensor.to(dtype=dtype, memory_format=torch.channels_last if tensor.ndim == 4 else torch.preserve_format)


def _stage_defaults(stage: str, values: dict) -> StageDefaults:
    """The values of the manifest, checked as a request's would be. Raises KeyError, TypeError, ValueError."""
    values = dict(values)
    sampling = Sampling(**{name: values.pop(name) for name in ("sampler", "steps", "guidance")})
    if None in (sampling.sampler, sampling.steps, sampling.guidance):
        raise ValueError(f"{stage} leaves sampler, steps or guidance open")
    if stage == INTERPOLATION:
        Interpolation(sampling)
    if stage == SUPER_RESOLUTION:
        SuperResolution(sampling, values.get("noise_level"))
    if "windows" in values:
        values["windows"] = Windows(**values["windows"])
    if values.get("prediction_type", EPSILON) not in PREDICTION_TYPES:
        raise ValueError(f"prediction_type {values['prediction_type']!r}")
    if values.get("conditioning", NEAREST) not in CONDITIONINGS:
        raise ValueError(f"conditioning {values['conditioning']!r}")
    if values.get("conditioning") == NEIGHBOURS and values.get("prediction_type") != SAMPLE:
        raise ValueError(f"conditioning {NEIGHBOURS!r} without prediction_type {SAMPLE!r}")
    if values.get("preview"):
        values["preview"] = tuple((float(r), float(g), float(b)) for r, g, b in values["preview"])
    return StageDefaults(sampling=sampling, **values)


def _read_json(folder: Path, name: str) -> dict:
    if not folder.is_dir():
        raise BundleError(f"{folder} is not a folder: give the folder of a bundle, one that holds {MANIFEST}")
    file = folder / name
    if not file.is_file():
        raise BundleError(f"{folder} holds no {name}: it is no bundle, or part of it is missing; {HOW_TO_GET}")
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"{file} cannot be read as JSON ({_short(error)}): {HOW_TO_GET}") from None
    if not isinstance(data, dict):
        raise BundleError(f"{file} is not a JSON object: {HOW_TO_GET}")
    return data


def _weights(file: Path):
    """An open safetensors file; BundleError in place of the library's errors."""
    if not file.is_file():
        raise BundleError(f"{file} is missing: {HOW_TO_GET}")
    try:
        return safe_open(file, "pt")
    except (SafetensorError, OSError) as error:
        raise BundleError(
            f"{file} is damaged or cut short at {file.stat().st_size} bytes ({_short(error)}): {HOW_TO_GET}"
        ) from None


def _shapes(network: torch.nn.Module) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in network.state_dict().items()}


def _check_shapes(file: Path, found: dict[str, list[int]], network: torch.nn.Module) -> None:
    expected = _shapes(network)
    kind = type(network).__name__
    if absent := sorted(expected.keys() - found.keys()):
        raise BundleError(f"{file} lacks {absent[0]} and {len(absent) - 1} more of a {kind}: {HOW_TO_GET}")
    if extra := sorted(found.keys() - expected.keys()):
        raise BundleError(f"{file} holds {extra[0]} and {len(extra) - 1} more that a {kind} has not: {HOW_TO_GET}")
    for name, shape in expected.items():
        if found[name] != shape:
            raise BundleError(f"{file}: {name} has shape {found[name]}, this {kind} expects {shape}: {HOW_TO_GET}")


def _short(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
