"""How long videos hold together, by each way to join segments: seams, drift, and what they show at their end; and what
length costs in memory and time.

    python -m bench.long [--model assets/nano] [--prompts 20] [--segments 8] [--strategies NAME …] [--steps N]
                         [--memory 4 100] [--memory-steps 4] [--stages base|all] [--no-memory] [--results FOLDER]

Prompts of the procedural world as in `bench.quality`, one for a whole video, the prompt's number as its seed; the base
stage alone. Joins by the ratios of the meters' four signals (`extensions.long_video.metrics`), and beside them the
middles of segments, where there is no join; drift by the last over the first 15 % of the frames, the judge by the first
and the last window. Beside the strategies stand two controls: `hard`, which only puts the known frames in place, and
`world`, the world's own film. --memory compares the command `render` for two lengths. Prints tables and leaves
results/long.json and long.png, a row each in the table's order.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.long_cost import BASE, STAGES, measured_apart
from bench.long_figures import of_costs, rows
from bench.long_videos import WAYS, chosen, measure
from extensions.long_video.plan import MAX_SEGMENTS
from lavie import Cascade
from lavie.training.media import contact_sheet

RESULTS = Path(__file__).parent / "results"
WIDE = 140  # characters of a line in a file or pipe, where nothing says how many there are
MARKS = {True: " [green]✓[/]", False: " [red]✗[/]", None: ""}


def show(title: str, columns: dict[str, dict]) -> None:
    """A table: a row for each figure, a column for each of these sets of figures."""
    table = Table(title=title)
    table.add_column("")
    table.add_column("asked", justify="right", no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    section = None
    for cells in zip(*(rows(figures) for figures in columns.values()), strict=True):
        path, figure = cells[0]
        if section not in (None, path[0]):
            table.add_section()
        section = path[0]
        table.add_row(" ".join(path), bounds(figure["asked"]), *(cell(figure) for _, figure in cells))
    console = Console()
    if not console.is_terminal:
        console.width = WIDE
    console.print(table)


def bounds(asked: list[float | None] | None) -> str:
    """Limits for a reader: `0.8 … 1.25`, `≤ 1.6`, `≥ 85`."""
    if asked is None:
        return ""
    least, most = asked
    if least is None:
        return f"≤ {most:g}"
    return f"≥ {least:g}" if most is None else f"{least:g} … {most:g}"


def cell(figure: dict) -> str:
    """A value and whether it is what was asked for; – where there was nothing to measure."""
    value = figure["value"]
    text = "–" if value is None else f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return text + MARKS[figure["reached"]]


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench long", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="assets/nano", help="folder of a bundle")
    parser.add_argument("--prompts", type=int, default=20, help="videos of each strategy")
    parser.add_argument("--first", type=int, default=0, help="number of the first prompt")
    parser.add_argument("--segments", type=int, default=8, help="of each video")
    parser.add_argument("--strategies", nargs="+", choices=WAYS, help="[all that the bundle has networks for]")
    parser.add_argument("--steps", type=int, help="denoising steps [as the bundle says]")
    parser.add_argument("--memory", type=int, nargs=2, default=[4, 100], metavar="N", help="segments of two videos")
    parser.add_argument("--memory-steps", type=int, default=4, help="denoising steps of these")
    parser.add_argument("--stages", choices=STAGES, default=BASE, help="of these")
    parser.add_argument("--no-memory", action="store_true", help="leave memory and time out")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the figures")
    asked = parser.parse_args(argv)
    limits = {"prompts": 1, "first": 0, "segments": 2, "steps": 1, "memory_steps": 1}
    for name, least in limits.items():
        value = getattr(asked, name)
        if value is not None and value < least:
            parser.error(f"--{name.replace('_', '-')} is {value}: give {least} or more")
    short, long = asked.memory
    if not 1 <= short < long <= MAX_SEGMENTS:
        parser.error(f"--memory is {short} {long}: give two lengths from 1 to {MAX_SEGMENTS}, the shorter one first")
    if asked.segments > MAX_SEGMENTS:
        parser.error(f"--segments is {asked.segments}: give {MAX_SEGMENTS} or less")
    return asked


def main(argv: list[str] | None = None) -> None:
    asked = parse(argv)
    cascade = Cascade.from_bundle(asked.model)
    ways = chosen(cascade, asked.strategies)
    facts = {"model": cascade.bundle.name}
    facts |= {name: getattr(asked, name) for name in ("prompts", "first", "segments", "steps")}
    facts["cost"] = None if asked.no_memory else cost(asked)
    numbers, found, shown = range(asked.first, asked.first + asked.prompts), {}, []
    for way in ways:
        found[way], row = measure(cascade, way, numbers, asked.segments, asked.steps)
        shown.append(row)
    title = f"{cascade.bundle.name}, {asked.prompts} videos of {asked.segments} segments"
    show(title, {way: result["figures"] for way, result in found.items()})
    asked.results.mkdir(parents=True, exist_ok=True)
    (asked.results / "long.json").write_text(json.dumps({**facts, "strategies": found}, indent=1) + "\n")
    contact_sheet(shown).save(asked.results / "long.png")


def cost(asked: argparse.Namespace) -> dict:
    """What length costs, told and shown. The load says how far its times can be trusted."""
    runs = measured_apart(asked.model, asked.memory, asked.memory_steps, asked.stages)
    figures, how = of_costs(*runs), {"steps": asked.memory_steps, "stages": asked.stages}
    show(
        f"what length costs: {asked.stages}, {asked.memory_steps} steps, {os.cpu_count()} cores", {"measured": figures}
    )
    return {**how, "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1), "runs": runs, "figures": figures}


if __name__ == "__main__":
    main()
