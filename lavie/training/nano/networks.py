"""Nano's networks from scratch: the classes of the published cascade at the smallest useful size; and their starts."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import torch
from diffusers.models import AutoencoderKL
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

from lavie.key_frames import beside_channels
from lavie.manifest import NEIGHBOURS
from lavie.stages.super_resolution import SCALE
from lavie.text import frame_places
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

    It begins as plain resampling (`start_as_resampling`): each of its four groups holds a colour's pair and two
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


# Starts that already do the plain thing, so that training only has to learn what the plain thing misses: an autoencoder
# begins as a box filter down and nearest neighbours up, a super-resolution network as passing the small frames on. From
# random weights the ×4 autoencoder took 3 000 steps to 33.8 dB, nearly all of its error in flat areas; from this start
# it takes 300, and 42 dB after 1 500.
#
# Group norms divide a signal by its own strength, so that a flat area's colour is hard to keep exact. Two constant
# channels, +LOUD and −LOUD, beside each pair (x, −x) of a group hold its deviation still whatever x is; and since
# silu(x) − silu(−x) = x, the activation behind the norm lets the pair through unchanged.
LOUD = 4.0  # against colours of at most 1: their square moves the deviation by a per cent or two
RGB = 3
CONSTANT = RGB  # the channel behind the colours, on the way to where groups are laid out


@torch.no_grad()
def start_as_resampling(vae: AutoencoderKL) -> AutoencoderKL:
    """Latent channels 0 … 2 begin as mean colours and decode to them; the last channel is free. In place."""
    half: Any
    block: Any
    for half, blocks, samplers in (
        (vae.encoder, vae.encoder.down_blocks, "downsamplers"),
        (vae.decoder, vae.decoder.up_blocks, "upsamplers"),
    ):
        _carry_in(half.conv_in, range(RGB))
        for block in blocks:
            _silence(block.resnets)
            _pass_shortcut(block.resnets[0].conv_shortcut, half.conv_norm_out, last=block is blocks[-1])
            for sampler in getattr(block, samplers) or []:
                _resample(sampler.conv)
        _silence(half.mid_block.resnets)
        _let_pairs_through(half.conv_norm_out)
        _read_pairs(half.conv_out, half.conv_norm_out, torch.eye(RGB))
    for convolution in (vae.quant_conv, vae.post_quant_conv):
        assert convolution is not None
        for channel in range(min(convolution.in_channels, convolution.out_channels, RGB + 1)):
            _only(convolution, channel, channel)  # rows of the means; those of the deviations stay
    return vae


@torch.no_grad()
def start_as_passing_on(network: SuperResolutionUNet, small: Tensor, latents: Tensor) -> SuperResolutionUNet:
    """Begin as the linear map from small frames to latents that fits best, past all that is random. In place.

    The network is to predict clean latents (`sample`): any other target mixes in the noise, by a share that changes
    with the timestep and that no linear path can follow.

    Args:
        small: frames B 3 h w in -1 … 1. latents: B C h w, of the same frames enlarged.
    """
    known = torch.cat([small, torch.ones_like(small[:, :1])], dim=1).transpose(0, 1).flatten(1).T
    fitted = torch.linalg.lstsq(known, latents.transpose(0, 1).flatten(1).T).solution
    noisy = network.config["in_channels"] - RGB
    _carry_in(network.conv_in, range(noisy, noisy + RGB))
    level: Any
    for level in (*network.down_blocks, network.mid_block, *network.up_blocks):
        _silence(level.resnets, share=0.1)
    # The skip connection from the first convolution to the last residual block carries the small frames past the rest.
    last = level.resnets[-1].conv_shortcut
    _lay_out(last, network.conv_norm_out, first=last.in_channels - network.conv_in.out_channels)
    _let_pairs_through(network.conv_norm_out)
    network.conv_out.weight.zero_()
    _read_pairs(network.conv_out, network.conv_norm_out, fitted[:RGB].T, fitted[RGB])
    return network


@torch.no_grad()
def start_as_blending(network: InterpolationUNet) -> InterpolationUNet:
    """Begin by adding nothing to the straight blend of the key frames, and ignore the noisy latents. In place.

    Four key frames say what lies between them. Where noise is weak the noisy latents say it too, but they are a look at
    the answer, which the network does not get when it is used; a hook keeps their weights at zero.
    """
    heard = torch.ones_like(network.conv_in.weight)
    heard[:, : network.config["out_channels"]] = 0
    network.conv_in.weight.mul_(heard).register_hook(heard.mul)
    for parameter in network.conv_out.parameters():
        nn.init.zeros_(parameter)
    return network


def _carry_in(convolution: nn.Conv2d, sources: Iterable[int]) -> None:
    """Output channels 0 … 2 are these inputs, the next one is LOUD everywhere; others keep their random start."""
    for channel, source in enumerate(sources):
        _only(convolution, channel, source)
    _only(convolution, CONSTANT, None, bias=LOUD)


def _pass_shortcut(shortcut: nn.Conv2d | None, norm: nn.GroupNorm, last: bool) -> None:
    if shortcut is None:
        return
    if last:
        _lay_out(shortcut, norm)
    else:
        for channel in range(RGB + 1):
            _only(shortcut, channel, channel)


def _lay_out(shortcut: nn.Conv2d, norm: nn.GroupNorm, first: int = 0) -> None:
    """Group k of the norm begins with colour k, its negative, and the two constants; they come in from `first` on."""
    for colour, start in enumerate(_group_starts(norm)):
        for offset, (source, gain) in enumerate([(colour, 1), (colour, -1), (CONSTANT, 1), (CONSTANT, -1)]):
            _only(shortcut, start + offset, first + source, gain)


def _let_pairs_through(norm: nn.GroupNorm) -> None:
    """Undo the norm's division for the pairs: two constants in a group, free channels taken to have variance 1."""
    size = norm.num_channels // norm.num_groups
    deviation = ((2 * LOUD**2 + size - 4) / size) ** 0.5
    for start in _group_starts(norm):
        norm.weight[start : start + 2] = deviation


