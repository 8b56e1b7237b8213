"""A training of an adapter from its start to the file: what is read, in which order, and what is told meanwhile."""

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

from extensions.lora.embeddings import known_words, spell
from extensions.lora.files.export import save_kohya
from extensions.lora.files.read import AdapterDeltas, targets_in, targets_of
from extensions.lora.training.factors import Factors, parameters_of, without_factors
from extensions.lora.training.losses import Lesson, MaskedSet
from extensions.lora.training.media import encoded_media, moved_media
from extensions.lora.training.memory import frames_a_step, free, needed
from extensions.lora.training.moving import WAYS, MovedSet
from extensions.lora.training.ordinary import Ordinary, ordinary_captions, ordinary_media, phrases_for
from extensions.lora.training.presets import MOTION, Preset, preset_for
from extensions.lora.training.samples import Sampler
from extensions.lora.training.settings import Settings
from extensions.lora.training.trigger import TriggerWord, needs_vector, ordinary_word
from lavie.bundle import BASE, TEXT_ENCODER, VAE, Bundle
from lavie.errors import TrainingError
from lavie.events import Notice
from lavie.residency import pick_device
from lavie.sampling import VELOCITY
from lavie.training.data.encoded import Encoded, Encoding, Reader
from lavie.training.diffusion import step_generator
from lavie.training.loop import CHECKPOINT, Plan, Visit, fit
from lavie.training.nano.networks import quick_attention
from lavie.training.team import autocast_of
from lavie.training.tuning.resuming import begin_work, check_work
from lavie.training.tuning.session import SHORT_SEQUENCE, Samples


def metadata(settings: Settings, preset: Preset, bundle: Bundle, captions: Sequence[str], steps: int) -> dict:
    """As `export.save_kohya` takes it. steps: that are done. No time of day: a run says the same again."""
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
    """A file of a step that can be used as it is."""

    step: int
    file: Path


