"""Money: a currency of ISO 4217, and amounts as integers of its smallest unit.

An operator writes `12.50`; everything else in the house knows 1250 and the currency. Nothing is
ever computed with fractions of a currency.
"""

from __future__ import annotations

import re
from decimal import Decimal
from functools import cache

from babel import Locale

from config.problems import Wrong

# ISO 4217, "minor unit"; every other currency has two decimals
_NONE = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_THREE = "BHD IQD JOD KWD LYD OMR TND"
_DECIMALS = dict.fromkeys(_NONE.split(), 0) | dict.fromkeys(_THREE.split(), 3)
LARGEST = 10**15  # of the smallest unit: fits a database's integer with room for sums


def decimals(currency: str) -> int:
    """Return how many decimals a currency has: 2 for KZT, 0 for JPY."""
    return _DECIMALS.get(currency, 2)


@cache
def _known() -> frozenset[str]:
    return frozenset(Locale("en").currencies)


def currency(text: str) -> str:
    """Return a currency's code; raises Wrong."""
    if text not in _known():
        raise Wrong("not a currency of ISO 4217", "write its code, as KZT")
    return text


def amount(text: str, currency: str) -> int:
    """Return an amount as it is written, `12.50`, in the smallest unit; raises Wrong."""
    places = decimals(currency)
    found = re.fullmatch(r"([0-9]{1,12})(?:[.,]([0-9]+))?", text.strip())
    if not found or len(found[2] or "") > places:
        example = plain(125 * 10**places // 10, currency)
        raise Wrong(
            f"not an amount of {currency}",
            f"write a number with at most {places} decimals, as {example}",
        )
    return int(found[1] + (found[2] or "").ljust(places, "0"))


def plain(minor: int, currency: str) -> str:
    """Return an amount as programs and command lines write it: 1250 KZT -> `12.50`."""
    return f"{Decimal(minor).scaleb(-decimals(currency)):f}"
