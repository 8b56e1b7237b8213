"""How much memory a network needs for what it computes, from its config alone: no weights, no torch, no time.

Follows one forward of `lavie.unet` or of diffusers' AutoencoderKL on a GPU and counts which tensors are alive at each
place; the largest sum is the answer. Attention is the fused one, which keeps no scores. Knows neither what kernels take
for themselves nor how an allocator rounds. `bench.memory` holds it against allocations that are counted one by one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Config = Mapping[str, Any]  # what a component's config.json says

FEED_FORWARD = 16  # times its input while a gated feed-forward layer runs: both halves (8), gate (4), product (4)
VAE_CHUNKED_FROM, VAE_SCORES = 16_384, 2**26  # as lavie.vae has them
TOKENS = 77  # of a prompt


@dataclass(frozen=True)
class Shape:
    """What a network is called with: clips in the batch, frames of a clip, height and width of its latents."""

    clips: int
    frames: int
    height: int
    width: int

    @property
    def pixels(self) -> int:
        return self.clips * self.frames * self.height * self.width

    def smaller(self, halvings: int) -> Shape:
        """Behind so many strided convolutions."""
        height, width = self.height, self.width
        for _ in range(halvings):
            height, width = -(-height // 2), -(-width // 2)
        return Shape(self.clips, self.frames, height, width)


def unet_bytes(config: Config, shape: Shape, element: int) -> int:
    """At most alive in one forward of one of the three networks, its input and output included.

    element: bytes of a number.
    """
    walk = _Unet(config, shape)
    outside = 2 * shape.pixels * (config["in_channels"] + config["out_channels"])
    return round(element * (max(walk.places()) + outside + walk.text()))


class _Unet:
    """The walk through `VideoUNet._levels`, in numbers (not bytes). An item is the memory at one place."""

    def __init__(self, config: Config, shape: Shape):
        self.config, self.widths = config, list(config["block_out_channels"])
        self.layers = config["layers_per_block"]
        self.temporal = _is_super_resolution(config)
        self.first_and_previous = str(config.get("_class_name", "")).startswith("Interpolation")
        self.pixels = [shape.smaller(level).pixels for level in range(len(self.widths))]
        self.clips = shape.clips

    def places(self) -> Iterator[float]:
        skips = [self.widths[0] * self.pixels[0]]
        yield from self._down(skips)
        last, width = self.pixels[-1], self.widths[-1]
        held = sum(skips) + self.temporal * width * last
        yield held + self._layer(width, width, True) * last
        yield held + self._resnet(width, width) * last + width * last
        yield from self._up(skips)
        yield 3 * self.widths[0] * self.pixels[0]  # the last norm and activation

    def _down(self, skips: list[int]) -> Iterator[float]:
        before = self.widths[0]
        for level, (width, pixels) in enumerate(zip(self.widths, self.pixels, strict=True)):
            unlisted = self.temporal and level > 0  # behind a temporal module the input is no skip
            for index in range(self.layers):
                held = sum(skips) + (before * pixels if unlisted and index == 0 else 0)
                yield held + self._layer(before, width, self._attends("down_block_types", level)) * pixels
                before = width
                skips.append(width * pixels)
            if level + 1 < len(self.widths):
                pixels = self.pixels[level + 1]
                skips.append(width * pixels)
            if self.temporal:
                yield sum(skips) + self._mixing(width) * pixels

    def _up(self, skips: list[int]) -> Iterator[float]:
        before, pixels = self.widths[-1], self.pixels[-1]
        if self.temporal:
            yield sum(skips) + (1 + self._mixing(before) / before) * before * pixels
        for index, width in enumerate(reversed(self.widths)):
            level = len(self.widths) - 1 - index
            pixels = self.pixels[level]
            attends = self._attends("up_block_types", index)
            for _ in range(self.layers + 1):
                skip = skips.pop()
                joined = before + skip // pixels
                yield sum(skips) + (before + joined) * pixels + self._layer(joined, width, attends) * pixels
                before = width
            if level > 0:
                lower, pixels = pixels, self.pixels[level - 1]
                yield sum(skips) + width * (lower + 2 * pixels)
            if self.temporal:
                yield sum(skips) + (width + self._mixing(width)) * pixels

    def _attends(self, name: str, index: int) -> bool:
        return str(self.config[name][index]).startswith("CrossAttn")

    def _layer(self, before: int, width: int, attends: bool) -> int:
        """Channels alive in a residual block and its transformer, besides what the caller holds."""
        resnet = self._resnet(before, width)
        return max(resnet, width + self._transformer(width)) if attends else resnet

    @staticmethod
    def _resnet(before: int, width: int) -> int:
        return max(2 * before, before + width, 3 * width)

    def _transformer(self, width: int) -> int:
        """The input twice (as pixels, as tokens), the tokens so far, and the widest of its layers."""
        attention = 10 if self.first_and_previous else 6
        around = 2 + self.temporal  # pixels before and behind the temporal block
        return (around + max(attention, 1 + FEED_FORWARD)) * width

    @staticmethod
    def _mixing(width: int) -> int:
        """A temporal module between the levels."""
        return 4 * width

    def text(self) -> int:
        """Keys and values of the prompts, kept from step to step."""
        kinds = (("down_block_types", self.widths, self.layers), ("up_block_types", self.widths[::-1], self.layers + 1))
        layers = [self.widths[-1]]
        for name, widths, count in kinds:
            layers += [width for index, width in enumerate(widths) if self._attends(name, index) for _ in range(count)]
        return 2 * TOKENS * self.clips * sum(layers) * (2 if self.temporal else 1)


def decoder_bytes(config: Config, height: int, width: int, element: int) -> int:
    """At most alive while an AutoencoderKL decodes one frame. height, width: of its latents."""
    widths = list(config["block_out_channels"])
    pixels = height * width
    places = [_vae_attention(widths[-1], pixels, element), pixels * 5 * widths[-1]]
    before = widths[-1]
    for index, channels in enumerate(reversed(widths)):
        places.append(pixels * max(3 * before, before + 4 * channels if before != channels else 5 * channels))
        if index + 1 < len(widths):
            places.append(channels * (pixels + 2 * 4 * pixels))
            pixels *= 4
        before = channels
    return round(element * (max(places) + 2 * 3 * pixels))


def _vae_attention(channels: int, tokens: int, element: int) -> int:
    """Numbers alive in the autoencoder's one attention, in chunks of queries where there are many."""
    if tokens < VAE_CHUNKED_FROM:
        return 7 * channels * tokens
    return 8 * channels * tokens + 2 * VAE_SCORES


def transformer_parameters(config: Config) -> int:
    """Of the largest part that goes to the device at once where layers are moved one by one."""
    width, text = max(config["block_out_channels"]), config["cross_attention_dim"]
    # Three attentions (4 + 2 + 4, keys and values of the text apart), the feed-forward layer (12), in and out (2).
    squares = 24 + (6 if _is_super_resolution(config) else 0)
    return max(squares * width**2 + 2 * width * text, 9 * 2 * width**2)


def _is_super_resolution(config: Config) -> bool:
    """That network has convolutions along time, and temporal modules between its levels."""
    return str(config.get("_class_name", "")).startswith("SuperResolution")
