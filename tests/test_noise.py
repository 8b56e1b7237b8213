"""Noise is a pure function of its key: of nothing that ran before, and of no window or chunk."""

import itertools

import pytest
import torch

from lavie.noise import CONDITION, INITIAL, STEP, derive_seed, frame_noise

SHAPE = (4, 8, 12)


def test_a_derived_seed_is_the_documented_hash():
    """BLAKE2b-64 of "7/base/step/3", less one bit: a figure, because recipes on disk depend on it."""
    assert derive_seed(7, "base", STEP, 3) == 5883372406682296944


def test_derived_seeds_fit_a_generator_and_differ_for_every_part_of_the_key():
    keys = itertools.product((0, 1, 2**53 - 1), ("base", "interpolation"), (INITIAL, CONDITION, STEP), range(50))
    seeds = [derive_seed(seed, *rest) for seed, *rest in keys]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_noise_is_a_figure():
    noise = frame_noise(7, ("base", INITIAL), range(2), SHAPE)
    assert noise.shape == (1, 4, 2, 8, 12)
    assert noise.dtype == torch.float32
    assert noise[0, 0, :, 0, 0].tolist() == pytest.approx([0.1602965, 0.3181179], abs=1e-5)


def test_a_frame_has_the_same_noise_in_whatever_window_it_is_made():
    whole = frame_noise(7, ("base", INITIAL), range(20), SHAPE)
    window = frame_noise(7, ("base", INITIAL), range(12, 20), SHAPE)
    backwards = frame_noise(7, ("base", INITIAL), [19, 3], SHAPE)
    assert torch.equal(whole[:, :, 12:], window)
    assert torch.equal(whole[:, :, [19, 3]], backwards)


@pytest.mark.parametrize(("seed", "key"), [(8, ("base", INITIAL)), (7, ("base", STEP)), (7, ("other", INITIAL))])
def test_another_key_gives_independent_noise(seed, key):
    one = frame_noise(7, ("base", INITIAL), range(16), SHAPE).flatten()
    other = frame_noise(seed, key, range(16), SHAPE).flatten()
    assert abs(torch.corrcoef(torch.stack([one, other]))[0, 1]) < 0.05


def test_frames_are_independent_standard_normal_noise():
    noise = frame_noise(0, ("base", INITIAL), range(64), SHAPE)[0].transpose(0, 1).flatten(1)
    assert abs(noise.mean()) < 0.02
    assert abs(noise.std() - 1) < 0.02
    off_diagonal = torch.corrcoef(noise) - torch.eye(64)
    assert off_diagonal.abs().max() < 0.25  # 5 standard errors of 384 values


def test_the_global_generator_is_neither_used_nor_moved():
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    one = frame_noise(7, ("base", INITIAL), range(2), SHAPE)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(frame_noise(7, ("base", INITIAL), range(2), SHAPE), one)
