"""What an adapter learns and what it leaves alone: a subject and a motion that Nano has never seen, judged from frames.

    python -m bench.lora [--model assets/nano] [--videos 50] [--ordinary 50] [--steps N] [--only subject|motion]
                         [--adapter FILE] [--work runs/bench-lora] [--threads 2]

Subject: eight pictures of a cyan plus under a reserved word; then videos of the word with the world's motions and
backgrounds. How many show the plus, how many of those move as told; and how much of what the bundle did right on
ordinary prompts is still right with the adapter on. Motion: four clips of a figure of eight; then subjects that were in
none of them, and how many of these are right by themselves, moving as the bundle knows. --adapter judges a file that is
there instead of training one (with --only). Prints a table and leaves results/lora.json, in which what was not asked
for stays, and a sheet of clips for each adapter.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table

from app.cli.train import threads_for
from app.media import UPLOAD_LIMITS, frames_of, write_mp4
from bench.lora_world import (
    MOTIONS,
    TRIGGER,
    eight_clips,
    makes_eight,
    moves,
    new_subjects,
    plus_stills,
    shows_plus,
    subject_is,
)
from bench.quality import ALL, scene_of, shares
from extensions.lora.embeddings import extend_vocabulary, spell
from extensions.lora.files.read import read_deltas, targets_of
from extensions.lora.hooks import hooks_of, remove_adapters
from extensions.lora.training.session import LoraSession
from extensions.lora.training.settings import MOTION, SUBJECT, Settings
from lavie import Cascade, Finished, Request, Sampling
from lavie.bundle import BASE
from lavie.manifest import TEXT_ENCODER
from lavie.training.judge import matches, read
from lavie.training.loop import Progress
from lavie.training.media import contact_sheet
from lavie.training.world import BACKGROUNDS

RESULTS = Path(__file__).parent / "results"
STILLS, CLIPS = 8, 4
SHOWN = 6  # clips of each kind on the contact sheet
DRAWN = 7  # seed of what the adapters are taught


def train(name: str, asked: argparse.Namespace) -> tuple[Path, float]:
    """The adapter's file and the seconds that it took, from media that are drawn here."""
    folder = asked.work / name
    images = _media(name, folder / "media", Cascade.from_bundle(asked.model).bundle)
    model, output, work = Path(asked.model), folder / f"{name}.safetensors", folder / "run"
    settings = Settings((images,), TRIGGER, name, model, output, work, steps=asked.steps, samples_every=0, resume=True)
    began = time.monotonic()
    with threads_for(asked.threads):
        for event in LoraSession(settings, lambda path: frames_of(path, UPLOAD_LIMITS)).run():
            if isinstance(event, Progress):
                left = f"{event.eta_seconds:.0f} s left"
                print(f"{name} {event.step}/{event.steps}  loss {event.loss:.4f}  {left}", file=sys.stderr, flush=True)
    return output, time.monotonic() - began


def _media(name: str, folder: Path, bundle) -> Path:
    """The pictures or clips that an adapter is taught, with their captions beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(DRAWN)
    size = (bundle.height, bundle.width)
    if name == SUBJECT:
        made = plus_stills(STILLS, *size, rng)
    else:
        made = eight_clips(new_subjects(CLIPS, rng), bundle.frames, *size, rng)
    for number, (frames, caption) in enumerate(made):
        (folder / f"{number}.txt").write_text(caption)
        if name == SUBJECT:
            Image.fromarray(frames).save(folder / f"{number}.png")
        elif not (folder / f"{number}.mp4").exists():
            write_mp4(folder / f"{number}.mp4", frames, bundle.fps, "")
    return folder


@contextmanager
def adapted(cascade: Cascade, file: Path) -> Iterator[str]:
    """The cascade with an adapter on its base network; how its trigger is spelled in prompts."""
    with cascade.residency.on_device(BASE) as network, cascade.residency.on_device(TEXT_ENCODER) as text:
        found = read_deltas(file, targets_of(network, text))
        hooks_of(network).hold("bench", found.unet)
        with extend_vocabulary(cascade.bundle.text_encoder(BASE), text, found.words):
            yield spell(TRIGGER, found.words)
        remove_adapters(network)


def render(cascade: Cascade, prompt: str, seed: int) -> np.ndarray:
    """The frames F H W 3 of the base stage at the bundle's own settings."""
    request = replace(Request(prompt, seed=seed), base=Sampling())
    return next(event.video.frames for event in cascade.generate(request) if isinstance(event, Finished))


def ordinary(cascade: Cascade, count: int) -> list[dict[str, bool]]:
    """The verdicts on ordinary prompts, the same every time."""
    scenes = [scene_of(ALL, number) for number in range(count)]
    return [matches(scene, read(render(cascade, scene.caption, n))) for n, scene in enumerate(scenes)]


