"""A joint step's mix of media, the marks on the way, and computations that are quicker and say the same."""

import json
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch
from torch import nn

from bench import training
from lavie import layers
from lavie.sampling import training_alphas
from lavie.text import TextEncoder
from lavie.training.diffusion import HELD_FRAMES, Mix, Networks, add_random_noise, embed_held, mixed_loss
from lavie.training.media import LatentSet
from lavie.training.nano import networks as nano
from lavie.training.nano.data import SPUN, TURNED, random_staging
from lavie.training.nano.marks import Group, make_measure, measure_losses
from lavie.training.nano.networks import build_text_model, build_tokenizer

EMPTY = torch.ones(24, dtype=torch.long)


def _text() -> nn.Module:
    torch.manual_seed(0)
    return build_text_model(build_tokenizer(), nano.TEXT_WIDTH, layers=1, places=nano.FRAMES)


def _media(frames: int, count: int = 5) -> LatentSet:
    generator = torch.Generator().manual_seed(frames)
    latents = torch.randn(count, 4, frames, 8, 12, generator=generator).half()
    return LatentSet(latents, torch.randint(3, 20, (count, 24), generator=generator))


def test_losses_are_equal_step_for_step_within_rounding():
    before, now = (torch.tensor(training.train(way, 4, 4)) for way in (training.BEFORE, training.PLAIN))
    torch.testing.assert_close(now, before, rtol=1e-2, atol=0)
    assert len(set(now.tolist())) == 4


def test_gradients_of_a_clip_are_those_of_before():
    network = training.build(training.PLAIN)
    latents, text = torch.randn(1, 4, 5, 8, 12), torch.randn(1, 24, nano.TEXT_WIDTH)

    def gradients() -> list[torch.Tensor]:
        network.zero_grad()
        network(latents, 300, text).square().mean().backward()
        return [parameter.grad for parameter in network.parameters()]

    now = gradients()
    with training.as_before():
        before = gradients()
    torch.testing.assert_close(now, before, rtol=1e-3, atol=1e-6)


def test_without_gradients_the_kernels_are_torchs_own():
    network = nano.build_network().eval()
    latents, text = torch.randn(1, 4, 3, 8, 12), torch.randn(1, 24, nano.TEXT_WIDTH)
    with torch.no_grad():
        now = network(latents, 300, text)
        with patch.object(layers, "SHORT", 0):
            assert torch.equal(network(latents, 300, text), now)


def test_the_repeated_blocks_are_compiled_each_for_its_shapes_where_there_is_a_compiler(monkeypatch):
    asked = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **how: asked.append((type(self).__name__, how)))
    monkeypatch.setattr(nano.shutil, "which", lambda name: None)
    nano.compile_blocks(nano.build_network())
    assert asked == []
    monkeypatch.setattr(nano.shutil, "which", lambda name: f"/usr/bin/{name}")
    nano.compile_blocks(nano.build_network())
    assert {name for name, _ in asked} == {"Transformer", "ResnetBlock"}
    assert all(how == {"dynamic": False} for _, how in asked)


def test_central_timesteps_are_a_share_about_the_middle():
    def of(central: float) -> torch.Tensor:
        return add_random_noise(torch.zeros(20_000, 1, 1, 1, 1), torch.Generator().manual_seed(0), central=central)[
            1
        ].float()

    def about_the_middle(timesteps: torch.Tensor) -> float:
        return ((timesteps > 200) & (timesteps < 650)).float().mean().item()

    assert about_the_middle(of(0)) == pytest.approx(0.45, abs=0.02)
    assert about_the_middle(of(1)) == pytest.approx(
        0.687, abs=0.02
    )  # of N(-0.4, 1) between the logits -1.386 and 0.619
    assert about_the_middle(of(0.5)) == pytest.approx((0.45 + 0.687) / 2, abs=0.02)


def test_stills_are_turned_and_clips_spin_in_their_shares():
    turned = [random_staging(1, index, held_out=True, turned=TURNED) for index in range(400)]
    angles = [abs(placement.angle) > 0.15 for staging in turned for placement in staging.placements]
    assert sum(angles) / len(angles) == pytest.approx(TURNED * (1 - 0.15 / 3.1416), abs=0.06)
    spun = [random_staging(1, index, held_out=False, spun=SPUN) for index in range(400)]
    motions = [(s.shape, s.motion) for staging in spun for s in staging.scene.subjects]
    assert sum(motion == "spinning" for _, motion in motions) / len(motions) == pytest.approx(0.3, abs=0.05)
    assert ("circle", "spinning") not in motions
    assert all(s.motion == p.subject.motion for g in spun for s, p in zip(g.scene.subjects, g.placements, strict=True))


