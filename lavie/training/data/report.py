"""What was left out of a folder, in one summary: how many for which reason, and where to look."""

from __future__ import annotations

from collections.abc import Iterable

from lavie.training.data.items import Fault

NAMED = 3  # examples for each reason


def summary(faults: list[Fault], usable: int) -> str:
    """One sentence for all: “3 of 12 left out: its caption is empty (a.mp4, b.mp4); it is too short (c.mp4: …)”."""
    if not faults:
        return f"all {usable} media are usable"
    return f"{len(faults)} of {len(faults) + usable} left out: {reasons(faults)}"


def reasons(faults: Iterable[Fault]) -> str:
    """The reasons, the most frequent first, each with a few examples."""
    kinds: dict[str, list[Fault]] = {}
    for fault in faults:
        kinds.setdefault(fault.kind, []).append(fault)
    parts = []
    for kind, found in sorted(kinds.items(), key=lambda entry: -len(entry[1])):
        examples = [f"{fault.name}: {fault.detail}" if fault.detail else fault.name for fault in found[:NAMED]]
        more = [f"{len(found) - NAMED} more"] if len(found) > NAMED else []
        parts.append(f"{len(found)} × {kind} ({', '.join(examples + more)})")
    return "; ".join(parts)
