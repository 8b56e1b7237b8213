"""The page's words: every language says everything, and everything that is said is asked for."""

from __future__ import annotations

import ast
import json
import re
import string
from functools import cache
from itertools import product

import pytest

from app.config import ROOT
from app.gallery import SORTS
from app.models.jobs import CONVERT, DOWNLOAD
from app.recipes.initial_frames import FITS
from app.recipes.job_row import CANDIDATES, CLOSED, DONE, OPEN, REGENERATE, TRAIN
from app.training.draft import NUMBERS, WHOLE
from app.ui.i18n import FALLBACK, FOLDER, Languages
from extensions.long_video.metrics import LIMITS, SIGNALS
from extensions.long_video.plan import STRATEGIES
from extensions.lora.training.settings import NAMES

FILES = sorted(FOLDER.glob("*.json"))
SAID = json.loads((FOLDER / f"{FALLBACK}.json").read_text(encoding="utf-8"))
# Words whose key is put together: what stands in braces → what it can be. `None`: whatever the sources name.
FAMILIES = {
    "tab_{name}": None,
    "act_{act}": None,
    "state_{row.state}": [state for state in (*OPEN, *CLOSED) if state != DONE],
    "preset_{what}": ["save", "delete"],
    "theme_{name}": ["light", "dark"],
    "disk_{name}": ["clips", "trash", "work"],
    "panel_{name}": ["models", "model", "machine", "data", "looks", "keys", "versions"],
    "gallery_{name}": None,
    "gallery_{name}_hint": None,
    "gallery_sort_{sort}": list(SORTS),
    "kind_{row.kind}": [REGENERATE, CANDIDATES, TRAIN],
    "{name}_hint": ["smooth", "upscale"],
    "long_{act}": ("lock", "insert_above", "insert_below", "spread", "remove"),
    "long_{name}": ("anchored", "guarded"),
    "long_{name}_hint": ("anchored", "guarded"),
    "long_state_{state}": ["new", "wait", "now", "done"],
    "long_script_{how}": ["replace", "append", "new"],
    "long_fit_{fit}": list(FITS),
    "signal_{name}": list(SIGNALS),
    "measure_{drift.measure}": ["luma", *LIMITS],
    "strategy_{name}": list(STRATEGIES),
    "strategy_{plan.strategy}_does": list(STRATEGIES),
    "adapter_{name}": ["title", "author", "licence", "description"],
    "train_{name}": [
        *NAMES,
        "gradient_checkpointing",
        *(name for name in (*WHOLE, *NUMBERS) if name not in ("steps", "seed")),
    ],
    "train_{name}_hint": ["gradient_checkpointing"],
    "train_{draft.preset}_does": list(NAMES),
    "train_{training.preset}": list(NAMES),
    "train_{row.training.preset}": list(NAMES),
    "train_word_{preparation.word}": ["ordinary", "own", "rare"],
    "weights_{standing.work}": [DOWNLOAD, CONVERT],
}


@cache
def sources() -> dict[str, ast.Module]:
    files = [*sorted((ROOT / "app" / "ui").rglob("*.py"))]
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in files}


