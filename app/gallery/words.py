"""Splits text into the words of the full-text index, and turns typed searches into safe FTS5 expressions.

Letters and digits form words. Each character of a script without spaces between words (Chinese, Japanese, Thai, …) is a
word, so that parts of sentences are found. So is each emoji or symbol, under a name in letters, since the index holds
nothing else.
"""

from __future__ import annotations

import re
import unicodedata

_MOST = 64  # words of one search; the rest of a longer one is ignored
_PIECE = re.compile(r'(-?)"([^"]*)"?(\*?)|(\S+)')
_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x312F),  # radicals, kana, bopomofo
    (0x3190, 0xA4CF),  # Chinese characters, Yi
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)


def index_text(*texts: str) -> str:
    """The words of the texts, separated by spaces."""
    return " ".join("".join(map(_spell, unicodedata.normalize("NFKC", " ".join(texts)))).split())


def match_expression(text: str) -> tuple[str, str]:
    """The FTS5 expressions for a typed text: what must match and what must not; either may be empty.

    All words must match, in any order. `"two words"` match together, `wor*` matches the beginning of a word, `-word`
    must not match. Everything else between words is ignored.
    """
    wanted: dict[str, None] = {}
    unwanted: dict[str, None] = {}
    for minus, quoted, star, plain in _PIECE.findall(text):
        minus, star = minus or plain.startswith("-"), star or plain.endswith("*")
        words = index_text(quoted or plain).split()[:_MOST]
        if words:
            phrase = f'"{" ".join(words)}"{" *" if star else ""}'
            (unwanted if minus else wanted)[phrase] = None
    return " ".join(list(wanted)[:_MOST]), " OR ".join(list(unwanted)[:_MOST])


def _spell(character: str) -> str:
    """A character as part of a word, as a word of its own, or as a gap."""
    code = ord(character)
    match unicodedata.category(character)[0]:
        case "S" if code > 127:
            return f" u{code:x} "
        case "M" if 0xFE00 <= code <= 0xFE0F:  # variation selector: shows the symbol before it as emoji
            return ""
        case "L" | "N" | "M":
            return f" {character} " if any(first <= code <= last for first, last in _UNSPACED) else character
    return " "
