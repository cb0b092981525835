"""Which language is chosen, and that the catalogues have every sentence."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.pofile import read_po
from hypothesis import given
from hypothesis import strategies as st

from config.model import LANGUAGES
from streaming.http.negotiation import LOCALES, accepted, plural, translate

KEYWORDS = {
    "mark": None,
    "Refused": None,
    "translate": (2,),
    "say": (2,),
    "plural": (2, 3),
    "_": None,
}
KEYWORDS |= {"gettext": None, "ngettext": (1, 2), "Refused": None}


@pytest.mark.parametrize(
    ("header", "lang"),
    [
        ("", "kk"),
        ("ru-KZ;q=0.8, kk;q=0.9", "kk"),
        ("ru, kk", "ru"),
        ("RU-ru", "ru"),
        ("en-US,en;q=0.5", "en"),
        ("de, *;q=0.1", "kk"),
        ("kk;q=0, *", "ru"),
        ("kk;q=0.2, *;q=0.7", "ru"),
        ("en;q=0, ru;q=0.001", "ru"),
        ("de", "kk"),
        ("ru;q=much, en;q=0.1", "en"),
        ("kk;q=0,ru;q=0,en;q=0", "kk"),
        ("," * 5000 + "ru", "kk"),
    ],
)
def test_what_accept_language_likes_best(header: str, lang: str) -> None:
    assert accepted(header) == lang


@given(st.text() | st.from_regex(r"([a-z*-]{0,8}(;q=[0-9.]{0,6})?,){0,30}"))
def test_no_header_does_harm(header: str) -> None:
    assert accepted(header) in LANGUAGES


def sentences() -> set[str | tuple[str, ...]]:
    """Every sentence in code and templates."""
    with (LOCALES / "babel.cfg").open() as file:
        methods, options = parse_mapping_cfg(file)  # type: ignore[no-untyped-call]
    places = (LOCALES.parent, LOCALES.parent.parent / "copies")
    return {
        message
        for place in places
        for _, _, message, _, _ in extract_from_dir(
            place, methods, options, KEYWORDS, directory_filter=_ours
        )
    }


def _ours(folder: str) -> bool:
    return Path(folder).name not in ("node_modules", "static", "__pycache__")


@pytest.mark.parametrize("lang", ["kk", "ru"])
def test_every_sentence_is_in_the_catalogues(lang: str) -> None:
    with (LOCALES / f"{lang}.po").open("rb") as file:
        catalogue = read_po(file, locale=lang)
    wanted = sentences()
    known = {m.id for m in catalogue if m.id}
    assert known == wanted, f"run make messages, then translate: {known ^ wanted}"
    for message in catalogue:
        texts = [message.string] if isinstance(message.string, str) else message.string or ()
        ids = [message.id] if isinstance(message.id, str) else message.id
        for text in texts if message.id else ():
            assert text and not message.fuzzy, f"not translated: {message.id}"
            assert _values(text) == set().union(*map(_values, ids)), message.id


def _values(text: str) -> set[str]:
    return set(re.findall(r"%\(\w+\)[sd]|\{\w+\}", text))  # {name}: filled in by a script


def test_catalogues_are_for_languages() -> None:
    assert {p.stem for p in Path(LOCALES).glob("*.po")} == set(LANGUAGES) - {"en"}


def test_numbers_choose_their_sentence() -> None:
    assert translate("ru", "the camera does not answer") == "камера не отвечает"
    assert plural("en", "%(count)s station", "%(count)s stations", 2) == "2 stations"
