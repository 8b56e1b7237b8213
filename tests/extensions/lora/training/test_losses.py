"""What the losses weigh: masks, frames' differences, noise, and what must stay."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from extensions.lora.training.factors import Factors, count_parameters, without_factors
from extensions.lora.training.losses import Lesson, debias, min_snr, weighted_error
from extensions.lora.training.ordinary import Ordinary, Sampler, make_ordinary, ordinary_captions, phrases_for
from extensions.lora.training.settings import preset_for
from lavie.bundle import BASE, Bundle
from lavie.manifest import EPSILON, SAMPLE, TEXT_ENCODER, VELOCITY
from lavie.sampling import training_alphas
from tests.tiny import build_networks


def test_only_what_the_mask_shows_counts():
    said, target = torch.zeros(2, 4, 1, 2, 2), torch.zeros(2, 4, 1, 2, 2)
    target[:, :, :, 0] = 2.0
    weights = torch.ones(2, 1, 1, 2, 2)
    weights[1, :, :, 0] = 0
    assert weighted_error(said, target, weights).tolist() == [2.0, 0.0]
    assert weighted_error(said, target, torch.zeros_like(weights)).tolist() == [0.0, 0.0]


def test_a_look_that_all_frames_share_is_taken_out():
    frames = torch.randn(1, 4, 3, 2, 2)
    look = torch.randn(1, 4, 1, 2, 2)
    shift = debias(frames + look, 1) - debias(frames, 1)
    torch.testing.assert_close(shift, (2**0.5 - 1) * look.expand_as(shift))
    torch.testing.assert_close(debias(frames, 1)[:, :, 1], (2**0.5 - 1) * frames[:, :, 1])


def test_min_snr_caps_the_error_of_the_clean_sample():
    timestep = torch.tensor([10, 300, 900])
    alpha = training_alphas()[timestep]
    ratio = alpha / (1 - alpha)
    of_clean = {SAMPLE: torch.ones(3), EPSILON: ratio, VELOCITY: ratio + 1}
    for prediction_type, factor in of_clean.items():
        torch.testing.assert_close(min_snr(timestep, 5.0, prediction_type) * factor, ratio.clamp(max=5))


class Words(torch.nn.Module):
    """A text model that knows one number a token."""

    device, config = torch.device("cpu"), SimpleNamespace()

    def forward(self, tokens):
        self.last_hidden_state = tokens[..., None].float().expand(-1, -1, 32) / 10
        return self


class Pictures:
    captions = ["a"]

    def draw(self, count, generator):
        latents = torch.randn(count, 4, 1, 4, 4, generator=generator)
        return 2 + latents, torch.full((count, 3), 7), torch.ones(count, 1, 1, 4, 4)


def taught(prior: float, steps: int = 12) -> float:
    """How far the network has moved on ordinary clips, with factors trained on something else."""
    torch.manual_seed(0)
    network = build_networks()["base"].eval().requires_grad_(False)
    plain = copy.deepcopy(network)
    preset = preset_for("subject", 32)
    preset = type(preset)(**{**vars(preset), "prior": prior, "batch": 2})
    shapes = {name: tuple(m.weight.shape) for name, m in network.named_modules() if isinstance(m, torch.nn.Linear)}
    factors = Factors(shapes, preset, 0)
    assert sum(p.numel() for p in factors.parameters()) == count_parameters(
        {layer: shape for layer, shape in shapes.items()}, preset
    )
    factors.attach(network)
    noise = torch.Generator().manual_seed(3)
    tokens, asked = torch.arange(9).reshape(3, 3), torch.randn(3, 4, 2, 4, 4, generator=noise)
    timesteps = torch.tensor([900, 500, 100])
    with torch.no_grad():
        before = network(asked, timesteps, Words()(tokens).last_hidden_state)
    ordinary = Ordinary(asked, timesteps, tokens, before)
    lesson = Lesson(
        network, Words(), Pictures(), torch.zeros(3, dtype=torch.long), preset, VELOCITY, 0, ordinary if prior else None
    )
    optimizer = torch.optim.Adam(factors.parameters(), lr=5e-3)
    for step in range(steps):
        optimizer.zero_grad()
        lesson.loss_at(step).backward()
        optimizer.step()
    with torch.no_grad():
        text = Words()(tokens).last_hidden_state
        return float((network(asked, 500, text) - plain(asked, 500, text)).square().mean())


def test_the_prior_pulls_back():
    free, held = taught(0.0), taught(20.0)
    assert 0 < held < 0.5 * free


@torch.no_grad()
def test_the_network_by_itself_is_as_if_no_factors_hung_there():
    torch.manual_seed(0)
    network = torch.nn.ModuleDict({"layer": torch.nn.Linear(16, 16)})
    preset = replace(preset_for("subject", 32), layers=("layer",))
    x = torch.randn(2, 16)
    alone = network["layer"](x)
    factors = Factors({"layer": (16, 16)}, preset, 0)
    factors.attach(network)
    for up in factors.up.values():
        up.fill_(0.1)
    changed = network["layer"](x)
    assert not torch.equal(changed, alone)
    with pytest.raises(RuntimeError), without_factors(network):
        assert torch.equal(network["layer"](x), alone)
        raise RuntimeError
    assert torch.equal(network["layer"](x), changed)


def test_ordinary_captions_are_of_the_bundles_own_world(tiny_bundle):
    nano = ordinary_captions(Bundle("assets/nano"), 8, 0)
    assert len(set(nano)) > 4 and all(text.endswith("background") for text in nano)
    assert nano == ordinary_captions(Bundle("assets/nano"), 8, 0)
    assert ordinary_captions(Bundle(tiny_bundle), 1, 0) == ["a dog running on a beach"]


class Nothing:
    """Makes clips of nothing, and remembers of what."""

    def __init__(self):
        self.asked = []

    def record_calls(self, prompt, seed, steps):
        self.asked.append(prompt)
        number = len(self.asked)
        return [
            (torch.full((2, 4, 2, 2, 2), number), 100 * step, torch.full((2, 4, 2, 2, 2), -number)) for step in (2, 1)
        ]


def test_ordinary_clips_are_made_once(tmp_path):
    nano, sampler = Bundle("assets/nano"), Nothing()
    negative = nano.defaults["base"].negative_prompt

    def media():
        def tokens(captions):
            return torch.tensor([[0 if text == negative else sampler.asked.index(text) + 1] for text in captions])

        making = make_ordinary(nano, sampler, tokens, tmp_path, 0, clips=3)
        told = []
        while True:
            try:
                told.append(next(making))
            except StopIteration as end:
                return told, end.value

    told, found = media()
    assert len(told) == 1 and len(sampler.asked) == 3
    assert found.timesteps.tolist() == [200, 200, 100] * 3
    assert found.tokens[:, 0].tolist() == [0, 1, 1, 0, 2, 2, 0, 3, 3]  # each half with its own caption
    assert found.noisy[:, 0, 0, 0, 0].tolist() == (-found.said)[:, 0, 0, 0, 0].tolist() == [1] * 3 + [2] * 3 + [3] * 3
    again = media()
    assert again[0] == [] and len(sampler.asked) == 3  # they are there already
    assert torch.equal(again[1].said, found.said)


def test_what_the_network_is_asked_on_the_way_to_a_clip(tiny_bundle):
    bundle = Bundle(tiny_bundle)
    network, text = bundle.load(BASE, torch.float32).eval(), bundle.load(TEXT_ENCODER, torch.float32).eval()
    sampler = Sampler(bundle, network, text, bundle.text_encoder(BASE), {})
    calls = sampler.record_calls("a red star", 1, 3)
    assert [timestep for _, timestep, _ in calls] == sorted((timestep for _, timestep, _ in calls), reverse=True)
    assert len(calls) == 3 and not network._forward_hooks
    noisy, timestep, said = calls[1]
    encoder = bundle.text_encoder(BASE)
    prompts = [bundle.defaults[BASE].negative_prompt, "a red star"]
    read = encoder.encode(text, prompts[-len(noisy) :], text.device, noisy.shape[2])
    with torch.no_grad():
        torch.testing.assert_close(network(noisy, timestep, read), said)


def test_what_a_trigger_could_choose_start(tiny_bundle):
    nano = Bundle("assets/nano")
    assert "blue star" in phrases_for(nano, "subject") and phrases_for(nano, "style") == []
    assert "moving right" in phrases_for(nano, "motion") and phrases_for(Bundle(tiny_bundle), "subject") == []
