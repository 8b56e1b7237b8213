"""What the endpoints tell of clips and jobs: JSON values, with addresses under the page's in place of paths."""

from __future__ import annotations

import json
import typing
from typing import Any

from app.ui.html import media

if typing.TYPE_CHECKING:
    from app.clip import Clip
    from app.gallery import StoredClip
    from app.queue.status import JobStatus

_JOB_FACTS = ("id", "kind", "state", "asked", "stage", "step", "steps", "error", "parent")
_JOB_FACTS += ("created", "started", "finished")


def clip_facts(clip: Clip | StoredClip) -> dict[str, Any]:
    """JSON values; addresses under the page's in place of where the file lies."""
    facts = {name: value for name, value in clip.to_dict().items() if name != "path"}
    kinds = {"url": "mp4", "poster": "poster.webp", "preview": "preview.webp"}
    return facts | {name: media(clip.id, kind) for name, kind in kinds.items()}


def job_facts(job: JobStatus) -> dict[str, Any]:
    """How a job stands, and what came of it."""
    row = job.row
    facts = {name: getattr(row, name) for name in _JOB_FACTS} | {"notices": list(row.notices)}
    return facts | {"clip": job.clip and clip_facts(job.clip), "proof": job.proof and proof_facts(job)}


def proof_facts(job: JobStatus) -> dict[str, Any]:
    """What came of making a clip again."""
    return {**json.loads(job.proof.to_json()), "summary": str(job.proof)}
