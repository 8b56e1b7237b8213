"""How long the stages of jobs took, and how much memory: kept as they end. What follows from it is `app.estimates`."""

from __future__ import annotations

from app.database import Database, now
from app.memory import peak_memory
from app.recipe import Recipe


class Timings:
    """All methods may be called from any thread."""

    def __init__(self, database: Database):
        self._database = database

    def add(self, job_id: str, recipe: Recipe, stage: str, seconds: float) -> None:
        """Note that a stage of a job has just ended."""
        request = recipe.request
        with self._database.write() as connection:
            connection["timings"].insert(
                {
                    "job": job_id,
                    "stage": stage,
                    "model": recipe.model,
                    "device": recipe.provenance["device"],
                    "steps": request.sampling(stage).steps,
                    "frames": request.frames,
                    "width": request.width,
                    "height": request.height,
                    "seconds": seconds,
                    "peak_bytes": peak_memory(),
                    "created": now(),
                }
            )

    def of_job(self, job_id: str) -> list[tuple[str, float]]:
        """Each stage that ended, with its seconds; one that was made again stands there again."""
        rows = self._database.query("SELECT stage, seconds FROM timings WHERE job = ? ORDER BY pk", [job_id])
        return [(row["stage"], row["seconds"]) for row in rows]
