"""The `copies:` section: what copies cost, how they are paid, and how long what is kept."""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    PlainValidator,
    SecretStr,
    ValidationInfo,
    model_validator,
)

from base.currency import decimals
from config.base import HOST_NAME, HttpUrl, Model, seconds
from config.limits import size
from config.mailaddress import is_address
from config.money import LARGEST, amount, known_currency
from config.problems import Wrong

BIN = r"[0-9]{12}"


def _money(value: object, info: ValidationInfo) -> int:
    # `currency` stands before it; where that is wrong, it is said there
    return amount(str(value), info.data.get("currency", "KZT"))


def _tax(value: object) -> int:
    found = re.fullmatch(r"([0-9]{1,3})(?:[.,]([0-9]{1,2}))?\s*%?", str(value).strip())
    basis = int(found[1]) * 100 + int((found[2] or "").ljust(2, "0")) if found else -1
    if not 0 <= basis <= 100_00:
        raise Wrong("not a tax", "write percent with at most two decimals, as 16%")
    return basis


def _span(least: str, most: str) -> PlainValidator:
    def check(value: object) -> int:
        if not seconds(least) <= (found := seconds(value)) <= seconds(most):
            raise Wrong("shorter or longer than makes sense", f"write {least} to {most}")
        return found

    return PlainValidator(check)


def _server(text: str) -> str:
    """Return the name or address of a server; raises Wrong."""
    try:
        if not HOST_NAME.fullmatch(text):
            IPv6Address(text)
    except ValueError:
        fix = "write it as mail.example.kz, without a port; other scripts in their xn-- form"
        raise Wrong("not the name of a server", fix) from None
    return text


def _iban(text: str) -> str:
    """Return an IBAN without spaces if its check digits are right (ISO 13616); raises Wrong."""
    iban = text.replace(" ", "").upper()
    if re.fullmatch(r"[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}", iban):
        digits = "".join(str(int(c, 36)) for c in iban[4:] + iban[:4])
        if int(digits) % 97 == 1:
            return iban
    raise Wrong("not an IBAN: its check digits are wrong", "copy it anew from the bank's papers")


def _address(text: str) -> str:
    if not is_address(text):
        raise Wrong("not an e-mail address", "write it as orders@example.kz, in ASCII")
    return text


def _pattern(form: str, what: str, fix: str) -> AfterValidator:
    def check(text: str) -> str:
        if not re.fullmatch(form, text):
            raise Wrong(what, fix)
        return text

    return AfterValidator(check)


Money = Annotated[int, PlainValidator(_money)]
Text = Annotated[str, Field(min_length=1, max_length=200)]
Address = Annotated[str, AfterValidator(_address)]


class Bank(Model):
    """Where an invoice is paid to: what stands on it."""

    beneficiary: Text
    address: Text | None = None
    bin: Annotated[str, _pattern(BIN, "not a BIN", "write its 12 digits (BIN, or IIN of a person)")]
    iban: Annotated[str, AfterValidator(_iban)]
    bank: Text
    bic: Annotated[
        str, _pattern(r"[A-Z0-9]{8}([A-Z0-9]{3})?", "not a BIC", "write its 8 or 11 characters")
    ]
    beneficiary_code: Annotated[
        str, _pattern(r"[0-9]{2}", "not a beneficiary code (Kbe)", "write its two digits, as 16")
    ]
    purpose_code: Annotated[
        str, _pattern(r"[0-9]{3}", "not a purpose code (KNP)", "write its three digits, as 859")
    ]


class Stripe(Model):
    """Keys of an account at Stripe; `api_base` is another server in tests."""

    secret_key: SecretStr
    webhook_secret: SecretStr
    api_base: HttpUrl | None = None


class Mail(Model):
    """The server that takes e-mails, and whose they are."""

    host: Annotated[str, AfterValidator(_server)]
    port: int = Field(default=587, ge=1, le=65535)
    tls: Literal["starttls", "tls", "none"] = "starttls"
    user: str | None = None
    password: SecretStr | None = None
    sender: Address = Field(alias="from")

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise Wrong("has only one of 'user' and 'password'", "write both or none")
        if self.password and self.tls == "none" and self.host not in ("127.0.0.1", "::1"):
            raise Wrong("a password over an open line", "write tls: starttls or tls: tls", "tls")
        return self


class Copies(Model):
    """What copies cost, in the smallest unit of the currency, and how long what lasts, in
    seconds. `tax` is in hundredths of a percent and added to the price. `unpaid_per_client` and
    `unpaid_in_all` are bytes of files that are ordered and not paid, or cost nothing and are not
    read through."""

    currency: Annotated[str, AfterValidator(known_currency)] = "KZT"
    free: bool = False
    price_per_minute: Money = 0
    minimum: Money = 0
    free_minutes: int = Field(default=0, ge=0, le=1_000_000)
    tax: Annotated[int, PlainValidator(_tax)] = 0
    longest: Annotated[int, _span("1m", "31d")] = 24 * 3600
    quote_for: Annotated[int, _span("10m", "7d")] = 3600
    pay_within: Annotated[int, _span("1h", "366d")] = 7 * 86400
    download_for: Annotated[int, _span("1h", "3660d")] = 30 * 86400
    unpaid_per_client: Annotated[int, PlainValidator(size)] = 200 * 10**9
    unpaid_in_all: Annotated[int, PlainValidator(size)] = 10 * 10**12
    refund_within: Annotated[int, _span("1d", "366d")] | None = None
    forget_after: Annotated[int, _span("1d", "3660d")] = 60 * 86400
    bank: Bank | None = None
    stripe: Stripe | None = None
    mail: Mail | None = None

    @model_validator(mode="after")
    def _payable(self) -> Self:
        priced = self.price_per_minute or self.minimum
        if self.free and priced:
            raise Wrong("copies are free, and have a price", "remove 'free' or the price", "free")
        if not self.free and not self.price_per_minute:
            raise Wrong("no price", "write 'price_per_minute', or 'free: true'", "price_per_minute")
        if priced and not (self.bank or self.stripe):
            raise Wrong("no way to pay", "write 'bank', 'stripe' or both")
        if max(self.price_per_minute, self.minimum) > LARGEST // 10**9:
            raise Wrong("more than anyone can pay", "write a smaller price", "price_per_minute")
        if self.stripe and decimals(self.currency) != _decimals_at_stripe(self.currency):
            raise Wrong("Stripe counts this currency in other units", "remove 'stripe'", "currency")
        return self


# docs.stripe.com/currencies: amounts of these have no decimals there, of all others two, as of ISK
# and UGX; where ISO 4217 has three, Stripe refuses all amounts whose last digit is not 0
_NONE_AT_STRIPE = "BIF CLP DJF GNF JPY KMF KRW MGA PYG RWF VND VUV XAF XOF XPF"


def _decimals_at_stripe(currency: str) -> int:
    return 0 if currency in _NONE_AT_STRIPE.split() else 2
