"""The commands: the studio when none is named, and `render`. Turns arguments into values, and outcomes into exit codes.

Exit codes: 0 done · 1 it could not be done, one line on stderr says why · 2 wrong usage · 130 Ctrl-C · 143 SIGTERM.
Knows no torch and no gradio: they are imported when a command needs them, so that `--help` answers at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from app.config import StudioConfig, read_config
from app.exits import exit_codes
from app.train import train
from lavie.errors import LavieError
from lavie.request import (
    MAX_FPS,
    MAX_FRAMES,
    MAX_GUIDANCE,
    MAX_SEED,
    MAX_SIZE,
    MAX_STEPS,
    SAMPLERS,
    Interpolation,
    Request,
    Sampling,
    SuperResolution,
)

cli = typer.Typer(
    help="LaVie Studio: videos from words. Without a command, the studio opens in the browser.",
    # Plain messages: an error is one line that a script can read, not a box that a terminal can draw.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
cli.add_typer(train, name="train")


def _checked(values: Callable[[Any], object]) -> Callable[[Any], Any]:
    """An option's callback: what `values` refuses is wrong usage, in the words of the values."""

    def check(value: Any) -> Any:
        try:
            values(value)
        except LavieError as error:
            raise typer.BadParameter(str(error)) from None
        return value

    return check


def _port_config(port: int | None) -> object:
    return port is None or StudioConfig(port=port)


def _request_option(name: str, help: str):
    return typer.Option(callback=_checked(lambda value: Request("any", **{name: value})), help=help)


def _sampling_option(name: str, help: str):
    return typer.Option(callback=_checked(lambda value: Sampling(**{name: value})), help=help)


DataOption = Annotated[Path | None, typer.Option(help="Folder of clips and models [default: ./data, or LAVIE_DATA].")]
ModelOption = Annotated[str | None, typer.Option(help="nano, official, or a folder of weights [default: nano].")]
DeviceOption = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps [default: auto].")]


def main() -> None:
    """Run the command that the arguments name, and exit."""
    cli(prog_name="app.py")


@cli.callback(invoke_without_command=True)
def studio(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to serve on [default: 127.0.0.1].")] = None,
    port: Annotated[
        int | None, typer.Option(callback=_checked(_port_config), help="Port to serve on [default: 7860].")
    ] = None,
    data: DataOption = None,
    model: ModelOption = None,
    device: DeviceOption = None,
    auth: Annotated[str | None, typer.Option(metavar="USER:PASSWORD", help="Ask for a login [or LAVIE_AUTH].")] = None,
) -> None:
    """LaVie Studio: videos from words. Without a command, the studio opens as a page on this machine."""
    settings = {"host": host, "port": port, "data": data, "model": model, "device": device, "auth": auth}
    if context.invoked_subcommand is not None:
        _refuse_misplaced(context, settings)
        return
    with exit_codes():
        config = read_config(os.environ, **settings)
        from app.ui import launch

        launch(config)


@cli.command()
def render(
    prompt: Annotated[str, typer.Argument(help="What the video shows.", metavar="PROMPT")],
    seed: Annotated[int | None, _request_option("seed", f"0 … {MAX_SEED}; the same gives the same video.")] = None,
    steps: Annotated[int | None, _sampling_option("steps", f"1 … {MAX_STEPS}, of every stage.")] = None,
    sampler: Annotated[
        str | None, _sampling_option("sampler", f"{', '.join(SAMPLERS)}: how the base stage denoises.")
    ] = None,
    guidance: Annotated[
        float | None, _sampling_option("guidance", f"0 … {MAX_GUIDANCE:g}, how close the base stage keeps to it.")
    ] = None,
    negative: Annotated[str, typer.Option(metavar="TEXT", help="What to stay away from.")] = "",
    interpolate: Annotated[bool, typer.Option("--interpolate", help="Four times the frame rate.")] = False,
    upscale: Annotated[bool, typer.Option("--upscale", help="Four times the width and height.")] = False,
    width: Annotated[int | None, _request_option("width", f"8 … {MAX_SIZE} pixels, of the base stage.")] = None,
    height: Annotated[int | None, _request_option("height", f"8 … {MAX_SIZE} pixels, of the base stage.")] = None,
    frames: Annotated[int | None, _request_option("frames", f"1 … {MAX_FRAMES}, of the base stage.")] = None,
    fps: Annotated[float | None, _request_option("fps", f"1 … {MAX_FPS:g} frames a second, of the base stage.")] = None,
    output: Annotated[Path | None, typer.Option(help="The mp4 to write [default: a new one among the clips].")] = None,
    data: DataOption = None,
    model: ModelOption = None,
    device: DeviceOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
) -> None:
    """Make one video from PROMPT and write it to a file."""
    with exit_codes():
        config = read_config(os.environ, data=data, model=model, device=device)
        request = Request(
            prompt,
            negative_prompt=negative,
            seed=seed,
            width=width,
            height=height,
            frames=frames,
            fps=fps,
            base=Sampling(sampler=sampler, steps=steps, guidance=guidance),
            interpolation=Interpolation(Sampling(steps=steps)) if interpolate else None,
            super_resolution=SuperResolution(Sampling(steps=steps)) if upscale else None,
        )
        clip = _render(config, request, output)
        print(json.dumps(clip.to_dict()) if as_json else _summary(clip))


def _render(config: StudioConfig, request: Request, output: Path | None):
    """Make the clip in this process, with its progress on stderr."""
    from app.clip import Clip, clip_path, load_cascade, make_clip, new_id
    from app.progress import progress
    from app.recipe import Job

    clip_id = new_id()
    path = clip_path(config, clip_id) if output is None else output.expanduser()
    making = make_clip(lambda: load_cascade(config), Job(request, config.model), clip_id, path)
    with contextlib.closing(making), progress(sys.stderr) as show:
        for event in making:
            show(event)
            if isinstance(event, Clip):
                return event
    raise RuntimeError("no clip came out")


def _summary(clip) -> str:
    return (
        f"{clip.path}\n{clip.frames} frames, {clip.width}×{clip.height}, {clip.fps:g} fps, "
        f"seed {clip.seed}, made in {clip.seconds:.1f} s"
    )


def _refuse_misplaced(context: typer.Context, settings: dict) -> None:
    """The studio's options before a command would be read and then forgotten: say so instead."""
    given = [f"--{name}" for name, value in settings.items() if value is not None]
    if given:
        command = context.invoked_subcommand
        raise typer.BadParameter(f"{', '.join(given)} stands before {command!r}: put options after the command")
