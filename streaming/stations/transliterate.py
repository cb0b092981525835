"""One spelling for what people write in Kazakh, Russian or Latin letters. Pure functions.

A text becomes words of ASCII letters and digits in which sounds that are written in several ways
have one letter: ш, sh and ş are `S`, ж, zh and j are `Z`, ы, і, й, и, y and ı are `i`; Kazakh
letters become those that Russians type instead. Two spellings of a name are then the same word,
or a letter or two apart, which the search forgives.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_CYRILLIC = dict(zip("абвгдезиклмнопрстуф", "abvgdeziklmnoprstuf", strict=True))
# what Russians type instead of Kazakh letters
_KAZAKH = {"ә": "a", "ғ": "g", "қ": "k", "ң": "n", "ө": "o", "ұ": "u", "ү": "u"}
_SIGNS = dict.fromkeys("ъь'’ʼ`´ʹ\u00ad", "") | {"№": " "}
_SOUNDS = str.maketrans(
    _CYRILLIC
    | _KAZAKH
    | _SIGNS
    | {"й": "i", "ы": "i", "і": "i", "ё": "e", "э": "e", "ю": "iu", "я": "ia"}
    | {"х": "h", "һ": "h", "ц": "c", "ч": "C", "ш": "S", "щ": "S", "ж": "Z"}
    | {"ş": "S", "š": "S", "ç": "C", "č": "C", "ž": "Z", "j": "Z", "ı": "i", "y": "i"}
    | {"w": "v", "q": "k"}
)
_SEVERAL = {"shch": "S", "sh": "S", "ch": "C", "zh": "Z", "kh": "h", "gh": "g", "ts": "c"} | {
    "ye": "e",
    "yo": "e",
}
_GROUPS = re.compile("|".join(_SEVERAL))
_TWICE = re.compile(r"([a-zSZC])\1+")
_WORD = re.compile(r"[a-zSZC]+|[0-9]+")
_ADDRESS = str.maketrans(
    _CYRILLIC
    | _KAZAKH
    | _SIGNS
    | {"й": "y", "ы": "y", "і": "i", "ё": "e", "э": "e", "ю": "yu", "я": "ya"}
    | {"х": "kh", "һ": "h", "ц": "ts", "ч": "ch", "ш": "sh", "щ": "shch", "ж": "zh", "ı": "i"}
)


@lru_cache(8192)
def transliterate(text: str) -> tuple[str, ...]:
    """Return the words of a text in one spelling; a number is a word without leading zeros."""
    text = unicodedata.normalize("NFC", text.casefold())
    text = _GROUPS.sub(lambda found: _SEVERAL[found[0]], text).translate(_SOUNDS)
    text = _TWICE.sub(r"\1", _plain(text))
    return tuple(w.lstrip("0") or "0" if w.isdigit() else w for w in _WORD.findall(text))


def slug(text: str) -> str:
    """Return a text as a part of an address: `almaty-city`; empty where no letter is known."""
    text = _plain(unicodedata.normalize("NFC", text.casefold()).translate(_ADDRESS))
    return "-".join(re.findall(r"[a-z0-9]+", text))


def _plain(text: str) -> str:
    """Return letters without what stands above or below them."""
    if text.isascii():
        return text
    return "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
