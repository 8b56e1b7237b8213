"""The commands that measure: each is a module of `bench`, run with its own options. Knows what each is called only."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator

import typer

from app.cli.exit_codes import exit_codes
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
}

bench = typer.Typer(help="Measure; tables here, figures in bench/results.", rich_markup_mode=None, no_args_is_help=True)


def _command(name: str):
    def command(context: typer.Context) -> None:
        with exit_codes():
            if importlib.util.find_spec("bench") is None:
                raise LavieError("the benchmarks are not installed: run this in a checkout of the repository")
            with _arguments(f"app.py bench {name}", *context.args):
                importlib.import_module(f"bench.{name}").main()

    return command


@contextlib.contextmanager
def _arguments(*argv: str) -> Iterator[None]:
    """The modules read what a process was started with."""
    before, sys.argv = sys.argv, list(argv)
    try:
        yield
    finally:
        sys.argv = before


for _name, _help in BENCHES.items():
    # The module reads its own options, `--help` too: this knows none of them.
    _own_options = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
    bench.command(_name, help=_help, context_settings=_own_options)(_command(_name))
