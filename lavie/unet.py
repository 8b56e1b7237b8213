"""The three networks of the cascade: one skeleton, and the block that makes each what it is.

`BaseUNet` turns noise into 16 frames (with 9 input channels it is the frame-conditioned network of SEINE),
`InterpolationUNet` fills in frames between frames, `SuperResolutionUNet` adds detail to small ones. Parameter names and
shapes are the published ones, so that published weights load strictly. Knows nothing of samplers, prompts or files.

Sources: LaVie (arXiv 2309.15103, sections 4.1 to 4.3), SEINE (arXiv 2310.20700), Stable Diffusion (arXiv 2112.10752).
"""

from __future__ import annotations

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders import PeftAdapterMixin
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from lavie.blocks import (
    BaseTransformerBlock,
    InterpolationTransformerBlock,
    Level,
    MiddleLevel,
    SuperResolutionTransformerBlock,
    TemporalModule,
    TransformerBlock,
)
from lavie.layers import ROTARY_CHANNELS, Downsample, RotaryEmbedding, TextContext, Upsample, VideoGroupNorm

ATTENTION_DOWN, PLAIN_DOWN = "CrossAttnDownBlock3D", "DownBlock3D"
ATTENTION_UP, PLAIN_UP = "CrossAttnUpBlock3D", "UpBlock3D"


def _attends(block_type: str) -> bool:
    """Whether a level of this type attends. The 2-D names are those of the image models that the networks grew from."""
    kind = block_type.removesuffix("2D").removesuffix("3D")
    if kind not in ("CrossAttnDownBlock", "DownBlock", "CrossAttnUpBlock", "UpBlock"):
        raise ValueError(
            f"block type {block_type!r} is not known: give {ATTENTION_DOWN}, {PLAIN_DOWN}, {ATTENTION_UP} or {PLAIN_UP}"
        )
    return kind.startswith("CrossAttn")


class VideoUNet(ModelMixin, ConfigMixin, PeftAdapterMixin):
    """The skeleton: down, middle and up levels with skips between them, for videos of any length and even odd sizes."""

    BLOCK: type[TransformerBlock]
    TEMPORAL_CONVOLUTIONS = False
    _supports_gradient_checkpointing = True
    _no_split_modules = ("Level", "MiddleLevel")
    _repeated_blocks = ("Transformer", "ResnetBlock")

    def _build(self) -> None:
        config = self.config
        widths = tuple(config.block_out_channels)
        self._check_config(widths)
        self.gradient_checkpointing = False
        self.time_channels = widths[0] * 4
        self.conv_in = nn.Conv2d(config.in_channels, widths[0], 3, padding=1)
        self.time_proj = Timesteps(widths[0], flip_sin_to_cos=True, downscale_freq_shift=0)
        self.time_embedding = TimestepEmbedding(widths[0], self.time_channels)
        self.down_blocks = nn.ModuleList(self._down_levels(widths))
        self.mid_block = MiddleLevel(self, widths[-1])
        self.up_blocks = nn.ModuleList(self._up_levels(widths))
        self.conv_norm_out = VideoGroupNorm(config.norm_num_groups, widths[0], config.norm_eps)
        self.conv_out = nn.Conv2d(widths[0], config.out_channels, 3, padding=1)

    def _check_config(self, widths: tuple[int, ...]) -> None:
        config = self.config
        for name in ("down_block_types", "up_block_types"):
            if len(getattr(config, name)) != len(widths):
                raise ValueError(
                    f"{name} has {len(getattr(config, name))} entries, block_out_channels has {len(widths)}: "
                    "give one of each a level"
                )
        for width in widths:
            if width % config.norm_num_groups or width % config.attention_head_dim:
                raise ValueError(
                    f"block_out_channels holds {width}, which norm_num_groups={config.norm_num_groups} and "
                    f"attention_head_dim={config.attention_head_dim} (the number of heads) do not both divide"
                )

    def _only_cross_attention(self, level: int) -> bool:
        flags = self.config.only_cross_attention
        return flags if isinstance(flags, bool) else flags[level]

    def _down_levels(self, widths: tuple[int, ...]):
        for level, width in enumerate(widths):
            before = widths[max(level - 1, 0)]
            pairs = [(before if i == 0 else width, width) for i in range(self.config.layers_per_block)]
            attends = _attends(self.config.down_block_types[level])
            block = Level(self, pairs, attends, self._only_cross_attention(level))
            if level < len(widths) - 1:
                block.downsamplers = nn.ModuleList([Downsample(width)])
            yield block

    def _up_levels(self, widths: tuple[int, ...]):
        layers = self.config.layers_per_block + 1
        for index, level in enumerate(reversed(range(len(widths)))):
            width, below, above = widths[level], widths[min(level + 1, len(widths) - 1)], widths[max(level - 1, 0)]
            skips = [width] * (layers - 1) + [above]
            pairs = [((below if i == 0 else width) + skip, width) for i, skip in enumerate(skips)]
            attends = _attends(self.config.up_block_types[index])
            block = Level(self, pairs, attends, self._only_cross_attention(level))
            if level > 0:
                block.upsamplers = nn.ModuleList([Upsample(width)])
            yield block

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        encoder_hidden_states: Tensor | TextContext,
        class_labels: Tensor | int | None = None,
        image_frames: int = 0,
    ) -> Tensor:
        """Predict noise (or velocity: as the network was trained) for every frame.

        Args:
            sample: B C F H W, C as the network's `in_channels`.
            timestep: 0 … 999, one number or one a clip (B).
            encoder_hidden_states: B L C text embeddings (B F L C: one prompt a frame), or a `TextContext` of them,
                which keeps each layer's keys and values from step to step.
            class_labels: the noise level of the low-resolution input, one number or B (super-resolution only).
            image_frames: how many frames at the end of each clip are single images: they bypass all that mixes time
                but the statistics of the residual blocks' group norms. All of them: each image is computed alone.

        Returns:
            B C F H W with `out_channels` channels.
        """
        batch, _, frames = sample.shape[:3]
        context = encoder_hidden_states
        if not isinstance(context, TextContext):
            context = TextContext(context)
        time = self._embed_time(sample, timestep, class_labels)
        clip = frames
        if image_frames == frames:  # nothing connects stills: each is a clip of its own, group norms included
            time, frames, image_frames = time.repeat_interleave(frames, 0), 1, 1
        x = sample.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        x = self._levels(self.conv_in(x), time, context, frames, image_frames)
        x = self.conv_out(self.conv_norm_out.activated(x, frames))
        return x.unflatten(0, (batch, clip)).transpose(1, 2).contiguous()

    def _embed_time(self, sample: Tensor, timestep: Tensor | float, class_labels: Tensor | int | None) -> Tensor:
        """B T, after the activation that every residual block applies."""
        timestep = torch.as_tensor(timestep, device=sample.device).expand(sample.shape[0])
        time = self.time_embedding(self.time_proj(timestep).to(sample.dtype))
        if class_labels is not None:
            levels = torch.as_tensor(class_labels, device=sample.device).expand(sample.shape[0])
            time = time + self.class_embedding(levels).to(sample.dtype)
        return nn.functional.silu(time)

    def _levels(self, x: Tensor, time: Tensor, context: TextContext, frames: int, image_frames: int) -> Tensor:
        arguments = (time, context, frames, image_frames)
        skips = [x]
        for level, block in enumerate(self.down_blocks):
            for index in range(len(block.resnets)):
                x = self._layer(block, index, x, *arguments)
                skips.append(x)
            if hasattr(block, "downsamplers"):
                x = block.downsamplers[0](x)
                skips.append(x)
            x = self._mix_time("down_temporal_blocks", level, x, *arguments)
        x = self._layer(self.mid_block, 0, x, *arguments)
        x = self._mix_time("mid_temporal_block", None, x, *arguments)
        for level, block in enumerate(self.up_blocks):
            for index in range(len(block.resnets)):
                x = self._layer(block, index, torch.cat([x, skips.pop()], dim=1), *arguments)
            if hasattr(block, "upsamplers"):
                x = block.upsamplers[0](x, size=skips[-1].shape[2:])
            x = self._mix_time("up_temporal_blocks", level, x, *arguments)
        return x

    def _layer(self, block: Level, index: int, x: Tensor, *arguments) -> Tensor:
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return self._gradient_checkpointing_func(block.layer, index, x, *arguments)
        return block.layer(index, x, *arguments)

    def _mix_time(self, name: str, level: int | None, x: Tensor, *arguments) -> Tensor:
        """The hook for a temporal module after a level; only the super-resolution network has them."""
        return x


