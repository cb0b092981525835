"""Sentences for people: they stand in the code in English, and in `locales/*.po` in Kazakh and
Russian.

The functions have the names of GNU gettext, so that its tools find the sentences. The catalogues
are read as they are when the process starts. `%(name)s` in a sentence is a value.
"""

from __future__ import annotations

import gettext as gnu
import io
from collections.abc import Mapping
from functools import cache
from pathlib import Path

LANGUAGES = ("kk", "ru", "en")
DEFAULT_LANGUAGE = "kk"  # the language of the state, for those who do not choose one
LOCALES = Path(__file__).parent / "locales"


def N_(sentence: str) -> str:
    """Return the sentence as it is: it is entered in the catalogues and translated later."""
    return sentence


@cache
def translations(lang: str) -> gnu.NullTranslations:
    """Return the catalogue of a language; that of English is what stands in the code.

    Raises OSError and babel's PoFileError where it cannot be read.
    """
    if lang == "en":
        return gnu.NullTranslations()
    from babel.messages.mofile import write_mo  # some MB, which a recorder does not need
    from babel.messages.pofile import read_po

    with (LOCALES / f"{lang}.po").open("rb") as file:
        messages = read_po(file, locale=lang)
    compiled = io.BytesIO()
    write_mo(compiled, messages)
    compiled.seek(0)
    return gnu.GNUTranslations(compiled)


def gettext(sentence: str, lang: str, **values: object) -> str:
    """Return a sentence in a language, with its values filled in."""
    text = translations(lang).gettext(sentence)
    return text % values if values else text


def ngettext(one: str, many: str, count: int, lang: str, **values: object) -> str:
    """Return a sentence that counts, with `count` and its other values filled in."""
    return translations(lang).ngettext(one, many, count) % {"count": count, **values}


def text_in(texts: Mapping[str, str | None], lang: str) -> str:
    """Return a text that an operator wrote in a language, else the first of those that there are,
    else nothing."""
    return texts.get(lang) or next((text for text in texts.values() if text), "")
