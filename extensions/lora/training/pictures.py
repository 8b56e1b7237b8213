"""A picture → its pixels the right way up, and where in it to look: its transparency, or a mask that lies beside it.

Transparent parts become mid-grey, which says nothing about any background. Knows Pillow; knows no video.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from lavie.training.data.cuts import Cut, Unusable

MAX_PIXELS = 4096 * 4096
MASK = ".mask.png"  # behind the stem of a picture's name
GREY = 128
MOVED, SCALED = 0.2, (0.7, 1.1)  # of a view: shares of a side, at most; sizes, against the picture's own
_FORMATS = ("PNG", "JPEG", "WEBP")


def mask_beside(path: Path) -> Path | None:
    """`a.mask.png` of `a.jpg`, where it is there."""
    file = path.with_name(path.stem + MASK)
    return file if file.is_file() else None


def is_picture(path: Path) -> bool:
    """Whether a file is one of the kinds of pictures, by its content."""
    try:
        Image.open(path, formats=_FORMATS).close()
    except Image.DecompressionBombError:
        return True
    except OSError:
        return False
    return True


def read_picture(path: Path) -> np.ndarray:
    """uint8 H W 4: sRGB, and in the fourth plane how much each pixel counts, 255 where nothing says otherwise.

    Raises Unusable for damage, too many pixels (told by the header, before anything is decoded), a mask of another
    size, and one that leaves nothing.
    """
    pixels = _decoded(path)
    if (mask := mask_beside(path)) is not None:
        plane = _decoded(mask)[..., 0]
        if plane.shape != pixels.shape[:2]:
            sizes = (f"{width}×{height}" for height, width in (plane.shape, pixels.shape[:2]))
            raise Unusable("its mask has another size", " instead of ".join(sizes))
        pixels[..., 3] = plane
    if not pixels[..., 3].any():
        raise Unusable("its mask leaves nothing of it")
    return pixels


def _decoded(path: Path) -> np.ndarray:
    """uint8 H W 4, over mid-grey, with the transparency kept beside."""
    try:
        with Image.open(path, formats=_FORMATS) as picture:
            _check_size(picture.width, picture.height)
            if picture.mode.startswith("I"):  # 16 bits of grey, which Pillow would cut off at 255 instead of scaling
                scaled = np.asarray(picture).astype(np.uint32) >> 8
                picture = Image.fromarray(scaled.astype(np.uint8))
            upright = ImageOps.exif_transpose(picture)
            opaque = upright.convert("RGB") if upright.mode == "CMYK" else upright
            layer = opaque.convert("RGBA")
    except Unusable:
        raise
    except Image.DecompressionBombError as error:
        raise Unusable("it has too many pixels", str(error)) from None
    except Exception as error:  # on damaged files its decoders raise whatever they stumble over
        raise Unusable("it cannot be read as a picture", str(error)[:200]) from None
    grey = Image.new("RGBA", layer.size, (GREY, GREY, GREY, 255))
    pixels = np.array(Image.alpha_composite(grey, layer))
    pixels[..., 3] = np.asarray(layer)[..., 3]
    return pixels


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise Unusable("it has too many pixels", f"{width}×{height}, at most {MAX_PIXELS} are taken: scale it down")


@dataclass(frozen=True)
class MaskedCut(Cut):
    """As `Cut`, of frames with a fourth plane, which is cut and resized like the picture and does not touch it.

    views: what each picture is seen as: as it is, and then moved and scaled, the same way every time.
    """

    views: int = 1

    def clips(self, frames: Iterator[np.ndarray]) -> list[np.ndarray]:
        return [view for clip in super().clips(frames) for view in _views(clip, self.views)]

    def fit(self, frame: np.ndarray) -> np.ndarray:
        weight = np.repeat(frame[..., 3:], 3, axis=2)
        return np.concatenate([super().fit(frame[..., :3]), super().fit(weight)[..., :1]], axis=2)


class Pane:
    """A picture uint8 H W 4, seen from elsewhere. Beyond its edges it goes on as they are, and counts for nothing."""

    def __init__(self, picture: np.ndarray):
        height, width = picture.shape[:2]
        self._size = np.array([width, height])
        around = ((height, height), (width, width))
        colours = np.pad(picture[..., :3], (*around, (0, 0)), mode="edge")
        self._planes = [Image.fromarray(plane) for plane in (colours, np.pad(picture[..., 3], around))]

    def seen(self, aside: np.ndarray, scale: float) -> np.ndarray:
        """uint8 H W 4. aside: by how much the middle of what is seen lies beside the picture's, in shares of its sides;
        scale: how much larger it is seen. Nothing further than one picture's size beside it can be seen."""
        centre, half = self._size * (0.5 + aside) + self._size, self._size / scale / 2
        box = (*(centre - half), *(centre + half))
        return np.dstack([np.asarray(plane.resize(tuple(self._size), box=box)) for plane in self._planes])


def _views(clip: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """A picture, a clip uint8 1 H W 4, as it is, and then as it is seen from elsewhere: `count` in all."""
    yield clip
    pane = Pane(clip[0]) if count > 1 else None
    for number in range(1, count):
        rng = np.random.default_rng(number)
        yield pane.seen(rng.uniform(-MOVED, MOVED, 2), rng.uniform(*SCALED))[None]
