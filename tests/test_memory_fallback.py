"""Where memory runs out, a stage runs again in the next smaller mode, tells the mode, and gives the same bits."""

import gc
from functools import partial

import pytest
import torch

from lavie import Cascade, Sampling, SuperResolution, memory_plan
from lavie.bundle import Bundle
from lavie.errors import DeviceError, OutOfMemory
from lavie.events import BASE, SUPER_RESOLUTION, Finished, Notice, StageDone, StageStarted
from lavie.memory_mode import DECODING, MEMORY_STAGES, MODEL, NONE, PLAIN, SEQUENTIAL, MemoryMode
from lavie.residency import Residency
from tests.cascades import finish, small
from tests.meagre import Short, short, told

CPU = torch.device("cpu")
GUIDED = SuperResolution(Sampling(guidance=2.0))
wide = partial(small, width=32)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """The toy cascade makes frames of 32×128: half of them is a piece."""
    monkeypatch.setattr(memory_plan, "TILES", (64,))


UPSCALED = [
    # what fits, and in which modes super-resolution tries it
    pytest.param(lambda clips, width, offload: width <= 16, [MemoryMode(64)], id="pieces"),
    pytest.param(
        lambda clips, width, offload: width <= 16 and clips == 1,
        [MemoryMode(64), MemoryMode(64, True)],
        id="halves",
        marks=pytest.mark.slow,
    ),
    pytest.param(
        lambda clips, width, offload: width <= 16 and clips == 1 and offload != NONE,
        [MemoryMode(64), MemoryMode(64, True), MemoryMode(64, True, MODEL)],
        id="model",
        marks=pytest.mark.slow,
    ),
    pytest.param(
        lambda clips, width, offload: width <= 16 and clips == 1 and offload == SEQUENTIAL,
        [MemoryMode(64), MemoryMode(64, True), MemoryMode(64, True, MODEL), MemoryMode(64, True, SEQUENTIAL)],
        id="sequential",
    ),
]


@pytest.mark.parametrize(("enough", "modes"), UPSCALED)
def test_super_resolution_goes_down_mode_by_mode_to_the_result_of_the_last(
    one_level_bundle, one_level_cascade, enough, modes
):
    def fits(component, clips, height, width, offload):
        return component != SUPER_RESOLUTION or enough(clips, width, offload)

    asked = wide(super_resolution=GUIDED)
    events = list(short(one_level_bundle, fits).generate(asked))
    assert told(events) == [(SUPER_RESOLUTION, mode) for mode in modes]
    notices = [event.message for event in events if isinstance(event, Notice)]
    assert notices == [f"memory ran out in super_resolution: it goes on with {mode}" for mode in modes]
    assert [e.stage for e in events if isinstance(e, StageStarted)] == [BASE, SUPER_RESOLUTION]
    *_, again = one_level_cascade.generate(asked, memory={SUPER_RESOLUTION: modes[-1]})
    assert again.video.frame_hash == events[-1].video.frame_hash
    assert finish(one_level_cascade, asked).video.frame_hash != again.video.frame_hash


def test_the_base_stage_has_no_pieces_but_halves(one_level_bundle, one_level_cascade):
    events = list(
        short(one_level_bundle, lambda component, clips, *rest: component != BASE or clips == 1).generate(wide())
    )
    assert told(events) == [(BASE, MemoryMode(split_guidance=True))]
    *_, again = one_level_cascade.generate(wide(), memory={BASE: MemoryMode(split_guidance=True)})
    assert again.video.frame_hash == events[-1].video.frame_hash


def test_halves_in_turn_are_almost_what_they_are_together(one_level_cascade):
    *_, together = one_level_cascade.generate(wide())
    *_, turned = one_level_cascade.generate(wide(), memory={BASE: MemoryMode(split_guidance=True)})
    assert abs(together.video.frames.astype(int) - turned.video.frames).mean() < 0.5


def test_decoding_falls_back_too(one_level_bundle, one_level_cascade):
    def fits(component, clips, height, width, offload):
        return component != "super_resolution_vae" or width <= 16

    asked = wide(upscale=True)
    events = list(short(one_level_bundle, fits).generate(asked))
    assert told(events) == [(DECODING, MemoryMode(64))]
    *_, again = one_level_cascade.generate(asked, memory={DECODING: MemoryMode(64)})
    assert again.video.frame_hash == events[-1].video.frame_hash


