"""The commands of the queue. They work beside a running studio through the same database."""

from __future__ import annotations

import contextlib
import json
import typing
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli import options
from app.cli.exit_codes import exit_codes
from app.cli.output import print_grid, print_result
from app.recipes.options import with_options

if typing.TYPE_CHECKING:
    from app.queue.queue import JobQueue
    from app.recipes.job_row import JobRow
    from app.recipes.recipe import Job

jobs = typer.Typer(help="See and change what is waiting to be made.", rich_markup_mode=None, no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="JOB_ID", help="As `jobs list` shows it.")]


@jobs.command("list")
def list_jobs(
    closed: Annotated[int, typer.Option(min=0, max=1000, help="Show so many of the closed ones too.")] = 0,
    data: options.DataOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """The open jobs in the order in which they will run, and the latest that are closed."""
    with _open_queue(data) as queue:
        rows, paused = [*queue.line(), *queue.recent(closed)], queue.queue_paused

    def tell() -> None:
        print_grid(("id", "state", "step", "prompt", ""), [_cells(row) for row in rows])
        if paused:
            print("the queue is paused: `jobs resume-queue` goes on")

    print_result(as_json, {"jobs": [_describe(row) for row in rows], "queue_paused": paused}, tell)


# Command → the queue's method, and what it does to a job.
CHANGES = {
    "cancel": ("cancel", "Take a waiting job out of the line, or stop a running one behind its step."),
    "cancel-others": ("cancel_others", "Cancel every open job but this one."),
    "pause": (
        "pause",
        "Hold a job back; a running one stops behind its step and goes on later from its last finished stage.",
    ),
    "resume": ("resume", "Put a paused or interrupted job back into the line."),
    "retry": ("retry", "Try a failed, cancelled or interrupted job again."),
    "first": ("to_front", "Let a waiting job run next."),
}


def _make_command(method: str) -> Callable[..., None]:
    def command(job_id: Id, data: options.DataOption = None, as_json: options.JsonOption = False) -> None:
        _change(data, as_json, job_id, method)

    return command


for _name, (_method, _help) in CHANGES.items():
    jobs.command(_name, help=_help)(_make_command(_method))


@jobs.command()
def move(
    job_id: Id,
    before: Annotated[str | None, typer.Option(metavar="JOB_ID", help="[default: to the end]")] = None,
    data: options.DataOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Let a waiting job run before another one, or last."""
    _change(data, as_json, job_id, "move", before)


@jobs.command(context_settings={"ignore_unknown_options": True})  # a number below zero is no option
def priority(
    job_id: Id,
    priority: Annotated[int, typer.Argument(metavar="N", help="-1000 … 1000, higher runs first; others are 0.")],
    data: options.DataOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Let a waiting job run behind those of a priority, and before those of lower ones."""
    _change(data, as_json, job_id, "set_priority", priority)


@jobs.command()
def edit(
    job_id: Id,
    prompt: Annotated[str | None, typer.Option(metavar="TEXT", help="What the video shows.")] = None,
    seed: Annotated[
        str | None,
        typer.Option(
            metavar=f"N|{options.RANDOM}",
            callback=options.check_by(lambda text: text is None or options.parse_seed(text)),
            help="The same gives the same video.",
        ),
    ] = None,
    steps: options.StepsOption = None,
    sampler: options.SamplerOption = None,
    guidance: options.GuidanceOption = None,
    negative: Annotated[str | None, typer.Option(metavar="TEXT", help="What to stay away from.")] = None,
    interpolate: Annotated[
        bool | None, typer.Option("--interpolate/--no-interpolate", help="Four times the frame rate.")
    ] = None,
    upscale: Annotated[
        bool | None, typer.Option("--upscale/--no-upscale", help="Four times the width and height.")
    ] = None,
    data: options.DataOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Change what a queued job will make: what is given here, and nothing else."""
    given: dict[str, Any] = {"prompt": prompt, "negative": negative, "steps": steps, "sampler": sampler}
    given |= {"guidance": guidance, "interpolate": interpolate, "upscale": upscale}
    if all(value is None for value in (seed, *given.values())):
        raise typer.BadParameter("nothing to change: give --prompt, --seed or another of the options")

    def change(job: Job) -> Job:
        request = job.request if seed is None else replace(job.request, seed=options.parse_seed(seed))
        return replace(job, request=with_options(request, **given))

    _change(data, as_json, job_id, "edit", change)


@jobs.command()
def duplicate(job_id: Id, data: options.DataOption = None, as_json: options.JsonOption = False) -> None:
    """The same once more, at the end of the line."""
    with _open_queue(data) as queue:
        new = queue.duplicate(job_id)
    print_result(as_json, {"id": new}, lambda: print(new))


@jobs.command()
def pause_queue(data: options.DataOption = None, as_json: options.JsonOption = False) -> None:
    """Take no more jobs; the running one ends."""
    with _open_queue(data) as queue:
        queue.pause_queue()
    print_result(as_json, {"queue_paused": True}, lambda: print("the queue is paused: `jobs resume-queue` goes on"))


@jobs.command()
def resume_queue(data: options.DataOption = None, as_json: options.JsonOption = False) -> None:
    """Take jobs again."""
    with _open_queue(data) as queue:
        queue.resume_queue()
    print_result(as_json, {"queue_paused": False}, lambda: print("the queue goes on"))


@contextlib.contextmanager
def _open_queue(data: Path | None) -> Iterator[JobQueue]:
    with exit_codes():
        from app.queue.queue import JobQueue
        from app.storage.database import Database

        with contextlib.closing(Database(options.data_folder(data))) as database:
            yield JobQueue(database)


def _change(data: Path | None, as_json: bool, job_id: str, what: str, *values: object) -> None:
    """Call a method of the queue for a job and print the job."""
    with _open_queue(data) as queue:
        getattr(queue, what)(job_id, *values)
        row = queue.get(job_id)
    if row is None:
        return  # it was closed and removed meanwhile
    print_result(as_json, _describe(row), lambda: print(f"{row.id} is {_state(row)}"))


def _describe(row: JobRow) -> dict[str, Any]:
    shown = ("id", "kind", "state", "asked", "priority", "attempts", "stage", "step", "steps", "error", "parent")
    times = ("created", "started", "finished")
    made = {"prompt": row.prompt, "job": json.loads(row.job_json)}
    return {name: getattr(row, name) for name in (*shown, *times)} | made


def _cells(row: JobRow) -> tuple[Any, ...]:
    step = f"{row.stage} {row.step}/{row.steps}" if row.stage and row.open else ""
    return row.id, _state(row), step, row.prompt, row.error


def _state(row: JobRow) -> str:
    return f"{row.state}, asked to {row.asked}" if row.asked else row.state