class BaseUNet(VideoUNet):
    """Text to video (LaVie, section 4.1); with `in_channels=9` video to video by masked frames (SEINE, section 3.2)."""

    BLOCK = BaseTransformerBlock

    @register_to_config
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
        """Names as in the published configs; `attention_head_dim` is really the number of heads."""
        super().__init__()
        self._build()


class InterpolationUNet(VideoUNet):
    """Frames between frames (LaVie, section 4.2): the input is noise, and beside it the nearest key frame's latents."""

    BLOCK = InterpolationTransformerBlock

    @register_to_config
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
        """Names as in the published configs; `attention_head_dim` is really the number of heads."""
        super().__init__()
        self._build()


class SuperResolutionUNet(VideoUNet):
    """×4 in the pixels of a ×4 autoencoder (LaVie, section 4.3): noise, and beside it the noised small frames."""

    BLOCK = SuperResolutionTransformerBlock
    TEMPORAL_CONVOLUTIONS = True

    @register_to_config
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
        """Names as in the published configs; `attention_head_dim` is really the number of heads."""
        super().__init__()
        self._build()
        widths = tuple(block_out_channels)
        self.class_embedding = nn.Embedding(num_class_embeds, self.time_channels)
        self.down_temporal_blocks = nn.ModuleList(TemporalModule(self, w, self.time_channels) for w in widths)
        self.mid_temporal_block = TemporalModule(self, widths[-1], self.time_channels)
        self.up_temporal_blocks = nn.ModuleList(TemporalModule(self, w, self.time_channels) for w in reversed(widths))
        # The published file carries the rotary frequencies once more at the top; nothing reads them there.
        self.temporal_rotary_emb = RotaryEmbedding(ROTARY_CHANNELS)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor | float,
        encoder_hidden_states: Tensor | TextContext,
        class_labels: Tensor | int | None = None,
        image_frames: int = 0,
        *,
        low_res: Tensor,
    ) -> Tensor:
        """As in `VideoUNet.forward`; `low_res` is B 3 F H W in -1 … 1 with noise of level `class_labels`."""
        return super().forward(
            torch.cat([sample, low_res], dim=1), timestep, encoder_hidden_states, class_labels, image_frames
        )

    def _mix_time(self, name: str, level: int | None, x: Tensor, *arguments) -> Tensor:
        time, _, frames, image_frames = arguments
        if image_frames:
            return x
        module = getattr(self, name)
        return (module if level is None else module[level])(x, time, frames)
