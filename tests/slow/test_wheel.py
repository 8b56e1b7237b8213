"""The wheel holds all that the studio needs: it works where there is no checkout."""

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def call(*command, **options) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The `bin` folder of a fresh environment with the wheel; the libraries are those of this environment."""
    folder = tmp_path_factory.mktemp("wheel")
    call(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "environment", with_pip=True, symlinks=True)
    programs = folder / "environment" / "bin"
    (packages,) = (folder / "environment" / "lib").glob("python*/site-packages")
    (packages / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    call(programs / "python", "-m", "pip", "install", "--no-deps", "--no-index", wheel)
    return programs


@pytest.fixture
def outside(tmp_path) -> dict:
    """Where commands of the wheel run: a folder and an environment without the checkout."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "LAVIE_DATA")}
    return {"cwd": tmp_path, "env": environment}


def test_the_command_is_that_of_app_py(installed, outside):
    ours = call(installed / "lavie-studio", "--help", **outside)
    theirs = call(sys.executable, ROOT / "app.py", "--help", **outside)
    assert ours.replace("lavie-studio", "app.py").split() == theirs.split()


def test_the_command_renders_with_nano(installed, outside):
    made = call(installed / "lavie-studio", "render", "a red star", "--seed", 7, "--steps", 1, "--json", **outside)
    clip = json.loads(made.splitlines()[-1])
    assert Path(clip["path"]).is_file()
    assert Path(clip["path"]).is_relative_to(outside["cwd"])


def test_the_library_finds_nano(installed, outside):
    code = (
        "import lavie; from lavie import Cascade; cascade = Cascade.from_bundle(); "
        "print(lavie.__file__); print(cascade.bundle.name)"
    )
    where, name = call(installed / "python", "-c", code, **outside).splitlines()
    assert not Path(where).is_relative_to(ROOT)
    assert name == "Nano"


def test_the_page_finds_its_assets(installed, outside):
    imports = "from app.ui.server import CSS, EARLY, SCRIPT; from app.ui.i18n import FOLDER; "
    code = imports + "print(CSS, EARLY, SCRIPT, FOLDER / 'de.json')"
    files = call(installed / "python", "-c", code, **outside).split()
    assert [Path(file).is_file() for file in files] == [True] * 4
