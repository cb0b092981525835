"""`copies:` in kuager.yaml: currencies, what needs the public address, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from config.copies import Copies, Stripe
from config.money import DECIMALS
from tests.config_files import KUAGER, brief, problems, read

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
