"""A training of an adapter from its settings to the file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from extensions.lora.embeddings import extend_vocabulary, spell
from extensions.lora.files.export import save_kohya
from extensions.lora.files.read import AdapterDeltas, targets_in, targets_of
from extensions.lora.training.factors import (
    Factors,
    TriggerWord,
    count_parameters,
    needs_vector,
    ordinary_word,
    without_factors,
)
from extensions.lora.training.losses import Lesson, MaskedSet, MovedSet
from extensions.lora.training.media import encode_media, encode_moving
from extensions.lora.training.ordinary import Sampler, make_ordinary, ordinary_captions, phrases_for
from extensions.lora.training.pictures import WAYS
from extensions.lora.training.settings import MOTION, Preset, Settings, preset_for
from lavie.bundle import CLASSES, Bundle
from lavie.errors import TrainingError
from lavie.events import BASE, Notice
from lavie.manifest import TEXT_ENCODER, VAE, VELOCITY
from lavie.residency import pick_device
from lavie.training.data.encoded import Encoded, Encoding, Reader
from lavie.training.diffusion import step_generator
from lavie.training.loop import CHECKPOINT, Plan, Visit, fit
from lavie.training.nano.networks import quick_attention
from lavie.training.team import autocast_of
from lavie.training.tuning.session import SHORT_SEQUENCE, Samples, begin_work, check_work


def metadata(settings: Settings, preset: Preset, bundle: Bundle, captions: Sequence[str], steps: int) -> dict[str, Any]:
    """The metadata for `export.save_kohya`. steps: that are done. There is no time of day, so runs are reproducible."""
    name = re.sub(r"\W+", "_", bundle.name.lower()).strip("_")
    prediction = bundle.defaults[BASE].prediction_type
    counts = Counter(captions)
    return {
        "ss_base_model_version": f"lavie_{name}",
        "ss_sd_model_name": bundle.name,
        "ss_num_train_images": len(captions),
        "ss_num_reg_images": 0,
        "ss_max_train_steps": preset.steps(len(captions)) if settings.steps is None else settings.steps,
        "ss_steps": steps,
        "ss_batch_size_per_device": preset.batch,
        "ss_unet_lr": preset.learning_rate,
        "ss_optimizer": "Muon and AdamW",
        "ss_lr_scheduler": "cosine",
        "ss_caption_dropout_rate": preset.caption_dropout,
        "ss_min_snr_gamma": preset.snr,
        "ss_prior_loss_weight": preset.prior,
        "ss_gradient_checkpointing": settings.gradient_checkpointing,
        "ss_seed": settings.seed,
        "ss_resolution": f"({bundle.width}, {bundle.height})",
        "ss_tag_frequency": {preset.name: dict(counts)},
        "ss_training_comment": f"preset {preset.name}, by LaVie Studio",
        "modelspec.architecture": f"lavie-{name}/lora",
        "modelspec.implementation": "LaVie Studio",
        "modelspec.trigger_phrase": settings.trigger,
        "modelspec.prediction_type": "v" if prediction == VELOCITY else prediction,
        "modelspec.resolution": f"{bundle.width}x{bundle.height}",
        "modelspec.usage_hint": f"write “{settings.trigger}” where the {preset.name} shall be",
    }


GIB = 2**30


@dataclass(frozen=True)
class Kept(Notice):
    """A checkpoint's file, usable as an adapter."""

    step: int
    file: Path


