"""Nano's networks from scratch: the classes of the published cascade at the smallest useful size."""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch
from diffusers.models import AutoencoderKL
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

from lavie.key_frames import beside_channels
from lavie.manifest import NEIGHBOURS
from lavie.stages.super_resolution import SCALE
from lavie.text import frame_places
from lavie.training.nano.start import start_as_resampling
from lavie.training.world import BACKGROUNDS, COLOURS, MOTIONS, RADII, SHAPES
from lavie.unet import (
    ATTENTION_DOWN,
    ATTENTION_UP,
    PLAIN_DOWN,
    PLAIN_UP,
    BaseUNet,
    InterpolationUNet,
    SuperResolutionUNet,
    VideoUNet,
)

START, END, UNKNOWN = "<start>", "<end>", "<unknown>"
# What people write for words of the world.
SYNONYMS = {"an": "a", "the": "a", "grey": "gray", "large": "big", "little": "small", "rotating": "spinning"}
MAX_TOKENS = 24
PLACE_DEVIATION = 0.3  # of the vectors that tell places apart, beside words at 0.5


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Lower-cased words of the world; every other word becomes `<unknown>`."""
    words = ["a", "and", "on", "background", *RADII, *COLOURS, *SHAPES, *BACKGROUNDS]
    words += [word for motion in MOTIONS for word in motion.split()]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys([START, END, UNKNOWN, *words]))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    rewrites = [normalizers.Replace(Regex(rf"\b{word}\b"), known) for word, known in SYNONYMS.items()]
    tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *rewrites])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(r"[.,;:!?]+"), "removed")]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}", special_tokens=[(START, vocabulary[START]), (END, vocabulary[END])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        unk_token=UNKNOWN,
        model_max_length=MAX_TOKENS,
    )


def build_text_model(
    tokenizer: PreTrainedTokenizerFast, width: int = 128, layers: int = 3, heads: int = 4, places: int = 0
) -> CLIPTextModel:
    """A CLIP text model from scratch. Its word embeddings start far apart, so that words differ from the first step.

    places: of a frame in a clip, for which it has positions of their own (`lavie.text.embeddings`); give them a start
    with `start_places` when it has learned to read.
    """
    own: dict[str, Any] = {"frame_places": places} if places else {}
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=tokenizer.model_max_length * (1 + places),
        **own,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = CLIPTextModel(config)
    with torch.no_grad():
        model.embeddings.token_embedding.weight.normal_(std=0.5)
    return model


@torch.no_grad()
def start_places(model: CLIPTextModel) -> CLIPTextModel:
    """Let each place in a clip begin as the positions of a caption by itself plus a random vector of its own."""
    places = frame_places(model)
    table = model.embeddings.position_embedding.weight
    alone, *others = table.view(1 + places, -1, table.shape[1])
    for other in others:
        other.copy_(alone + PLACE_DEVIATION * torch.randn(table.shape[1]))
    return model


HEIGHT, WIDTH, FRAMES, FPS = 64, 96, 16, 8
TEXT_WIDTH = 128
WIDTHS, INTERPOLATION_WIDTHS = (128, 128), (64, 128, 128)
VAE_WIDTHS, UPSCALER_VAE_WIDTHS = (32, 64, 128, 128), (16, 32, 64)
LATENT_CHANNELS = 4
SHAPES_COMPILED = 256  # of a block: widths, sizes, with and without gradients, stills and clips
Network = TypeVar("Network", bound=VideoUNet)


def build_vae(widths: tuple[int, ...], size: int) -> AutoencoderKL:
    """An autoencoder that halves the size len(widths) − 1 times, with 4 latent channels and no attention.

    It begins as plain resampling (see `start`), for which each of its four groups holds a colour's pair and two
    constants. Its posterior starts narrow (deviation 0.05): started at 1, as by default, it drowns what the encoder
    first says, and the encoder learns to say one thing in all four channels.
    """
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        block_out_channels=widths,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=4,
        sample_size=size,
        mid_block_add_attention=False,
    )
    start_as_resampling(vae)
    assert vae.quant_conv is not None and vae.quant_conv.bias is not None
    with torch.no_grad():
        vae.quant_conv.weight[LATENT_CHANNELS:] = 0
        vae.quant_conv.bias[LATENT_CHANNELS:] = -6
    return vae


def build_frame_vae() -> AutoencoderKL:
    """The ×8 autoencoder of the base network's frames.

    Its last level keeps its width and has no shortcut to lay the groups out in, so it begins less plainly.
    """
    return build_vae(VAE_WIDTHS, HEIGHT)


def build_upscaler_vae() -> AutoencoderKL:
    """The ×4 autoencoder of the large frames."""
    return build_vae(UPSCALER_VAE_WIDTHS, SCALE * HEIGHT)


def build_network(in_channels: int = LATENT_CHANNELS) -> BaseUNet:
    """A base network or, by `in_channels`, an extension network."""
    return BaseUNet(**_layout(in_channels, WIDTHS))


def build_interpolation() -> InterpolationUNet:
    """A network that is shown four key frames around each frame, and their straight blend."""
    channels = LATENT_CHANNELS + beside_channels(NEIGHBOURS, LATENT_CHANNELS)
    return InterpolationUNet(**_layout(channels, INTERPOLATION_WIDTHS))


def _layout(in_channels: int, widths: tuple[int, ...]) -> dict[str, Any]:
    return {
        "sample_size": HEIGHT // 8,
        "in_channels": in_channels,
        "block_out_channels": widths,
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "cross_attention_dim": TEXT_WIDTH,
        "attention_head_dim": 4,
        "down_block_types": (ATTENTION_DOWN,) * len(widths),
        "up_block_types": (ATTENTION_UP,) * len(widths),
    }


def build_super_resolution() -> SuperResolutionUNet:
    """A narrow network, since it works on sixty-four times as many pixels as the base network."""
    return SuperResolutionUNet(
        sample_size=HEIGHT,
        block_out_channels=(32, 48, 64),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=1,
        down_block_types=(PLAIN_DOWN, ATTENTION_DOWN, ATTENTION_DOWN),
        up_block_types=(ATTENTION_UP, ATTENTION_UP, PLAIN_UP),
        only_cross_attention=(True, True, False),
    )


def start_time_at_zero(network: Network) -> Network:
    """Zero the output of all layers that mix time, so that an inflated network begins as the image network it was."""
    module: Any
    for name, module in network.named_modules():
        if name.endswith(("attn_temp.to_out.0", "attn_temporal.to_out.0", "shift_conv")):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
        if name.endswith("relative_attention_bias"):
            nn.init.normal_(module.weight, std=0.02)
        if name.endswith("resblock_temporal"):
            nn.init.zeros_(module.conv2.weight)
            nn.init.zeros_(module.conv2.bias)
    return network


def inherit(network: Network, parent: dict[str, torch.Tensor]) -> Network:
    """Copy the weights of another network where names are the same; new input channels start at 0."""
    own = network.state_dict()
    for name, value in own.items():
        if name == "conv_in.weight":
            value.zero_()
            value[:, : parent[name].shape[1]] = parent[name]
        elif name in parent:
            value.copy_(parent[name])
    return network


def quick_attention() -> AbstractContextManager[None]:
    """Plain attention, whose backward pass on a CPU beats the fused one for sequences as short as Nano's."""
    return sdpa_kernel(SDPBackend.MATH)


def compile_blocks(network: VideoUNet) -> VideoUNet:
    """Compile the repeated blocks for training, in place; without a C++ compiler, leave them as they are.

    Each shape is compiled separately and stays in the compiler's cache on disk for the next start.
    """
    if shutil.which("g++"):
        torch._dynamo.config.recompile_limit = SHAPES_COMPILED
        for module in network.modules():
            if type(module).__name__ in network._repeated_blocks:
                module.compile(dynamic=False)
    return network
