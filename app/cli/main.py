"""All commands. Without one, the studio opens in the browser.

Exit codes: 0 done · 1 failed, one line on stderr says why · 2 wrong usage · 130 Ctrl-C · 143 SIGTERM. torch and gradio
are imported when a command needs them, so that `--help` is quick.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.adapters import adapters
from app.cli.exit_codes import exit_codes
from app.cli.gallery import gallery
from app.cli.jobs import jobs
from app.cli.long_video import extend, join
from app.cli.models import models
from app.cli.options import DataOption, DeviceOption, ModelOption, check_by
from app.cli.render import finish, regenerate, remix, render
from app.cli.train import train
from app.config import StudioConfig, read_config
from lavie.errors import LavieError

BENCHES = {  # name of the module in `bench` → what it measures
    "quality": "How often a bundle makes what it was asked for: colour, shape, motion, background.",
    "ablations": "What the parts of the base network's training are for: the same steps without one of them.",
    "fidelity": "How true autoencoders, interpolation and super-resolution are, in dB.",
    "long": "How long videos hold together: seams, drift, what they show at their end, memory and time by length.",
    "lora": "What an adapter learns and what it leaves alone: a new subject, a new motion, ordinary prompts.",
    "render": "What the whole cascade costs, as the command render in a process of its own.",
    "unet": "What a forward of each network costs, in time, FLOPs and bytes.",
    "gallery": "What filters, searches and pages of a large gallery cost.",
    "start": "What starting costs: commands, the page and each import.",
}

cli = typer.Typer(
    help="LaVie Studio: videos from words. Without a command, the studio opens in the browser.",
    # Plain messages: a script can read an error of one line.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
bench = typer.Typer(help="Measure; tables here, figures in bench/results.", rich_markup_mode=None, no_args_is_help=True)
for command in (render, extend, join, finish, remix, regenerate):
    cli.command()(command)
for name, group in {"gallery": gallery, "jobs": jobs, "adapters": adapters, "models": models, "train": train}.items():
    cli.add_typer(group, name=name)
cli.add_typer(bench, name="bench")


def main() -> None:
    """Run the command that the arguments name, and exit."""
    cli(prog_name=Path(sys.argv[0]).name)


@cli.callback(invoke_without_command=True)
def studio(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to serve on [default: 127.0.0.1].")] = None,
    port: Annotated[
        int | None,
        typer.Option(
            callback=check_by(lambda port: port is None or StudioConfig(port=port)),
            help="Port to serve on [default: 7860].",
        ),
    ] = None,
    data: DataOption = None,
    model: ModelOption = None,
    device: DeviceOption = None,
    auth: Annotated[str | None, typer.Option(metavar="USER:PASSWORD", help="Ask for a login [or LAVIE_AUTH].")] = None,
    workers: Annotated[
        str | None,
        typer.Option(
            callback=check_by(lambda workers: workers is None or StudioConfig(workers=workers)),
            help="local, ray, or ray:N for N devices [default: local].",
        ),
    ] = None,
    mcp: Annotated[bool, typer.Option("--mcp", help="Offer the HTTP endpoints as MCP tools too.")] = False,
) -> None:
    """LaVie Studio: videos from words. Without a command, the studio opens as a page on this machine."""
    settings: dict[str, Any] = {"host": host, "port": port, "data": data, "model": model, "device": device}
    settings |= {"auth": auth, "workers": workers}
    settings |= {"mcp": True} if mcp else {}
    if context.invoked_subcommand is not None:
        _refuse_misplaced(context, settings)
        return
    with exit_codes():
        config = read_config(os.environ, **settings)
        from app.ui.build import launch  # the one import of the page: gradio takes seconds

        launch(config)


def _refuse_misplaced(context: typer.Context, settings: dict[str, Any]) -> None:
    """Raises BadParameter for options of the studio before a command, which would be ignored."""
    given = [f"--{name}" for name, value in settings.items() if value is not None]
    if given:
        command = context.invoked_subcommand
        raise typer.BadParameter(f"{', '.join(given)} stands before {command!r}: put options after the command")


def _make_bench(name: str) -> Callable[[typer.Context], None]:
    def run(context: typer.Context) -> None:
        with exit_codes():
            if importlib.util.find_spec("bench") is None:
                raise LavieError("the benchmarks are not installed: run this in a checkout of the repository")
            with _set_arguments(f"app.py bench {name}", *context.args):
                importlib.import_module(f"bench.{name}").main()

    return run


@contextlib.contextmanager
def _set_arguments(*argv: str) -> Iterator[None]:
    """Replace `sys.argv`, which the modules of `bench` read."""
    before, sys.argv = sys.argv, list(argv)
    try:
        yield
    finally:
        sys.argv = before


for _name, _help in BENCHES.items():
    # The module parses its own options, `--help` too.
    _settings = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
    bench.command(_name, help=_help, context_settings=_settings)(_make_bench(_name))