class LoraSession:
    """One run. Making it checks what can be checked before anything is computed; `run` does the work."""

    def __init__(self, settings: Settings, read: Reader, stop: Callable[[int, int], bool] = lambda done, steps: False):
        """read: a video's path → its frames. stop: asked behind each step, with those done and those there are: True
        ends the run behind a checkpoint, without a file. Raises TrainingError, BundleError or DeviceError."""
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
        """`Notice`, `Kept`, `Encoding`, `Progress` and `Samples` as they come; at the end the file is there.

        Raises TrainingError: there is nothing to learn from, the loss is no number, the disk is full.
        """
        settings, steps = self.settings, self.settings.steps
        self._load()
        yield from begin_work(settings.work, settings.resume, settings.decides())
        media = yield from encoded_media(settings, self.preset, self.bundle, self.vae, self._read)
        plan = self._plan(steps or self.preset.steps(len(media)))
        yield from self._announce(len(media), plan.steps)
        with ExitStack() as inside:
            inside.enter_context(known_words(self._encoder, self.text_model, self._words))
            inside.enter_context(quick_attention() if self._is_short else nullcontext())
            lesson = self._lesson(media)
            if self.preset.moved:
                lesson = replace(lesson, moved=(yield from self._moved(media)))
            captions, begun = lesson.media.captions, self._begin_trigger(lesson)
            is_fresh = not (settings.work / CHECKPOINT).exists()
            if self.trigger is not None and is_fresh:
                yield Notice(f"“{settings.trigger}” begins as {f'“{begun}”' if begun else 'the mean of all words'}")
            if self.preset.prior:
                lesson = replace(lesson, ordinary=(yield from self._ordinary()))
            if settings.samples_every and is_fresh:
                yield self._samples(0)
            visits, stop = self._visits(captions), lambda done: self._stop(done, plan.steps)
            done = yield from fit(self.trained, lesson.loss_at, plan, settings.work, visits=visits, stop=stop)
        if done < plan.steps:
            return
        save_kohya(settings.output, self._changes(), self._about(captions, plan.steps))

    def _load(self) -> None:
        """Networks on the device, frozen; and beside them what is trained."""
        bundle, asked = self.bundle, self.settings
        network, self.text_model, self.vae = (
            bundle.load(component, torch.float32).to(self.device) for component in (BASE, TEXT_ENCODER, VAE)
        )
        if asked.gradient_checkpointing:
            network.train()
            network.enable_gradient_checkpointing()
        factors = Factors(targets_of(network).unet, self.preset, asked.seed)
        self.network, self.trigger = network, None
        if needs_vector(self._encoder, asked.trigger):
            self.trigger = TriggerWord(asked.trigger, self._encoder, self.text_model.get_input_embeddings())
        parts = {"factors": factors} | ({"trigger": self.trigger} if self.trigger is not None else {})
        self.trained = nn.ModuleDict(parts).to(self.device)
        self._words = self.trigger.words() if self.trigger is not None else {}
        factors.hang(network)
        self._sampler = Sampler(bundle, network, self.text_model, self._encoder, self._words)

    def _announce(self, media: int, steps: int) -> Iterator[Notice]:
        """What will be done, what it needs, and what is doubtful about the trigger."""
        preset, asked = self.preset, self.settings
        if said := ordinary_word(self._encoder, asked.trigger):
            yield Notice(said)
        if self.trigger is not None:
            yield Notice(f"this model knows its own words only: “{asked.trigger}” gets vectors, in the same file")
        trained = sum(parameter.numel() for parameter in self.trained.parameters())
        what = f"{preset.name}: {media} media, {steps} steps of {preset.batch}, rank {preset.rank}"
        yield Notice(f"{what}, {trained:,} numbers at {preset.learning_rate:g}, on {self.device}")
        frames = frames_a_step(self.bundle, preset)
        bytes, there = needed(self.bundle, frames, trained, asked.gradient_checkpointing), free(self.device)
        much = "" if bytes < there else ": close other programs, or give --gradient-checkpointing"
        yield Notice(f"needs about {bytes / GIB:.1f} GiB of memory, {there / GIB:.1f} are free{much}")

    def _begin_trigger(self, lesson: Lesson) -> str | None:
        """The phrase that the trigger begins as, the same whenever a run begins or is resumed."""
        if self.trigger is None:
            return None
        phrases = phrases_for(self.bundle, self.preset.name)
        return self.trigger.begin_as(phrases, lambda: lesson.shown(step_generator(self.settings.seed, 0)))

    def _ordinary(self) -> Generator[Notice, None, Ordinary]:
        """The clips that must stay as they are."""
        how = (self.settings.work, self.settings.seed, self.preset.ordinary)
        with without_factors(self.network):
            return (yield from ordinary_media(self.bundle, self._sampler, self._tokens, *how))

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
            # A GPU takes the parts of a loss as fast one after the other.
            parameters=tuple(self.trained.parameters()) if self.device.type == "cpu" else (),
        )

    def _moved(self, media: list[Encoded]) -> Generator[Encoding, None, MovedSet | None]:
        """The pictures in motion; None where the bundle lists no word that says how."""
        ways = [word for word in phrases_for(self.bundle, MOTION) if word in WAYS]
        if not ways:
            return None
        found = yield from moved_media(media, self.settings, self.bundle, self.vae, self._read, ways)
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
        visits = [Visit(asked.checkpoint_every, lambda step: self._keep(step, captions))]
        return visits + ([Visit(asked.samples_every, self._samples)] if asked.samples_every else [])

    def _keep(self, step: int, captions: list[str]) -> Kept:
        """A file of this step that can be used as it is; the oldest go."""
        folder = self.settings.work / "checkpoints"
        folder.mkdir(exist_ok=True)
        name = f"{self.settings.output.stem}-{step:06}.safetensors"
        file = save_kohya(folder / name, self._changes(), self._about(captions, step))
        for old in _kept(folder)[: -self.settings.keep]:
            old.unlink()
        return Kept(f"step {step} is in {file}", step, file)

    def _samples(self, step: int) -> Samples:
        asked = self.settings
        usual = (asked.caption, *ordinary_captions(self.bundle, 1, asked.seed))
        return Samples(step, [self._sampler.video(self.vae, prompt) for prompt in asked.prompts or usual])

    def _changes(self) -> AdapterDeltas:
        """What is trained as it is now, in float16 as files have it."""
        words = self.trigger.words(torch.float32) if self.trigger is not None else {}
        return AdapterDeltas(self.trained["factors"].changes(torch.float16), {}, words=words)

    def _about(self, captions: list[str], step: int) -> dict:
        return metadata(self.settings, self.preset, self.bundle, captions, step)


def memory_for(settings: Settings) -> tuple[int, int]:
    """Bytes that a training will take at its peak, about, and bytes that are free; from the headers of the bundle's
    files, nothing is loaded. Raises BundleError, DeviceError."""
    bundle = Bundle(settings.model)
    preset = _preset(settings, bundle)
    trained = parameters_of(targets_in(bundle).unet, preset)
    needs = needed(bundle, frames_a_step(bundle, preset), trained, settings.gradient_checkpointing)
    return needs, free(pick_device(settings.device))


def _preset(settings: Settings, bundle: Bundle) -> Preset:
    """The preset for this bundle's width, with what the settings say instead."""
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


def _kept(folder: Path) -> list[Path]:
    """The files of checkpoints, the oldest first."""
    return sorted(folder.glob("*.safetensors"))
