"""`copies:` in kuager.yaml: currencies, what needs the public address, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from base.currency import DECIMALS
from config.copies import Copies, Stripe
from tests.support.config_files import KUAGER, brief, problems, read

KEYS = Stripe(secret_key=SecretStr("sk"), webhook_secret=SecretStr("wh"))
WEB = "web: {public_url: https://live.example.kz}\n"
PRICED = """\
copies:
  currency: CUR
  price_per_minute: 20
  bank: {beneficiary: B, bin: "123456789012", iban: KZ86125KZT5004100100, bank: B, bic: KZKOKZKX,
         beneficiary_code: "17", purpose_code: "859"}
"""


@pytest.mark.parametrize("currency", ["KZT", "JPY", "KWD", "CLF"])
def test_a_currency_can_be_written(tmp_path: Path, currency: str) -> None:
    config = read(tmp_path, kuager_yaml=KUAGER + WEB + PRICED.replace("CUR", currency))
    assert config.copies is not None
    assert config.copies.price_per_minute == 20 * 10 ** DECIMALS[currency]


@pytest.mark.parametrize("copies", ["copies: {free: true}\n", PRICED.replace("CUR", "KZT")])
def test_copies_need_the_public_address(tmp_path: Path, copies: str) -> None:
    (found,) = problems(tmp_path, kuager_yaml=KUAGER + copies)
    assert brief(found).startswith("kuager.yaml:1 web 'copies' without 'public_url'")
    assert read(tmp_path, kuager_yaml=KUAGER + WEB + copies).web.public_url


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("https://live.example.kz/?a=b", "has a '?'"),
        ("https://live.example.kz?", "has a '?'"),
        ("https://live.example.kz/a?utm=1#top", "has a '#'"),
        ("https://live.example.kz/#", "has a '#'"),
        ("https://me:pw@live.example.kz", "a user name"),
        ("https://:pw@live.example.kz", "a user name"),
        ("https://@live.example.kz", "a user name"),
        ("https://evil.example@live.example.kz", "a user name"),
        ("https://", "no host"),
        ("https:///copies", "no host"),
        ("https://:8080", "no host"),
        ("https:live.example.kz", "does not begin with"),
        ("//live.example.kz", "does not begin with"),
        ("live.example.kz", "does not begin with"),
        ("javascript://live.example.kz", "does not begin with"),
        ("https://live..example.kz", "no host name"),
        ("https://.", "no host name"),
        ("https://live.example.kz,evil.example", "no host name"),
        ("https://live.example.kz\\evil.example", "no host name"),
        ("https://<b>", "no host name"),
        ("https://сайлау.қаз", "no host name"),
        ("https://[::1", "cannot be read"),
        ("https://live.example.kz:99999", "cannot be read"),
        ("https://live.example.kz:0", "port 0"),
        ('https://live.example.kz/"><b>', "the path of the address"),
        ("https://live example.kz", "a space"),
    ],
)
def test_no_link_can_be_made_of_it(tmp_path: Path, url: str, why: str) -> None:
    web = f"web: {{public_url: {json.dumps(url)}}}\n"
    (found,) = problems(tmp_path, kuager_yaml=KUAGER + web)
    assert brief(found).startswith("kuager.yaml:11 web.public_url the ") and why in found.what
    assert found.fix and "pw" not in str(found)


@pytest.mark.parametrize(
    ("url", "read_as"),
    [
        ("https://live.example.kz", "https://live.example.kz"),
        ("HTTPS://Live.Example.KZ:443/", "https://live.example.kz"),
        ("http://live.example.kz:80", "http://live.example.kz"),
        ("https://live.example.kz:8443/a/", "https://live.example.kz:8443/a"),
        ("https://live.example.kz:", "https://live.example.kz"),
        ("https://xn--80ak6aa92e.xn--80ao21a", "https://xn--80ak6aa92e.xn--80ao21a"),
        ("http://[2001:DB8::1]:8080", "http://[2001:db8::1]:8080"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
    ],
)
def test_the_public_address_is_read_as_browsers_write_it(
    tmp_path: Path, url: str, read_as: str
) -> None:
    config = read(tmp_path, kuager_yaml=KUAGER + f"web: {{public_url: {json.dumps(url)}}}\n")
    assert config.web.public_url == read_as


def test_stripe_is_refused_for_what_it_counts_in_other_units() -> None:
    """10.00 MGA are 1000 for us, and would be 1000 ariary at Stripe."""
    refused = set()
    for currency in DECIMALS:
        try:
            Copies(currency=currency, price_per_minute="1", stripe=KEYS)
        except ValidationError:
            refused.add(currency)
    assert refused == {
        *("MGA", "ISK", "UGX", "UYI", "CLF", "UYW"),
        *("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"),
    }


@pytest.mark.parametrize(
    ("host", "right"),
    [
        ("mail.example.kz", True),
        ("127.0.0.1", True),
        ("::1", True),
        ("xn--80ak6aa92e.xn--80ao21a", True),
        ("пошта.қаз", False),
        ("smtp://mail.example.kz", False),
        ("mail.example.kz/", False),
        ("mail example.kz", False),
        ("[::1]", False),
        ("..", False),
        ("a" * 64 + ".kz", False),
        ("", False),
    ],
)
def test_a_mail_server_has_a_name(tmp_path: Path, host: str, right: bool) -> None:
    mail = f"mail: {{host: '{host}', from: a@example.kz}}"
    text = f"{KUAGER}web: {{public_url: 'http://k'}}\ncopies: {{free: true, {mail}}}\n"
    if right:
        copies = read(tmp_path, kuager_yaml=text).copies
        assert copies is not None and copies.mail is not None and copies.mail.host == host
    else:
        (problem,) = problems(tmp_path, kuager_yaml=text)
        assert "not the name of a server" in problem.what
