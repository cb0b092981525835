"""What is ordered is held from that moment on: order and removal see each other."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from config.model import Config
from copies.footage.find import find
from copies.orders import events
from copies.orders.events import key_of, new_secret
from copies.orders.quotes import QuoteRequest, make_quote
from storage.archival.retention import retire
from storage.archive.directory import DirectoryArchive
from storage.archive.port import ArchiveError
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.order_files import FootageGone
from storage.catalogue.schema import holds
from tests.support.archiving import configure
from tests.support.footage import NAME, UTC0, Camera
from tests.support.selling import COPIES
from tests.support.tables import open_catalogue

pytest_plugins = ["tests.support.postgres"]
MINUTE = 60_000


class Slow(DirectoryArchive):
    """Calls `before_removal` with the key, before bytes are removed."""

    before_removal: Any = None

    async def remove(self, key: str, **named: Any) -> None:
        if self.before_removal is not None:
            await self.before_removal(key)
        await super().remove(key, **named)


@pytest.fixture
def config(database_url: str, tmp_path: Path) -> Config:
    return configure(tmp_path, database_url, "archives: [archive]\n" + COPIES, "1h")


@pytest.fixture
def archive(tmp_path: Path) -> Slow:
    return Slow("archive", tmp_path / "archive")


@pytest.fixture
async def catalogue(config: Config, archive: Slow) -> AsyncIterator[Catalogue]:
    """With twelve minutes of one camera that are in the archive alone."""
    opened = await open_catalogue(config.database_url)
    camera = Camera(config.spool, size=10)
    camera.record(360)
    await camera.archive(opened, archive)
    yield opened
    await opened.close()


async def quoted(config: Config, catalogue: Catalogue, archive: Slow, minute: int) -> int:
    """Have a minute of the recordings quoted; returns the order_pk."""
    begin = UTC0 + minute * MINUTE
    asked = QuoteRequest(config.stations[0], ("c",), begin, begin + MINUTE)
    assert config.copies is not None
    row, plans = await make_quote(config, config.copies, catalogue, [archive], asked, "kk")
    assert plans
    return await catalogue.orders.create(str(key_of(new_secret())), row, plans)


async def order(config: Config, catalogue: Catalogue, pk: int) -> bool:
    """Order what was quoted; False where it is gone."""
    assert config.copies is not None
    try:
        await catalogue.orders.change(pk, events.place(config.copies, None, "", UTC0))
    except FootageGone:
        return False
    return True


async def there(config: Config, catalogue: Catalogue, archive: Slow, minute: int) -> bool:
    """Say whether the archive has the bytes of a minute, and the catalogue says the same."""
    begin = UTC0 + minute * MINUTE
    rows = await catalogue.recordings_between(NAME, begin, begin + MINUTE)
    told = all(a.removed_ms is None for row in rows for a in row.archives)
    paths = [
        p
        for p in archive._root.rglob("*.mp4")
        if int(p.stem.rpartition("-")[2]) in {r.record_seq for r in rows}
    ]
    assert told == (len(paths) == len(rows))
    found = await find(catalogue, [archive], config.spool, NAME, begin, begin + MINUTE, zone="UTC")
    assert bool(found.removed) != told
    return told


async def test_an_order_after_the_list_of_what_is_to_go_was_made(
    config: Config, catalogue: Catalogue, archive: Slow
) -> None:
    first, eighth = [await quoted(config, catalogue, archive, n) for n in (0, 8)]
    taken: dict[int, bool] = {}

    async def meanwhile(_key: str) -> None:
        for pk in (first, eighth):
            if pk not in taken:
                taken[pk] = await order(config, catalogue, pk)

    archive.before_removal = meanwhile
    assert await retire(catalogue, archive, NAME, 60, share=1) > 5
    assert taken == {first: False, eighth: True}
    assert not await there(config, catalogue, archive, 0)
    assert await there(config, catalogue, archive, 8)
    assert [h.order_pk for h in await catalogue.holds.of("e")] == [eighth]


@pytest.mark.slow
async def test_a_removal_waits_for_an_order_that_is_being_written(
    config: Config, catalogue: Catalogue
) -> None:
    row = (await catalogue.recordings_of(NAME))[3]
    other = await open_catalogue(config.database_url)  # of another process
    async with other.pool.work() as connection:
        await connection.execute(
            sa.insert(holds).values(election="e", reason="order 1", created_ms=1)
        )
        removal = asyncio.create_task(catalogue.holds.begin_removal(NAME, row, "archive", 5, "old"))
        await asyncio.wait([removal], timeout=0.5)
        assert not removal.done()
    await other.close()
    assert not await removal
    (found, *_) = await catalogue.recordings_between(NAME, row.start_ms, row.start_ms + 1)
    assert found.archives[0].removed_ms is None


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
async def test_orders_and_removals_at_once(
    config: Config, catalogue: Catalogue, archive: Slow, seed: int
) -> None:
    pks = {n: await quoted(config, catalogue, archive, n) for n in range(12)}
    chance = random.Random(seed)

    async def later(minute: int) -> bool:
        await asyncio.sleep(chance.uniform(0, 0.2))
        return await order(config, catalogue, pks[minute])

    async with asyncio.TaskGroup() as at_once:
        at_once.create_task(retire(catalogue, archive, NAME, 60, share=1))
        orders = [at_once.create_task(later(minute)) for minute in pks]
    taken = [done.result() for done in orders]
    for minute, was_taken in enumerate(taken):
        assert await there(config, catalogue, archive, minute) or not was_taken
    assert len(await catalogue.holds.of("e")) == sum(taken)


async def test_what_was_begun_to_be_removed_is_finished(
    config: Config, catalogue: Catalogue, archive: Slow
) -> None:
    async def refuse(key: str) -> None:
        if key.endswith("-1.json"):
            raise ArchiveError("away")

    archive.before_removal = refuse
    count = len(await catalogue.recordings_of(NAME))
    assert await retire(catalogue, archive, NAME, 60, share=1) == count - 1  # it holds up no other
    assert not await there(config, catalogue, archive, 0)
    archive.before_removal = None
    await catalogue.holds.add("e", "too late for all", 1)
    assert await retire(catalogue, archive, NAME, 60, share=1) == 1
    rows = await catalogue.recordings_of(NAME)
    left = {p.name.partition(".")[2] for p in archive._root.rglob("*-1.*")}
    assert left == {"removed.json"}
    assert all(r.archives[0].removed_ms for r in rows)
