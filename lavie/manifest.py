"""What a folder of weights can run and what it lacks, by its manifest and file names. Needs no torch.

The layout is that of diffusers: a sub-folder for each component with `config.json` and safetensors. Beside them,
`cascade.json` holds the name of the cascade, its sizes and the defaults of each stage.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lavie.errors import BundleError, RequestError
from lavie.events import BASE, INTERPOLATION, SUPER_RESOLUTION
from lavie.request import STAGES, Interpolation, Sampling, SuperResolution
from lavie.values import parse_object
from lavie.windows import Windows

NANO = Path(__file__).resolve().parent.parent / "assets" / "nano"  # ships beside lavie, in a wheel too
FORMAT = 1
MANIFEST = "cascade.json"
NETWORK_FILE, TEXT_FILE = "diffusion_pytorch_model.safetensors", "model.safetensors"
VAE, TEXT_ENCODER, TOKENIZER = "vae", "text_encoder", "tokenizer"
EXTENSION = "extension"  # continues given frames in place of the base network; not every bundle has one
UPSCALER_VAE, UPSCALER_TEXT, UPSCALER_TOKENIZER = (
    f"{SUPER_RESOLUTION}_{part}" for part in (VAE, TEXT_ENCODER, TOKENIZER)
)
COMPONENTS = (BASE, EXTENSION, INTERPOLATION, SUPER_RESOLUTION, VAE, UPSCALER_VAE, TEXT_ENCODER, UPSCALER_TEXT)
NEEDED = {
    BASE: (BASE, VAE, TEXT_ENCODER, TOKENIZER),
    EXTENSION: (EXTENSION, VAE, TEXT_ENCODER, TOKENIZER),
    INTERPOLATION: (INTERPOLATION, VAE, TEXT_ENCODER, TOKENIZER),
    SUPER_RESOLUTION: (SUPER_RESOLUTION, VAE, UPSCALER_VAE, TEXT_ENCODER, TOKENIZER),
}
HOW_TO_GET = "copy the folder again from where it came (Nano: `git checkout assets/nano`; LaVie: docs/weights.md)"
EPSILON, VELOCITY, SAMPLE = PREDICTION_TYPES = ("epsilon", "v_prediction", "sample")
NEAREST, NEIGHBOURS = CONDITIONINGS = ("nearest", "neighbours")


@dataclass(frozen=True)
class StageDefaults:
    """The defaults of a stage for values that a request leaves open.

    Args:
        windows: of a video, in frames of the stage's output.
        conditioning: of interpolation's network, see `key_frames`.
        preview: latent channels → RGB in -1 … 1, 4 × 3.
    """

    sampling: Sampling
    prediction_type: str = EPSILON
    prompt_suffix: str = ""
    negative_prompt: str = ""
    noise_level: int = 0
    windows: Windows = field(default_factory=lambda: Windows(16, 16))
    conditioning: str = NEAREST
    preview: tuple[tuple[float, float, float], ...] | None = None


class Manifest:
    """A folder of weights, by `cascade.json` and file names."""

    def __init__(self, folder: Path | str):
        """Raises BundleError if the folder does not exist or is not a bundle of this format."""
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
        """The missing files of a stage, relative to the folder."""
        if stage not in self.defaults:
            return [f"{MANIFEST}: “{stage}”"]
        files = [self.file(component) for component in self.needed(stage)]
        return [str(file.relative_to(self.folder)) for file in files if not file.is_file()]

    def needed(self, stage: str) -> list[str]:
        shared = [component for component in NEEDED[stage] if component not in (TEXT_ENCODER, TOKENIZER)]
        return [*shared, *self.text_components(stage)]

    def require(self, stage: str) -> None:
        """Raises BundleError with the missing files if a stage cannot run."""
        if missing := self.missing(stage):
            raise BundleError(f"{self.folder} cannot run {stage}: {', '.join(missing)} missing; {HOW_TO_GET}")

    def text_components(self, stage: str) -> tuple[str, str]:
        """The text encoder and the tokenizer of a stage; super-resolution may have its own."""
        if stage == SUPER_RESOLUTION and (self.folder / UPSCALER_TEXT).is_dir():
            return UPSCALER_TEXT, UPSCALER_TOKENIZER
        return TEXT_ENCODER, TOKENIZER

    def components(self) -> list[str]:
        """The components whose weights are there."""
        return [name for name in COMPONENTS if self.file(name).is_file()]

    def downscale_factor(self, stage: str) -> int:
        """How many times smaller the smallest picture inside a stage's autoencoder and network is than its frames."""
        vae = VAE if stage != SUPER_RESOLUTION else UPSCALER_VAE
        return self.halvings(stage) * self.halvings(vae)

    def halvings(self, component: str) -> int:
        """How many times smaller the smallest picture inside a network or autoencoder is than its input."""
        widths = self.config(component).get("block_out_channels")
        if not isinstance(widths, list) or not widths:
            raise BundleError(
                f"{self.folder / component / 'config.json'} has block_out_channels {widths!r}, not a list of widths: "
                f"{HOW_TO_GET}"
            )
        return int(2 ** (len(widths) - 1))

    def config(self, component: str) -> dict[str, Any]:
        return _read_json(self.folder / component, "config.json")

    def size(self, component: str) -> int:
        """Bytes of a component's weights on disk, 0 where they are not there."""
        return self.file(component).stat().st_size if self.file(component).is_file() else 0

    def file(self, component: str) -> Path:
        kinds = {TEXT_ENCODER: TEXT_FILE, UPSCALER_TEXT: TEXT_FILE}
        other = NETWORK_FILE if component in COMPONENTS else "tokenizer_config.json"
        return self.folder / component / kinds.get(component, other)


def _stage_defaults(stage: str, values: dict[str, Any]) -> StageDefaults:
    """A stage's values in the manifest, with the limits of a request. Raises KeyError, TypeError, ValueError."""
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


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    if not folder.is_dir():
        raise BundleError(f"{folder} is not a folder: give the folder of a bundle, one that holds {MANIFEST}")
    file = folder / name
    if not file.is_file():
        raise BundleError(f"{folder} holds no {name}: it is no bundle, or part of it is missing; {HOW_TO_GET}")
    try:
        return parse_object(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"{file} cannot be read as JSON ({first_line(error)}): {HOW_TO_GET}") from None


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
