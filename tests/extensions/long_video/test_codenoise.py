"""A video denoised as one: smooth, alike from end to end, the same bits in whatever order, in bounded memory."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from extensions.long_video.plan import CODENOISE, Segment
from extensions.long_video.strategies import codenoise
from extensions.long_video.strategies.codenoise import Wavefront, grid, pyramid, round_up_to_halves, shared_noise
from extensions.long_video.strategies.window_model import Model
from lavie.events import BASE
from lavie.noise import INITIAL, frame_noise
from tests.extensions.long_video.videos import embed, ideal_model, plan_of, segments, video
from tests.oracle import roughness

ONE_PIXEL = (4, 1, 1)
FRAMES = 16 + 11 * 12  # of twelve segments


def likeness(made: torch.Tensor, one: int, other: int) -> float:
    return torch.corrcoef(torch.stack([made[0, :, frame].flatten() for frame in (one, other)]))[0, 1].item()


@pytest.mark.parametrize("frames", [12, 9])  # of the last segment: the last window stands elsewhere
def test_no_frame_differs_from_the_next_more_than_frames_do_and_the_ends_are_alike(frames):
    plan = plan_of(12, CODENOISE)
    plan = replace(plan, segments=(*plan.segments[:-1], Segment("a", frames=frames)))
    made, _ = video(plan)
    assert made.shape[2] == FRAMES - 12 + frames
    assert roughness(made).max() <= 1.15
    assert likeness(made, 0, made.shape[2] - 1) >= 0.45
    assert made[:, :, -16:].std() / made[:, :, :16].std() >= 0.90


@pytest.mark.parametrize("frames", [1, 15, 16, 17, 24, 25, 148])
def test_a_few_frames_more_are_made_so_that_the_last_window_sees_the_whole_bank(frames):
    assert 0 <= round_up_to_halves(frames, 16) - max(frames, 16) < 8
    assert round_up_to_halves(frames, 16) % 8 == 0


def test_without_the_shared_noise_the_ends_have_nothing_in_common(monkeypatch):
    """The control."""
    monkeypatch.setattr(codenoise, "shared_noise", _own_noise)
    made, _ = video(plan_of(12, CODENOISE))
    assert abs(likeness(made, 0, FRAMES - 1)) < 0.1


def test_a_grid_that_stays_in_place_shows(monkeypatch):
    """The control: the same borders at every step."""
    monkeypatch.setattr(codenoise, "grid", lambda step, frames, window: grid(0, frames, window))
    monkeypatch.setattr(codenoise, "pyramid", lambda window: [min(p, window - 1 - p) + 1 for p in range(window)])
    made, _ = video(plan_of(12, CODENOISE))
    assert roughness(made).max() > 1.25


@pytest.mark.parametrize("frames", [480, 960])
def test_a_bounded_number_of_frames_is_in_work_however_long_the_video(frames):
    front = _wavefront(frames, ideal_model(lambda sample, timestep, context: sample, shape=ONE_PIXEL))
    _run(front)
    assert front.peak <= 256
    assert front.done == front.windows <= 4.3 * frames


def test_a_wavefront_gives_the_bits_of_the_plain_loop_over_the_whole_video():
    frames, model = 75, ideal_model(steps=9)
    noise = torch.stack([shared_noise(5, 5, frame, 16, model.shape) for frame in range(frames)], dim=1)
    assert torch.equal(_run(_wavefront(frames, model)), _plain_loop(model, noise))


def _plain_loop(model, latents: torch.Tensor) -> torch.Tensor:
    """Step by step, all windows of a step before the next: latents C F h w → 1 C F h w."""
    scheduler, predict = model.scheduler("cpu"), model.guided(embed("a"))
    for step, timestep in enumerate(scheduler.timesteps):
        sums, weights = torch.zeros_like(latents), torch.zeros(latents.shape[1])
        for start in grid(step, latents.shape[1], 16):
            shown = slice(start, start + 16)
            weight = torch.tensor(pyramid(16), dtype=torch.float32)
            sums[:, shown] += weight[:, None, None] * predict(latents[None, :, shown], timestep)[0]
            weights[shown] += weight
        prediction = sums / weights[:, None, None]
        latents = scheduler.step(prediction, timestep, latents, return_dict=False)[0]
    return latents[None]


@pytest.mark.parametrize("frames", [16, 17, 30, 75, 480])
@pytest.mark.parametrize("step", range(12))
def test_every_step_covers_every_frame_and_its_windows_stay_inside(frames, step):
    starts = grid(step, frames, 16)
    assert starts == sorted(set(starts))
    assert starts[0] == 0 and starts[-1] == frames - 16
    assert all(after - before <= 12 for before, after in pairwise(starts))


def test_borders_move_from_step_to_step():
    inner = [set(grid(step, 200, 16)[1:-1]) for step in range(50)]
    assert all(not one & other for one, other in pairwise(inner))


def test_work_goes_on_from_the_state_of_any_segment_to_the_same_bits():
    plan, model = plan_of(5, CODENOISE), ideal_model(steps=10)
    whole = segments(plan, model)
    for there in (1, 3, 4):
        done = [segment.latents for segment in whole[:there]]
        rest = segments(plan, model, done=done, state=whole[there - 1].state)
        assert [segment.number for segment in rest] == list(range(there, 5))
        for one, other in zip(rest, whole[there:], strict=True):
            assert torch.equal(one.latents, other.latents)
            assert all(torch.equal(one.state[name], other.state[name]) for name in other.state)


def test_without_a_state_the_rest_is_the_same_too_and_costs_more():
    plan, model = plan_of(3, CODENOISE), ideal_model(steps=5)
    whole = segments(plan, model)
    rest = segments(plan, model, done=[whole[0].latents])
    assert [segment.number for segment in rest] == [1, 2]
    assert torch.equal(rest[1].latents, whole[2].latents)


def test_noise_comes_again_in_another_order_with_something_of_its_own():
    frames = [shared_noise(5, 5, frame, 16, (4, 32, 32)) for frame in range(48)]
    assert torch.stack(frames).std().item() == pytest.approx(1, abs=0.02)
    banked = [shared_noise(5, 5, frame, 16, (4, 32, 32), fresh=0.0) for frame in range(48)]
    assert {frame.sum().item() for frame in banked[:16]} == {frame.sum().item() for frame in banked[16:32]}
    assert [frame.sum().item() for frame in banked[:16]] != [frame.sum().item() for frame in banked[16:32]]


def _own_noise(seed: int, own_seed: int, frame: int, window: int, shape: tuple[int, int, int]) -> torch.Tensor:
    return frame_noise(own_seed, (BASE, INITIAL), [frame], shape)[0, :, 0]


def _wavefront(frames: int, model: Model) -> Wavefront:
    text = embed("a")
    return Wavefront(model, frames, 16, lambda shown: text, lambda frame: shared_noise(5, 5, frame, 16, model.shape))


def _run(front: Wavefront) -> torch.Tensor:
    pieces, taken = [], 0
    while front.finished < front.frames:
        front.advance()
        if front.finished > taken:
            pieces.append(front.take(range(taken, front.finished)))
            taken = front.finished
    return torch.cat(pieces, dim=2)
