"""PostgreSQL dies, hangs and is full while an uploader and a web process run.

Recordings wait in the spool and follow; nothing is twice; it is said once, and once when it ends.
`python -m tests.e2e.test_postgres_faults MINUTES` takes it away for longer and prints what was
found.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from storage.catalogue import database
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.schema import DAY_MS
from storage.records import Gap, GapCause
from tests.support.postgres_server import Server
from tests.support.programs import missing
from tests.support.s3 import free_port
from tests.support.spools import fill
from tests.support.waiting import BOUND_S, until

pytest_plugins = ["tests.support.postgres_server"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
NAME = ("e", "s", "c")
REFUSES = "The catalogue refuses; recordings wait in the spool"
WORKS = "The catalogue works again"
CONFIG = """\
election:
  id: e
  name: Election
  date: 2026-11-29
  time_zone: Asia/Almaty
  windows: [{from: 2026-11-29T06:00, to: 2026-11-30T03:00}]
stations: stations.yaml
spool: spool
archives: [archive]
rewind: 2d
database: DATABASE
web: {listen: "127.0.0.1:PORT", processes: 1}
"""
STATIONS = """\
stations:
  - id: s
    cameras: [{id: c, url: "rtsp://127.0.0.1:1/c"}]
"""


@dataclass
class Site:
    """A server, and the processes of `kuager run` that use it."""

    folder: Path
    server: Server
    port: int
    now_ms: int = field(default_factory=lambda: int(time.time()) * 1000)
    sealed: int = 0

    def record(self, day: int = 0) -> None:
        """Seal some more recordings of the camera, on a day before today for a new partition."""
        begin = self.now_ms - 3_600_000 + self.sealed * 70_000 - day * DAY_MS
        spool = self.folder / "spool"
        fill(spool, start_ms=begin, runs=1, segments=random.randint(31, 34)).close()
        self.sealed = len(list(spool.glob("s/c/*/*.jsonl")))

    def said(self, role: str) -> list[dict[str, Any]]:
        """Return the lines of a process's log."""
        lines = (self.folder / f"{role}.log").read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def archived(self) -> int:
        """Return how many recordings the archive has whole."""
        return len(list((self.folder / "archive").glob("e/s/c/*/*Z-*.json")))

    async def rows(self) -> list[tuple[int, int]]:
        """Return (record_seq, archives that have it) of every recording of the catalogue."""
        connection = await asyncpg.connect(self.server.url())
        try:
            return [
                (row[0], row[1])
                for row in await connection.fetch(
                    "SELECT record_seq, (SELECT count(*) FROM archived a"
                    " WHERE a.camera_pk = r.camera_pk AND a.record_seq = r.record_seq)"
                    " FROM recordings r ORDER BY 1"
                )
            ]
        except asyncpg.UndefinedTableError:  # the uploader has just begun
            return []
        finally:
            await connection.close()

    async def caught_up(self) -> None:
        """Wait until every sealed recording has one row and one archive, and the web answers."""
        await until(self._listens)

        async def all_have() -> bool:
            rows = await self.rows()
            return len(rows) == self.sealed and all(count == 1 for _, count in rows)

        try:
            await until(all_have)
        except AssertionError:
            rows, said = await self.rows(), self.said("uploader")
            raise AssertionError(f"{self.sealed} were sealed; of rows {rows}: {said}") from None
        assert len({seq for seq, _ in await self.rows()}) == self.sealed == self.archived()

    async def _listens(self) -> bool:
        try:
            await self.timeline()
        except aiohttp.ClientConnectorError:
            return False
        return True

    async def heard(self, event: str, after: int = 0) -> None:
        """Wait until the uploader has said of the catalogue that it refuses, or works, after so
        many such words."""
        await until(lambda: event in self.events()[after:], why=f"never said: {event}")

    async def timeline(self) -> tuple[int, bool, float]:
        """Return what the web process says: recordings, whether that is all, after how long."""
        begun = time.monotonic()
        address = f"http://127.0.0.1:{self.port}/api/v1/stations/s/timeline"
        span = {"from": str(self.now_ms - 2 * DAY_MS), "to": str(self.now_ms + DAY_MS)}
        async with (
            aiohttp.ClientSession() as session,
            session.get(address, params=span) as answer,
        ):
            said = await answer.json()
        took_s = time.monotonic() - begun
        return len(said["cameras"][0]["recordings"]), said["complete"], took_s

    async def is_complete(self) -> bool:
        """Say whether the web process has the catalogue's answer for all that was sealed."""
        return (await self.timeline())[:2] == (self.sealed, True)

    def events(self) -> list[str]:
        """Return which of REFUSES and WORKS the uploader said, in order."""
        events = [line["event"] for line in self.said("uploader")]
        return [event for event in events if event in (REFUSES, WORKS)]

    def trouble(self) -> list[str]:
        """Return what the uploader said of the catalogue, in order: why, or that it works."""
        told = [line for line in self.said("uploader") if line["event"] in (REFUSES, WORKS)]
        return [str(line.get("why", WORKS)) for line in told]


