"""The commands: the studio when none is named. Turns arguments into values, and outcomes into exit codes.

Exit codes: 0 done · 1 it could not be done, one line on stderr says why · 2 wrong usage · 130 Ctrl-C · 143 SIGTERM.
Knows no torch and no gradio: they are imported when a command needs them, so that `--help` answers at once.
"""

from __future__ import annotations

import os
from typing import Annotated

import typer

from app.cli.adapters import adapters
from app.cli.bench import bench
from app.cli.exit_codes import exit_codes
from app.cli.extend import extend
from app.cli.gallery import gallery
from app.cli.jobs import jobs
from app.cli.join import join
from app.cli.models import models
from app.cli.options import DataOption, DeviceOption, ModelOption, checked
from app.cli.render import finish, regenerate, remix, render
from app.cli.train import train
from app.config import StudioConfig, read_config

cli = typer.Typer(
    help="LaVie Studio: videos from words. Without a command, the studio opens in the browser.",
    # Plain messages: an error is one line that a script can read, not a box that a terminal can draw.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for command in (render, extend, join, finish, remix, regenerate):
    cli.command()(command)
cli.add_typer(gallery, name="gallery")
cli.add_typer(jobs, name="jobs")
cli.add_typer(adapters, name="adapters")
cli.add_typer(models, name="models")
cli.add_typer(train, name="train")
cli.add_typer(bench, name="bench")


def main() -> None:
    """Run the command that the arguments name, and exit."""
    cli(prog_name="app.py")


def _port_config(port: int | None) -> object:
    return port is None or StudioConfig(port=port)


def _workers_config(workers: str | None) -> object:
    return workers is None or StudioConfig(workers=workers)


@cli.callback(invoke_without_command=True)
def studio(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to serve on [default: 127.0.0.1].")] = None,
    port: Annotated[
        int | None, typer.Option(callback=checked(_port_config), help="Port to serve on [default: 7860].")
    ] = None,
    data: DataOption = None,
    model: ModelOption = None,
    device: DeviceOption = None,
    auth: Annotated[str | None, typer.Option(metavar="USER:PASSWORD", help="Ask for a login [or LAVIE_AUTH].")] = None,
    workers: Annotated[
        str | None,
        typer.Option(callback=checked(_workers_config), help="local, ray, or ray:N for N devices [default: local]."),
    ] = None,
    mcp: Annotated[bool, typer.Option("--mcp", help="Offer the HTTP endpoints as MCP tools too.")] = False,
) -> None:
    """LaVie Studio: videos from words. Without a command, the studio opens as a page on this machine."""
    settings = {"host": host, "port": port, "data": data, "model": model, "device": device, "auth": auth}
    settings |= {"workers": workers}
    settings |= {"mcp": True} if mcp else {}
    if context.invoked_subcommand is not None:
        _refuse_misplaced(context, settings)
        return
    with exit_codes():
        config = read_config(os.environ, **settings)
        from app.ui.build import launch

        launch(config)


def _refuse_misplaced(context: typer.Context, settings: dict) -> None:
    """The studio's options before a command would be read and then forgotten: say so instead."""
    given = [f"--{name}" for name, value in settings.items() if value is not None]
    if given:
        command = context.invoked_subcommand
        raise typer.BadParameter(f"{', '.join(given)} stands before {command!r}: put options after the command")
