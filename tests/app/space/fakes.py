"""Cascades that another process can load, by name."""

import os

from tests.fakes import FakeCascade


class OnDevice(FakeCascade):
    """Says which process it runs in, and refuses to run networks where there is no lent device."""

    def __init__(self, config, **more):
        super().__init__(**more)
        self.config = config

    def runs_on(self):
        device = "cpu" if self.config.device == "cpu" else f"cuda ({os.getpid()})"
        return {**super().runs_on(), "device": device}

    def generate(self, request, source=None, done=None, memory=None):
        assert self.config.device != "cpu", "networks run on the lent device alone"
        return super().generate(request, source, done, memory)


def load(config):
    return OnDevice(config)


def load_endless(config):
    return OnDevice(config, step_seconds=0.1, steps=1000)


def load_taken_back(config):
    return OnDevice(config, at_step=lambda stage, index: index < 3 or os._exit(1))
