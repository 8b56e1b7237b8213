"""The process that opens weights cannot start programs, talk to anybody, or take all memory. Real processes."""

import os
import subprocess
import sys

import pytest

from extensions.published import convert
from extensions.published.convert import ROOT, run_child
from lavie.errors import BundleError


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


TRIES = """
from extensions.published.isolation import refuse_programs
import os, socket, subprocess
refuse_programs()
for act in (
    lambda: os.system("true"),
    lambda: subprocess.run(["true"]),
    lambda: os.execv("/bin/true", ["true"]),
    lambda: os.fork(),
    lambda: socket.create_connection(("127.0.0.1", 9)),
    lambda: socket.getaddrinfo("localhost", 80),
):
    try:
        act()
    except PermissionError as error:
        print("refused" in str(error))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the calls are those of Unix")
def test_programs_and_connections_are_refused():
    assert python(TRIES).split() == ["True"] * 6


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells how much a process has and limits it")
def test_memory_ends_behind_the_headroom():
    code = "import mmap\nfrom extensions.published.isolation import limit_memory, HEADROOM\nlimit_memory(0)\n"
    assert python(f"{code}mmap.mmap(-1, HEADROOM // 2)\nprint('fits')") == "fits"
    assert python(f"{code}try:\n mmap.mmap(-1, HEADROOM + 1)\nexcept OSError:\n print('ends')") == "ends"


def test_a_process_that_dies_is_told_in_one_line(monkeypatch):
    killed = [sys.executable, "-c", "import os, sys; sys.stdin.read(); print('why', file=sys.stderr); os._exit(9)"]
    monkeypatch.setattr(convert, "COMMAND", killed)
    with pytest.raises(BundleError, match=r"ended before its work was done.*'why'"):
        list(run_child([]))


def test_a_stopped_conversion_leaves_no_process(monkeypatch):
    code = "import json, os, time; print(json.dumps({'done': os.getpid()}), flush=True); time.sleep(600)"
    monkeypatch.setattr(convert, "COMMAND", [sys.executable, "-c", code])
    work = run_child([])
    pid = next(work)["done"]
    work.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
