"""How often a bundle makes what it was asked for: prompts of the procedural world, judged from the frames alone.

    python -m bench.quality [--model assets/nano] [--prompts 200] [--unseen 100] [--two 50] [--steps N]
                            [--spinning 50] [--hearts 50] [--compare LABEL=FOLDER …] [--curves RUN …]

Base stage at the bundle's own settings, drawn from all combinations; the prompt's number is its seed, so that every
bundle is asked the same and begins from the same noise. `unseen` are prompts with purple or a heart, which are in no
training clip, `two` such with two subjects, `spinning` and `hearts` such of these. A shape is right where its outline
fits (`any_fit`: by the judge that asks for no fit); wobble is how much outlines change from frame to frame, 0.048 in
true clips. --compare judges other bundles on them as well (ablations). --curves draws
the losses in the progress.jsonl of training folders. Prints a table and leaves results/quality*.json and .png.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from bench.plots import bars, curves
from lavie import Cascade, Finished, Request, Sampling
from lavie.training.judge import Reading, drop_unfit_shapes, matches, read
from lavie.training.media import contact_sheet
from lavie.training.world import Scene, random_scene

RESULTS = Path(__file__).parent / "results"
ALL, UNSEEN, TWO, SPINNING, HEARTS = "all prompts", "purple or heart", "two subjects", "spinning", "hearts"
ANY_FIT = "any fit"  # per cent all right where the nearest shape counts, however badly it fits
ATTRIBUTES = ("colour", "shape", "motion", "background", "all")
NAMED_BY = {"colour": "colour", "shape": "shape", "motion": "motion"}  # attributes of a subject, to be told by value
SHOWN = 2  # clips of each group on the contact sheet


def scene_of(group: str, number: int) -> Scene:
    """The scene of prompt `number`; no size is named, so that every one names the same four attributes."""
    for attempt in itertools.count():
        key = [2024, number] if attempt == 0 else [2024, number, attempt]
        scene = random_scene(np.random.default_rng(key), held_out=True, two=float(group == TWO), sized=0.0)
        if _belongs(scene, group):
            return scene


def _belongs(scene: Scene, group: str) -> bool:
    """Whether a scene that was drawn is one of the group's."""
    subject = scene.subjects[0]
    wanted = {UNSEEN: scene.held_out, SPINNING: subject.motion == "spinning", HEARTS: subject.shape == "heart"}
    return wanted.get(group, True)


def render(cascade: Cascade, scene: Scene, number: int, steps: int | None) -> np.ndarray:
    """The frames F H W 3 that the cascade makes of a scene's caption, with the number as its seed."""
    request = replace(Request(scene.caption, seed=number), base=Sampling(steps=steps))
    return next(e.video.frames for e in cascade.generate(request) if isinstance(e, Finished))


def shares(verdicts: list[dict[str, bool]]) -> dict[str, float]:
    """Attribute → per cent of the verdicts in which it is right."""
    counted = defaultdict(list)
    for verdict in verdicts:
        for attribute, right in verdict.items():
            counted[attribute].append(right)
    return {attribute: round(100 * float(np.mean(rights)), 1) for attribute, rights in counted.items()}


def of_group(readings: list[tuple[Scene, Reading]]) -> dict:
    """Per cent right, all right by the judge that asks for no fit, and the mean wobble (None where nothing has one)."""
    right = shares([matches(scene, drop_unfit_shapes(reading)) for scene, reading in readings])
    any_fit = shares([matches(scene, reading) for scene, reading in readings])["all"]
    wobbles = [reading.wobble for _, reading in readings if reading.wobble is not None]
    return {"right": right, ANY_FIT: any_fit, "wobble": round(float(np.mean(wobbles)), 4) if wobbles else None}


def by_value(judged: list[tuple[Scene, dict[str, bool]]]) -> dict[str, dict[str, float]]:
    """Attribute → each of its values that was asked for → per cent right, of scenes with one subject."""
    counted = defaultdict(lambda: defaultdict(list))
    for scene, verdict in judged:
        asked = {name: getattr(scene.subjects[0], field) for name, field in NAMED_BY.items()}
        for name, value in {**asked, "background": scene.background}.items():
            if name in verdict:
                counted[name][value].append(verdict[name])
    return {
        name: {value: round(100 * float(np.mean(rights)), 1) for value, rights in sorted(values.items())}
        for name, values in counted.items()
    }


