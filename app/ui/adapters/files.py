"""Pictures of the tab over HTTP: of adapters, of media, of samples. No name becomes a path: each is looked up.

studio/adapter/<sha256>.webp    studio/training/<id>/media/<number>.webp    studio/training/<id>/samples/<name>
"""

from __future__ import annotations

import re
import typing
from pathlib import Path

from app.gallery.values import is_id
from app.storage.training_folder import MEDIA, SAMPLES, training_folder
from app.studio import Studio
from app.training.media import thumb_of

if typing.TYPE_CHECKING:
    from starlette.requests import Request as HttpRequest
    from starlette.responses import Response

_PICTURE = re.compile(r"([0-9a-f]{64})\.webp")
_THUMB = re.compile(r"(\d{1,8})\.webp", re.ASCII)
_SAMPLE = re.compile(r"step_\d{1,9}(_\d{1,3})?\.(mp4|png)", re.ASCII)
_TYPES = {".webp": "image/webp", ".png": "image/png", ".mp4": "video/mp4"}


class Files:
    """What the tab's pictures are fetched from."""

    def __init__(self, studio: Studio):
        self._studio = studio

    def routes(self) -> list:
        """The routes."""
        from starlette.routing import Route

        return [
            Route("/studio/adapter/{name}", self._responding(self._adapter)),
            Route("/studio/training/{id}/media/{name}", self._responding(self._medium)),
            Route("/studio/training/{id}/samples/{name}", self._responding(self._sample)),
        ]

    def _responding(self, find: typing.Callable[..., Path | None]) -> typing.Callable:
        from app.ui.server import UnlessGone

        async def respond(request: HttpRequest) -> Response:
            from starlette.concurrency import run_in_threadpool
            from starlette.responses import FileResponse, Response

            found = await run_in_threadpool(find, **request.path_params)
            if found is None:
                return Response("no such picture", status_code=404)
            headers = {"Cache-Control": "private, max-age=86400"}  # what has a name keeps its bytes
            return UnlessGone(FileResponse(found, media_type=_TYPES[found.suffix], headers=headers))

        return respond

    def _adapter(self, name: str) -> Path | None:
        match = _PICTURE.fullmatch(name)
        row = self._studio.adapters.get(match[1]) if match else None
        return row.preview if row and row.preview and row.preview.is_file() else None

    def _medium(self, id: str, name: str) -> Path | None:
        match = _THUMB.fullmatch(name)
        return thumb_of(self._folder(id) / MEDIA, match[1]) if match and is_id(id) else None

    def _sample(self, id: str, name: str) -> Path | None:
        path = self._folder(id) / SAMPLES / name if is_id(id) and _SAMPLE.fullmatch(name) else None
        return path if path and path.is_file() else None

    def _folder(self, job_id: str) -> Path:
        return training_folder(self._studio.config.data, job_id)
