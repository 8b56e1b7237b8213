"""Text → the words that the full-text index holds, and what a person types → an expression it cannot misread.

Letters and digits make words. Characters of scripts that put no space between words (Chinese, Japanese, Thai, …) are
words of their own, so that a part of a sentence is found in it; so are emoji and other symbols, under a name made of
letters, since the index holds nothing else. Knows no database.
"""

from __future__ import annotations

import re
import unicodedata

_MOST = 64  # words of one search; what is longer is looked for by its beginning
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
    """Words with spaces between them."""
    return " ".join("".join(map(_spell, unicodedata.normalize("NFKC", " ".join(texts)))).split())


def match_expression(text: str) -> tuple[str, str]:
    """What FTS5 is asked for a text as typed, and what it is asked to leave out; either may be empty.

    All words must be there, in any order. `"two words"` stay together, `wor*` is the beginning of a word, `-word` must
    not be there. Anything else between the words means nothing, and a text without a word asks for nothing.
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
    """A character as it stands in a word, or as a word of its own, or as a gap."""
    code = ord(character)
    match unicodedata.category(character)[0]:
        case "S" if code > 127:
            return f" u{code:x} "
        case "M" if 0xFE00 <= code <= 0xFE0F:  # asks for the colourful form of the symbol before it
            return ""
        case "L" | "N" | "M":
            return f" {character} " if any(first <= code <= last for first, last in _UNSPACED) else character
    return " "
