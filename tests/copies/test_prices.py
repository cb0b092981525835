"""Prices are whole numbers, never more than is right, and by less than a unit per line less."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from iso4217 import Currency

from base.currency import DECIMALS, decimals, format_amount
from config.copies import Copies
from config.money import amount, known_currency
from config.problems import Wrong
from copies.orders.prices import price

FOOTAGE = st.lists(st.integers(0, 86_400_000 * 31), max_size=8)
RATE = st.integers(0, 10**9)


def settings(per_minute: int, minimum: int = 0, free: int = 0, tax: int = 0) -> Copies:
    return Copies.model_construct(
        currency="KZT", price_per_minute=per_minute, minimum=minimum, free_minutes=free, tax=tax
    )


def named(footage: list[int]) -> list[tuple[str, int]]:
    return [(f"c{n}", ms) for n, ms in enumerate(footage)]


@given(FOOTAGE, RATE, RATE, st.integers(0, 100), st.integers(0, 10_000))
def test_sums(footage: list[int], per_minute: int, minimum: int, free: int, tax: int) -> None:
    found = price(settings(per_minute, minimum, free, tax), named(footage))
    billed = sum(line.billed_ms for line in found.lines)
    assert billed == max(0, sum(footage) - free * 60_000)
    exact = Fraction(billed * per_minute, 60_000)
    net = sum(line.net for line in found.lines)
    assert exact - max(1, len(footage)) < net <= exact
    assert found.net == net + found.minimum
    assert found.net == (max(net, minimum, min(1, per_minute)) if billed else 0)
    assert Fraction(found.net * tax, 10_000) - 1 < found.tax <= Fraction(found.net * tax, 10_000)
    assert found.total == found.net + found.tax
    assert all(isinstance(n, int) for n in (found.net, found.tax, found.total))


@given(FOOTAGE, RATE, st.integers(0, 7), st.integers(1, 10**7))
def test_more_footage_never_costs_less(
    footage: list[int], rate: int, at: int, more_ms: int
) -> None:
    longer = list(footage)
    if longer:
        longer[at % len(longer)] += more_ms
    a, b = (price(settings(rate, tax=1600), named(f)).total for f in (footage, longer))
    assert a <= b


def test_nothing_costs_nothing() -> None:
    assert price(settings(2000, minimum=50_000, tax=1600), [("c", 0)]).total == 0
    assert price(settings(2000, minimum=50_000, free=5), [("c", 300_000)]).total == 0


@given(st.integers(1, 10**6), st.integers(1, 86_400_000), st.integers(0, 10))
def test_what_is_billed_never_costs_nothing(per_minute: int, ms: int, free: int) -> None:
    """5 s at 10 JPY a minute are 0.8 JPY: a day in such pieces would cost nothing."""
    total = price(settings(per_minute, free=free), [("c", ms)]).total
    assert (total > 0) == (ms > free * 60_000)


def test_an_example_of_the_docs() -> None:
    found = price(settings(2000, 50_000, 5, 1600), [("a", 3_600_000), ("b", 1_830_500)])
    assert [(line.billed_ms, line.net) for line in found.lines] == [
        (3_300_000, 110_000),
        (1_830_500, 61_016),
    ]
    assert (found.net, found.tax, found.total) == (171_016, 27_362, 198_378)


def test_currencies_are_those_of_the_standard() -> None:
    """The library reads the tables that the standard's agency publishes."""
    assert {c.code: c.exponent for c in Currency if c.exponent is not None} == DECIMALS
    for code in ("XAU", "XXX", "XTS", "DEM", "kzt", ""):  # no unit, of the past, misspelt
        with pytest.raises(Wrong):
            known_currency(code)


@given(st.integers(0, 10**12 - 1), st.sampled_from(sorted(DECIMALS)))
def test_amounts_survive_being_written(minor: int, code: str) -> None:
    assert amount(format_amount(minor, code), code) == minor


def test_amounts() -> None:
    assert amount("12,5", "KZT") == 1250 and amount("12", "JPY") == 12
    assert amount("1.234", "KWD") == 1234 and decimals("KZT") == 2
    for text, code in (
        ("12.505", "KZT"),
        ("1.5", "JPY"),
        ("-1", "KZT"),
        ("1e3", "KZT"),
        ("", "KZT"),
    ):
        with pytest.raises(Wrong):
            amount(text, code)
    with pytest.raises(Wrong):
        known_currency("KTZ")
