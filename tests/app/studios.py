"""What tests of the studio share: waiting for it, and slow and fast work."""

import time

from lavie.request import Interpolation, Request, Sampling

PATIENCE = 180.0  # seconds; only a broken studio needs them
ENDLESS = {"step_seconds": 0.01, "steps": 1000}  # a cascade's; no test waits for the end of it
ONE = Sampling(steps=1)


class At:
    """Does something once, in the worker's thread, right before a step: so that it falls into that step for sure."""

    def __init__(self, stage, index, do):
        self._when, self._do = (stage, index), do

    def __call__(self, stage, index):
        if (stage, index) == self._when:
            self._when = None
            self._do()


def until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def ended(studio, job_id):
    until(lambda: not studio.job(job_id).open)
    return studio.job(job_id)


def smooth(seed=7, prompt="a red star", **sampling) -> Request:
    """Base and interpolation; the base takes one step."""
    return Request(prompt, seed=seed, base=ONE, interpolation=Interpolation(Sampling(**sampling)))


def damage(path, kind):
    """What happens to a file: it is gone, empty, cut short, of other bytes, a bit of it turns, or it is another's."""
    content = path.read_bytes()
    turned = content[:-1] + bytes([content[-1] ^ 1])
    other = path.with_name("base.safetensors").read_bytes()
    after = {"empty": b"", "cut": content[:-100], "noise": b"\x00" * 200, "bit": turned, "other": other}.get(kind)
    path.unlink() if after is None else path.write_bytes(after)
