"""The commands that train. Turns arguments into a recipe and its progress into lines; knows no network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.cli.exit_codes import exit_codes
from app.cli.train_lora import lora
from app.cli.train_networks import Threads, add_to, tell, threads_for
from lavie.errors import TrainingError

train = typer.Typer(help="Train the networks of the cascade.", rich_markup_mode=None, no_args_is_help=True)
add_to(train)
train.command()(lora)


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
                tell(name, progress, work)
        if stage is None:
            recipe.write(bundle)
            print(bundle)
