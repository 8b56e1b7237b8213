"""A long video by an interpolation that sees the key frames on both sides of a frame."""

from dataclasses import replace

import pytest

from extensions.long_video.plan import Segment
from lavie import Cascade
from tests.cascades import small, with_neighbours
from tests.extensions.long_video.films import Memory, film, finished, plan_of


@pytest.fixture(scope="module")
def neighbouring(tiny_bundle, tmp_path_factory):
    folder = with_neighbours(tiny_bundle, tmp_path_factory.mktemp("bundles") / "neighbouring")
    return Cascade.from_bundle(folder, device="cpu")


@pytest.mark.parametrize("number", range(4))
def test_a_change_is_seen_as_far_as_interpolation_sees(neighbouring, number):
    """Its network sees key frames on both sides of a frame, some of them outside of its window."""
    kept, plan, asked = Memory(), plan_of(4), small(True, False)
    finished(film(neighbouring, plan, kept, asked))
    segments = list(plan.segments)
    segments[number] = Segment("a green heart", seed=8)
    changed = replace(plan, segments=tuple(segments))
    assert finished(film(neighbouring, changed, kept, asked)) == finished(film(neighbouring, changed, asked=asked))
