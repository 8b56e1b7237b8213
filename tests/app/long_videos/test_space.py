"""A video that the disk has no room for is refused before anything is made."""

import shutil
from collections import namedtuple
from dataclasses import replace

import pytest

from app.long_videos.service import count_bytes
from app.models.card import ModelCard
from app.recipes.recipe import Job
from extensions.long_video.plan import Segment, SegmentPlan
from lavie.errors import RequestError
from lavie.request import Interpolation, Request, SuperResolution
from tests.app.long_videos.videos import plan, request

PUBLISHED = ModelCard("published", 512, 320, 16, 8.0)
WHOLE = Request("a boat", interpolation=Interpolation(), super_resolution=SuperResolution())
Disk = namedtuple("Disk", "total used free")


def needed(request, segments, start=None):
    return count_bytes(Job(request, "published", SegmentPlan((Segment("a boat"),) * segments), start), PUBLISHED)


def test_the_base_stage_takes_little_and_the_large_frames_take_much():
    assert needed(Request("a boat"), 1) == 16 * 4 * 40 * 64 * 4  # the latents of 16 frames, in float32
    upscaled = replace(WHOLE, interpolation=None)
    small, large = needed(Request("a boat"), 1), needed(upscaled, 1)
    assert large - small == pytest.approx(16 * 2.62e6 * 4 / 3, rel=0.01)  # 2.62 MB a frame of 1280 × 2048
    assert needed(WHOLE, 400) == pytest.approx(400 * needed(WHOLE, 4) / 4, rel=0.1)


def test_what_does_not_fit_is_refused_and_leaves_nothing(studio, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Disk(10**12, 10**12, 1000))
    with pytest.raises(RequestError, match=r"needs about .* GB in .* and 0\.0 GB are free: free some, choose fewer"):
        studio.long_videos.submit(request(), plan())
    assert not list(studio.queue.line(10))
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Disk(10**12, 0, 10**12))
    assert studio.long_videos.submit(request(), plan())
