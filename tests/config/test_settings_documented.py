"""docs/configuration.md has every setting, and no other."""

from __future__ import annotations

import re
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from config.base import Model, seconds
from config.base import keys as keys_of
from config.copies import Bank, Copies, Mail, Stripe
from config.credentials import IN_FILES, Login
from config.csvfile import COLUMNS
from config.file_models import ConfigFile, NodeFile, WebFile
from config.limits import size
from config.model import (
    Archive,
    Camera,
    Election,
    LocalWindow,
    Operator,
    ScheduleException,
    Station,
)
from recorder.rtsp.connection import DEFAULT_USER_AGENT
from tests.support.config_files import read
from tests.support.repository import ROOT

PAGE = (ROOT / "docs" / "configuration.md").read_text()
PARTS: dict[str, type[Model]] = {
    "kuager.yaml": ConfigFile,
    "election": Election,
    "windows": LocalWindow,
    "archives": Archive,
    "web": WebFile,
    "operator": Operator,
    "node": NodeFile,
    "copies": Copies,
    "bank": Bank,
    "stripe": Stripe,
    "mail": Mail,
    "station": Station,
    "exceptions": ScheduleException,
    "camera": Camera,
    "login": Login,
}


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table under a heading."""
    (section,) = re.findall(rf"^##+ {re.escape(heading)}\n(.*?)(?=^##|\Z)", PAGE, re.M | re.S)
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("heading", PARTS)
def test_every_setting_is_there_and_says_whether_it_is_needed(heading: str) -> None:
    model = PARTS[heading]
    needed = {f.alias or name: f.is_required() for name, f in model.model_fields.items()}
    needed |= {"time_zone": False} if model is Station else {}  # the election's
    told = {row[0].strip("`"): row[2] == "needed" for row in rows(heading)}
    assert told == needed
    assert set(told) == set(keys_of(model))


def test_every_column_is_there() -> None:
    told = [name for row in rows("Stations in CSV") for name in re.findall(r"`(\w+)`", row[0])]
    assert sorted(told) == sorted(COLUMNS)


def test_every_secret_that_can_be_in_a_file_is_there() -> None:
    for key in IN_FILES:
        assert f"`{key}_file`" in PAGE


def test_defaults_are_as_told(tmp_path: Path) -> None:
    config = read(tmp_path)
    told = {row[0].strip("`"): row[2].strip("`") for row in rows("kuager.yaml") + rows("web")}
    assert told["spool_warn"] == "[24h, 6h, 2h]"
    assert config.spool_limits.warn_s == (24 * 3600, 6 * 3600, 2 * 3600)
    assert told["rewind"] == "24h"
    assert config.rewind_s == 24 * 3600
    assert told["pictures"] == f"{config.pictures_s}s"
    assert told["listen"] == f"{config.web.host}:{config.web.port}"
    assert told["source"] == config.source
    assert told["user_agent"] == config.user_agent == DEFAULT_USER_AGENT
    assert told["processes"] == str(config.web.processes)
    assert told["database"].split("`")[0] == Path(config.database_url).name
    camera = config.stations[0].cameras[0]
    told = {row[0].strip("`"): row[2].strip("`") for row in rows("camera")}
    assert (told["transport"], told["audio"]) == (camera.transport, camera.audio)
    assert config.copies is None
    copies = Copies(free=True)
    told = {row[0].strip("`"): row[2].strip("`") for row in rows("copies")}
    for name in ("longest", "quote_for", "pay_within", "download_for", "forget_after"):
        assert seconds(told[name]) == getattr(copies, name)
    assert told["currency"] == copies.currency
    for name in ("unpaid_per_client", "unpaid_in_all"):
        assert size(told[name]) == getattr(copies, name)


def test_the_time_zone_database_knows_the_change_of_2024() -> None:
    # what the page says of Kazakhstan; an old database would record an hour late
    from datetime import datetime

    offset = datetime(2026, 11, 29, tzinfo=ZoneInfo("Asia/Almaty")).utcoffset()
    assert offset is not None
    assert offset.total_seconds() == 5 * 3600
