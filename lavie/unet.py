"""The three networks of the cascade: one skeleton with a transformer block of its own for each.

`BaseUNet` turns noise into 16 frames (with 9 input channels it is the frame-conditioned network of SEINE),
`InterpolationUNet` fills in frames between frames, `SuperResolutionUNet` adds detail to small frames. Parameter names
and shapes are the published ones, so that published weights load strictly.

Sources: LaVie (arXiv 2309.15103, sections 4.1 to 4.3), SEINE (arXiv 2310.20700), Stable Diffusion (arXiv 2112.10752).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders.peft import PeftAdapterMixin
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from lavie.blocks import (
    BlockConfig,
    InterpolationTransformerBlock,
    Level,
    MiddleLevel,
    SuperResolutionTransformerBlock,
    TemporalModule,
    TransformerBlock,
)
from lavie.layers import ROTARY_CHANNELS, Downsample, RotaryEmbedding, TextContext, Upsample, VideoGroupNorm

F = TypeVar("F", bound=Callable[..., None])
register: Callable[[F], F] = register_to_config  # with a type

ATTENTION_DOWN, PLAIN_DOWN = "CrossAttnDownBlock3D", "DownBlock3D"
ATTENTION_UP, PLAIN_UP = "CrossAttnUpBlock3D", "UpBlock3D"


def _attends(block_type: str) -> bool:
    """Whether a level of this type attends. Configs of the original image models have 2-D names."""
    kind = block_type.removesuffix("2D").removesuffix("3D")
    if kind not in ("CrossAttnDownBlock", "DownBlock", "CrossAttnUpBlock", "UpBlock"):
        raise ValueError(
            f"block type {block_type!r} is not known: give {ATTENTION_DOWN}, {PLAIN_DOWN}, {ATTENTION_UP} or {PLAIN_UP}"
        )
    return kind.startswith("CrossAttn")


class VideoUNet(ModelMixin, ConfigMixin, PeftAdapterMixin):  # type: ignore[misc]  # two bases define config_name
    """The skeleton: down, middle and up levels with skips between them, for videos of any length and even odd sizes."""

    BLOCK: type[TransformerBlock]
    TEMPORAL_CONVOLUTIONS = False
    _supports_gradient_checkpointing = True
    _no_split_modules = ("Level", "MiddleLevel")  # type: ignore[assignment]  # ModelMixin declares None
    _repeated_blocks = ["Transformer", "ResnetBlock"]
    _gradient_checkpointing_func: Any

    def _build(self) -> None:
        super().__init__()
        config = self.config
        widths, groups, heads = config["block_out_channels"], config["norm_num_groups"], config["attention_head_dim"]
        self._check_config(widths, groups, heads)
        self.gradient_checkpointing = False
        self.block_config = BlockConfig(
            self.BLOCK,
            heads,
            config["cross_attention_dim"],
            widths[0] * 4,
            groups,
            config["norm_eps"],
            config["use_linear_projection"],
            self.TEMPORAL_CONVOLUTIONS,
        )
        self.conv_in = nn.Conv2d(config["in_channels"], widths[0], 3, padding=1)
        self.time_proj = Timesteps(widths[0], flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(widths[0], self.block_config.time_channels)
        levels = range(len(widths))
        self.down_blocks = nn.ModuleList(self._down_level(widths, level) for level in levels)
        self.mid_block = MiddleLevel(self.block_config, widths[-1])
        self.up_blocks = nn.ModuleList(self._up_level(widths, level) for level in reversed(levels))
        self.conv_norm_out = VideoGroupNorm(groups, widths[0], config["norm_eps"])
        self.conv_out = nn.Conv2d(widths[0], config["out_channels"], 3, padding=1)

    def _check_config(self, widths: Sequence[int], groups: int, heads: int) -> None:
        for name in ("down_block_types", "up_block_types"):
            if len(self.config[name]) != len(widths):
                raise ValueError(
                    f"{name} has {len(self.config[name])} entries, block_out_channels has {len(widths)}: "
                    "give one of each a level"
                )
        for width in widths:
            if width % groups or width % heads:
                raise ValueError(
                    f"block_out_channels holds {width}, which norm_num_groups={groups} and "
                    f"attention_head_dim={heads} (the number of heads) do not both divide"
                )

    def _down_level(self, widths: Sequence[int], level: int) -> Level:
        width, before = widths[level], widths[max(level - 1, 0)]
        pairs = [(before if i == 0 else width, width) for i in range(self.config["layers_per_block"])]
        block = self._level(pairs, "down_block_types", level, level)
        if level < len(widths) - 1:
            block.downsamplers = nn.ModuleList([Downsample(width)])
        return block

    def _up_level(self, widths: Sequence[int], level: int) -> Level:
        width, below, above = widths[level], widths[min(level + 1, len(widths) - 1)], widths[max(level - 1, 0)]
        skips = [width] * self.config["layers_per_block"] + [above]
        pairs = [((below if i == 0 else width) + skip, width) for i, skip in enumerate(skips)]
        block = self._level(pairs, "up_block_types", len(widths) - 1 - level, level)
        if level > 0:
            block.upsamplers = nn.ModuleList([Upsample(width)])
        return block

    def _level(self, pairs: list[tuple[int, int]], types: str, index: int, level: int) -> Level:
        flags = self.config["only_cross_attention"]
        only_cross_attention = flags if isinstance(flags, bool) else flags[level]
        return Level(self.block_config, pairs, _attends(self.config[types][index]), only_cross_attention)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        encoder_hidden_states: Tensor | TextContext,
        class_labels: Tensor | int | None = None,
        image_frames: int = 0,
        low_res: Tensor | None = None,
    ) -> Tensor:
        """Predict the noise (or what the network is trained to predict) of every frame.

        Args:
            sample: B C F H W; with `low_res` they have the network's `in_channels`.
            timestep: 0 … 999, one number or one a clip (B).
            encoder_hidden_states: text embeddings B L C, or B F L C with a prompt for each frame; or a `TextContext` of
                them, which keeps each layer's keys and values from step to step.
            class_labels: the noise level of `low_res`, one number or B (super-resolution only).
            image_frames: the number of frames at the end of each clip that are single images. They bypass all layers
                that mix time but the residual blocks' group norms. If all frames are, each is computed alone.
            low_res: B 3 F H W in -1 … 1, the noised small frames (super-resolution only).

        Returns:
            B C F H W with `out_channels` channels.
        """
        if low_res is not None:
            sample = torch.cat([sample, low_res], dim=1)
        batch, _, frames = sample.shape[:3]
        context = encoder_hidden_states
        if not isinstance(context, TextContext):
            context = TextContext(context)
        time = self._embed_time(sample, timestep, class_labels)
        clip = frames
        if image_frames == frames:  # each still is a clip of its own, group norms included
            time, frames, image_frames = time.repeat_interleave(frames, 0), 1, 1
        x = sample.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        x = self._run_levels(self.conv_in(x), time, context, frames, image_frames)
        x = self.conv_out(self.conv_norm_out.activate(x, frames))
        return x.unflatten(0, (batch, clip)).transpose(1, 2).contiguous()

    def _embed_time(self, sample: Tensor, timestep: Tensor | float, class_labels: Tensor | int | None) -> Tensor:
        """B T, after the activation that every residual block applies."""
        timestep = torch.as_tensor(timestep, device=sample.device).expand(sample.shape[0])
        time = self.time_embedding(self.time_proj(timestep).to(sample.dtype))
        if class_labels is not None:
            levels = torch.as_tensor(class_labels, device=sample.device).expand(sample.shape[0])
            time = time + self.class_embedding(levels).to(sample.dtype)
        return nn.functional.silu(time)

    def _run_levels(self, x: Tensor, time: Tensor, context: TextContext, frames: int, image_frames: int) -> Tensor:
        block: Any
        arguments, skips = (time, context, frames, image_frames), [x]
        for level, block in enumerate(self.down_blocks):
            for index in range(len(block.resnets)):
                x = self._run_layer(block, index, x, *arguments)
                skips.append(x)
            if hasattr(block, "downsamplers"):
                x = block.downsamplers[0](x)
                skips.append(x)
            x = self._mix_time("down_temporal_blocks", level, x, *arguments)
        x = self._run_layer(self.mid_block, 0, x, *arguments)
        x = self._mix_time("mid_temporal_block", None, x, *arguments)
        for level, block in enumerate(self.up_blocks):
            for index in range(len(block.resnets)):
                x = self._run_layer(block, index, torch.cat([x, skips.pop()], dim=1), *arguments)
            if hasattr(block, "upsamplers"):
                x = block.upsamplers[0](x, size=skips[-1].shape[2:])
            x = self._mix_time("up_temporal_blocks", level, x, *arguments)
        return x

    def _run_layer(self, block: Level, index: int, x: Tensor, *arguments: Any) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return self._gradient_checkpointing_func(block.layer, index, x, *arguments)
        return block.layer(index, x, *arguments)

    def _mix_time(self, name: str, level: int | None, x: Tensor, *arguments: Any) -> Tensor:
        """Run the temporal module after a level; only the super-resolution network has them."""
        return x


class BaseUNet(VideoUNet):
    """Text to video (LaVie, section 4.1); with `in_channels=9` video to video by masked frames (SEINE, section 3.2)."""

    BLOCK = TransformerBlock

    @register
    def __init__(
        self,
        sample_size: int | None = 64,
        in_channels: int = 4,
        out_channels: int = 4,
        down_block_types: tuple[str, ...] = (ATTENTION_DOWN,) * 3 + (PLAIN_DOWN,),
        up_block_types: tuple[str, ...] = (PLAIN_UP,) + (ATTENTION_UP,) * 3,
        only_cross_attention: bool | tuple[bool, ...] = False,
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        layers_per_block: int = 2,
        norm_num_groups: int = 32,
        norm_eps: float = 1e-5,
        cross_attention_dim: int = 768,
        attention_head_dim: int = 8,
        use_linear_projection: bool = False,
    ):
        """Names as in the published configs; `attention_head_dim` is the number of heads."""
        self._build()


class InterpolationUNet(VideoUNet):
    """Frames between frames (LaVie, section 4.2): the input is noise, and beside it the nearest key frame's latents."""

    BLOCK = InterpolationTransformerBlock

    @register
    def __init__(
        self,
        sample_size: int | None = 64,
        in_channels: int = 8,
        out_channels: int = 4,
        down_block_types: tuple[str, ...] = (ATTENTION_DOWN,) * 3 + (PLAIN_DOWN,),
        up_block_types: tuple[str, ...] = (PLAIN_UP,) + (ATTENTION_UP,) * 3,
        only_cross_attention: bool | tuple[bool, ...] = False,
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        layers_per_block: int = 2,
        norm_num_groups: int = 32,
        norm_eps: float = 1e-5,
        cross_attention_dim: int = 768,
        attention_head_dim: int = 8,
        use_linear_projection: bool = False,
    ):
        """Names as in the published configs; `attention_head_dim` is the number of heads."""
        self._build()