def judge_subject(cascade: Cascade, word: str, count: int) -> tuple[dict, list[np.ndarray]]:
    """Of videos of the trigger: those that show the plus, those of them that move as told."""
    backgrounds, clips, seen, moved = list(BACKGROUNDS), [], [], []
    for number, motion in enumerate(known_motions(count)):
        background = backgrounds[number % len(backgrounds)]
        clips.append(render(cascade, f"a {word} {motion} on a {background} background", number))
        seen.append(shows_plus(clips[-1]))
        moved.append(moves(clips[-1], motion))
    of_those = [right for shown, right in zip(seen, moved, strict=True) if shown]
    return {"videos": count, "shown": _share(seen), "move_as_told": _share(of_those), "move": _share(moved)}, clips


def known_motions(count: int) -> list[str]:
    """The world's motions in turn."""
    return [MOTIONS[number % len(MOTIONS)] for number in range(count)]


def judge_motion(cascade: Cascade, word: str, count: int) -> tuple[dict, list[np.ndarray]]:
    """Of videos of new subjects with the trigger: those that go along a figure of eight, and are what they shall be."""
    clips, right = new_subject_clips(cascade, [word] * count)
    made = [makes_eight(clip) for clip in clips]
    return {"videos": count, "make_eight": _share(made), "subject_right": _share(right)}, clips


def new_subject_clips(cascade: Cascade, motions: list[str]) -> tuple[list[np.ndarray], list[bool]]:
    """Clips of subjects that no adapter was taught, always the same ones, and which show what was asked for."""
    taught = new_subjects(CLIPS, np.random.default_rng(DRAWN))
    subjects, backgrounds = new_subjects(len(motions), np.random.default_rng(1), taught), list(BACKGROUNDS)
    clips, right = [], []
    for number, (subject, motion) in enumerate(zip(subjects, motions, strict=True)):
        background = backgrounds[number % len(backgrounds)]
        clips.append(render(cascade, f"{subject} {motion} on a {background} background", number))
        right.append(subject_is(clips[-1], subject))
    return clips, right


def _share(verdicts: list[bool]) -> float | None:
    """Per cent; None where there is nothing to judge."""
    return round(100 * float(np.mean(verdicts)), 1) if verdicts else None


def measure(name: str, asked: argparse.Namespace, plain: dict[str, float]) -> tuple[dict, list[np.ndarray]]:
    """One adapter's figures, and its clips. plain: attribute → per cent on ordinary prompts without any."""
    file, seconds = (asked.adapter, None) if asked.adapter else train(name, asked)
    cascade = Cascade.from_bundle(asked.model)
    with adapted(cascade, file) as word:
        found, clips = (judge_subject if name == SUBJECT else judge_motion)(cascade, word, asked.videos)
        kept = shares(ordinary(cascade, asked.ordinary)) if asked.ordinary else {}
    if name == MOTION:
        found["subject_right_off"] = _share(new_subject_clips(cascade, known_motions(asked.videos))[1])
    ratio = {each: round(100 * kept[each] / plain[each], 1) for each in kept if plain.get(each)}
    found |= {"ordinary_on": kept, "ordinary_off": plain, "ordinary_kept": ratio}
    return found | {"training_seconds": seconds and round(seconds), "steps": asked.steps}, clips


def show(results: dict[str, dict]) -> None:
    table = Table(title="per cent")
    for column in ("", "of", *("figure", "")):
        table.add_column(column, justify="right")
    for name, found in results.items():
        for figure, value in found.items():
            told = ", ".join(f"{k} {v:.0f}" for k, v in value.items()) if isinstance(value, dict) else str(value)
            table.add_row(name, str(found["videos"]), figure, told)
    Console().print(table)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench lora", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="assets/nano", help="folder of a bundle")
    parser.add_argument("--videos", type=int, default=50, help="of the trigger, for each adapter")
    parser.add_argument("--ordinary", type=int, default=50, help="ordinary prompts")
    parser.add_argument("--steps", type=int, help="of training [as the presets say]")
    parser.add_argument("--only", choices=(SUBJECT, MOTION), help="one adapter")
    parser.add_argument("--adapter", type=Path, help="a file that is trained already")
    parser.add_argument("--work", type=Path, default=Path("runs/bench-lora"), help="folder of the trainings")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the figures")
    parser.add_argument("--threads", type=int, default=2, help="of the trainings")
    asked = parser.parse_args(argv)
    if asked.videos < 1 or asked.ordinary < 0:
        parser.error(f"videos is {asked.videos}, ordinary is {asked.ordinary}: give 1 or more, and 0 or more")
    if asked.adapter and not asked.only:
        parser.error(f"what is {asked.adapter}: give --only subject or --only motion")
    return asked


def main(argv: list[str] | None = None) -> None:
    asked = parse(argv)
    torch.set_num_threads(1)  # clips are judged that are the same everywhere
    plain = shares(ordinary(Cascade.from_bundle(asked.model), asked.ordinary)) if asked.ordinary else {}
    asked.results.mkdir(parents=True, exist_ok=True)
    figures = asked.results / "lora.json"
    results = json.loads(figures.read_text()) if asked.only and figures.exists() else {}
    for name in (asked.only,) if asked.only else (SUBJECT, MOTION):
        results[name], clips = measure(name, asked, plain)
        figures.write_text(json.dumps(results, indent=1) + "\n")
        contact_sheet(clips[:SHOWN]).save(asked.results / f"lora_{name}.png")
    show(results)


if __name__ == "__main__":
    main()
