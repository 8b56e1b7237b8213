"""Small files of clips, written without a cascade, and what people write about clips."""

import numpy as np

from app.media import write_mp4


def video(path, comment, level=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mp4(path, np.full((2, 16, 16, 3), level, np.uint8), 8.0, comment)


def described(shelf, clip_id="a"):
    shelf.gallery.tag(clip_id, "keep", "日本 🌟")
    shelf.gallery.rate(clip_id, 4)
    shelf.gallery.favourite(clip_id)
    return shelf.gallery.note(clip_id, "look at the end")
