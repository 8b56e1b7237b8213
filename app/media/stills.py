"""Single pictures (png, jpeg, webp) → pixels the right way up. Knows Pillow; knows no video.

Pillow and not ffmpeg: it tells the size before it decodes anything, notices a file that was cut short, and turns
pictures from phones, mirrored ones too, as their camera was held.
"""

from __future__ import annotations

import contextlib
import typing
from collections.abc import Iterator
from pathlib import Path

from app.media.limits import Limits, check
from lavie.errors import MediaError

if typing.TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

_KINDS = {b"\x89PNG\r\n\x1a\n": (0, "png"), b"\xff\xd8\xff": (0, "jpeg"), b"WEBP": (8, "webp")}  # by their first bytes


def kind_of(path: Path) -> str | None:
    """`png`, `jpeg` or `webp` by the content, whatever the name says; None for anything else."""
    with open(path, "rb") as file:
        head = file.read(16)
    return next((kind for mark, (start, kind) in _KINDS.items() if head[start:].startswith(mark)), None)


def read_still(path: Path, limits: Limits | None) -> tuple[np.ndarray, str]:
    """The picture as uint8 H W 3 sRGB, transparency over black, and Pillow's name of its pixel format."""
    import numpy as np
    from PIL import Image, ImageOps

    with _opened(path, limits) as picture:
        mode = picture.mode
        if mode.startswith("I"):  # 16 bits of gray, which Pillow would cut off at 255 instead of scaling
            picture = Image.fromarray((np.asarray(picture).astype(np.uint32) >> 8).astype(np.uint8))
        upright = ImageOps.exif_transpose(picture).convert("RGBA")
        black = Image.new("RGBA", upright.size, (0, 0, 0, 255))
        return np.asarray(Image.alpha_composite(black, upright).convert("RGB")), mode


@contextlib.contextmanager
def _opened(path: Path, limits: Limits | None) -> Iterator[Image]:
    from PIL import Image

    try:
        with Image.open(path, formats=("PNG", "JPEG", "WEBP")) as picture:
            check(path, limits, str(picture.format).lower(), pixels=picture.width * picture.height)
            if getattr(picture, "n_frames", 1) > 1 and picture.format != "JPEG":  # a JPEG's others are previews
                raise MediaError(f"{path} is a moving {picture.format}: save it as gif or mp4")
            yield picture
    except MediaError:
        raise
    except Image.DecompressionBombError as error:
        raise MediaError(f"{path} is larger than any picture taken here ({error}): scale it down") from error
    except Exception as error:  # on damaged files its decoders raise whatever they stumble over
        raise MediaError(f"{path} cannot be read as a picture ({error}): it is damaged") from error
