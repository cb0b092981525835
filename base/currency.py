"""Currencies of ISO 4217: an amount is an integer of a currency's smallest unit.

Everything in the house knows 1250 and KZT where people write 12.50. Nothing is ever computed with
fractions of a currency.
"""

from __future__ import annotations

from decimal import Decimal

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


def decimals(currency: str) -> int:
    """Return how many decimals a currency has: 2 for KZT, 0 for JPY, 2 for one of the past."""
    return DECIMALS.get(currency, 2)


def in_decimals(minor: int, currency: str) -> Decimal:
    """Return an amount of the smallest unit in whole ones: 1250 of KZT is 12.50."""
    return Decimal(minor).scaleb(-decimals(currency))


def format_amount(minor: int, currency: str) -> str:
    """Return an amount as programs, forms of banks and command lines write it: `12.50`."""
    return f"{in_decimals(minor, currency):f}"
