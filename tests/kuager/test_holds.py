"""`kuager holds`: what is kept, who said so, and what would keep nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from base.clock import now_ms
from config.model import Config
from kuager.holds import add, parse_time, release, show
from storage.catalogue.schema import cameras, holds
from tests.support.archiving import configure
from tests.support.tables import open_catalogue

ALWAYS = (None, None, None)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n")


def insert(config: Config, table: sa.Table, **row: Any) -> None:
    async def work() -> None:
        catalogue = await open_catalogue(config.database_url)
        await catalogue.pool.execute(sa.insert(table).values(row))
        await catalogue.close()

    asyncio.run(work())


def test_who_set_and_who_released_it_is_told(
    config: Config, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", "aigul")
    number = add(config, "  Court of Almaty,\n case 17 ", "s/c", ALWAYS)
    assert add(config, "Another", None, ALWAYS, "dauren") == number + 1
    show(config)
    said = capsys.readouterr().out
    assert "Court of Almaty, case 17 (set by operator aigul)" in said
    assert "Another (set by operator dauren)" in said
    assert release(config, number, "erlan") and not release(config, number, "erlan")
    show(config)
    assert "(set by operator aigul) (released by operator erlan)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("reason", "camera", "times", "why"),
    [
        ("", None, ALWAYS, "write a reason"),
        ("a" * 1001, None, ALWAYS, "write a reason"),
        ("a\x1b[2J", None, ALWAYS, "write a reason"),
        ("a", "s/x", ALWAYS, "no such station or camera"),
        ("a", "x", ALWAYS, "no such station or camera"),
        ("a", "", ALWAYS, "no such station or camera"),  # a variable of a script that is not set
        ("a", "s/c/d", ALWAYS, "no such station or camera"),
        ("a", "/c", ALWAYS, "no such station or camera"),
        ("a", None, (2, 1, None), "keep nothing"),
        ("a", None, (2, 2, None), "keep nothing"),
        ("a", None, (None, None, now_ms() - 1000), "keep nothing"),
    ],
)
def test_what_would_keep_nothing_is_refused(
    config: Config, reason: str, camera: str | None, times: Any, why: str
) -> None:
    with pytest.raises(ValueError, match=why):
        add(config, reason, camera, times)


@pytest.mark.parametrize("text", ["0001-01-01T00:00+05:00", "9999-12-31T23:59:59-05:00"])
def test_a_time_that_cannot_be_told_again_is_none(text: str) -> None:
    """In UTC it is of no year that there is: with such a hold no list of holds could be shown."""
    with pytest.raises(ValueError, match="write a time with its zone"):
        parse_time(text)


def test_what_is_configured_no_longer_can_be_kept(config: Config) -> None:
    insert(config, cameras, election="e", station="gone", camera="c", number="1")
    assert add(config, "a court", "gone", ALWAYS) and add(config, "a court", "gone/c", ALWAYS)
    with pytest.raises(ValueError, match="no such station or camera"):
        add(config, "a court", "gone/d", ALWAYS)


def test_a_hold_of_an_order_ends_with_it(config: Config) -> None:
    insert(config, holds, election="e", reason="order 17", created_ms=1, order_pk=3)
    with pytest.raises(ValueError, match="kuager orders show 17"):
        release(config, 1)


def test_a_number_that_no_database_takes(config: Config) -> None:
    assert not release(config, 1 << 70) and not release(config, -1)


def test_nothing_moves_the_cursor(config: Config, capsys: pytest.CaptureFixture[str]) -> None:
    insert(config, holds, election="e", reason="a\x1b[2Jb", created_ms=1)
    show(config)
    assert "\x1b" not in capsys.readouterr().out
