"""Frames ↔ files: our mp4 with the recipe inside, reading of uploads within limits, pictures, exports, cuts.

Every file that this package writes appears whole or not at all. It knows containers and codecs; it does not know what a
recipe says, nor where clips are kept. Of a source's sound nothing is read: clips have none.
"""

from __future__ import annotations

from app.media.edit import join, trim
from app.media.encode import encode_frames, write_mp4
from app.media.export import EXPORTS, Export, export
from app.media.files import check_output, is_partial, sweep_partials
from app.media.limits import UPLOAD_LIMITS, Limits
from app.media.pictures import write_animation, write_poster, write_preview
from app.media.reading import MAX_RECIPE_BYTES, MediaInfo, frames_of, probe, read_recipe, read_video

__all__ = [
    "EXPORTS",
    "MAX_RECIPE_BYTES",
    "UPLOAD_LIMITS",
    "Export",
    "Limits",
    "MediaInfo",
    "check_output",
    "encode_frames",
    "export",
    "frames_of",
    "is_partial",
    "join",
    "probe",
    "read_recipe",
    "read_video",
    "sweep_partials",
    "trim",
    "write_animation",
    "write_mp4",
    "write_poster",
    "write_preview",
]