def test_behind_the_last_mode_it_stops_and_what_was_made_is_kept(one_level_bundle, one_level_cascade):
    asked, events = wide(super_resolution=GUIDED), []
    with pytest.raises(DeviceError, match="nothing smaller is left to try, what was made before is kept") as caught:
        for event in short(one_level_bundle, lambda component, *call: component != SUPER_RESOLUTION).generate(asked):
            events.append(event)
    assert "cpu ran out of memory in super_resolution (CUDA out of memory" in str(caught.value)
    assert "\n" not in str(caught.value)
    kept = {event.stage: event.latents for event in events if isinstance(event, StageDone)}
    assert set(kept) == {BASE}
    *_, later = one_level_cascade.generate(asked, done=kept)
    assert later.video.frame_hash == finish(one_level_cascade, asked).video.frame_hash


def test_nothing_of_a_failed_call_is_alive_when_the_next_one_begins(one_level_bundle):
    alive = []

    def fits(component, clips, height, width, offload):
        alive.extend(lost() for lost in residency.failed)
        return component != BASE or offload == SEQUENTIAL

    cascade = short(one_level_bundle, fits)
    residency = cascade.residency
    gc.disable()
    try:
        finish(cascade, wide())
    finally:
        gc.enable()
    assert len(residency.failed) == 3
    assert alive and not any(lost is not None for lost in alive)


def test_whoever_chose_the_offloading_keeps_it(one_level_bundle):
    cascade = short(one_level_bundle, lambda component, *call: component != BASE)
    cascade.residency.choices = (NONE,)
    with pytest.raises(OutOfMemory, match="nothing smaller is left"):
        finish(cascade, wide())


def test_where_memory_suffices_nothing_is_told(one_level_cascade):
    assert told(one_level_cascade.generate(wide(interpolate=True, upscale=True))) == []


def test_another_error_of_a_stage_is_no_reason_to_go_on(one_level_bundle):
    def fits(*call):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        finish(short(one_level_bundle, fits), wide())


def test_a_cancelled_stage_is_not_begun_anew(one_level_bundle):
    cascade = short(one_level_bundle, lambda *call: True)
    run = cascade.generate(wide())
    while not isinstance(next(run), StageStarted):
        pass
    next(run)
    run.close()
    assert list(run) == []


def test_where_memory_is_planned_every_mode_is_told_before_its_stage_runs_and_runs_again_anywhere(one_level_bundle):
    """Of a device with little memory: the toy networks, with half a GiB for the kernels, fit nowhere."""
    asked = wide(super_resolution=GUIDED)
    little = Cascade(Bundle(one_level_bundle), Short(Bundle(one_level_bundle), budget=1))
    events = list(little.generate(asked))
    expected = {
        BASE: MemoryMode(split_guidance=True, offload=SEQUENTIAL),
        SUPER_RESOLUTION: MemoryMode(64, True, SEQUENTIAL),
        DECODING: MemoryMode(64, offload=SEQUENTIAL),
    }
    assert dict(told(events)) == expected == little.plan(little.resolve(asked)).modes
    large = Cascade(Bundle(one_level_bundle), Short(Bundle(one_level_bundle), budget=80 * 10**9))
    again = list(large.generate(asked, memory=expected))
    assert dict(told(again)) == {place: MemoryMode(mode.tile, mode.split_guidance) for place, mode in expected.items()}
    assert isinstance(again[-1], Finished)
    assert again[-1].video.frame_hash == events[-1].video.frame_hash


def test_a_plan_says_what_each_place_will_need(one_level_bundle, one_level_cascade):
    asked = one_level_cascade.resolve(wide(interpolate=True, upscale=True))
    plan = one_level_cascade.plan(asked)
    assert set(plan.modes) == set(MEMORY_STAGES) == set(plan.peaks)
    assert set(plan.modes.values()) == {PLAIN}
    assert plan.free is None and plan.dtype == "float32"
    files = sum(file.stat().st_size for file in one_level_bundle.rglob("*.safetensors"))
    assert all(peak > files for peak in plan.peaks.values())


@pytest.mark.parametrize("before", [NONE, MODEL, SEQUENTIAL])
@pytest.mark.parametrize("after", [NONE, MODEL, SEQUENTIAL])
def test_a_residency_that_uses_another_offload_makes_the_same_clip(one_level_bundle, one_level_cascade, before, after):
    bundle = Bundle(one_level_bundle)
    residency = Residency(bundle, CPU, torch.float32, before)
    cascade = Cascade(bundle, residency)
    expected = finish(one_level_cascade, wide()).video.frame_hash
    assert finish(cascade, wide()).video.frame_hash == expected
    residency.use(after)
    with residency.on_device(BASE) as network:
        assert any(parameter.is_meta for parameter in network.parameters()) == (after == SEQUENTIAL)
    assert residency.offload == before  # what it was opened with: provenance tells of it