def texts() -> set[str]:
    """Every text that stands in the sources of the page, apart from what it says of itself."""
    nodes = (node for tree in sources().values() for node in ast.walk(tree))
    return {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def said() -> tuple[set[str], set[str]]:
    """The keys that are asked for as they are, and the patterns of those that are put together."""
    plain, patterns = set(), set()
    for tree in sources().values():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            named = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if named != "say":
                continue
            for part in ast.walk(node.args[0]):
                if isinstance(part, ast.JoinedStr):
                    patterns.add(ast.unparse(part)[2:-1])
            if isinstance(node.args[0], ast.Constant):
                plain.add(node.args[0].value)
    return plain, patterns


def placeholders(text: str) -> list[str]:
    return sorted(name for _, name, _, _ in string.Formatter().parse(text) if name is not None)


def test_german_is_there():
    assert {path.stem for path in FILES} >= {"en", "de"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_language_says_everything(path):
    own = json.loads(path.read_text(encoding="utf-8"))
    assert sorted(SAID.keys() - own.keys()) == [] and sorted(own.keys() - SAID.keys()) == []
    assert all(isinstance(text, str) and text.strip() == text and text for text in own.values())
    wrong = [key for key in SAID if placeholders(SAID[key]) != placeholders(own[key])]
    assert wrong == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_key_stands_twice(path):
    pairs = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=list)
    names = [name for name, _ in pairs]
    assert len(names) == len(set(names))


def test_german_is_not_english():
    german = json.loads((FOLDER / "de.json").read_text(encoding="utf-8"))
    same = {key for key in SAID if SAID[key] == german[key] and len(SAID[key]) > 12 and "{" not in SAID[key]}
    assert same == set()


def test_every_word_that_is_asked_for_is_there():
    plain, patterns = said()
    assert sorted(plain - SAID.keys()) == []
    for pattern in patterns & FAMILIES.keys():
        for value in FAMILIES[pattern] or ():
            assert re.sub(r"\{.*\}", value, pattern) in SAID, pattern
    unlisted = sorted(patterns - FAMILIES.keys())
    assert unlisted == [], "list them in FAMILIES, with what they can be"


def test_every_word_is_asked_for():
    """A key stands in the sources as a text, or is put together from one of a family's values."""
    known = texts()
    made = {re.sub(r"\{.*\}", str(value), name) for name, values in FAMILIES.items() for value in values or ()}
    open_ended = [name for name, values in FAMILIES.items() if values is None]
    ends = [re.split(r"\{.*\}", name) for name in open_ended]
    made |= {before + text + behind for (before, behind), text in product(ends, known)}
    assert sorted(SAID.keys() - known - made) == []


@pytest.mark.parametrize(
    ("asked", "language"),
    [
        (None, "en"),
        ("", "en"),
        ("de", "de"),
        ("DE", "de"),
        ("de-CH", "de"),
        ("de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7", "de"),
        ("en-US,en;q=0.9,de;q=0.8", "en"),
        ("en;q=0.5, de;q=0.9", "de"),
        ("en ; q=0.5 , de ; q=0.9", "de"),
        ("fr,de;q=0.5", "de"),
        ("fr-FR,fr;q=0.9", "en"),
        ("fr, *;q=0.5", "en"),
        ("de;q=0", "en"),
        ("de;q=0,en;q=0.1", "en"),
        ("de;q=nan,en;q=0.1", "en"),
        ("de;q=1e400,en;q=0.1", "en"),
        ("de;q=,en;q=0.1", "de"),
        (";q=1,,;;,-,de;q=0.1", "de"),
        ("de" * 10_000, "en"),
        ("x," * 10_000 + "de", "de"),
        ("../../de", "en"),
    ],
)
def test_a_browser_is_answered_in_its_language(asked, language):
    assert Languages().words(asked).language == language


@pytest.mark.parametrize(
    ("cookie", "language", "theme"),
    [
        ("", "en", None),
        ("lavie-language=de", "de", None),
        ("a=b; lavie-theme=dark; lavie-language=de; c=d", "de", "dark"),
        ("lavie-language=xx; lavie-theme=light", "en", "light"),
        ("lavie-language=", "en", None),
        ("not-lavie-language=de", "en", None),
        ('lavie-language=de"><script>; lavie-theme=../x', "de", None),
    ],
)
def test_what_was_chosen_on_the_page_comes_first(cookie, language, theme):
    languages, headers = Languages(), {"cookie": cookie, "accept-language": "en-US,en;q=0.9"}
    assert languages.of(headers).language == language
    assert languages.cookies(headers).get("theme") == theme
    assert languages.of({}).language == "en"


def test_a_language_is_a_file(tmp_path):
    (tmp_path / "en.json").write_text('{"hello": "Hello {name}", "bye": "Bye"}')
    (tmp_path / "eo.json").write_text('{"hello": "Saluton {name}"}')
    languages = Languages(tmp_path)
    say = languages.words("eo")
    assert list(languages) == ["en", "eo"]
    assert (say("hello", name="{x}"), say("bye")) == ("Saluton {x}", "Bye")
    with pytest.raises(KeyError):
        say("unheard_of")
