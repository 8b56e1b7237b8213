"""Video and picture files: mp4 with the recipe inside, uploads within limits, pictures, exports, cuts.

Every file is written whole or not at all. Sound of sources is ignored, since clips have none,
save for the file that a trim or join names for it.
"""

from __future__ import annotations

from app.media.containers import UPLOAD_LIMITS, Limits
from app.media.encode import write_animation, write_mp4, write_poster, write_preview
from app.media.export import EXPORTS, Export, export_clip
from app.media.files import check_output, is_partial, sweep_partials
from app.media.reading import MAX_RECIPE_BYTES, MediaInfo, frames_of, probe, read_recipe, read_video

__all__ = [
    "EXPORTS",
    "MAX_RECIPE_BYTES",
    "UPLOAD_LIMITS",
    "Export",
    "Limits",
    "MediaInfo",
    "check_output",
    "export_clip",
    "frames_of",
    "is_partial",
    "probe",
    "read_recipe",
    "read_video",
    "sweep_partials",
    "write_animation",
    "write_mp4",
    "write_poster",
    "write_preview",
]
