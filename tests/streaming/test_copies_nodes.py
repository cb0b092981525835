"""Copies of what several machines have recorded, sold by one that has not all of it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import shutil
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from base.clock import now_ms
from config.model import Config
from copies.orders.service import OrderService
from copies.orders.worker import OrderWorker, Pauses
from copies.states import State
from storage.archive.factory import open_archive
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.orders import Payment
from storage.cluster.machines import Machines
from storage.cluster.other_spools import OtherSpools
from storage.cluster.peers import Peers
from storage.spool.lease_file import Lease, Leases, write_leases
from storage.spool.reader import SpoolReader
from tests.support.archiving import configure
from tests.support.selling import BEGIN, COPIES, ordered, paid, record, wanted
from tests.support.several import Machine, Several, several
from tests.support.tables import open_catalogue
from tests.support.waiting import until

BRISK = Pauses(look_s=0.05, due_s=0.05, status_s=0.05, owed_s=0.05)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    made = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n" + COPIES, "2h")
    record(made)  # once, for all machines
    return made


@pytest.fixture
async def catalogue(config: Config) -> AsyncIterator[Catalogue]:
    opened = await open_catalogue(config.database_url)
    yield opened
    await opened.close()


@pytest.fixture
async def machines(config: Config, catalogue: Catalogue) -> AsyncIterator[Several]:
    """Two machines: the first has recorded the camera `c`, the second `d`."""
    async with several(config, "ab", catalogue, [open_archive(config.archives[0])]) as found:
        for name, camera in (("a", "c"), ("b", "d")):
            shutil.move(config.spool / "s" / camera, found[name].spool / "s" / camera)
            reader = SpoolReader(found[name].spool, "s", camera)
            reader.refresh()
            every = [index for _, index in reader.recordings()]
            await catalogue.writer.put_recordings(every, found[name].id)
            await catalogue.writer.put_gaps(("e", "s", camera), reader.all_gaps())
        yield found


@contextlib.asynccontextmanager
async def working(machine: Machine, catalogue: Catalogue) -> AsyncIterator[list[Lease]]:
    """Have the role `orders` of a machine work, which has the duty to; gives its leases."""
    leases = [Lease(0, 1, BEGIN)]

    async def renew() -> None:
        while True:
            write_leases(machine.spool, Leases(now_ms(), tuple(leases)), durable=False)
            await asyncio.sleep(0.5)

    peers = Peers()
    others = [OtherSpools(Machines(machine.spool), peers)]
    desk = OrderWorker(machine.config, catalogue, [], others=others, pauses=BRISK)
    tasks = [asyncio.create_task(renew()), asyncio.create_task(desk.run())]
    try:
        yield leases
        assert not any(task.done() for task in tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await peers.close()


async def fetched(http: aiohttp.ClientSession, path: str) -> tuple[str, bytes]:
    """Return tag and bytes of what is downloaded."""
    async with http.get(path) as answer:
        assert answer.status == 200, await answer.text()
        return answer.headers["ETag"], await answer.read()


async def test_any_machine_gives_the_same_zip_of_what_all_have(
    config: Config, catalogue: Catalogue, machines: Several
) -> None:
    secret = await ordered(machines["b"].session, cameras=["c", "d"])
    await paid(config, catalogue)

    async def is_ready() -> bool:
        order = await catalogue.orders.with_number(1)
        return order is not None and order.state == State.READY

    async with working(machines["b"], catalogue):
        await until(is_ready)
    path = f"/copies/{secret}/everything.zip"
    found = [await fetched(machines[name].session, path) for name in "ab"]
    assert found[0] == found[1]
    with zipfile.ZipFile(io.BytesIO(found[0][1])) as bundle:
        assert bundle.testzip() is None
        cameras = json.loads(bundle.read("manifest.json"))["cameras"]
        assert [len(camera["files"]) for camera in cameras] == [2, 2]
        assert all(file["sha256"].strip("0") for camera in cameras for file in camera["files"])


async def test_what_is_on_a_machine_that_is_away_is_not_sold(machines: Several) -> None:
    machines.away.add("a")
    machines.tell()
    shutil.move(machines["a"].spool / "s", machines["a"].spool / "gone")
    body = wanted(cameras=["c", "d"])
    async with machines["b"].session.post("/api/v1/copies/quotes", json=body) as answer:
        assert answer.status == 201, await answer.text()
        away, there = (await answer.json())["footage"]
    assert (away["exists_ms"], there["exists_ms"]) == (0, 70_000)
    assert {one["reason"] for one in away["removed"]} == {"it is on a machine that is away"}
    shutil.rmtree(machines["b"].spool / "s" / "d")  # which is not away, and has it no more
    async with machines["b"].session.post("/api/v1/copies/quotes", json=body) as answer:
        _, there = (await answer.json())["footage"]
    assert {one["reason"] for one in there["removed"]} == {"it is in no archive yet"}


async def test_what_is_open_is_said_by_the_machine_that_works_on_it(
    config: Config, catalogue: Catalogue, machines: Several
) -> None:
    await ordered(machines["a"].session)
    await paid(config, catalogue)
    order = await catalogue.orders.with_number(1)
    assert order is not None
    again = Payment("invoice", "again", 1, "KZT", BEGIN)
    await OrderService(config, catalogue, {}).enter_payment(order.order_pk, again, "operator")
    path = machines["a"].spool / "_status" / "orders.json"

    def said(*what: object) -> bool:
        told = json.loads(path.read_bytes()) if path.exists() else {}
        return (told.get("states"), told.get("refunds_due")) == what

    async with working(machines["a"], catalogue) as leases:
        await until(lambda: said({State.READY: 1}, 1))
        leases.clear()  # another machine has the duty now
        await until(lambda: said({}, 0))
