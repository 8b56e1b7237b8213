"""A training on own media, from reading the folder to writing the bundle, and its events."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from lavie.bundle import Bundle
from lavie.errors import TrainingError
from lavie.events import Notice
from lavie.manifest import EXTENSION, MANIFEST, VAE
from lavie.residency import pick_device
from lavie.training.assemble import check_output, write_changed
from lavie.training.data.cuts import Cut
from lavie.training.data.encoded import (
    Encoded,
    EncodedSet,
    Encoder,
    Encoding,
    Reader,
    collect,
    hash_weights,
    hold_out,
    reasons,
    summary,
)
from lavie.training.data.items import Fault, Item, find_items
from lavie.training.diffusion import Loss
from lavie.training.loop import CHECKPOINT, Plan, Visit, fit
from lavie.training.nano.networks import quick_attention
from lavie.training.team import autocast_of, join_team
from lavie.training.tuning.settings import STILLS, Settings
from lavie.training.tuning.task import Task
from lavie.video import Video


def check_work(work: Path, resume: bool) -> None:
    """Raises TrainingError for the checkpoint of a run that is not to be resumed."""
    if (work / CHECKPOINT).exists() and not resume:
        raise TrainingError(f"{work} holds the checkpoint of a run: give --resume to go on from it, or another --work")


def begin_work(work: Path, resume: bool, decides: dict[str, Any]) -> Iterator[Notice]:
    """Write the values that decide the bits of a run beside its checkpoint, and yield how a resumed run differs.

    decides: name → plain value.
    """
    file, resumed = work / "run.json", (work / CHECKPOINT).exists()
    if resume:
        yield Notice("goes on from its last checkpoint" if resumed else "no checkpoint yet: begins at step 0")
    before = json.loads(file.read_text(encoding="utf-8")) if resumed and file.exists() else decides
    changed = [f"{name} was {before.get(name)}, is {now}" for name, now in decides.items() if before.get(name) != now]
    if changed:
        yield Notice(f"not the run that it was: {'; '.join(changed)}")
    file.write_text(json.dumps(decides, indent=1) + "\n", encoding="utf-8")


VALIDATED = 8  # batches of fixed clips, timesteps and noise that a validation loss is the mean of
VALIDATION_SEED = 2**40  # no run's own: seeds of settings are what a person types
SHOWN = 2  # samples
SHORT_SEQUENCE = 1024  # pixels of latents up to which plain attention trains faster on a CPU
Pair = tuple[EncodedSet, EncodedSet]  # clips and stills


@dataclass(frozen=True)
class Validation:
    """The averaged weights' loss on media that are never trained on, from the same draws every time."""

    step: int
    loss: float


@dataclass(frozen=True)
class Samples:
    """The averaged weights' videos of the same clips, from the same seeds every time."""

    step: int
    videos: list[Video]


