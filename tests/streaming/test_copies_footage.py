"""What is sold of recordings that were removed, are being made, or went since the quote."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest

from config.model import Config
from copies.states import State
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.rows import Archived, RecordingRow
from storage.spool.reader import SpoolReader
from tests.support.live_fixture import LiveCamera
from tests.support.selling import (
    BEGIN,
    NOW,
    configured,
    selling,
    wanted,
)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configured(tmp_path)


async def test_what_was_removed_is_said_and_not_billed(config: Config) -> None:
    """One recording is gone from spool and archives, as its row says."""
    catalogue = await Catalogue.open(config.database_url)
    view = SpoolReader(config.spool, "s", "c")
    view.refresh()
    every = [index for _, index in view.recordings()]
    await catalogue.writer.put_recordings(every)
    name = ("e", "s", "c")
    for index in every:
        if index.start_ms < BEGIN + 40_000:
            seq = index.header.record_seq
            await catalogue.writer.mark_archived(index, Archived("archive", "", NOW, "read back"))
            await catalogue.writer.mark_removed(name, index.identity, NOW)
            gone = (name, RecordingRow.of(index), "archive", NOW, "kept for 365 days")
            assert await catalogue.holds.begin_removal(*gone)
            for path in (config.spool / "s/c").glob(f"*/*-{seq}.*"):
                path.unlink()
    await catalogue.close()
    async with selling(config) as (base, _), aiohttp.ClientSession(base) as http:
        async with http.post("/api/v1/copies/quotes", json=wanted()) as answer:
            told = await answer.json()
            assert answer.status == 201
        (camera,) = told["footage"]
        (removed,) = camera["removed"]
        assert (removed["start_ms"], removed["end_ms"]) == (BEGIN, BEGIN + 40_000)
        assert removed["reason"] == "kept for 365 days"
        assert (camera["exists_ms"], told["price"]["net"]) == (30_000, 3000)
        page = f"/copies/{told['link'].rpartition('/')[2]}?lang=en"
        async with http.get(page) as answer:
            assert "kept for 365 days" in await answer.text()


async def test_what_is_being_recorded_is_not_sold_yet(config: Config) -> None:
    one = LiveCamera(config.spool, "c")
    one.begin(BEGIN + 100_000)
    for _ in range(10):
        one.append()  # its recording is not sealed
    async with selling(config) as (base, _), aiohttp.ClientSession(base) as http:
        body = wanted(cameras=["c", "d"], to=BEGIN + 110_000)
        async with http.post("/api/v1/copies/quotes", json=body) as answer:
            told = await answer.json()
        assert (told["to_ms"], told["asked_to_ms"]) == (BEGIN + 100_000, BEGIN + 110_000)
        body = wanted() | {"from": BEGIN + 101_000, "to": BEGIN + 110_000}
        async with http.post("/api/v1/copies/quotes?lang=en", json=body) as answer:
            assert answer.status == 400
            assert "being recorded now" in (await answer.json())["detail"]
    one.close()


async def test_what_went_since_the_quote_is_not_ordered(config: Config) -> None:
    async with selling(config) as (base, catalogue), aiohttp.ClientSession(base) as http:
        async with http.post("/api/v1/copies/quotes", json=wanted()) as answer:
            place = answer.headers["Location"]
        newest = max((config.spool / "s/c").glob("*/*.mp4"), key=lambda p: p.stat().st_mtime)
        newest.with_suffix(".jsonl").unlink()
        newest.unlink()
        async with http.post(f"{place}/order?lang=en") as answer:
            assert answer.status == 409
            assert "ask for a new quote" in (await answer.json())["detail"]
        nothing = wanted() | {"from": BEGIN + 41_000, "to": BEGIN + 59_000}
        async with http.post("/api/v1/copies/quotes", json=nothing) as answer:
            assert (await answer.json())["price"]["total"] == 0
            place = answer.headers["Location"]
        async with http.post(f"{place}/order?lang=en") as answer:
            assert answer.status == 409
            assert "nothing of this exists" in (await answer.json())["detail"]
        assert await catalogue.orders.count() == {State.QUOTED: 2}
        assert await catalogue.holds.of("e") == []
