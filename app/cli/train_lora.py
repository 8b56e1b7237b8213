"""`train lora`: teaches a subject, a style or a motion. Turns arguments into settings, and events into lines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.cli.exit_codes import exit_codes
from app.cli.train_networks import Checkpointing, Device, Model, Often, Precision, Seed, Threads, tell, threads_for

Images = Annotated[list[Path], typer.Option(help="Folder, zip, or file (again for each): pictures; for motion clips.")]
Trigger = Annotated[str, typer.Option(metavar="WORD", help="The word that shall call it; a made-up one is best.")]
Preset = Annotated[str, typer.Option(help="subject, style or motion.")]
Output = Annotated[Path, typer.Option(metavar="FILE", help="The adapter: a .safetensors file.")]
Work = Annotated[Path | None, typer.Option(help="Folder of checkpoints and samples [default: runs/ and FILE's name].")]
Steps = Annotated[int | None, typer.Option(help="Of the optimiser [default: by the preset and the number of media].")]
Rank = Annotated[int | None, typer.Option(help="Of the factors [default: the preset's].")]
Rate = Annotated[float | None, typer.Option(help="Peak [default: the preset's].")]
Prior = Annotated[float | None, typer.Option(help="Weight of leaving all else as it is [default: the preset's].")]
Every = Annotated[int, typer.Option(min=0, help="Samples from fixed seeds, in steps; 0 is never.")]
Keep = Annotated[int, typer.Option(min=1, help="How many checkpoints stay as adapters of their own.")]
Prompts = Annotated[list[str] | None, typer.Option("--prompt", help="Of a sample, again for each.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --work.")]


def lora(
    images: Images,
    trigger: Trigger,
    output: Output,
    preset: Preset = "subject",
    model: Model = "nano",
    work: Work = None,
    steps: Steps = None,
    rank: Rank = None,
    learning_rate: Rate = None,
    prior: Prior = None,
    samples_every: Every = 100,
    checkpoint_every: Often = 100,
    keep: Keep = 3,
    prompt: Prompts = None,
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
            tell("lora", event, settings.work)
        print(settings.output)
