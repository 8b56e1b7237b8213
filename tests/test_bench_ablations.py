"""What `bench.ablations` takes from a network: its answers on frames that differ say that it is gone."""

import pytest
import torch

from bench.ablations import without_positions, without_temporal_attention, without_time
from lavie.bundle import BASE, Bundle


@pytest.fixture
def network(tiny_bundle):
    network = Bundle(tiny_bundle).load(BASE, torch.float32)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in network.named_parameters():
        if "attn_temp" in name:
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return network


def temporal_attention_of(network):
    return network.mid_block.attentions[0].transformer_blocks[0].attn_temp


@torch.no_grad()
def test_without_temporal_attention_frames_do_not_see_one_another(network):
    attention = temporal_attention_of(network)
    x = torch.randn(4, 3, attention.to_q.in_features, generator=torch.Generator().manual_seed(1))
    assert attention(x, 4).abs().max() > 0.1
    without_temporal_attention(network)
    assert attention(x, 4).abs().max() == 0
    assert not any(p.requires_grad for p in attention.parameters())


@torch.no_grad()
def test_without_positions_frames_are_a_set(network):
    attention = temporal_attention_of(network)
    x = torch.randn(4, 3, attention.to_q.in_features, generator=torch.Generator().manual_seed(1))
    order = torch.tensor([2, 0, 3, 1])
    assert not torch.allclose(attention(x[order], 4), attention(x, 4)[order], atol=1e-3)
    without_positions(network)
    assert attention(x, 4).abs().max() > 0.1
    torch.testing.assert_close(attention(x[order], 4), attention(x, 4)[order])


def test_time_that_is_learned_from_nothing_begins_at_nothing_and_may_learn(network):
    attention = temporal_attention_of(network)
    x = torch.randn(4, 3, attention.to_q.in_features, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        without_time(network)
    assert attention(x, 4).abs().max() == 0
    attention.requires_grad_(True)(x, 4).sum().backward()
    assert attention.to_out[0].weight.grad.abs().max() > 0
