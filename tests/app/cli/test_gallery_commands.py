"""The gallery's commands from outside: what they print where, how they end, and that they need no studio."""

import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from app.cli.main import cli
from app.config import ROOT
from tests.app.gallery.conftest import Shelf


@pytest.fixture
def shelf(tmp_path):
    shelf = Shelf(tmp_path / "data")
    shelf.add("a", "a red star", seed=1)
    shelf.add("b", "a blue [bold]star[/bold] 🌟 مرحبا", seed=2, parent="a")
    shelf.add("c", "a red star", seed=3)
    yield shelf
    shelf.database.close()


@pytest.fixture
def run(shelf):
    """Runs `gallery …` on the shelf; what it printed as JSON on the last line."""

    def run(*arguments, code=0):
        command = ["gallery", *map(str, arguments), "--data", str(shelf.folder), "--json"]
        done = CliRunner().invoke(cli, command)
        assert done.exit_code == code, done.output
        return json.loads(done.stdout.splitlines()[-1]) if code == 0 else done.stderr

    return run


def ids(found):
    return [clip["id"] for clip in found["clips"]]


def test_list_and_search(run):
    found = run("list")
    assert ids(found) == ["c", "b", "a"] and found["total"] == 3 and found["next"] is None
    assert found["clips"][0].keys() >= {"id", "path", "prompt", "seed", "tags", "rating", "created", "missing"}
    assert ids(run("search", "red")) == ["c", "a"] and ids(run("search", "star -red")) == ["b"]
    first = run("list", "--limit", 2, "--sort", "oldest")
    assert ids(first) == ["a", "b"]
    assert ids(run("list", "--limit", 2, "--sort", "oldest", "--after", first["next"])) == ["c"]
    stacked = run("list", "--stacked")["clips"]
    assert [(clip["id"], clip["count"]) for clip in stacked] == [("c", 2), ("b", 1)]
    assert ids(run("list", "--seed", 2, "--model", "nano", "--stages", "base", "--parent", "a", "--width", 16)) == ["b"]
    assert ids(run("list", "--from", "2999-01-01")) == [] and ids(run("list", "--missing")) == []


def test_a_total_that_is_not_exact_says_so(run, shelf, monkeypatch):
    assert run("search", "star", "--stacked")["total_is_exact"] is True
    monkeypatch.setattr("app.gallery.search._MANY", 1)
    found = run("search", "star", "--stacked")
    assert ids(found) == ["c", "b"] and found["total"] == 1 and found["total_is_exact"] is False
    done = CliRunner().invoke(cli, ["gallery", "search", "star", "--stacked", "--data", str(shelf.folder)])
    assert done.stdout.splitlines()[-1] == "2 of more than 1"


def test_what_people_say(run):
    assert run("tag", "a", "keep", "★ x")["clips"][0]["tags"] == ["keep", "★ x"]
    assert run("untag", "a", "keep")["clips"][0]["tags"] == ["★ x"]
    assert run("tags") == {"tags": {"★ x": 1}}
    assert run("rate", "a", 4)["clips"][0]["rating"] == 4
    assert run("favourite", "a")["clips"][0]["favourite"] and ids(run("list", "--favourite")) == ["a"]
    assert not run("favourite", "a", "--off")["clips"][0]["favourite"]
    assert run("note", "a", "look again")["clips"][0]["notes"] == "look again"
    assert ids(run("search", "look", "--tag", "★ x", "--min-rating", 4)) == ["a"]
    run("search", "look", "--save", "my search")
    assert run("searches") == {"searches": {"my search": {"text": "look"}}}
    assert ids(run("list", "--saved", "my search")) == ["a"]
    assert run("searches", "--delete", "my search") == {"searches": {}}


def test_show_and_compare(run):
    shown = run("show", "b")
    assert shown["recipe"]["request"]["seed"] == 2 and shown["parents"] == ["a"] and shown["children"] == []
    found = run("compare", "a", "c")
    assert found == {"differences": [{"name": "seed", "this": 1, "that": 3}]}


def test_trash(run, shelf):
    assert ids(run("delete", "a", "b")) == ["a", "b"] and ids(run("list")) == ["c"]
    assert ids(run("list", "--trashed")) == ["b", "a"]
    assert run("restore", "b")["clips"][0]["trashed"] is None
    assert run("purge") == {"purged": ["a"]} and run("purge") == {"purged": []}
    assert shelf.names() == ["b.json", "b.mp4", "c.json", "c.mp4"]
    assert "b is not in the trash" in run("purge", "b", code=1)


def test_files_and_zips(run, shelf, tmp_path):
    target = tmp_path / "out.zip"
    assert run("export", target, "--text", "red")["clips"] == ["a", "c"]
    assert run("export", target, "b", "a")["clips"] == ["b", "a"]
    assert run("import", target) == {"new": [], "kept": ["a", "b"], "renamed": {}, "skipped": []}
    (shelf.clips / "a.mp4").unlink()
    assert run("check") == {"missing": ["a"], "found": []}
    assert run("import", target)["kept"] == ["a", "b"] and run("check")["missing"] == []
    command = ["gallery", "import", str(target), "--data", str(tmp_path / "new"), "--json"]
    assert json.loads(CliRunner().invoke(cli, command).stdout)["new"] == ["a", "b"]


