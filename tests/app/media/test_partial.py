"""Files appear whole or not at all, and what a killed process left can be told from everything else."""

import os
import signal
import subprocess
import sys

import pytest

from app.media import check_output, is_partial, probe, read_recipe, sweep_partials
from app.media.files import temporary
from lavie.errors import MediaError
from tests.app.media.clips import leftovers, numbered, write_video

NAMES = [
    'it\'s "quoted" $(and) `more`; & |.mp4',
    "🦊★日本.mp4",
    "\u202eعربي\u202c עברית.mp4",
    "-leading -y.mp4",
    "%03d 100%.mp4",
    "a:b.mp4",
    "line\nbreak\\.mp4",
    "x" * 251 + ".mp4",
    " .mp4",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_mean_nothing(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)  # a relative name: ffmpeg could take its beginning for an option or a protocol
    write_video(name, numbered(2), "{}")
    assert os.listdir(tmp_path) == [name]
    assert (probe(name).frames, read_recipe(name)) == (2, "{}")


@pytest.mark.parametrize("name", ["x" * 10_000, "nul\0nul", "\ud800"])
def test_names_that_cannot_be_are_refused(tmp_path, name):
    with pytest.raises(MediaError, match=r"too long: shorten|no file name can: rename"):
        check_output(tmp_path / f"{name}.mp4")
    assert os.listdir(tmp_path) == []


def test_a_source_is_not_replaced_by_what_is_made_from_it(tmp_path):
    write_video(tmp_path / "a.mp4", numbered(2), "old")
    os.link(tmp_path / "a.mp4", tmp_path / "b.mp4")
    for name in ("a.mp4", "b.mp4"):
        with pytest.raises(MediaError, match="would replace what it is made from"):
            check_output(tmp_path / name, sources=(tmp_path / "other.mp4", tmp_path / "a.mp4"))


def test_errors_of_ffmpeg_are_told_by_their_words(tmp_path):
    with pytest.raises(MediaError, match="the disk is full: free some space"), temporary(tmp_path / "a.mp4"):
        raise OSError("ffmpeg said:\n\n av_interleaved_write_frame(): No space left on device\n")
    words = "cannot be written, odd trouble: choose another place"
    with pytest.raises(MediaError, match=words) as caught, temporary(tmp_path / "a.mp4"):
        raise OSError("first line\nodd trouble\n")
    assert "\n" not in str(caught.value)


KILLED = """
import os, signal, sys
from app.media import write_mp4
from tests.app.media.clips import noise

def frames():
    yield from noise(80).frames  # more than the encoder looks ahead
    os.kill(os.getpid(), signal.SIGKILL)

write_mp4(sys.argv[1], frames(), 8)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_what_a_killed_process_left_is_swept(tmp_path):
    path = tmp_path / "a.mp4"
    write_video(path, numbered(2), "old")
    done = subprocess.run([sys.executable, "-c", KILLED, path])
    assert done.returncode == -signal.SIGKILL
    assert len(leftovers(tmp_path)) == 1 and is_partial(leftovers(tmp_path)[0])
    left = tmp_path / leftovers(tmp_path)[0]
    assert sweep_partials(tmp_path) == [left]
    assert os.listdir(tmp_path) == ["a.mp4"] and read_recipe(path) == "old"


def test_only_what_is_ours_is_swept(tmp_path):
    kept = ["a.mp4", ".partial.mp4", "lavie-0123456789abcdef.partial.mp4", ".lavie-0123456789abcdef.partial.mp4.bak"]
    for name in kept:
        (tmp_path / name).write_text("x")
        assert not is_partial(name)
    ours = [tmp_path / f".lavie-0123456789abcde{n}.partial.{kind}" for n, kind in enumerate(("mp4", "txt", "zip"))]
    for path in ours:
        path.write_text("x")
    folder = tmp_path / ".lavie-ffffffffffffffff.partial.mp4"
    folder.mkdir()
    assert sweep_partials(tmp_path) == ours
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, folder.name])


def test_a_missing_folder_has_nothing_to_sweep(tmp_path):
    assert sweep_partials(tmp_path / "missing") == []


def test_what_is_being_written_bears_a_name_of_ours(tmp_path):
    with temporary(tmp_path / "a.MOV") as partial:
        assert is_partial(partial.name) and partial.parent == tmp_path and partial.suffix == ".mov"
