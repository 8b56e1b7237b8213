"""Cascades that an actor can load, by name."""

from __future__ import annotations

import os
import time

from app.models.loaded import load_cascade
from lavie.errors import RequestError
from lavie.events import StageStarted
from tests.app.studios import ENDLESS
from tests.fakes import FakeCascade

RAN = "ran.txt"  # of the data folder: a line for each stage that was begun


class Watched:
    """A cascade that notes in the data folder which process begins which stage for which seed, and stands still in it
    for as long as a file there holds it."""

    def __init__(self, config):
        self._cascade, self._data = load_cascade(config), config.data

    def __getattr__(self, name):
        return getattr(self._cascade, name)

    def generate(self, request, source=None, done=None, memory=None):
        if request.prompt == "broken":
            raise ZeroDivisionError("inside the network")
        if request.prompt == "refused":
            raise RequestError("prompt is 'refused': say something else")
        for event in self._cascade.generate(request, source, done, memory):
            begun = isinstance(event, StageStarted)
            if begun:
                with (self._data / RAN).open("a") as ran:
                    ran.write(f"{os.getpid()} {request.seed} {event.stage}\n")
            yield event
            while begun and hold(self._data, event.stage).exists():
                time.sleep(0.01)


def hold(data, stage):
    """The file that holds a stage."""
    return data / f"hold {stage}"


def ran(data, seed):
    """[(process, stage), …] in the order in which stages were begun for a seed."""
    lines = [line.split() for line in (data / RAN).read_text().splitlines()] if (data / RAN).exists() else []
    return [(int(process), stage) for process, of, stage in lines if int(of) == seed]


def load(config):
    return Watched(config)


def load_endless(config):
    return FakeCascade(**ENDLESS)
