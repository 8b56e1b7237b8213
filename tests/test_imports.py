"""Importing anything has no effect: no file written, no folder made, no connection, no GPU. Values need no torch."""

import json
import subprocess
import sys

from tests.test_architecture import LIGHT, ROOT, sources

WATCHED = """
import importlib, json, os, sys
root, names = os.getcwd() + os.sep, json.loads(sys.argv[1])
effects = []
network = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname")
traces = ("os.mkdir", "os.remove", "os.rename", "os.rmdir", "sqlite3.connect", "subprocess.Popen", "os.fork")
writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

def in_library():
    # Whether the body of a module that is not ours is running: what a library does at its import is its own.
    frame = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        if code.co_name == "<module>" and not code.co_filename.startswith((root, "<")):
            return True
        frame = frame.f_back
    return False

def watch(event, arguments):
    if event == "open" and not (arguments[2] or 0) & writing:
        return
    if event in network or (event in ("open", *traces) and not in_library()):
        effects.append(f"{name}: {event} {[str(a)[:200] for a in arguments]}")

name = None
sys.addaudithook(watch)
for name in names:
    importlib.import_module(name)
torch = sys.modules.get("torch")
if torch is not None and torch.cuda.is_initialized():
    effects.append("a CUDA context")
print(json.dumps({"effects": effects, "modules": sorted(m for m in sys.modules if "." not in m)}))
"""


def imported(modules: list[str]) -> dict:
    """What importing `modules` in a fresh interpreter did, and the top-level modules it loaded."""
    done = subprocess.run(
        [sys.executable, "-B", "-c", WATCHED, json.dumps(modules)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_every_module_has_no_effect():
    assert imported(list(sources()))["effects"] == []


def test_the_watch_sees_an_effect(tmp_path, monkeypatch):
    (tmp_path / "careless.py").write_text("def note():\n    open(__file__ + '.log', 'w').close()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    careless = "importlib.import_module('careless').note()\ntorch ="
    monkeypatch.setattr("tests.test_imports.WATCHED", WATCHED.replace("torch =", careless))
    effects = imported([])["effects"]
    assert len(effects) == 1 and "careless.py.log" in effects[0]


def test_values_load_without_torch():
    loaded = imported(["lavie", *LIGHT])["modules"]
    assert "torch" not in loaded and "diffusers" not in loaded