class SuperResolutionUNet(VideoUNet):
    """×4 in the pixels of a ×4 autoencoder (LaVie, section 4.3): noise, and beside it the noised small frames."""

    BLOCK = SuperResolutionTransformerBlock
    TEMPORAL_CONVOLUTIONS = True

    @register
    def __init__(
        self,
        sample_size: int | None = 128,
        in_channels: int = 7,
        out_channels: int = 4,
        down_block_types: tuple[str, ...] = (PLAIN_DOWN,) + (ATTENTION_DOWN,) * 3,
        up_block_types: tuple[str, ...] = (ATTENTION_UP,) * 3 + (PLAIN_UP,),
        only_cross_attention: bool | tuple[bool, ...] = (True, True, True, False),
        block_out_channels: tuple[int, ...] = (256, 512, 512, 1024),
        layers_per_block: int = 2,
        norm_num_groups: int = 32,
        norm_eps: float = 1e-5,
        cross_attention_dim: int = 1024,
        attention_head_dim: int = 8,
        use_linear_projection: bool = True,
        num_class_embeds: int = 1000,
    ):
        """Names as in the published configs; `attention_head_dim` is the number of heads."""
        self._build()
        config, widths = self.block_config, tuple(block_out_channels)
        self.class_embedding = nn.Embedding(num_class_embeds, config.time_channels)
        self.down_temporal_blocks = nn.ModuleList(TemporalModule(config, width) for width in widths)
        self.mid_temporal_block = TemporalModule(config, widths[-1])
        self.up_temporal_blocks = nn.ModuleList(TemporalModule(config, width) for width in reversed(widths))
        # The published file repeats the rotary frequencies at the top level, where nothing reads them.
        self.temporal_rotary_emb = RotaryEmbedding(ROTARY_CHANNELS)

    def _mix_time(self, name: str, level: int | None, x: Tensor, *arguments: Any) -> Tensor:
        time, _, frames, image_frames = arguments
        if image_frames:
            return x
        module = getattr(self, name)
        return (module if level is None else module[level])(x, time, frames)
