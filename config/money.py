"""Amounts of money and currencies as an operator writes them: `12.50`, `KZT`."""

from __future__ import annotations

import re

from base.currency import DECIMALS, decimals, format_amount
from config.problems import Wrong

LARGEST = 10**15  # of the smallest unit: fits a database's integer with room for sums


def known_currency(text: str) -> str:
    """Return a currency's code; raises Wrong."""
    if text not in DECIMALS:
        raise Wrong("not a currency of ISO 4217", "write its code, as KZT")
    return text


def amount(text: str, currency: str) -> int:
    """Return an amount as it is written, `12.50`, in the smallest unit; raises Wrong."""
    places = decimals(currency)
    found = re.fullmatch(r"([0-9]{1,12})(?:[.,]([0-9]+))?", text.strip())
    if not found or len(found[2] or "") > places:
        example = format_amount(125 * 10**places // 10, currency)
        raise Wrong(
            f"not an amount of {currency}",
            f"write a number with at most {places} decimals, as {example}",
        )
    return int(found[1] + (found[2] or "").ljust(places, "0"))
