"""What the meters say, as marks and sentences in the words of one language: pure functions of a report.

The limits are those of `extensions.long_video.metrics`: what is marked bad here is a finding there.
"""

from __future__ import annotations

import html
import re
import typing
from collections.abc import Mapping, Sequence

from app.ui.i18n import Words
from extensions.long_video import metrics

if typing.TYPE_CHECKING:
    from extensions.long_video.metrics import Drift, Finding, Join

GOOD, SOON, BAD = "good", "soon", "bad"
_NEAR = (0.8, 1.25)  # of d, a and m: outside of it a mark is yellow, before anybody would see it
_SIGNS = {GOOD: "●", SOON: "▲", BAD: "✖"}  # not told by colour alone
# The sentences of the meters → the word that says the same; what stands in parentheses is filled in.
_SENTENCES = (
    (r"colour or contrast steps by (?P<value>\S+) of 255", "finding_step"),
    (r"the picture stands still for a frame", "finding_still"),
    (r"the picture jumps, (?P<value>\S+) times its usual change", "finding_jump"),
    (r"motion breaks, (?P<value>\S+) times its usual change", "finding_break"),
    (r"the picture has become brighter by (?P<value>\S+) of 255", "finding_brighter"),
    (r"the picture has become darker by (?P<value>\S+) of 255", "finding_darker"),
    (r"contrast has become (?P<value>\S+) times what it was", "finding_contrast"),
    (r"saturation has become (?P<value>\S+) times what it was", "finding_saturation"),
    (r"sharpness has become (?P<value>\S+) times what it was", "finding_sharpness"),
    (r"motion has become (?P<value>\S+) times what it was", "finding_motion"),
    (r"switch anchoring on, or make the segment again with another seed", "cure_anchor_seed"),
    (r"switch guarding on, or make the segment again with another seed", "cure_guard_seed"),
    (r"choose a larger overlap, or “conditioned” where such weights are there", "cure_overlap"),
    (r"choose an overlap of at least 2, or make the segment again with another seed", "cure_overlap_seed"),
    (r"switch anchoring on, or lower guidance", "cure_anchor_guidance"),
    (r"switch anchoring on, or use guidance with a rescale of 0\.7", "cure_anchor_rescale"),
    (r"start a new segment from a sharp frame, or use “conditioned” where such weights are there", "cure_sharp"),
    (r"switch guarding on, or choose an overlap of 1 or 2", "cure_guard_overlap"),
)


def level(name: str, ratio: float, step: float | None = None) -> str:
    """Of a signal of a join: `GOOD`, `SOON` or `BAD`. step: of s, grey levels over its surroundings, if known."""
    if name == "s":
        step = metrics.COLOUR_STEP + 1 if step is None else step
        if ratio > metrics.COLOUR_RATIO and step > metrics.COLOUR_STEP:
            return BAD
        return SOON if ratio > metrics.COLOUR_RATIO * 0.6 and step > metrics.COLOUR_STEP / 2 else GOOD
    low = metrics.LOWEST if name == "d" else 0.0  # what is called a standstill is told by d
    if not low <= ratio <= metrics.HIGHEST:
        return BAD
    return GOOD if ratio <= _NEAR[1] and (ratio >= _NEAR[0] or name != "d") else SOON


def levels(join: Join) -> dict[str, tuple[str, float]]:
    """Signal → its level and its ratio."""
    found = {name: getattr(join, name) for name in metrics.SIGNALS}
    return {name: (level(name, one.ratio, one.value - one.near), one.ratio) for name, one in found.items()}


def worst(all_levels: Sequence[str]) -> str:
    """Of some levels."""
    return max(all_levels, key=(GOOD, SOON, BAD).index, default=GOOD)


def seam_marks(seam: Mapping[str, float] | Join, say: Words) -> str:
    """Four small marks in a row, each with its name and its ratio."""
    if isinstance(seam, Mapping):
        found = {name: (level(name, seam[name]), seam[name]) for name in metrics.SIGNALS if name in seam}
    else:
        found = levels(seam)
    marks = "".join(_mark(name, one, ratio, say) for name, (one, ratio) in found.items())
    return f'<span class="lv-seam">{marks}</span>' if marks else ""


def _mark(name: str, found: str, ratio: float, say: Words) -> str:
    words = html.escape(f"{say(f'signal_{name}')}: × {ratio:.2f}")
    return (
        f'<span class="lv-mete lv-mete-{found}" role="img" aria-label="{words}" title="{words}">{_SIGNS[found]}</span>'
    )


def drift_level(drift: Drift) -> str:
    """Whether a measure has stayed within its limits; half way out is told before it is there."""
    if drift.measure == "luma":
        share = abs(drift.last - drift.first) / metrics.LUMA_LIMIT
    else:
        low, high = metrics.LIMITS[drift.measure]
        ratio = (drift.last + metrics.FLOOR) / (drift.first + metrics.FLOOR)
        share = (1 - ratio) / (1 - low) if ratio < 1 else (ratio - 1) / (high - 1)
    return BAD if share > 1 else SOON if share > 0.6 else GOOD


def findings(found: Sequence[Finding], say: Words, before: int = 0) -> str:
    """What a person would see, with what may help; a finding of a segment leads there.

    before: parts that the meters count in front of the first segment: 1 where the video continues something.
    """
    if not found:
        return f'<p class="lv-proof">{_SIGNS[GOOD]} {html.escape(say("long_no_findings"))}</p>'
    rows = "".join(_finding(one, before, say) for one in found)
    return f'<ul class="lv-findings">{rows}</ul>'


def sentence(text: str, say: Words) -> str:
    """A sentence of the meters in another language; one that is not known stays as it is."""
    for pattern, word in _SENTENCES:
        if match := re.fullmatch(pattern, text):
            return say(word, **match.groupdict())
    return text


def _finding(finding: Finding, before: int, say: Words) -> str:
    what, cure = html.escape(sentence(finding.what, say)), html.escape(sentence(finding.cure, say))
    where = f"<strong>{html.escape(say('long_whole'))}</strong>"
    if finding.where is not None:
        number = max(finding.where - before, 0)
        words = html.escape(say("long_segment", number=number + 1))
        where = f'<button type="button" class="lv-link" data-act="select" data-n="{number}">{words}</button>'
    return (
        f'<li><span class="lv-mete lv-mete-bad" aria-hidden="true">{_SIGNS[BAD]}</span> {where}: {what}. {cure}.</li>'
    )
