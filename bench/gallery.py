"""What looking into a large gallery costs: every filter, search, sort and page on many clips, and opening the studio's
database on them.

    python -m bench.gallery [--clips 100000] [--jobs 10000] [--rounds 40]

Exits with 1 if the 95th percentile of anything is above 50 ms, or opening takes 2 s more than on an empty folder.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from app.gallery import Gallery, Query
from app.gallery.gallery import insert, row_of
from app.gallery.lineage import compare_clips, find_children, find_parents
from app.gallery.search import count_values, find_clips
from app.gallery.sidecar import Sidecar
from app.recipes.recipe import Job, Recipe
from app.storage.database import Database
from lavie.request import Interpolation, Request, SuperResolution

RESULTS = Path(__file__).parent / "results" / "gallery.json"
MOST_MS, MOST_MORE_SECONDS = 50, 2
START = 1_700_000_000_000_000  # microseconds; the first clip's age
COLOURS = ["red", "orange", "yellow", "green", "blue", "purple", "pink", "white"]
SHAPES = ["circle", "square", "triangle", "star", "heart"]
MOTIONS = ["moving right", "moving left", "moving up", "moving down", "bouncing", "growing", "shrinking", "spinning"]
BACKGROUNDS = ["black", "gray", "navy", "brown", "teal"]
TAGS = ["keep", "for the film", "test", "日本", "★", *(f"series {number}" for number in range(200))]
PROVENANCE = {"weights": {"base": "ab" * 32, "vae": "cd" * 32}, "device": "cpu", "versions": {"torch": "2.13"}}
OPENING = """
import sys, time
from app.storage.database import Database
from app.gallery import Gallery, Query
began = time.perf_counter()
page = Gallery(Database(sys.argv[1]), sys.argv[1]).page(Query())
print(time.perf_counter() - began)
"""


def words(draw: random.Random) -> list[str]:
    """A vocabulary of invented words, for prompts unlike each other."""
    return ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(4, 9))) for _ in range(20_000)]


def prompts(draw: random.Random) -> Iterator[str]:
    """Six of ten are Nano's captions; the others are long and unlike each other. Each comes with a few seeds."""
    vocabulary = words(draw)
    while True:
        prompt = (
            f"a {draw.choice(['', 'big ', 'small '])}{draw.choice(COLOURS)} {draw.choice(SHAPES)} "
            f"{draw.choice(MOTIONS)} on a {draw.choice(BACKGROUNDS)} background"
            if draw.random() < 0.6
            else " ".join(draw.choices(vocabulary, k=draw.randint(8, 30)))
        )
        yield from [prompt] * draw.choice([1, 1, 2, 4])


def clip_rows(count: int, draw: random.Random) -> Iterator[dict[str, Any]]:
    """Rows as the gallery itself makes them, of files that do not exist."""
    age = START
    for number, prompt in zip(range(count), prompts(draw), strict=False):
        age += draw.randint(1_000, 600_000_000)
        stages = draw.choice([(None, None), (Interpolation(), None), (Interpolation(), SuperResolution())])
        request = Request(prompt, "blur", draw.getrandbits(53), 96, 64, 16, 8.0)
        request = replace(request, interpolation=stages[0], super_resolution=stages[1])
        model = draw.choices(["nano", "official", "models/mine"], [7, 2, 1])[0]
        name = hashlib.sha256(str(number).encode()).hexdigest()
        scale = 4 if stages[1] else 1
        sidecar = Sidecar(
            id=f"clip-{number:06d}",
            file=f"clips/clip-{number:06d}.mp4",
            file_hash=name,
            recipe=Recipe(request, model, PROVENANCE, frame_hash=name),
            width=96 * scale,
            height=64 * scale,
            frames=61 if stages[0] else 16,
            fps=32.0 if stages[0] else 8.0,
            bytes=200_000,
            seconds=4.2,
            frame_hash=name,
            created="2026-01-01",
            parent=f"clip-{draw.randrange(number):06d}" if number and draw.random() < 0.2 else None,
            tags=tuple(draw.sample(TAGS, draw.choice([0, 0, 1, 3]))),
            rating=draw.choices(range(6), [70, 5, 5, 8, 7, 5])[0],
            favourite=draw.random() < 0.05,
            notes="look at the end again" if draw.random() < 0.02 else "",
            trashed="2026-01-01" if draw.random() < 0.03 else None,
            adapters={f"{draw.randrange(20):064x}": 1.0} if draw.random() < 0.1 else {},
        )
        yield row_of(sidecar, age, "2026-01-01" if draw.random() < 0.01 else None)