class Session:
    """One run. The constructor checks what can be checked before anything is computed; `run` does the work."""

    def __init__(self, settings: Settings, read: Reader):
        """read: a file → its frames. Raises TrainingError, BundleError or DeviceError."""
        self.settings = settings
        self.team = join_team()
        self.is_main = self.team is None or self.team.is_main
        check_output(settings.output, settings.model)
        check_work(settings.work, settings.resume)
        self.autocast = autocast_of(settings.precision)
        device = pick_device(settings.device) if self.team is None else self.team.device
        self.task = Task(Bundle(settings.model), settings, device)
        self._read = read

    def run(self) -> Iterator[Any]:
        """Train and write the bundle. Yields `Notice`, `Encoding`, `Progress`, `Validation` and `Samples`.

        In a team all processes run this; only the first one's events matter.
        """
        yield from self._begin()
        trained, held = yield from self._sets()
        asked, seed = self.settings, self.settings.seed
        loss = self.task.loss(*trained, asked.batch, seed if self.team is None else self.team.seed(seed))
        visits = self._visits(held)
        with quick_attention() if self._is_short else nullcontext():
            yield from fit(self.task.networks, loss, self._plan(), asked.work, self.team, visits)
        if self.is_main:
            self._write()

    def _begin(self) -> Iterator[Notice]:
        asked = self.settings
        asked.work.mkdir(parents=True, exist_ok=True)
        if self.is_main:
            yield Notice(f"begins from {self.task.source}, on {self.task.device}")
            yield from begin_work(asked.work, asked.resume, asked.decides())

    def _sets(self) -> Generator[Notice | Encoding, None, tuple[Pair, Pair]]:
        """(clips, stills) to train on, and the same two held out. A set that is not wanted is empty."""
        items, faults = find_items(self.settings.data)
        wanted, unwanted = self._sort(items)
        if self.team is not None:  # each encodes its share first, then all find everything done
            for encoder, group in wanted:
                yield from collect(encoder, group[self.team.rank :: self.team.size], [])
            self.team.wait()
        found = []
        for encoder, group in wanted:
            found.append((yield from collect(encoder, group, faults)))
        faults += unwanted
        yield Notice(summary(faults, sum(map(len, found))))
        if self.is_main:
            self._keep_faults(faults)
        self._require(found, faults)
        pairs = [hold_out(media) for media in found]
        yield from self._tell_captions([each.item.caption for media in found for each in media])
        if self.settings.validate_every and any(media and not held for media, held in pairs):
            yield Notice("one medium of a kind is too few to hold one out: validation sees what is trained on")
        trained = self._store([media for media, _ in pairs])
        return trained, self._store([held or media for media, held in pairs])

    def _sort(self, items: list[Item]) -> tuple[list[tuple[Encoder, list[Item]]], list[Fault]]:
        """(clips, stills), each with its encoder, and items of neither kind."""
        task, cut = self.task, self.task.cut
        single = cut.frames == 1 and not task.wants_stills  # then a picture is as good as a frame
        clips = [item for item in items if task.wants_clips and (single or not item.is_picture)]
        stills = [item for item in items if task.wants_stills and item.is_picture]
        used = {id(item) for item in clips + stills}
        kinds = {True: "a picture, not used here", False: "a video, not used here"}
        unwanted = [Fault(item.name, kinds[item.is_picture]) for item in items if id(item) not in used]
        common = (task.encode, hash_weights(task.vae))
        folder = self.settings.work / "latents"
        still = Cut(1, cut.width, cut.height, most=1)
        return [
            (Encoder(folder, self._read, cut, *common), clips),
            (Encoder(folder, self._read, still, *common), stills),
        ], unwanted

    def _require(self, found: list[list[Encoded]], faults: list[Fault]) -> None:
        """Raises TrainingError with the reasons where there is nothing to train on."""
        asked, (clips, stills) = self.settings, found
        why = f": {reasons(faults)}" if faults else ", and no file that is a picture, a video or a shard"
        if self.task.wants_clips and not clips:
            instead = f"; for its {len(stills)} pictures give --mode stills" if stills else ""
            raise TrainingError(f"{asked.data} holds no usable clip{why if faults or not stills else ''}{instead}")
        if self.task.wants_stills and not stills:
            instead = "" if asked.base_mode == STILLS else "; joint training needs some, or give --mode video-only"
            raise TrainingError(f"{asked.data} holds no usable picture{why}{instead}")

    def _store(self, sets: list[list[Encoded]]) -> Pair:
        clips, stills = sets
        return self.task.open_set(clips, self.task.cut.frames), self.task.open_set(stills, 1)

    def _tell_captions(self, captions: list[str]) -> Iterator[Notice]:
        read = [self.task.encoder.read(caption) for caption in captions]
        long = sum(bool(report.cut) for report in read)
        unknown = sorted({word for report in read for word in report.unknown})
        if long:
            yield Notice(f"{long} of {len(read)} captions are cut off behind {read[0].limit} tokens")
        if unknown:
            words = ", ".join(f"“{word}”" for word in unknown[:10]) + (", …" if len(unknown) > 10 else "")
            yield Notice(f"{len(unknown)} words of the captions are unknown to the text encoder: {words}")

    def _keep_faults(self, faults: list[Fault]) -> None:
        lines = [f"{fault.name}\t{fault.kind}\t{' '.join(fault.detail.split())}\n" for fault in faults]
        (self.settings.work / "left_out.tsv").write_text("".join(lines), encoding="utf-8")

    def _plan(self) -> Plan:
        asked = self.settings
        return Plan(
            asked.steps,
            learning_rate=asked.peak_rate,
            matrix_learning_rate=asked.peak_rate,
            warmup=min(50, asked.steps // 10),
            ema=asked.ema,
            autocast=self.autocast,
            seed=asked.seed,
            checkpoint_every=asked.checkpoint_every,
            report_every=max(1, min(25, asked.steps // 20)),
        )

    @property
    def _is_short(self) -> bool:
        cut, factor = self.task.cut, self.task.bundle.halvings(VAE)
        return self.task.device.type == "cpu" and cut.width * cut.height <= SHORT_SEQUENCE * factor**2

    def _visits(self, held: Pair) -> list[Visit]:
        asked, visits = self.settings, []
        if asked.validate_every:
            loss_at = self.task.loss(*held, asked.batch, VALIDATION_SEED)
            visits.append(Visit(asked.validate_every, lambda step: self._validate(loss_at, step)))
        if asked.samples_every:
            clips = held[0] or held[1]
            numbers = range(min(SHOWN, len(clips)))
            visits.append(
                Visit(asked.samples_every, lambda step: Samples(step, [self.task.sample(clips, n) for n in numbers]))
            )
        return visits

    @torch.no_grad()
    def _validate(self, loss_at: Loss, step: int) -> Validation:
        with torch.autocast(self.task.device.type, torch.bfloat16, enabled=self.autocast):
            losses = [loss_at(number).item() for number in range(VALIDATED)]
        found = Validation(step, sum(losses) / len(losses))
        with (self.settings.work / "validation.jsonl").open("a") as log:
            log.write(json.dumps(asdict(found)) + "\n")
        return found

    def _write(self) -> None:
        """The bundle that the run started from, with the trained network in its place."""
        asked, kind = self.settings, self.settings.kind
        manifest = json.loads((asked.model / MANIFEST).read_text(encoding="utf-8"))
        if kind == EXTENSION:
            manifest.setdefault(EXTENSION, manifest[self.task.stage])  # it runs as the base network does
        write_changed(asked.output, asked.model, {kind: self.task.network}, manifest)