def _read_pairs(convolution: nn.Conv2d, norm: nn.GroupNorm, weights: Tensor, bias: Tensor | None = None) -> None:
    """Outputs as `weights` (outputs × colours) of the colours, each read as half of what its pair differs by."""
    for output, row in enumerate(weights):
        _only(convolution, output, None, bias=0.0 if bias is None else float(bias[output]))
        for start, weight in zip(_group_starts(norm), row, strict=True):
            convolution.weight[output, start, 1, 1] = weight
            convolution.weight[output, start + 1, 1, 1] = -weight


def _group_starts(norm: nn.GroupNorm) -> list[int]:
    return [colour * (norm.num_channels // norm.num_groups) for colour in range(RGB)]


def _only(convolution: nn.Conv2d, output: int, source: int | None, gain: float = 1.0, bias: float = 0.0) -> None:
    """Let an output channel be `gain` times an input channel, or nothing but its bias."""
    assert convolution.bias is not None
    convolution.weight[output] = 0
    convolution.bias[output] = bias
    if source is not None:
        centre = convolution.kernel_size[0] // 2
        convolution.weight[output, source, centre, centre] = gain


def _resample(convolution: nn.Conv2d) -> None:
    """The carried channels: the mean of 2×2 pixels where the convolution halves, themselves behind an enlargement."""
    for channel in range(RGB + 1):
        _only(convolution, channel, channel)
        if convolution.stride == (2, 2):
            convolution.weight[channel, channel] = 0
            convolution.weight[channel, channel, :2, :2] = 0.25


def _silence(blocks: Iterable[Any], share: float = 0.0) -> None:
    """Residual blocks begin by adding nothing, or `share` of what they would."""
    for block in blocks:
        block.conv2.weight *= share
        block.conv2.bias.zero_()
