"""Money: a currency of ISO 4217, and amounts as integers of its smallest unit.

An operator writes `12.50`; everything else in the house knows 1250 and the currency. Nothing is
ever computed with fractions of a currency.
"""

from __future__ import annotations

import re
from decimal import Decimal

from config.problems import Wrong

# ISO 4217, list one of 2026-01-01, by "minor unit": how many decimals each currency has. Codes
# without one (gold, XDR, tests) are no money that anybody pays with.
_BY_DECIMALS = {
    0: "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF",
    2: "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BOV BRL BSD BTN BWP BYN BZD"
    " CAD CDF CHE CHF CHW CNY COP COU CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP"
    " GEL GHS GIP GMD GTQ GYD HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK"
    " LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO"
    " NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS"
    " SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST"
    " XAD XCD XCG YER ZAR ZMW ZWG",
    3: "BHD IQD JOD KWD LYD OMR TND",
    4: "CLF UYW",
}
DECIMALS = {code: n for n, codes in _BY_DECIMALS.items() for code in codes.split()}
LARGEST = 10**15  # of the smallest unit: fits a database's integer with room for sums


def decimals(currency: str) -> int:
    """Return how many decimals a currency has: 2 for KZT, 0 for JPY, 2 for one of the past."""
    return DECIMALS.get(currency, 2)


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
        example = plain(125 * 10**places // 10, currency)
        raise Wrong(
            f"not an amount of {currency}",
            f"write a number with at most {places} decimals, as {example}",
        )
    return int(found[1] + (found[2] or "").ljust(places, "0"))


def plain(minor: int, currency: str) -> str:
    """Return an amount as programs and command lines write it: 1250 KZT -> `12.50`."""
    return f"{Decimal(minor).scaleb(-decimals(currency)):f}"
