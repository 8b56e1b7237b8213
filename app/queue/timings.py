"""How long the stages of jobs took, and how much memory: kept as they end. What follows from it is `app.queue.estimates`."""

from __future__ import annotations

from app.device import peak_memory
from app.recipes.recipe import Recipe
from app.storage.database import Database, now


class Timings:
    """All methods may be called from any thread."""

    def __init__(self, database: Database):
        self._database = database

    def add(self, job_id: str, recipe: Recipe, stage: str, seconds: float, frames: int | None = None) -> None:
        """Note that a stage of a job has just ended. frames: of the base stage that it had to do with [all of a clip];
        of a long video, whose stages may end in many parts, those of this part.
        """
        request = recipe.request
        with self._database.write() as connection:
            connection["timings"].insert(
                {
                    "job": job_id,
                    "stage": stage,
                    "model": recipe.model,
                    "device": recipe.provenance["device"],
                    "steps": request.sampling(stage).steps,
                    "frames": frames or request.frames,
                    "width": request.width,
                    "height": request.height,
                    "seconds": seconds,
                    "peak_bytes": peak_memory(),
                    "created": now(),
                }
            )

    def of_job(self, job_id: str) -> list[tuple[str, float]]:
        """Each stage, or part of one, that ended, with its seconds; what was made again stands there again."""
        rows = self._database.query("SELECT stage, seconds FROM timings WHERE job = ? ORDER BY pk", [job_id])
        return [(row["stage"], row["seconds"]) for row in rows]

    def sums(self, job_id: str) -> dict[str, float]:
        """Stage → seconds that it took in all, to milliseconds."""
        found: dict[str, float] = {}
        for stage, seconds in self.of_job(job_id):
            found[stage] = found.get(stage, 0.0) + seconds
        return {stage: round(seconds, 3) for stage, seconds in found.items()}
