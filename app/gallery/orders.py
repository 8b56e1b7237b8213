"""How clips and stacks are sorted, as pieces of SQL: by what, along which index, and where the next page begins.

Knows the columns and the indexes of `app.schema`. Does not know what is looked for.
"""

from __future__ import annotations

from dataclasses import dataclass

_RATING_STEP = 2**52  # above any age, so that a rating before an age is one number
_BEST = f"max(rating * {_RATING_STEP} + pk)"  # of a stack: the best rated clip, of those the newest
BEST_PK = f"{_BEST} % {_RATING_STEP}"


@dataclass(frozen=True)
class Order:
    """A sort. key: what a clip goes by, and then by its number. ascending: the smallest first.

    stack_key, stack_tie: the same of a stack, which stands where one of its clips does. index: walks all clips in this
    order. mates: walks the clips of a stack, the one it stands by first if sorted by `mates_order`.
    """

    key: str
    stack_key: str
    stack_tie: str
    index: str = ""
    mates: str = ""
    mates_order: str = ""
    ascending: bool = False

    def sorted(self, key: str, tie: str) -> str:
        """The terms of ORDER BY, for what the two are called there."""
        direction = "ASC" if self.ascending else "DESC"
        return ", ".join(f"{name} {direction}" for name in self._place(key, tie))

    def beyond(self, key: str, tie: str) -> str:
        """What holds of the clips or stacks that come after :key and :tie."""
        names, values = (", ".join(self._place(*pair)) for pair in ((key, tie), (":key", ":tie")))
        return f"({names}) {'>' if self.ascending else '<'} ({values})"

    def _place(self, key: str, tie: str) -> tuple[str, ...]:
        return (tie,) if self.key == "0" else (key, tie)


_BY_BEST = {"stack_tie": BEST_PK, "mates": "clips_by_stack_rating", "mates_order": "rating DESC, pk DESC"}
_BY_AGE = {"key": "0", "stack_key": "0", "index": "clips_by_age", "mates": "clips_by_stack"}
ORDERS = {
    "newest": Order(**_BY_AGE, stack_tie="max(pk)", mates_order="pk DESC"),
    "oldest": Order(**_BY_AGE, stack_tie="min(pk)", mates_order="pk", ascending=True),
    "rating": Order("rating", f"{_BEST} / {_RATING_STEP}", index="clips_by_rating", **_BY_BEST),
    # SQLite takes a column beside max() from the row that has the maximum: here the best clip's.
    "longest": Order("duration", "duration", index="clips_by_duration", **_BY_BEST),
    "relevance": Order("-rank", "max(-rank)", "max(pk)"),  # of few clips, which are all sorted
}
