"""What the networks promise beyond parity: images apart from time, text projected once, no score matrices, adapters."""

import math

import pytest
import torch
from peft import LoraConfig
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from lavie.layers import CrossAttention, TextContext, VideoGroupNorm
from lavie.unet import (
    ATTENTION_DOWN,
    ATTENTION_UP,
    PLAIN_DOWN,
    PLAIN_UP,
    BaseUNet,
    InterpolationUNet,
    SuperResolutionUNet,
)
from tests.reference.recipe import fill_, tensor

SMALL = {
    "block_out_channels": (32, 64),
    "down_block_types": (ATTENTION_DOWN, PLAIN_DOWN),
    "up_block_types": (PLAIN_UP, ATTENTION_UP),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "cross_attention_dim": 24,
    "attention_head_dim": 2,
}
TEMPORAL = ("attn_temp", "norm_temp", "temporal")  # parts of the names of all that mixes time


def network(kind=BaseUNet, **changes):
    extra = {"only_cross_attention": (True, False)} if kind is SuperResolutionUNet else {}
    return fill_(kind(**{**SMALL, **extra, **changes}), 1)


def inputs(net, batch=2, frames=5, height=6, width=8, tokens=7):
    """Sample, timestep and text for a network, and its other conditions."""
    channels = net.config.in_channels - (3 if isinstance(net, SuperResolutionUNet) else 0)
    size = (frames, height, width)
    conditions = {}
    if isinstance(net, SuperResolutionUNet):
        conditions = {"low_res": tensor("low", (batch, 3, *size)), "class_labels": torch.full((batch,), 20)}
    return (tensor("sample", (batch, channels, *size)), 321, tensor("text", (batch, tokens, 24))), conditions


kinds = pytest.mark.parametrize("kind", [BaseUNet, InterpolationUNet, SuperResolutionUNet])


@kinds
@torch.no_grad()
def test_all_images_are_each_image_alone(kind):
    net = network(kind)
    (sample, time, _), conditions = inputs(net, frames=3)
    text = tensor("texts", (2, 3, 7, 24))  # one prompt an image
    together = net(sample, time, text, image_frames=3, **conditions)
    for frame in range(3):
        one = slice(frame, frame + 1)
        alone = {**conditions, **({"low_res": conditions["low_res"][:, :, one]} if conditions else {})}
        image = net(sample[:, :, one], time, text[:, frame], image_frames=1, **alone)
        torch.testing.assert_close(together[:, :, one], image, rtol=1e-4, atol=1e-5)


@kinds
@torch.no_grad()
def test_images_do_not_depend_on_training_mode(kind):
    net = network(kind)
    (sample, time, text), conditions = inputs(net)
    for image_frames in (0, 2, 5):
        evaluated = net.eval()(sample, time, text, image_frames=image_frames, **conditions)
        trained = net.train()(sample, time, text, image_frames=image_frames, **conditions)
        assert torch.equal(evaluated, trained)


@pytest.mark.parametrize("kind", [BaseUNet, SuperResolutionUNet])  # interpolation is not trained on images
@torch.no_grad()
def test_trailing_images_see_no_temporal_attention(kind):
    # With group norms over single frames an image has no other way to hear of the clip than what mixes time.
    net = network(kind)
    per_frame_norms(net)
    (sample, time, text), conditions = inputs(net)
    before = net(sample, time, text, image_frames=2, **conditions)
    for name, value in net.named_parameters():
        if any(part in name for part in TEMPORAL):
            value.mul_(1.5)
    after = net(sample, time, text, image_frames=2, **conditions)
    torch.testing.assert_close(after[:, :, 3:], before[:, :, 3:], rtol=1e-4, atol=1e-5)
    assert (after[:, :, :3] - before[:, :, :3]).abs().max() > 1e-2


def per_frame_norms(net):
    for module in net.modules():
        if isinstance(module, VideoGroupNorm):
            module.forward = lambda x, frames=1, norm=module: VideoGroupNorm.forward(norm, x, 1)


@kinds
def test_gradient_checkpointing_changes_no_gradient(kind):
    net = network(kind)
    (sample, time, text), conditions = inputs(net)

    def gradients():
        net.zero_grad()
        net(sample, time, text, image_frames=1, **conditions).square().mean().backward()
        return {name: value.grad.clone() for name, value in net.named_parameters() if value.grad is not None}

    plain = gradients()
    net.enable_gradient_checkpointing()
    checkpointed = gradients()
    assert plain.keys() == checkpointed.keys() and len(plain) > 50
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, msg=lambda text, name=name: f"{name}: {text}")