class LoraSession:
    """One run. Its construction checks the settings; `run` does the work."""

    def __init__(
        self, settings: Settings, read: Reader, stop: Callable[[int, int], bool] = lambda done, steps: False
    ) -> None:
        """Args:
            read: path of a video → frames.
            stop: called after each step with the steps done and in all; True ends the run after a checkpoint, without a
            file.

        Raises TrainingError, BundleError or DeviceError.
        """
        self.settings, self._read, self._stop = settings, read, stop
        check_work(settings.work, settings.resume)
        self.bundle = Bundle(settings.model)
        self.bundle.require(BASE)
        self.preset = _preset(settings, self.bundle)
        self.device, self._autocast = pick_device(settings.device), autocast_of(settings.precision)
        self._encoder = self.bundle.text_encoder(BASE)
        try:
            for folder in (settings.output.parent, settings.work):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise TrainingError(f"{folder} cannot be made ({error.strerror}): give another place") from None

    def run(self) -> Iterator[Any]:
        """Train and write the file. Yields `Notice`, `Kept`, `Encoding`, `Progress` and `Samples`.

        Raises TrainingError if there is nothing to learn from, the loss is not finite, or the disk is full.
        """
        settings, steps = self.settings, self.settings.steps
        self._load()
        yield from begin_work(settings.work, settings.resume, settings.decides())
        media = yield from encode_media(settings, self.preset, self.bundle, self.vae, self._read)
        plan = self._plan(steps or self.preset.steps(len(media)))
        yield from self._announce(len(media), plan.steps)
        with ExitStack() as inside:
            inside.enter_context(extend_vocabulary(self._encoder, self.text_model, self._words))
            inside.enter_context(quick_attention() if self._is_short else nullcontext())
            lesson = self._lesson(media)
            if self.preset.moved:
                lesson = replace(lesson, moved=(yield from self._moving_set(media)))
            captions, begun = lesson.media.captions, self._start_trigger(lesson)
            is_fresh = not (settings.work / CHECKPOINT).exists()
            if self.trigger is not None and is_fresh:
                yield Notice(f"“{settings.trigger}” begins as {f'“{begun}”' if begun else 'the mean of all words'}")
            if self.preset.prior:
                how = (settings.work, settings.seed, self.preset.ordinary)
                with without_factors(self.network):
                    ordinary = yield from make_ordinary(self.bundle, self._sampler, self._tokens, *how)
                lesson = replace(lesson, ordinary=ordinary)
            if settings.samples_every and is_fresh:
                yield self._samples(0)
            visits, stop = self._visits(captions), lambda done: self._stop(done, plan.steps)
            done = yield from fit(self.trained, lesson.loss_at, plan, settings.work, visits=visits, stop=stop)
        if done < plan.steps:
            return
        save_kohya(settings.output, self._deltas(), self._about(captions, plan.steps))

    def _load(self) -> None:
        """Load the frozen networks and what is trained."""
        bundle, asked = self.bundle, self.settings
        parts: Iterator[Any] = (bundle.load(name, torch.float32).to(self.device) for name in (BASE, TEXT_ENCODER, VAE))
        network, self.text_model, self.vae = parts
        if asked.gradient_checkpointing:
            network.train()
            network.enable_gradient_checkpointing()
        self._factors = Factors(targets_of(network).unet, self.preset, asked.seed)
        self.network = network
        self.trigger: TriggerWord | None = None
        if needs_vector(self._encoder, asked.trigger):
            self.trigger = TriggerWord(asked.trigger, self._encoder, self.text_model.get_input_embeddings())
        self.trained = nn.ModuleDict({"factors": self._factors})
        if self.trigger is not None:
            self.trained["trigger"] = self.trigger
        self.trained.to(self.device)
        self._words = self.trigger.words() if self.trigger is not None else {}
        self._factors.attach(network)
        self._sampler = Sampler(bundle, network, self.text_model, self._encoder, self._words)

    def _announce(self, media: int, steps: int) -> Iterator[Notice]:
        """Say what will be done, what it needs, and what is doubtful about the trigger."""
        preset, asked = self.preset, self.settings
        if said := ordinary_word(self._encoder, asked.trigger):
            yield Notice(said)
        if self.trigger is not None:
            yield Notice(f"this model knows its own words only: “{asked.trigger}” gets vectors, in the same file")
        trained = sum(parameter.numel() for parameter in self.trained.parameters())
        what = f"{preset.name}: {media} media, {steps} steps of {preset.batch}, rank {preset.rank}"
        yield Notice(f"{what}, {trained:,} numbers at {preset.learning_rate:g}, on {self.device}")
        frames = frames_a_step(self.bundle, preset)
        bytes, there = (
            estimate_bytes(self.bundle, frames, trained, asked.gradient_checkpointing),
            free_bytes(self.device),
        )
        much = "" if bytes < there else ": close other programs, or give --gradient-checkpointing"
        yield Notice(f"needs about {bytes / GIB:.1f} GiB of memory, {there / GIB:.1f} are free{much}")

    def _start_trigger(self, lesson: Lesson) -> str | None:
        """The phrase that the trigger starts as, the same at each start and resumption."""
        if self.trigger is None:
            return None
        phrases = phrases_for(self.bundle, self.preset.name)
        return self.trigger.choose_start(phrases, lambda: lesson.media_loss(step_generator(self.settings.seed, 0)))

    def _lesson(self, media: list[Encoded]) -> Lesson:
        frames = self.bundle.frames if self.preset.from_clips else 1
        shown = MaskedSet(media, self._tokens, frames)
        empty = self._encoder.tokens([""])[0]
        prediction = self.bundle.defaults[BASE].prediction_type
        return Lesson(
            self.network,
            self.text_model,
            shown,
            empty,
            self.preset,
            prediction,
            self.settings.seed,
            # A GPU gains nothing from running the parts in parallel.
            parameters=tuple(self.trained.parameters()) if self.device.type == "cpu" else (),
        )

    def _moving_set(self, media: list[Encoded]) -> Generator[Encoding, None, MovedSet | None]:
        """The pictures in motion; None if the bundle lists no words for motion."""
        ways = [word for word in phrases_for(self.bundle, MOTION) if word in WAYS]
        if not ways:
            return None
        found = yield from encode_moving(media, self.settings, self.bundle, self.vae, self._read, ways)
        return MovedSet(found, self._tokens, self.bundle.frames, ways, self.settings.trigger)

    def _tokens(self, captions: list[str]) -> torch.Tensor:
        """N L, with a token for each vector of the trigger."""
        return self._encoder.tokens([spell(caption, self._words) for caption in captions])

    def _plan(self, steps: int) -> Plan:
        rate = self.preset.learning_rate
        return Plan(
            steps,
            learning_rate=rate,
            matrix_learning_rate=rate,
            matrix_weight_decay=self.preset.weight_decay,
            warmup=max(1, steps // 20),
            decay=0.5,
            ema=self.preset.ema,
            autocast=self._autocast,
            seed=self.settings.seed,
            checkpoint_every=self.settings.checkpoint_every,
            report_every=max(1, min(25, steps // 20)),
        )

    @property
    def _is_short(self) -> bool:
        bundle = self.bundle
        pixels = bundle.width * bundle.height / bundle.halvings(VAE) ** 2
        return self.device.type == "cpu" and pixels <= SHORT_SEQUENCE

    def _visits(self, captions: list[str]) -> list[Visit]:
        asked = self.settings
        visits = [Visit(asked.checkpoint_every, lambda step: self._write_checkpoint(step, captions))]
        return visits + ([Visit(asked.samples_every, self._samples)] if asked.samples_every else [])

    def _write_checkpoint(self, step: int, captions: list[str]) -> Kept:
        """Write a file of this step and delete the oldest ones."""
        folder = self.settings.work / "checkpoints"
        folder.mkdir(exist_ok=True)
        name = f"{self.settings.output.stem}-{step:06}.safetensors"
        file = save_kohya(folder / name, self._deltas(), self._about(captions, step))
        for old in sorted(folder.glob("*.safetensors"))[: -self.settings.keep]:
            old.unlink()
        return Kept(f"step {step} is in {file}", step, file)

    def _samples(self, step: int) -> Samples:
        asked = self.settings
        usual = (asked.caption, *ordinary_captions(self.bundle, 1, asked.seed))
        return Samples(step, [self._sampler.video(self.vae, prompt) for prompt in asked.prompts or usual])

    def _deltas(self) -> AdapterDeltas:
        """The trained deltas in float16, as in files."""
        words = self.trigger.words(torch.float32) if self.trigger is not None else {}
        return AdapterDeltas(self._factors.deltas(torch.float16), {}, words=words)

    def _about(self, captions: list[str], step: int) -> dict[str, Any]:
        return metadata(self.settings, self.preset, self.bundle, captions, step)


FLOAT = 4  # bytes
STATE = 5  # copies of a trained number: itself, its gradient, the average, two moments of the optimiser
KEPT = 2.0  # copies of a layer's output kept for the backward pass, with attention and norms


def estimate_bytes(bundle: Bundle, frames: int, trained: int, checkpointing: bool) -> int:
    """Estimated bytes at the peak: weights in float32, trained numbers, and the backward pass.

    frames: that a step shows. trained: numbers in all factors.
    """
    weights = 2 * sum(bundle.size(component) for component in (BASE, TEXT_ENCODER, VAE))  # stored in float16
    kept = KEPT * FLOAT * _outputs(bundle, frames)
    return round(weights + STATE * FLOAT * trained + (kept / 4 if checkpointing else kept))


def frames_a_step(bundle: Bundle, preset: Preset) -> int:
    """The most frames that a step shows, the prior's clip included: all losses are added before the backward pass."""
    clips = preset.moved + bool(preset.prior)
    return preset.batch * (bundle.frames if preset.from_clips else 1) + clips * bundle.frames


def free_bytes(device: torch.device) -> int:
    """Bytes that this process may still take."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    import psutil

    return psutil.virtual_memory().available


@torch.no_grad()
def _outputs(bundle: Bundle, frames: int) -> int:
    """The numbers that all layers output for one clip, counted by a run on the meta device."""
    with torch.device("meta"):
        network = CLASSES[BASE].from_config(bundle.config(BASE))
    counted = 0

    def count(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal counted
        counted += output.numel() if isinstance(output, torch.Tensor) else 0

    for layer in network.modules():
        if not list(layer.children()):
            layer.register_forward_hook(count)
    factor, config = bundle.halvings(VAE), network.config
    sample = (1, config.in_channels, frames, bundle.height // factor, bundle.width // factor)
    text = (1, bundle.text_encoder(BASE).limit, config.cross_attention_dim)
    network(torch.empty(sample, device="meta"), torch.empty(1, device="meta"), torch.empty(text, device="meta"))
    return counted


def memory_for(settings: Settings) -> tuple[int, int]:
    """Estimated bytes of a training at its peak, and free bytes; reads only headers of the bundle's files.

    Raises BundleError, DeviceError.
    """
    bundle = Bundle(settings.model)
    preset = _preset(settings, bundle)
    trained = count_parameters(targets_in(bundle).unet, preset)
    needs = estimate_bytes(bundle, frames_a_step(bundle, preset), trained, settings.gradient_checkpointing)
    return needs, free_bytes(pick_device(settings.device))


def _preset(settings: Settings, bundle: Bundle) -> Preset:
    """The preset for this bundle's width, with the settings' own values."""
    usual = preset_for(settings.preset, bundle.config(BASE)["block_out_channels"][0])
    rank = settings.rank or usual.rank
    rate, prior = settings.learning_rate, settings.prior
    return replace(
        usual,
        rank=rank,
        alpha=usual.alpha * rank / usual.rank,
        learning_rate=usual.learning_rate if rate is None else rate,
        prior=usual.prior if prior is None else prior,
    )
