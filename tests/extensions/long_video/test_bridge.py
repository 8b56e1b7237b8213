"""From one clip or picture to the next without a seam at either end, and the order of the pieces of such a video."""

from dataclasses import replace
from functools import cache

import pytest
import torch

from extensions.long_video.join_plan import CLIP, TRANSITION, JoinPlan, SourceClip, Transition, known_frames
from extensions.long_video.plan import CODENOISE, CONDITIONED, CORRECTED, REPAINT
from extensions.long_video.strategies import conditioned, corrected
from extensions.long_video.strategies.corrected import carry_over
from extensions.long_video.strategies.transitions import make_transition
from extensions.long_video.strategies.window_model import Window
from lavie.errors import RequestError
from lavie.unet import BaseUNet
from tests.extensions.long_video.videos import embed, ideal_model, plan_of, returned, video
from tests.oracle import GaussianDenoiser, covariance, draw, seam
from tests.tiny import TEXT_WIDTH

NEW = 8  # frames of a transition: four are known at each end of a window of 16


@cache
def footage(seed: int = 100) -> torch.Tensor:
    """52 frames as the network makes them, in which a transition takes the place of some."""
    return video(plan_of(4, CONDITIONED, seed=seed))[0]


def bridged(strategy: str, new: int = NEW, told: int = 16, model=None, seed: int = 100):
    """The footage with `new` frames behind the 16th made anew; and its two joins."""
    whole = footage(seed)
    before, after = whole[:, :, 16 - told : 16], whole[:, :, 16 + new : 16 + new + told]
    made = returned(make_transition(model or ideal_model(), before, after, new, "a", 5, strategy))
    assert made.shape[2] == new and made.dtype == torch.float32
    return torch.cat([whole[:, :, :16], made, whole[:, :, 16 + new :]], dim=2), [[16], [16 + new]]


@pytest.mark.parametrize("seed", [100, 101])
@pytest.mark.parametrize("told", [16, 4], ids=["clips", "short ends"])
@pytest.mark.parametrize(("strategy", "low", "high"), [(CONDITIONED, 0.95, 1.08), (CORRECTED, 0.93, 1.10)])
def test_a_transition_between_clips_has_no_seam_at_either_end(strategy, low, high, told, seed):
    made, joins = bridged(strategy, told=told, seed=seed)
    assert all(low <= seam(made, join) <= high for join in joins)
    assert all(seam(made, join, order=2) <= 1.12 for join in joins)


@pytest.mark.parametrize("new", [8, 14])
@pytest.mark.parametrize("strategy", [CONDITIONED, CORRECTED])
def test_a_transition_between_pictures_has_none_either(strategy, new):
    made, joins = bridged(strategy, new, told=1)
    assert all(0.93 <= seam(made, join) <= 1.10 for join in joins)
    assert all(seam(made, join, order=2) <= 1.30 for join in joins)  # one frame tells no velocity


@pytest.mark.parametrize(("sampler", "kind"), [("dpm++", "v_prediction"), ("euler", "sample")])
@pytest.mark.parametrize("strategy", [CONDITIONED, CORRECTED])
def test_no_sampler_and_no_kind_of_prediction_makes_one(strategy, sampler, kind):
    made, joins = bridged(strategy, model=ideal_model(GaussianDenoiser(kind), sampler))
    assert all(0.93 <= seam(made, join) <= 1.15 for join in joins)


def test_repainting_is_a_fallback_with_a_small_seam():
    made, joins = bridged(REPAINT)
    assert all(1.15 <= seam(made, join) <= 1.4 for join in joins)


def test_replacing_the_known_frames_alone_leaves_hard_seams(monkeypatch):
    """The control: what `corrected` would be without its correction."""
    monkeypatch.setattr(corrected.KnownFrames, "_correction", lambda self, covariance, guess, alpha: 0)
    made, joins = bridged(CORRECTED)
    assert all(seam(made, join) > 2.5 for join in joins)


