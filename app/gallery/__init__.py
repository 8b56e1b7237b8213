"""The gallery: finished clips, what they were made with, what people say about them, and how to find them again.

`Gallery` holds the clips. Functions over it stand in `search`, `lineage`, `trash`, `rebuild` and `exchange`.
"""

from app.gallery.clip import Clip, Page
from app.gallery.gallery import Gallery
from app.gallery.query import SORTS, Query

__all__ = ["SORTS", "Clip", "Gallery", "Page", "Query"]
