"""How often a bundle makes what it was asked for: prompts of the procedural world, judged from the frames alone.

    python -m bench.quality [--model assets/nano] [--prompts 48] [--first 0]

Base stage at the bundle's own settings, one subject, drawn from all combinations (purple and hearts too); the prompt's
number is its seed. Prints the share of each attribute that the judge reads as asked, and keeps a contact sheet.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from lavie import Cascade, Finished, Request
from lavie.training.judge import matches, read
from lavie.training.world import Scene, random_scene

RESULTS = Path(__file__).parent / "results"
SHEET_ROWS, SHEET_COLUMNS = 12, 8


def scene_of(number: int) -> Scene:
    """The scene of prompt `number`; no size is named, so that every one names the same four attributes."""
    return random_scene(np.random.default_rng([2024, number]), held_out=True, sized=0.0)


def render(cascade: Cascade, number: int) -> np.ndarray:
    """The frames F H W 3 that the cascade makes of prompt `number`."""
    request = Request(scene_of(number).caption, seed=number)
    return next(e.video.frames for e in cascade.generate(request) if isinstance(e, Finished))


def shares(verdicts: list[dict[str, bool]]) -> dict[str, float]:
    """Attribute → per cent of the verdicts in which it is right."""
    counted = defaultdict(list)
    for verdict in verdicts:
        for attribute, right in verdict.items():
            counted[attribute].append(right)
    return {attribute: round(100 * float(np.mean(rights)), 1) for attribute, rights in counted.items()}


def contact_sheet(clips: list[np.ndarray]) -> Image.Image:
    """One clip a row, a few of its frames from left to right."""
    rows = []
    for clip in clips[:SHEET_ROWS]:
        chosen = np.linspace(0, len(clip) - 1, SHEET_COLUMNS).round().astype(int)
        rows.append(np.concatenate(list(clip[chosen]), axis=1))
    return Image.fromarray(np.concatenate(rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="assets/nano")
    parser.add_argument("--prompts", type=int, default=48)
    parser.add_argument("--first", type=int, default=0)
    asked = parser.parse_args()
    cascade = Cascade.from_bundle(asked.model)
    clips, verdicts = [], {"all prompts": [], "purple or heart": []}
    for number in range(asked.first, asked.first + asked.prompts):
        clips.append(render(cascade, number))
        scene = scene_of(number)
        verdict = matches(scene, read(clips[-1]))
        verdicts["all prompts"].append(verdict)
        if scene.held_out:
            verdicts["purple or heart"].append(verdict)
    table = Table(title=f"{cascade.bundle.name}: per cent as asked")
    attributes = list(shares(verdicts["all prompts"]))
    for column in ("", "prompts", *attributes):
        table.add_column(column, justify="right")
    found = {name: shares(judged) for name, judged in verdicts.items() if judged}
    for name, row in found.items():
        table.add_row(name, str(len(verdicts[name])), *(f"{row.get(a, 0):.0f}" for a in attributes))
    Console().print(table)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "quality.json").write_text(json.dumps({"prompts": asked.prompts, "shares": found}, indent=1) + "\n")
    contact_sheet(clips).save(RESULTS / "quality.png")


if __name__ == "__main__":
    main()
