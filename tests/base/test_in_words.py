"""Amounts in words: as people say them, and each back to its number."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from base.i18n.in_words import GROUPS, RUSSIAN_GROUPS, WORDS, amount_in_words, number_in_words


@pytest.mark.parametrize(
    ("minor", "currency", "lang", "words"),
    [
        (0, "KZT", "ru", "Ноль тенге 00 тиын"),
        (58_000, "KZT", "ru", "Пятьсот восемьдесят тенге 00 тиын"),
        (198_378, "KZT", "ru", "Одна тысяча девятьсот восемьдесят три тенге 78 тиын"),
        (2_100_000_05, "KZT", "ru", "Два миллиона сто тысяч тенге 05 тиын"),
        (22_011_00, "KZT", "ru", "Двадцать две тысячи одиннадцать тенге 00 тиын"),
        (58_000, "KZT", "kk", "Бес жүз сексен теңге 00 тиын"),
        (198_378, "KZT", "kk", "Бір мың тоғыз жүз сексен үш теңге 78 тиын"),
        (58_000, "KZT", "en", "Five hundred and eighty tenge 00 tiyn"),
        (1_001_00, "KZT", "en", "One thousand and one tenge 00 tiyn"),
        (1_250, "USD", "en", "Twelve 50/100 USD"),
        (5, "JPY", "kk", "Бес JPY"),
    ],
)
def test_amounts_as_people_say_them(minor: int, currency: str, lang: str, words: str) -> None:
    assert amount_in_words(minor, currency, lang) == words


def values(lang: str) -> dict[str, int]:
    """Return what each word below a thousand stands for."""
    small, tens, *hundreds = WORDS[lang]
    found = {word: n for n, word in enumerate(small)}
    found |= {word: (10 if lang == "kk" else 20) + 10 * n for n, word in enumerate(tens)}
    for table in hundreds:
        found |= {word: 100 * n for n, word in enumerate(table, 1)} | {"одна": 1, "две": 2}
    return found


def number_of(words: str, lang: str) -> int:
    """Return the number that words stand for."""
    known, total, group = values(lang), 0, 0
    forms = RUSSIAN_GROUPS if lang == "ru" else [(form,) for form in GROUPS[lang]]
    powers = {form: n for n, several in enumerate(forms, 1) for form in several}
    for word in words.replace("-", " ").split():
        if word in powers:
            total, group = total + group * 1000 ** powers[word], 0
        elif word in ("hundred", "жүз"):
            group = max(group, 1) * 100
        elif word != "and":
            group += known[word]
    return total + group


@pytest.mark.parametrize("lang", ["kk", "ru", "en"])
@given(number=st.integers(0, 10**15 - 1) | st.integers(0, 10**4))
@settings(deadline=None)
def test_words_say_their_number(lang: str, number: int) -> None:
    assert number_of(number_in_words(number, lang), lang) == number


def test_what_has_no_words_is_refused() -> None:
    for number in (-1, 10**15):
        with pytest.raises(ValueError, match="is not from 0"):
            number_in_words(number, "kk")