def fill(folder: Path, clips: int, jobs: int) -> None:
    """A data folder's database with plausible rows, the same each time."""
    draw = random.Random(0)
    job = Job(Request("a red star"), "nano").to_json()
    database = Database(folder)
    with database.write() as connection:
        insert(connection, clip_rows(clips, draw))
        for number in range(jobs):
            state = "queued" if number < 20 else draw.choice(["done", "failed", "cancelled"])
            connection.execute(
                "INSERT INTO jobs (id, kind, state, position, job, created) VALUES (?, 'render', ?, ?, ?, ?)",
                [f"job-{number:06d}", state, number, job, f"2026-01-01T00:00:00.{number:06d}"],
            )
    database.close()


def rare_word(gallery: Gallery) -> str:
    """A word of one long prompt."""
    clips = find_clips(gallery, Query(), limit=200).clips
    return max((clip.prompt for clip in clips), key=len).split()[0]


def queries(gallery: Gallery) -> dict[str, Query]:
    """Everything a person can ask for, and the worst of it."""
    clip = find_clips(gallery, Query(sort="oldest", min_rating=1, favourite=True), limit=1).clips[0]
    rare = rare_word(gallery)
    filters = {
        "all": {},
        "model, common": {"model": "nano"},
        "model, none": {"model": "unknown"},
        "adapter": {"adapter": f"{3:064x}"},
        "stages": {"stages": "base+interpolation"},
        "seed": {"seed": clip.seed},
        "size": {"width": 384, "height": 256},
        "dates": {"created_from": "2023-12-01", "created_to": "2023-12-31"},
        "rating": {"min_rating": 4},
        "favourite": {"favourite": True},
        "tag": {"tags": ("keep",)},
        "two tags": {"tags": ("keep", "★")},
        "parent": {"parent": clip.id},
        "trash": {"trashed": True},
        "missing": {"missing": True},
        "not missing": {"missing": False},
        "many at once": {"model": "nano", "stages": "base", "min_rating": 3, "missing": False, "tags": ("test",)},
        "rare word": {"text": rare},
        "common word": {"text": "background"},
        "beginning of a word": {"text": "s*"},
        "two words": {"text": "red star"},
        "phrase": {"text": '"moving left on a navy"'},
        "without a word": {"text": "star -red"},
        "Chinese": {"text": "日本"},
        "emoji": {"text": "★"},
        "10,000 characters": {"text": ("background star red " * 500)[:10_000]},
        "words and filters": {"text": "background", "model": "nano", "min_rating": 3, "tags": ("keep",)},
        "words, filters, none": {"text": "background", "model": "unknown"},
    }
    found = {name: Query(**values) for name, values in filters.items()}
    for sort in ("oldest", "rating", "longest"):
        found[f"sort: {sort}"] = Query(sort=sort)
        found[f"sort: {sort}, common word"] = Query(sort=sort, text="background")
    for text in (rare, "red star", "background", "s*"):
        found[f"sort: relevance, {'rare word' if text == rare else text}"] = Query(sort="relevance", text=text)
    for name in ("all", "model, common", "rating", "two words", "common word", "many at once"):
        found[f"stacked: {name}"] = replace(found[name], stacked=True)
    found["stacked: common word, rating"] = replace(found["common word"], stacked=True, min_rating=4)
    for sort in ("oldest", "rating", "longest"):
        found[f"stacked: {sort} sort"] = Query(stacked=True, sort=sort)
        found[f"stacked: {sort} sort, common word"] = Query(stacked=True, sort=sort, text="background")
    found["stacked: relevance, red star"] = Query(stacked=True, sort="relevance", text="red star")
    return found