@kinds
@torch.no_grad()
def test_text_is_projected_once_a_prompt(kind, monkeypatch):
    net = network(kind)
    (sample, time, text), conditions = inputs(net)
    calls = []
    project = CrossAttention.project
    monkeypatch.setattr(CrossAttention, "project", lambda self, text: calls.append(self) or project(self, text))
    plain = net(sample, time, text, **conditions)
    layers, calls[:] = len(calls), []
    context = TextContext(text)
    kept = [net(sample, time, context, **conditions) for _ in range(2)]
    assert len(calls) == layers == len(set(calls))
    assert torch.equal(kept[0], plain) and torch.equal(kept[1], plain)


@torch.no_grad()
def test_one_prompt_a_frame_equals_one_a_clip():
    net = network()
    (sample, time, text), _ = inputs(net)
    per_frame = text[:, None].expand(-1, sample.shape[2], -1, -1)
    torch.testing.assert_close(net(sample, time, per_frame), net(sample, time, text), rtol=1e-4, atol=1e-5)


class LargestTensor(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor that any operation returned."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        sizes = [value.numel() for value in tree_iter(result) if isinstance(value, torch.Tensor)]
        self.elements = max([self.elements, *sizes])
        return result


@kinds
@torch.no_grad()
def test_no_score_matrix_is_materialised(kind):
    net = network(kind, attention_head_dim=8)
    (sample, time, text), conditions = inputs(net, batch=1, frames=2, height=32, width=32)
    with LargestTensor() as largest:
        net(sample, time, text, **conditions)
    tokens, heads, frames = 32 * 32, 8, 2
    assert largest.elements < frames * heads * tokens * tokens / 10


@torch.no_grad()
def test_all_attention_is_fused(monkeypatch):
    calls = []
    fused = torch.nn.functional.scaled_dot_product_attention
    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention", lambda *a, **k: calls.append(k) or fused(*a, **k)
    )
    net = network()
    net(*inputs(net)[0])
    attentions = [module for module in net.modules() if hasattr(module, "to_q")]
    assert len(calls) == len(attentions)
    assert sum(call.get("attn_mask") is not None for call in calls) == len(attentions) // 3  # the temporal ones


@kinds
@pytest.mark.parametrize("size", [(1, 5, 7), (3, 1, 1), (2, 9, 4)], ids=str)
@torch.no_grad()
def test_any_size_and_length(kind, size):
    net = network(kind)
    frames, height, width = size
    arguments, conditions = inputs(net, batch=1, frames=frames, height=height, width=width)
    output = net(*arguments, **conditions)
    assert output.shape == (1, 4, *size) and output.is_contiguous() and output.isfinite().all()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"block_out_channels": (32, 64, 64)}, "down_block_types has 2 entries"),
        ({"up_block_types": (ATTENTION_UP,)}, "up_block_types has 1 entries"),
        ({"norm_num_groups": 12}, "norm_num_groups=12"),
        ({"attention_head_dim": 5}, "attention_head_dim=5"),
        ({"down_block_types": ("AttnDownBlock3D", "DownBlock3D")}, "'AttnDownBlock3D' is not known"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_config_is_named(changes, said):
    with pytest.raises(ValueError, match=said):
        BaseUNet(**{**SMALL, **changes})


def test_the_image_models_block_names_build_the_same_network():
    names = {key: [name.replace("3D", "2D") for name in SMALL[key]] for key in ("down_block_types", "up_block_types")}
    assert BaseUNet(**{**SMALL, **names}).state_dict().keys() == BaseUNet(**SMALL).state_dict().keys()


@torch.no_grad()
def test_one_noise_level_serves_the_whole_batch():
    net = network(SuperResolutionUNet)
    arguments, conditions = inputs(net)
    low_res, levels = conditions["low_res"], torch.full((len(arguments[0]),), 50)
    expected = net(*arguments, levels, low_res=low_res)
    for level in (50, torch.tensor(50), torch.tensor([50])):
        assert torch.equal(net(*arguments, level, low_res=low_res), expected)


@torch.no_grad()
def test_adapters_of_peft_come_and_go():
    net = network()
    arguments, _ = inputs(net)
    before, names = net(*arguments), list(net.state_dict())
    net.add_adapter(LoraConfig(r=4, target_modules=["to_q", "to_k", "to_v", "to_out.0"]), "style")
    assert torch.equal(net(*arguments), before)
    for name, value in net.named_parameters():
        if "lora_B" in name:
            value.copy_(tensor(name, value.shape) / math.sqrt(value.shape[1]))
    assert (net(*arguments) - before).abs().max() > 1e-2
    net.unload_lora()
    assert torch.equal(net(*arguments), before)
    assert list(net.state_dict()) == names