def measure(folder: str, groups: dict[str, range], steps: int | None) -> tuple[dict, list[np.ndarray]]:
    """A bundle's figures in every group, and a few of its clips."""
    cascade = Cascade.from_bundle(folder)
    found, clips, of_one = {}, [], []
    for group, numbers in groups.items():
        readings, began = [], time.monotonic()
        for number in numbers:
            made = render(cascade, scene_of(group, number), number, steps)
            readings.append((scene_of(group, number), read(made)))
            clips += [made] if len(readings) <= SHOWN else []
        if not readings:
            continue
        seconds, judged = (
            (time.monotonic() - began) / len(readings),
            [(s, matches(s, drop_unfit_shapes(r))) for s, r in readings],
        )
        figures = of_group(readings)
        told = ", ".join(f"{attribute} {share:.0f} %" for attribute, share in figures["right"].items())
        print(f"{folder}: {group}, {len(judged)} prompts, {seconds:.1f} s each: {told}", file=sys.stderr, flush=True)
        found[group] = {"prompts": len(judged), "seconds_a_clip": round(seconds, 2), **figures}
        of_one += judged if group == ALL else []
    return {"bundle": cascade.bundle.name, "groups": found, "by_value": by_value(of_one)}, clips


def show(results: dict[str, dict]) -> None:
    table = Table(title="per cent as asked", padding=(0, 0, 0, 1))
    for column in ("", "", "prompts", *ATTRIBUTES, ANY_FIT, "wobble"):
        table.add_column(column, justify="right")
    for label, result in results.items():
        for group, figures in result["groups"].items():
            right = (f"{figures['right'].get(name, float('nan')):.0f}" for name in ATTRIBUTES)
            wobble = "" if figures["wobble"] is None else f"{figures['wobble']:.3f}"
            table.add_row(label, group, str(figures["prompts"]), *right, f"{figures[ANY_FIT]:.0f}", wobble)
    Console().print(table)


def draw(results: dict[str, dict], clips: list[np.ndarray], runs: list[Path]) -> None:
    """The pictures beside the figures: a contact sheet, right by attribute and by value, and losses."""
    if clips:
        contact_sheet(clips).save(RESULTS / "quality.png")
    groups = {}
    for label, result in results.items():
        for group, figures in result["groups"].items():
            title = group if len(results) == 1 else f"{label}: {group}"
            groups[title] = {name: figures["right"][name] for name in ATTRIBUTES if name in figures["right"]}
    if len(results) == 1:
        groups |= next(iter(results.values()))["by_value"]
    bars(groups, "per cent right").save(RESULTS / "quality_accuracy.png")
    if runs:
        curves({run.name: losses(run) for run in runs}, "training loss").save(RESULTS / "quality_curves.png")


def losses(run: Path) -> list[tuple[int, float]]:
    """Step and loss, as a run's progress.jsonl has them; of steps that were done twice, the last."""
    found = {}
    for line in (run / "progress.jsonl").read_text().splitlines():
        entry = json.loads(line)
        found[entry["step"]] = entry["loss"]
    return sorted(found.items())


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench quality", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="assets/nano", help="folder of a bundle")
    parser.add_argument("--prompts", type=int, default=200, help="drawn from all combinations")
    parser.add_argument("--unseen", type=int, default=100, help="with purple or a heart")
    parser.add_argument("--two", type=int, default=50, help="with two subjects")
    parser.add_argument("--spinning", type=int, default=50, help="that spin")
    parser.add_argument("--hearts", type=int, default=50, help="that are hearts")
    parser.add_argument("--first", type=int, default=0, help="number of the first prompt of each kind")
    parser.add_argument("--steps", type=int, help="denoising steps [as the bundle says]")
    parser.add_argument("--compare", action="append", default=[], metavar="LABEL=FOLDER", help="another bundle")
    parser.add_argument("--curves", type=Path, nargs="+", default=[], metavar="RUN", help="folders with progress.jsonl")
    asked = parser.parse_args(argv)
    if wrong := [text for text in asked.compare if "=" not in text]:
        parser.error(f"--compare takes LABEL=FOLDER, not {wrong[0]!r}")
    counts = (asked.prompts, asked.unseen, asked.two, asked.spinning, asked.hearts)
    if min(counts) < 0 or not any(counts):
        parser.error(f"prompts of each kind are {counts}: ask for at least one, of one kind")
    return asked


def main(argv: list[str] | None = None) -> None:
    asked = parse(argv)
    counts = {ALL: asked.prompts, UNSEEN: asked.unseen, TWO: asked.two}
    counts |= {SPINNING: asked.spinning, HEARTS: asked.hearts}
    groups = {group: range(asked.first, asked.first + count) for group, count in counts.items()}
    folders = {"model": asked.model, **dict(text.split("=", 1) for text in asked.compare)}
    results, clips = {}, []
    for label, folder in folders.items():
        results[label], shown = measure(folder, groups, asked.steps)
        clips = clips or shown
    show(results)
    RESULTS.mkdir(exist_ok=True)
    facts = {"first": asked.first, "steps": asked.steps, "models": results}
    (RESULTS / "quality.json").write_text(json.dumps(facts, indent=1) + "\n")
    draw(results, clips, asked.curves)


if __name__ == "__main__":
    main()