def deep(gallery: Gallery, query: Query) -> str:
    """Where the page starts that is half-way down."""
    after, left = None, find_clips(gallery, query, limit=1).total // 2
    while left > 0:
        page = find_clips(gallery, query, after, limit=min(1000, left))
        after, left = page.next, left - len(page.clips)
        if after is None:
            break
    return after


def cases(gallery: Gallery) -> dict[str, Callable[[], Any]]:
    """Name → what to time."""
    asked = queries(gallery)
    found = {f"page: {name}": lambda query=query: find_clips(gallery, query) for name, query in asked.items()}
    for name in ("all", "common word", "sort: rating", "stacked: all", "stacked: common word"):
        after = deep(gallery, asked[name])
        found[f"deep page: {name}"] = lambda query=asked[name], after=after: find_clips(gallery, query, after)
    one = find_clips(gallery, Query(), limit=1).clips[0].id
    other = find_clips(gallery, Query(sort="oldest"), limit=1).clips[0].id
    found |= {
        "tags with counts": lambda: count_values(gallery, "tag"),
        "models with counts": lambda: count_values(gallery, "model"),
        "stages with counts": lambda: count_values(gallery, "stages"),
        "adapters with counts": lambda: count_values(gallery, "adapter"),
        "one clip": lambda: gallery.get(one),
        "parents": lambda: find_parents(gallery, one),
        "children": lambda: find_children(gallery, other),
        "difference": lambda: compare_clips(gallery, one, other),
    }
    return found


def measure(call: Callable[[], Any], rounds: int) -> dict[str, float]:
    """Milliseconds: the middle one and the 95th of a hundred. The first call is not counted."""
    call()
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        call()
        times.append((time.perf_counter() - began) * 1e3)
    times.sort()
    return {"p50_ms": round(times[len(times) // 2], 2), "p95_ms": round(times[int(len(times) * 0.95)], 2)}


def opening_seconds(folder: Path) -> float:
    """In a process of its own, from the first connection to the first page; the middle one of five."""
    command = [sys.executable, "-c", OPENING, str(folder)]
    root = Path(__file__).parent.parent
    runs = [subprocess.run(command, capture_output=True, text=True, check=True, cwd=root) for _ in range(5)]
    return round(sorted(float(done.stdout) for done in runs)[2], 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=100_000)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=40)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        full, empty = Path(temporary, "full"), Path(temporary, "empty")
        fill(full, asked.clips, asked.jobs)
        Database(empty).close()
        gallery = Gallery(Database(full), full)
        figures = {name: measure(call, asked.rounds) for name, call in cases(gallery).items()}
        opening = {"empty_seconds": opening_seconds(empty), "full_seconds": opening_seconds(full)}
        size = round((full / "studio.db").stat().st_size / 2**20)
    table = Table(title=f"{asked.clips:,} clips, {asked.jobs:,} jobs, {size} MiB, {os.cpu_count()} cores")
    for column, side in (("", "left"), ("p50 ms", "right"), ("p95 ms", "right")):
        table.add_column(column, justify=side)
    for name, times in figures.items():
        table.add_row(name, f"{times['p50_ms']:.1f}", f"{times['p95_ms']:.1f}")
    table.add_row("opening, empty → full", "", f"{opening['empty_seconds']:.2f} s → {opening['full_seconds']:.2f} s")
    Console().print(table)
    result = {"clips": asked.clips, "jobs": asked.jobs, "database_mib": size, **opening, "figures": figures}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"cores": os.cpu_count(), **result}, indent=1) + "\n")
    slow = [name for name, times in figures.items() if times["p95_ms"] > MOST_MS]
    more = opening["full_seconds"] - opening["empty_seconds"]
    if slow or more > MOST_MORE_SECONDS:
        raise SystemExit(f"too slow: {', '.join(slow) or 'opening'}")


if __name__ == "__main__":
    main()