def test_rebuild_puts_a_damaged_database_aside(run, shelf):
    shelf.database.close()
    for path in shelf.folder.glob("studio.db*"):
        path.write_bytes(b"damaged" * 1_000)
    assert "run `gallery rebuild`" in run("list", code=1)
    (shelf.clips / "x.mp4").write_bytes(b"no video")
    found = run("rebuild")
    assert sorted(found["found"]) == ["a", "b", "c"] and found["kept"] == 0
    assert [os.path.basename(one["path"]) for one in found["skipped"]] == ["x.mp4"]
    with open(found["aside"], "rb") as file:
        assert file.read() == b"damaged" * 1_000
    assert run("rebuild")["aside"] is None and ids(run("list", "--sort", "oldest")) == ["a", "b", "c"]


def test_rebuild_leaves_a_folder_alone_that_another_process_works_on(run, shelf, owner):
    shelf.database.close()
    for path in shelf.folder.glob("studio.db*"):
        path.write_bytes(b"damaged" * 1_000)
    before = sorted(path.name for path in shelf.folder.iterdir())
    process = owner(shelf.folder)
    said = run("rebuild", code=1)
    assert f"(process {process.pid} on " in said and "close that studio, or wait" in said and said.count("\n") == 1
    left = sorted(path.name for path in shelf.folder.iterdir() if path.name != "studio.owner.json")
    assert set(left) - {"studio.lock"} == set(before) - {"studio.lock"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "../x"], "no clip '../x'"),
        (["delete", "a", "nobody"], "no clip 'nobody'"),
        (["export", "/no/such/folder/x.zip"], "does not exist"),
        (["import", "/no/such.zip"], "cannot be read"),
        (["list", "--after", "x"], "after is 'x'"),
        (["list", "--saved", "x"], "no saved search 'x'"),
        (["tag", "a", " "], "is empty"),
    ],
)
def test_what_cannot_be_done_is_one_line(run, shelf, arguments, words):
    said = run(*arguments, code=1)
    assert words in said and said.count("\n") == 1
    assert shelf.gallery.get("a").trashed is None


@pytest.mark.parametrize(
    "arguments",
    [
        ["rate", "a", "6"],
        ["rate", "a"],
        ["list", "--sort", "size"],
        ["list", "--from", "yesterday"],
        ["list", "--seed=-1"],
    ]
    + [["list", "--limit", "0"], ["unknown"], ["show"], ["tag", "a"]],
)
def test_wrong_usage(run, arguments):
    run(*arguments, code=2)


def test_a_folder_that_is_not_there_is_not_made(tmp_path):
    done = CliRunner().invoke(cli, ["gallery", "list", "--data", str(tmp_path / "typo")])
    assert done.exit_code == 1 and "no data folder" in done.stderr and list(tmp_path.iterdir()) == []


def test_a_person_gets_a_table(shelf):
    done = CliRunner().invoke(cli, ["gallery", "list", "--data", str(shelf.folder)], env={"COLUMNS": "120"})
    lines = done.stdout.splitlines()
    assert lines[0].split()[:3] == ["id", "prompt", "size"] and lines[-1] == "3 of 3"
    assert "[bold]star[/bold]" in done.stdout and "16×16×2" in done.stdout
    for command in (["tags"], ["searches"], ["check"], ["purge"], ["rebuild"], ["show", "a"], ["compare", "a", "b"]):
        done = CliRunner().invoke(cli, ["gallery", *command, "--data", str(shelf.folder)])
        assert done.exit_code == 0 and done.stdout.strip(), command


def test_the_command_runs_on_its_own_without_torch(shelf):
    code = "import sys\nfrom app.cli.main import main\ntry: main()\nfinally: print('torch' in sys.modules)"
    command = [sys.executable, "-c", code, "gallery", "search", "blue", "--data", shelf.folder, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT)
    *_, found, torch = done.stdout.splitlines()
    assert ids(json.loads(found)) == ["b"] and torch == "False"


def test_a_clip_is_saved_in_another_format_cut_and_joined(run, tmp_path):
    from app.media import probe

    frames = run("show", "a")["frames"]
    assert run("save", "a", "--as", "gif", "--output", tmp_path / "a.gif") == {"path": str(tmp_path / "a.gif")}
    run("trim", "a", "--start", 1, "--output", tmp_path / "part.mp4")
    run("join", "a", "b", "--output", tmp_path / "both.mp4")
    counted = [probe(tmp_path / name).frames for name in ("a.gif", "part.mp4", "both.mp4")]
    assert counted == [frames, frames - 1, 2 * frames]
    run("join", "a", "b", "--output", tmp_path / "slow.mp4", "--speed", 0.5, "--loop", 3)
    run("trim", "a", "--output", tmp_path / "fast.mp4", "--speed", 4)
    counted = [probe(tmp_path / name).frames for name in ("slow.mp4", "fast.mp4")]
    assert counted == [12 * frames, -(-frames // 4)]
    silent = run("trim", "a", "--output", tmp_path / "x.mp4", "--sound", tmp_path / "part.mp4", code=1)
    assert "holds no sound: choose a sound file" in silent and not (tmp_path / "x.mp4").exists()
    wrong = run("join", "a", "--output", tmp_path / "x.mp4", "--speed", 5, code=1)
    assert "a speed of 5 cannot be: choose between 0.25 and 4" in wrong
    assert "choose one of h264" in run("save", "a", "--as", "vhs", "--output", tmp_path / "a.mp4", code=1)
    assert "no clip 'x'" in run("save", "x", "--output", tmp_path / "a.mp4", code=1)