@pytest.mark.parametrize("strategy", [CONDITIONED, CORRECTED])
def test_going_on_from_the_first_clip_alone_does_not_lead_to_the_second(strategy):
    """The control: the frames behind are not told."""
    whole = footage()
    made, _ = video(plan_of(1, strategy, seed=5), start=whole[:, :, :16])
    joined = torch.cat([whole[:, :, :16], made[:, :, :NEW], whole[:, :, 16 + NEW :]], dim=2)
    assert seam(joined, [16]) <= 1.1 and seam(joined, [16 + NEW]) > 2.5


def truth_between(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """RMS difference from frame to frame that the world itself has on its way from four frames to four others."""
    frames, known = NEW + 8, [*range(4), *range(4 + NEW, 8 + NEW)]
    prior, told = covariance(frames), torch.cat([before[:, :, -4:], after[:, :, :4]], dim=2).double()
    regression = torch.linalg.solve(prior[known][:, known], prior[known]).T
    left = prior - regression @ prior[known]
    mean = torch.einsum("uk,bckhw->bcuhw", regression, told)
    spread = left.diagonal()[1:] + left.diagonal()[:-1] - 2 * left.diagonal(1)
    return (mean.diff(dim=2).square().mean((0, 1, 3, 4)) + spread).sqrt()


@pytest.mark.parametrize("strategy", [CONDITIONED, CORRECTED])
def test_between_clips_that_have_nothing_in_common_the_change_is_spread_evenly(strategy, monkeypatch):
    before, after = draw(16, seed=3), draw(16, seed=4)
    true = truth_between(before, after)[3 : 4 + NEW]

    def roughness() -> torch.Tensor:
        made = returned(make_transition(ideal_model(), before, after, NEW, "a", 5, strategy))
        joined = torch.cat([before[:, :, -1:], made, after[:, :, :1]], dim=2)
        return joined.double().diff(dim=2).square().mean((0, 1, 3, 4)).sqrt() / true

    found = roughness()
    assert found.mean() == pytest.approx(1, abs=0.08)
    assert ((found / found.mean() - 1).abs() <= 0.07).all()
    monkeypatch.setattr(corrected.KnownFrames, "_correction", lambda self, covariance, guess, alpha: 0)
    if strategy == CORRECTED:  # the control
        assert roughness()[[0, -1]].min() > 1.5


def test_a_steady_bias_of_the_network_is_taken_out(monkeypatch):
    """Contrast too low in every guess: the frames known at both ends show it."""
    biased = ideal_model(GaussianDenoiser(bias=(0.97, 0.0)))
    found, joins = bridged(CONDITIONED, model=biased)
    monkeypatch.setattr(conditioned, "overlap_calibration", lambda made, known: ([1.0] * 4, [0.0] * 4))
    monkeypatch.setattr(conditioned, "CARRY", 0.0)
    left, _ = bridged(CONDITIONED, model=biased)
    assert all(seam(found, join) <= 1.08 and seam(left, join) > 1.12 for join in joins)


@pytest.mark.parametrize("strategy", [CONDITIONED, CORRECTED, REPAINT])
def test_every_step_is_told_and_the_bits_are_the_same_again(strategy):
    before, after = draw(16, seed=3), draw(1, seed=4)
    for told in (before, before[:, :, -2:]):  # the shorter one has `corrected` make a clip to measure on
        making = make_transition(ideal_model(steps=6), told, after, 5, "a", 5, strategy)
        steps = list(making)
        assert [step.index for step in steps] == list(range(1, steps[-1].steps + 1))
    one, two, other = (
        returned(make_transition(ideal_model(steps=6), before, after, 5, "a", seed, strategy)) for seed in (5, 5, 6)
    )
    assert torch.equal(one, two) and not torch.equal(one, other)


@pytest.mark.parametrize(("strategy", "channels"), [(CONDITIONED, 9), (CORRECTED, 4)])
def test_a_real_network_makes_one(strategy, channels):
    torch.manual_seed(0)
    network = BaseUNet(
        in_channels=channels,
        block_out_channels=(32, 32),
        layers_per_block=1,
        norm_num_groups=8,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=1,
        down_block_types=("CrossAttnDownBlock3D",) * 2,
        up_block_types=("CrossAttnUpBlock3D",) * 2,
    )
    model = ideal_model(network, steps=2, guidance=3.0, shape=(4, 4, 4))
    model = replace(model, embed=lambda prompt, frames=None: torch.full((1, 5, TEXT_WIDTH), float(len(prompt))))
    ends = torch.ones(1, 4, 3, 4, 4), torch.zeros(1, 4, 1, 4, 4)
    made = returned(make_transition(model, *ends, 6, "a", 5, strategy, negative_prompt="blurred"))
    assert made.shape == (1, 4, 6, 4, 4) and made.isfinite().all()


def test_known_frames_may_be_anywhere_in_a_window():
    given = {place: draw(1, seed=place)[:, :, 0] for place in (2, 3, 11)}
    window = Window(range(8, 24), embed("a"), 5)
    made = returned(corrected.fill_frames(ideal_model(steps=6), window, given, covariance(16)))
    assert all(torch.equal(made[:, :, place], latents) for place, latents in given.items())


def test_errors_are_carried_by_the_worlds_own_regression():
    """In high noise the noisy frames tell nothing: what is left is that of the known on the unknown."""
    prior, known = covariance(16), [0, 1, 15]
    unknown = list(range(2, 15))
    true = torch.linalg.solve(prior[known][:, known], prior[known][:, unknown]).T
    assert torch.allclose(carry_over(prior, 1e-9, known), true, atol=1e-6)
    assert carry_over(prior, 1 - 1e-9, known).abs().max() < 1e-3


REFUSED = [
    ({"frames": 15}, ["15 frames", "give 1 to 14", "continue the clip"]),
    ({"frames": 0}, ["0 frames", "give 1 to 14"]),
    ({"prompt": " "}, ["prompt is empty"]),
    ({"seed": None}, ["seed is None", "draw one"]),
    ({"seed": -1}, ["seed is -1"]),
    ({"strategy": CODENOISE}, ["'codenoise'", "choose conditioned, corrected, repaint"]),
    ({"before": torch.zeros(1, 4, 0, 16, 32)}, ["before the transition", "shape (1, 4, 0, 16, 32)"]),
    ({"after": torch.zeros(1, 4, 3, 8, 8)}, ["after the transition", "1 × 4 × frames × 16 × 32"]),
    ({"model": ideal_model(sampler="ddpm")}, ["'corrected' cannot use the sampler 'ddpm'"]),
]


@pytest.mark.parametrize(("values", "words"), REFUSED)
def test_what_cannot_be_made_is_refused_before_anything_is_computed(values, words):
    arguments = {"before": draw(4), "after": draw(4), "frames": 8, "prompt": "a", "seed": 5, "model": ideal_model()}
    arguments |= values
    with pytest.raises(RequestError) as caught:
        next(make_transition(**arguments))
    assert all(word in str(caught.value) for word in words)
    assert arguments["model"].network.calls == 0


@pytest.mark.parametrize(
    ("before", "after", "new", "ends"),
    [
        (16, 16, 8, (4, 4)),
        (16, 16, 14, (1, 1)),
        (16, 16, 9, (4, 3)),
        (1, 16, 8, (1, 7)),
        (16, 1, 8, (7, 1)),
        (1, 1, 8, (1, 1)),
        (2, 40, 3, (2, 11)),
    ],
)
def test_a_window_shows_as_much_of_both_ends_as_it_has_room_for(before, after, new, ends):
    assert known_frames(before, after, new, 16) == ends


REEL = JoinPlan(
    (SourceClip("a", 61), SourceClip("b", 1), SourceClip("c", 16)),
    (Transition("the sun sets"), Transition("", frames=0)),
    seed=5,
)


def test_clips_and_bridges_follow_each_other_without_a_gap():
    pieces = [(piece.kind, piece.number, piece.frames) for piece in REEL.pieces()]
    wanted = [(CLIP, 0, range(61)), (TRANSITION, 0, range(61, 69)), (CLIP, 1, range(69, 70)), (CLIP, 2, range(70, 86))]
    assert pieces == wanted
    assert REEL.frames == 86 and REEL.joins() == [61, 69]


def test_the_order_is_that_of_the_latents():
    """What the pieces say, put together, is the video: a clip's latents as they are, a bridge's between them."""
    clips = [draw(shot.frames, seed=number) for number, shot in enumerate(REEL.shots)]
    parts = []
    for piece in REEL.pieces():
        if piece.kind == CLIP:
            parts.append(clips[piece.number])
        else:
            before, after = clips[piece.number], clips[piece.number + 1]
            transition, seed = REEL.transitions[piece.number], REEL.seed_of(piece.number)
            model = ideal_model(steps=3)
            parts.append(returned(make_transition(model, before, after, transition.frames, transition.prompt, seed)))
        assert parts[-1].shape[2] == len(piece.frames)
    assert torch.cat(parts, dim=2).shape[2] == REEL.frames


def test_it_survives_json_and_each_bridge_has_a_seed():
    assert JoinPlan.from_json(REEL.to_json()) == REEL
    assert [REEL.seed_of(number) for number in range(2)] == [5, 6]
    assert replace(REEL, transitions=(Transition("x", seed=9),) * 2).seed_of(1) == 9
    assert replace(REEL, seed=None).seed_of(0) is None


def test_every_frame_has_its_piece_and_reads_its_prompt():
    reel = replace(REEL, shots=(REEL.shots[0], SourceClip("b", 1, "a moon"), REEL.shots[2]))
    assert [(reel.piece_at(frame).kind, reel.piece_at(frame).number) for frame in (0, 60, 61, 68, 69, 70, 85)] == [
        (CLIP, 0),
        (CLIP, 0),
        (TRANSITION, 0),
        (TRANSITION, 0),
        (CLIP, 1),
        (CLIP, 2),
        (CLIP, 2),
    ]
    assert [reel.mixture(frame) for frame in (0, 61, 69)] == [
        (prompt, prompt, 1.0) for prompt in ("the sun sets", "the sun sets", "a moon")
    ]
    assert reel.mixture(70)[1] == "" and reel.transition_numbers == (0,)


def test_a_window_to_measure_on_is_made_only_where_neither_clip_is_one():
    short = replace(REEL, shots=(SourceClip("a", 15), SourceClip("b", 1), SourceClip("c", 16)), strategy=CORRECTED)
    assert [short.windows_of(number) for number in (0, 1)] == [2, 1]
    assert replace(short, strategy=CONDITIONED).windows_of(0) == 1


WRONG = [
    ({"shots": (SourceClip("a", 4),)}, "the video has 1 clips: give 2"),
    ({"transitions": (Transition("x"),)}, "3 clips have 2 transitions between them, not 1"),
    ({"transitions": (Transition("x", 15), Transition("x"))}, "a transition of 15 frames cannot be made at once"),
    ({"strategy": CODENOISE}, "strategy is 'codenoise'"),
    ({"window": 2}, "window is 2"),
    ({"seed": 0.5}, "seed is 0.5"),
    ({"shots": ["a", "b"]}, "shots is no tuple of shots"),
]


@pytest.mark.parametrize(("values", "words"), WRONG)
def test_a_video_that_cannot_be_is_refused(values, words):
    with pytest.raises(RequestError, match=words):
        replace(REEL, **values)


@pytest.mark.parametrize("make", [lambda: SourceClip("a", 0), lambda: SourceClip("a", None), lambda: Transition("", 8)])
def test_a_shot_and_a_transition_have_limits(make):
    with pytest.raises(RequestError):
        make()
