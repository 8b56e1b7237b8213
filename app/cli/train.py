"""The commands that train: the networks on a person's own media, adapters, and Nano."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.exit_codes import exit_codes
from lavie.errors import TrainingError

train = typer.Typer(help="Train the networks of the cascade.", rich_markup_mode=None, no_args_is_help=True)

Threads = Annotated[int, typer.Option(min=1, help="Threads to compute with on a CPU: one, if anything else runs.")]
Model = Annotated[str, typer.Option(help="Bundle to start from: nano, official, or a folder.")]
Precision = Annotated[str | None, typer.Option(help="bf16 or no [default: as accelerate launch says, or bf16].")]
Checkpointing = Annotated[bool, typer.Option("--gradient-checkpointing", help="Less memory, a third more time.")]
Every = Annotated[int, typer.Option(min=0, help="In steps; 0 is never.")]
Often = Annotated[int, typer.Option(min=1, help="In steps.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --work.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32, help="Of everything that is drawn.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]


@train.command(
    "extension",
    help="Train the network that goes on from given frames (9 input channels, as SEINE's) on your own clips.",
)
@train.command("super-resolution", help="Fine-tune upscaling on your own large clips.")
@train.command("interpolation", help="Fine-tune the frames between frames on your own clips.")
@train.command("base", help="Fine-tune text to video on your own clips and pictures, jointly as the paper does.")
def tune(
    context: typer.Context,
    data: Annotated[Path, typer.Option(help="Folder of media: with metadata.csv|jsonl, a csv, .txt files or shards.")],
    work: Annotated[Path, typer.Option(help="Folder of this run: checkpoints, latents, logs, samples.")],
    output: Annotated[Path, typer.Option(help="Where the finished bundle goes.")],
    model: Model = "nano",
    steps: Annotated[int, typer.Option(help="Of the optimiser, in all.")] = 1000,
    batch: Annotated[int, typer.Option(help="Clips a step, of each process.")] = 1,
    learning_rate: Annotated[
        float | None, typer.Option(help="Peak [default: 1e-5; 1e-4 where the weights are random].")
    ] = None,
    frames: Annotated[int | None, typer.Option(help="Of a clip [default: as the bundle plays].")] = None,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Of a clip; of super-resolution's small frames.")
    ] = None,
    stride: Annotated[int, typer.Option(help="Take every how-manieth frame of a video.")] = 1,
    mode: Annotated[
        str | None, typer.Option(help="Of base: joint, concat, video-only or stills [default: joint].")
    ] = None,
    origin: Annotated[
        str, typer.Option("--from", help="Weights to begin with: bundle, scratch or published-layout.")
    ] = "bundle",
    ema: Annotated[float, typer.Option(help="Decay of the weights' moving average, which is what is kept.")] = 0.9999,
    precision: Precision = None,
    gradient_checkpointing: Checkpointing = False,
    freeze_spatial: Annotated[bool, typer.Option("--freeze-spatial", help="Train only what mixes time.")] = False,
    crop: Annotated[
        str | None, typer.Option(metavar="WxH", help="Train super-resolution on pieces of the small frames.")
    ] = None,
    samples_every: Every = 0,
    validate_every: Every = 0,
    checkpoint_every: Often = 250,
    resume: Resume = False,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = 1,
) -> None:
    given = dict(locals())
    name = str(given.pop("context").info_name)
    with exit_codes(), threads_for(given.pop("threads")):
        from app.config import StudioConfig
        from app.media import UPLOAD_LIMITS, frames_of
        from lavie.training.tuning.session import Session
        from lavie.training.tuning.settings import Settings

        given |= {"model": StudioConfig(model=model).bundle, "kind": name.replace("-", "_")}
        given |= {side: given[side] and _size(side, given[side]) for side in ("size", "crop")}
        settings = Settings(**given)
        session = Session(settings, lambda path: frames_of(path, UPLOAD_LIMITS))
        for event in session.run():
            if session.is_main:
                print_event(name, event, settings.work)
        if session.is_main:
            print(settings.output)


@train.command()
def lora(
    images: Annotated[
        list[Path], typer.Option(help="Folder, zip, or file (again for each): pictures; for motion clips.")
    ],
    trigger: Annotated[str, typer.Option(metavar="WORD", help="The word that shall call it; a made-up one is best.")],
    output: Annotated[Path, typer.Option(metavar="FILE", help="The adapter: a .safetensors file.")],
    preset: Annotated[str, typer.Option(help="subject, style or motion.")] = "subject",
    model: Model = "nano",
    work: Annotated[
        Path | None, typer.Option(help="Folder of checkpoints and samples [default: runs/ and FILE's name].")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Of the optimiser [default: by the preset and the number of media].")
    ] = None,
    rank: Annotated[int | None, typer.Option(help="Of the factors [default: the preset's].")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak [default: the preset's].")] = None,
    prior: Annotated[
        float | None, typer.Option(help="Weight of leaving all else as it is [default: the preset's].")
    ] = None,
    samples_every: Annotated[int, typer.Option(min=0, help="Samples from fixed seeds, in steps; 0 is never.")] = 100,
    checkpoint_every: Often = 100,
    keep: Annotated[int, typer.Option(min=1, help="How many checkpoints stay as adapters of their own.")] = 3,
    prompt: Annotated[list[str] | None, typer.Option("--prompt", help="Of a sample, again for each.")] = None,
    resume: Resume = False,
    gradient_checkpointing: Checkpointing = False,
    precision: Precision = None,
    seed: Seed = 0,
    device: Device = "auto",
    threads: Threads = 1,
) -> None:
    """Teach a model a subject, a style or a motion: a LoRA file that is called by its trigger word."""
    given = dict(locals())
    with exit_codes(), threads_for(given.pop("threads")):
        from app.config import StudioConfig
        from app.media import UPLOAD_LIMITS, frames_of
        from extensions.lora.training.session import LoraSession
        from extensions.lora.training.settings import Settings

        given |= {"model": StudioConfig(model=model).bundle, "prompts": tuple(given.pop("prompt") or ())}
        given |= {"images": tuple(images), "work": work or Path("runs") / output.stem}
        settings = Settings(**given)
        session = LoraSession(settings, lambda path: frames_of(path, UPLOAD_LIMITS))
        for event in session.run():
            print_event("lora", event, settings.work)
        print(settings.output)


@train.command()
def nano(
    work: Annotated[Path, typer.Option(help="Folder of checkpoints; what is done there is not done again.")] = Path(
        "runs/nano"
    ),
    bundle: Annotated[Path, typer.Option(help="Where the finished bundle goes.")] = Path("assets/nano"),
    given: Annotated[Path | None, typer.Option(help="Folder of stages that are trained already.")] = None,
    stage: Annotated[str | None, typer.Option(help="Train only this stage, and write no bundle.")] = None,
    threads: Threads = 1,
) -> None:
    """Train Nano from nothing on the procedural world; stopped and run again, it goes on where it was."""
    with exit_codes(), threads_for(threads):
        from lavie.training.nano.recipe import Recipe

        recipe = Recipe(work, given=given)
        stages = list(recipe.stages())
        if stage is not None and stage not in stages:
            raise TrainingError(f"stage is {stage!r}: choose one of {', '.join(stages)}")
        for name in stages if stage is None else [stage]:
            for progress in recipe.run(name):
                print_event(name, progress, work)
        if stage is None:
            recipe.write(bundle)
            print(bundle)


@contextlib.contextmanager
def threads_for(count: int) -> Iterator[None]:
    """Compute with so many threads inside the block. Restores the number: it changes results."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _size(name: str, text: str) -> tuple[int, int]:
    sides = re.fullmatch(r"(\d{1,5})[x×](\d{1,5})", text)
    if sides is None:
        raise TrainingError(f"{name} is {text!r}: give width and height as 512x320")
    return int(sides[1]), int(sides[2])


def print_event(name: str, event: Any, work: Path) -> None:
    """Print a line on stderr for an event, and write samples."""
    from app.storage.training_folder import write_samples
    from lavie.events import Notice
    from lavie.training.data.encoded import Encoding
    from lavie.training.loop import Progress
    from lavie.training.tuning.session import Samples, Validation

    match event:
        case Notice():
            line = f"note: {event.message}"
        case Encoding():
            line = f"encoding {event.done}/{event.total}  {_left(event.seconds_left)}"
        case Progress():
            line = (
                f"{name} {event.step}/{event.steps}  loss {event.loss:.5f}  {event.seconds_a_step:.2f} s a step  "
                f"{_left(event.eta_seconds)}"
            )
        case Validation():
            line = f"{name} {event.step}  validation loss {event.loss:.5f}"
        case Samples():
            line = f"{name} {event.step}  samples in {write_samples(event, work / 'samples')}"
    print(line, file=sys.stderr, flush=True)


def _left(seconds: float) -> str:
    return f"{seconds:.0f} s left" if seconds < 100 else f"{seconds / 60:.0f} min left"
