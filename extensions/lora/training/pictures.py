"""Reads pictures upright with a weight for each pixel, from their transparency or a mask beside them, and sets them in
motion.

Transparent parts become mid-grey. A small network repeats over time the shapes it knows: of a subject learned from
stills, stills were right in 83 % and videos in 33 %. Clips of the picture moving as a word says (`MovedCut`) teach it
the new shape too. A model of the real world would learn camera motion from them, so they are for bundles that list the
words in `WAYS`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from lavie.training.data.cuts import Cut, Unusable

# Word → across and down, in shares of what is drawn; and how many times as large it ends as it began.
WAYS = {
    "moving right": (1, 0, 1.0),
    "moving left": (-1, 0, 1.0),
    "moving up": (0, -1, 1.0),
    "moving down": (0, 1, 1.0),
    "growing": (0, 0, 2.4),
    "shrinking": (0, 0, 1 / 2.4),
}
ROUNDS = 2  # clips of each picture and way
FAR = (0.3, 0.5)  # shares of a side that it goes
ASIDE = 0.1  # share of a side that the middle of its way lies beside the picture's, at most
SIZES = (0.75, 1.0)  # against the picture's own, in the middle of its way
MAX_PIXELS = 4096 * 4096
MASK = ".mask.png"  # behind the stem of a picture's name
GREY = 128
MOVED, SCALED = 0.2, (0.7, 1.1)  # of a view: shares of a side, at most; sizes, against the picture's own
_FORMATS = ("PNG", "JPEG", "WEBP")


def mask_beside(path: Path) -> Path | None:
    """`a.mask.png` of `a.jpg`, if it exists."""
    file = path.with_name(path.stem + MASK)
    return file if file.is_file() else None


def is_picture(path: Path) -> bool:
    """Whether a file is a picture, by its content."""
    try:
        Image.open(path, formats=_FORMATS).close()
    except Image.DecompressionBombError:
        return True
    except OSError:
        return False
    return True


def read_picture(path: Path) -> np.ndarray:
    """uint8 H W 4: sRGB, and the weight of each pixel, 255 by default.

    Raises Unusable for damage, too many pixels (checked before decoding), a mask of another size, and an empty mask.
    """
    pixels = _decode(path)
    if (mask := mask_beside(path)) is not None:
        plane = _decode(mask)[..., 0]
        if plane.shape != pixels.shape[:2]:
            sizes = (f"{width}×{height}" for height, width in (plane.shape, pixels.shape[:2]))
            raise Unusable("its mask has another size", " instead of ".join(sizes))
        pixels[..., 3] = plane
    if not pixels[..., 3].any():
        raise Unusable("its mask leaves nothing of it")
    return pixels


def _decode(path: Path) -> np.ndarray:
    """uint8 H W 4 over mid-grey, with the transparency."""
    try:
        with Image.open(path, formats=_FORMATS) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                size = f"{picture.width}×{picture.height}"
                raise Unusable("it has too many pixels", f"{size}, at most {MAX_PIXELS} are taken: scale it down")
            if picture.mode.startswith("I"):  # 16-bit grey, which Pillow would clip at 255
                scaled = np.asarray(picture).astype(np.uint32) >> 8
                picture = Image.fromarray(scaled.astype(np.uint8))
            upright = ImageOps.exif_transpose(picture)
            opaque = upright.convert("RGB") if upright.mode == "CMYK" else upright
            layer = opaque.convert("RGBA")
    except Unusable:
        raise
    except Image.DecompressionBombError as error:
        raise Unusable("it has too many pixels", str(error)) from None
    except Exception as error:  # decoders of damaged files raise anything
        raise Unusable("it cannot be read as a picture", str(error)[:200]) from None
    grey = Image.new("RGBA", layer.size, (GREY, GREY, GREY, 255))
    pixels = np.array(Image.alpha_composite(grey, layer))
    pixels[..., 3] = np.asarray(layer)[..., 3]
    return pixels


@dataclass(frozen=True)
class MaskedCut(Cut):
    """A `Cut` of frames with a fourth plane, which is cut and resized like the picture.

    views: number of views of each picture: as it is, then moved and scaled, the same way every time.
    """

    views: int = 1

    def clips(self, frames: Iterator[np.ndarray]) -> list[np.ndarray]:
        return [view for clip in super().clips(frames) for view in _views(clip, self.views)]

    def fit(self, frame: np.ndarray) -> np.ndarray:
        weight = np.repeat(frame[..., 3:], 3, axis=2)
        return np.concatenate([super().fit(frame[..., :3]), super().fit(weight)[..., :1]], axis=2)


class Pane:
    """A picture uint8 H W 4 seen from elsewhere. Its edges continue outwards with weight 0."""

    def __init__(self, picture: np.ndarray) -> None:
        height, width = picture.shape[:2]
        self._size = np.array([width, height])
        around = ((height, height), (width, width))
        colours = np.pad(picture[..., :3], (*around, (0, 0)), mode="edge")
        self._planes = [Image.fromarray(plane) for plane in (colours, np.pad(picture[..., 3], around))]

    def view(self, aside: np.ndarray, scale: float) -> np.ndarray:
        """uint8 H W 4, the picture moved and magnified.

        aside: how far the middle of the view lies from the picture's, in shares of its sides, at most 1.
        """
        centre, half = self._size * (0.5 + aside) + self._size, self._size / scale / 2
        box = (*(centre - half), *(centre + half))
        return np.dstack([np.asarray(plane.resize(tuple(self._size), box=box)) for plane in self._planes])


def _views(clip: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """`count` views of a picture, a clip uint8 1 H W 4; the first is the picture itself."""
    yield clip
    if count == 1:
        return
    pane = Pane(clip[0])
    for number in range(1, count):
        rng = np.random.default_rng(number)
        yield pane.view(rng.uniform(-MOVED, MOVED, 2), rng.uniform(*SCALED))[None]


@dataclass(frozen=True)
class MovedCut(MaskedCut):
    """A picture → clips uint8 F H W 4 of `length` frames, one for each of the `ways`, `ROUNDS` times."""

    length: int = 16
    ways: tuple[str, ...] = tuple(WAYS)

    def clips(self, frames: Iterator[np.ndarray]) -> list[np.ndarray]:
        (picture,) = super().clips(frames)
        return [
            _move(picture[0], way, number * len(WAYS) + list(WAYS).index(way), self.length)
            for number in range(ROUNDS)
            for way in self.ways
        ]


def _move(picture: np.ndarray, way: str, seed: int, length: int) -> np.ndarray:
    rng, pane = np.random.default_rng(seed), Pane(picture)
    across, down, ratio = WAYS[way]
    far = np.array([across, down]) * rng.uniform(*FAR)
    middle = rng.uniform(-ASIDE, ASIDE, 2)
    size = rng.uniform(*SIZES)
    times = np.linspace(-0.5, 0.5, length)
    return np.stack([pane.view(middle - far * time, size * ratio**time) for time in times])