def test_a_joint_step_sees_clips_held_stills_and_stills():
    seen = []

    def unet(noisy, timestep, text, image_frames):
        seen.append((noisy, text, image_frames))
        return torch.zeros_like(noisy)

    networks = SimpleNamespace(unet=unet, text_encoder=_text())
    loss_at = mixed_loss(networks, _media(16), _media(1), EMPTY, Mix(clips=2, held=3, stills=5), 1, 0.5)
    assert torch.equal(loss_at(4), loss_at(4)) and loss_at(4) != loss_at(5)
    (clips, _, of_clips), (held, text, of_held), (stills, _, of_stills) = seen[:3]
    assert clips.shape[:3] == (2, 4, 16) and held.shape[:3] == (3, 4, HELD_FRAMES) and stills.shape[:3] == (5, 4, 1)
    assert (of_clips, of_held, of_stills) == (0, 0, 1)
    assert text.shape == (3, HELD_FRAMES, 24, nano.TEXT_WIDTH)


def test_a_held_still_is_one_picture_under_noise_of_its_own_in_each_frame():
    still = LatentSet(torch.full((1, 4, 1, 8, 12), 1e6), torch.ones(1, 24, dtype=torch.long))
    seen = []

    def unet(noisy, timestep, text, image_frames):
        seen.append(noisy)
        return torch.zeros_like(noisy)

    mixed_loss(SimpleNamespace(unet=unet, text_encoder=_text()), _media(16), still, EMPTY, Mix(1, 1, 1), 1, 0)(0)
    first, second = seen[1][0, :, 0], seen[1][0, :, 1]
    torch.testing.assert_close(first, second, rtol=1e-2, atol=0)
    assert not torch.equal(first, second)


def test_held_text_is_read_by_neighbouring_frames():
    text_model, tokens = _text(), torch.randint(3, 20, (1, 24))
    by_place = [embed_held(text_model, tokens, torch.Generator().manual_seed(seed)) for seed in range(40)]
    firsts = {tuple(text[0, 0, 0].tolist()) for text in by_place}
    assert 8 < len(firsts) <= nano.FRAMES - HELD_FRAMES + 1
    assert not torch.equal(by_place[0][0, 0], by_place[0][0, 1])


def test_a_group_asks_the_same_prompts_at_each_mark():
    hearts = Group("hearts", 6, shape="heart").scenes()
    assert hearts == Group("hearts", 6, shape="heart").scenes()
    assert {scene.subjects[0].shape for scene in hearts} == {"heart"} and len(set(hearts)) > 3
    assert {s.motion for scene in Group("", 5, motion="spinning").scenes() for s in scene.subjects} == {"spinning"}
    assert all(len(scene.subjects) == 2 for scene in Group("", 5, two=True).scenes())


@pytest.mark.parametrize("frames", [1, 4])
def test_a_mark_is_a_line_of_losses_and_shares(frames, tmp_path):
    torch.manual_seed(0)
    networks = Networks(nano.build_network(), _text())
    text = TextEncoder(build_tokenizer())
    file, groups = tmp_path / "marks.jsonl", (Group("one", 2), Group("two", 1, two=True))
    measure = make_measure(networks, nano.build_frame_vae(), text, _media(frames, 2), groups, file)
    with patch("lavie.training.nano.marks.STEPS", 1):
        told = measure(7)
        measure(9)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["step"] for line in lines] == [7, 9]
    assert lines[0]["loss"] == lines[1]["loss"] == {str(at): loss for at, loss in told["loss"].items()}
    assert ("motion" in told["one"]) == (frames > 1)
    assert all(0 <= told[name]["all"] <= 100 for name in ("one", "two"))


def test_the_losses_of_a_mark_are_those_of_the_velocity():
    media = LatentSet(torch.zeros(2, 4, 1, 8, 12), torch.ones(2, 24, dtype=torch.long))

    def silent(noisy, timestep, text):
        return torch.zeros_like(noisy)

    found = measure_losses(silent, _text(), media)
    for timestep, loss in found.items():
        assert loss == pytest.approx(training_alphas()[timestep].item(), rel=0.1, abs=1e-4)  # of √ᾱ · noise