@contextmanager
def site(folder: Path, server: Server) -> Iterator[Site]:
    """Run uploader and web against a server, and stop them in good order."""
    port = free_port()
    config = CONFIG.replace("DATABASE", server.url()).replace("PORT", str(port))
    (folder / "kuager.yaml").write_text(config)
    (folder / "stations.yaml").write_text(STATIONS)
    (folder / "archive").mkdir()
    found = Site(folder, server, port)
    found.record()
    processes = []
    for role in ("uploader", "web"):
        command = [sys.executable, "-m", "kuager", "run", "--role", role]
        with (folder / f"{role}.log").open("wb") as log:
            processes.append(
                subprocess.Popen(
                    [*command, "--config", str(folder / "kuager.yaml")],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            )
    try:
        yield found
    finally:
        for process in processes:
            process.send_signal(signal.SIGTERM)
        ended = []
        for process in processes:
            try:
                ended.append(process.wait(BOUND_S))
            except subprocess.TimeoutExpired:
                process.kill()
                ended.append(process.wait())
    assert ended == [0, 0], "a process did not stop in good order"


@contextmanager
def postgres(folder: Path, disk_mb: int = 0) -> Iterator[Server]:
    """Run a server of our own."""
    server = Server(folder / "pg", {"max_wal_size": "8MB", "shared_buffers": "16MB"}, disk_mb)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def namespaces() -> None:
    """Skip where a program cannot have a disk of its own."""
    if os.system("unshare -Urm true 2>/dev/null") != 0:
        missing("no user namespaces: sysctl kernel.unprivileged_userns_clone=1")


async def test_killed_and_started_again(server_folder: Path) -> None:
    with postgres(server_folder) as server, site(server_folder, server) as one:
        await one.caught_up()
        before = len(one.events())
        server.kill()
        one.record()
        await one.heard(REFUSES, before)
        recorded, complete, _ = await one.timeline()
        assert recorded == one.sealed and not complete  # what the spool has
        server.start()
        await one.caught_up()
        await one.heard(WORKS, before)
        await until(one.is_complete)
        told = one.trouble()
        assert told[-1] == WORKS
        assert all(a != b for a, b in itertools.pairwise(told)), "said again"


async def test_what_hangs_is_not_waited_for(server_folder: Path) -> None:
    with postgres(server_folder) as server:
        with site(server_folder, server) as one:
            await one.caught_up()
            before = len(one.events())
            server.freeze()
            try:
                one.record()
                await one.heard(REFUSES, before)
                assert one.trouble()[before:] == [f"no answer within {database.COMMAND_S:.0f} s"]
                recorded, complete, _ = await one.timeline()
                assert recorded == one.sealed and not complete
            finally:
                server.thaw()
            await one.caught_up()
            await one.heard(WORKS, before)
            server.freeze()  # and so they are asked to stop: `site` sees that they do
        server.thaw()


async def test_its_disk_is_full(server_folder: Path, namespaces: None) -> None:
    with postgres(server_folder, disk_mb=128) as server, site(server_folder, server) as one:
        await one.caught_up()
        before = len(one.events())
        with server.full():
            one.record(day=1)  # a new partition needs room
            await one.heard(REFUSES, before)
            await until(one.is_complete)  # it still answers
        await one.caught_up()
        await one.heard(WORKS, before)
        assert one.trouble()[before:] == ["the database's disk is full", WORKS]


async def test_no_call_and_no_end_waits_for_a_server_that_hangs(server_folder: Path) -> None:
    gap = [Gap(1, 1, 2, GapCause.NO_DATA)]
    with postgres(server_folder) as server:
        catalogue = await Catalogue.open(server.url())
        await catalogue.writer.put_gaps(NAME, gap)
        server.freeze()
        try:
            async with asyncio.timeout(BOUND_S):  # each of these would hang for ever
                for call in (
                    lambda: catalogue.gaps_between(NAME, 0, 9),
                    lambda: catalogue.writer.put_gaps(NAME, gap),
                    lambda: Catalogue.open(server.url()),
                ):
                    with pytest.raises(database.CatalogueError, match="no answer within"):
                        await call()
        finally:
            server.thaw()
        assert len(await catalogue.gaps_between(NAME, 0, 9)) == 1
        await catalogue.writer.put_gaps(NAME, gap)
        server.freeze()
        async with asyncio.timeout(BOUND_S):
            await catalogue.close()
        server.thaw()


async def away(what: str, folder: Path, minutes: float) -> None:
    """Kill a server, or fill its disk, for so long; something is sealed every 10 s."""
    slowest, asked = 0.0, 0
    with postgres(folder, 256 if what == "disk full" else 0) as server, site(folder, server) as one:
        await one.caught_up()
        before, begun = one.sealed, time.monotonic()

        async def meanwhile() -> None:
            nonlocal slowest, asked
            while time.monotonic() - begun < minutes * 60:
                one.record(day=asked % 2)
                slowest, asked = max(slowest, (await one.timeline())[2]), asked + 1
                await asyncio.sleep(10)

        if what == "disk full":
            with server.full():
                await meanwhile()
        else:
            server.kill()
            await meanwhile()
            server.start()
        away_s, back = time.monotonic() - begun, time.monotonic()
        await one.caught_up()
        print(f"PostgreSQL {what} for {away_s:.0f} s:")
        print(f"  {one.sealed - before} recordings waited in the spool; all had their row and")
        print(f"  their archive {time.monotonic() - back:.1f} s after it was back")
        print(f"  slowest of {asked} timelines meanwhile: {slowest:.1f} s")
        print(f"  sealed {one.sealed}, rows {len(await one.rows())}, archived {one.archived()}")
        await one.heard(WORKS)
        print("  the uploader said:", *one.trouble(), sep="\n    ")


def main() -> None:
    for what in ("killed", "disk full"):
        with tempfile.TemporaryDirectory(prefix="kuager-pg-") as name:
            Path(name).chmod(0o755)
            asyncio.run(away(what, Path(name), float(sys.argv[1])))


if __name__ == "__main__":
    main()
