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

from base.i18n.causes import CAUSES
from base.i18n.format import format_offset, format_time_of_day
from base.i18n.gettext import LANGUAGES, LOCALES, gettext, ngettext
from storage.records import GapCause
from streaming.http.negotiation import accepted
from tests.support.repository import ROOT


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
    return {
        message
        for package in ("base", "copies", "streaming")
        for _, _, message, _, _ in extract_from_dir(
            ROOT / package, methods, options, directory_filter=_ours
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
    assert gettext("the camera does not answer", "ru") == "камера не отвечает"
    assert ngettext("%(count)s station", "%(count)s stations", 2, "en") == "2 stations"


def test_every_cause_of_a_gap_is_said() -> None:
    assert CAUSES.keys() == set(GapCause)


@pytest.mark.parametrize(
    ("ms", "zone", "text"),
    [
        (1_796_000_000_000, "Asia/Almaty", "UTC+5"),
        (1_796_000_000_000, "Asia/Kathmandu", "UTC+5:45"),
        (1_796_000_000_000, "America/St_Johns", "UTC-3:30"),
        (1_796_000_000_000, "UTC", "UTC"),
    ],
)
def test_offsets(ms: int, zone: str, text: str) -> None:
    assert format_offset(ms, zone) == text


def test_a_moment_of_another_day_has_its_day() -> None:
    noon = 1_796_022_000_000  # 2026-11-30 07:00 UTC
    assert format_time_of_day(noon, "Asia/Almaty", noon + 3_600_000, "en") == "12:00 UTC+5"
    text = format_time_of_day(noon, "Asia/Almaty", noon + 86_400_000, "en")
    assert text == "30 November 2026, 12:00 UTC+5"
