"""A long video falls back too when memory runs out: a whole stage in one mode, its windows under keys of their own."""

import pytest

from extensions.long_video.pipeline import LongVideoPipeline
from extensions.long_video.resolve import resolve_plan
from lavie import memory_plan
from lavie.errors import OutOfMemory
from lavie.events import BASE, INTERPOLATION, SUPER_RESOLUTION
from lavie.memory_mode import DECODING, MODEL, NONE, SEQUENTIAL, MemoryMode
from tests.cascades import small
from tests.extensions.long_video.films import PROVENANCE, Memory, film, finished, frame_hash, plan_of
from tests.meagre import short, told

WIDE = small(True, True, width=32)  # of which a piece is half
PLENTY = 80 * 10**9


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(memory_plan, "TILES", (64,))


def _again(cascade, memory, kept=None) -> LongVideoPipeline:
    asked = cascade.resolve(WIDE)
    kept = Memory() if kept is None else kept
    return LongVideoPipeline(
        cascade, asked, resolve_plan(cascade, asked, plan_of(2)), None, kept, PROVENANCE, memory=memory
    )


def test_super_resolution_that_runs_out_midway_is_made_whole_on_the_next_rung(tiny_bundle, tiny_cascade):
    calls = []

    def fits(component, clips, height, width, offload):
        calls.append((component, width))
        return component != SUPER_RESOLUTION or width <= 16 or calls.count((component, width)) < 4

    kept = Memory()
    made = film(short(tiny_bundle, fits), plan_of(2), kept, WIDE)
    before = made.window_keys(SUPER_RESOLUTION)
    assert told(made.make()) == [(SUPER_RESOLUTION, MemoryMode(64))]
    after = made.window_keys(SUPER_RESOLUTION)
    assert before[0] in kept and not set(before) & set(after)
    assert set(after) <= set(kept)
    again = _again(tiny_cascade, {SUPER_RESOLUTION: MemoryMode(64)})
    assert finished(again) == frame_hash(made)
    assert again.window_keys(SUPER_RESOLUTION) == after
    assert finished(_again(tiny_cascade, {})) != frame_hash(made)


def test_a_rung_that_changes_no_bit_changes_no_key(tiny_cascade):
    asked = {SUPER_RESOLUTION: MemoryMode(offload=MODEL), INTERPOLATION: MemoryMode(offload=SEQUENTIAL)}
    plain, moved = (_again(tiny_cascade, memory) for memory in ({}, asked))
    for stage in (INTERPOLATION, SUPER_RESOLUTION):
        assert plain.window_keys(stage) == moved.window_keys(stage)


def test_the_base_stage_is_only_offloaded_and_goes_on_behind_what_it_made(tiny_bundle, tiny_cascade):
    calls = []

    def fits(component, clips, height, width, offload):
        calls.append(component)
        return component != BASE or offload != NONE or calls.count(BASE) < 4

    made = film(short(tiny_bundle, fits), plan_of(2), asked=WIDE)
    assert told(made.make()) == [(BASE, MemoryMode(offload=MODEL))]
    assert frame_hash(made) == finished(film(tiny_cascade, plan_of(2), asked=WIDE))


def test_whether_decoding_fits_is_known_before_a_frame_is_handed_over(tiny_bundle, tiny_cascade):
    def fits(component, clips, height, width, offload):
        return component != "super_resolution_vae" or width <= 16

    made = film(short(tiny_bundle, fits, budget=PLENTY), plan_of(2), asked=WIDE)
    modes = told(made.make())
    assert [mode for place, mode in modes if place == DECODING] == [MemoryMode(), MemoryMode(64)]
    assert finished(_again(tiny_cascade, dict(modes))) == frame_hash(made)


def test_behind_the_last_rung_what_was_made_is_kept(tiny_bundle, tiny_cascade):
    kept = Memory()
    made = film(short(tiny_bundle, lambda component, *call: component != SUPER_RESOLUTION), plan_of(2), kept, WIDE)
    with pytest.raises(OutOfMemory, match="nothing smaller is left"):
        finished(made)
    assert set(made.keys) <= set(kept)
    written = kept.written
    assert finished(_again(tiny_cascade, {}, kept)) == finished(_again(tiny_cascade, {}))
    assert kept.written - written == len(made.window_keys(SUPER_RESOLUTION))
