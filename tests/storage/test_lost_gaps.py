"""A gap that lasted in a spool that is lost ends where the next thing of its camera begins."""

from __future__ import annotations

import shutil
from pathlib import Path

import orjson
import pytest

from config.model import Config
from storage.catalogue.recordings import END_UNKNOWN
from storage.records import Gap, GapCause
from tests.support.archiving import NOW, C, configure, later_ms, opened, uploading
from tests.support.spools import fill
from tests.support.waiting import until

pytest_plugins = ["tests.support.postgres"]
HOUR = 3_600_000
BEGUN = NOW - 3 * HOUR + 170_000  # of the gap, after what `fill` writes
WHY = "No route to host"


def machine(folder: Path, name: str, url: str) -> Config:
    config = configure(folder, url, "archives: [archive]\n", rewind="2d")
    return config.model_copy(update={"spool": folder / name})


def lasting(config: Config) -> None:
    """Fill a spool whose camera then answers no longer."""
    spool = fill(config.spool, start_ms=NOW - 3 * HOUR)
    spool.begin_gap(BEGUN, GapCause.UNREACHABLE, WHY)
    spool.close()


async def known(config: Config) -> list[Gap]:
    async with opened(config) as (catalogue, _):
        return [g for g in await catalogue.gaps_between(C, 0, NOW) if g.start_ms >= BEGUN]


async def take_over(config: Config) -> None:
    async with uploading(config) as (uploader, _, _):
        await until(lambda: uploader.discovery.looked and uploader.replicators.is_done)


@pytest.mark.parametrize("begins", ["footage", "a gap"])
async def test_it_ends_where_footage_or_another_gap_begins(
    tmp_path: Path, database_url: str, begins: str
) -> None:
    a, b = (machine(tmp_path, name, database_url) for name in "ab")
    lasting(a)
    await take_over(a)
    assert [g.end_ms for g in await known(a)] == [None]
    shutil.rmtree(a.spool)
    spool = fill(b.spool, start_ms=NOW - HOUR, runs=1 if begins == "footage" else 0)
    if begins == "a gap":
        spool.begin_gap(NOW - HOUR, GapCause.CONNECTING, "asked")
    spool.close()
    await take_over(b)
    gap = (await known(b))[0]
    assert (gap.end_ms, gap.cause) == (NOW - HOUR, "unreachable")
    assert gap.detail == f"{WHY}; {END_UNKNOWN}"
    (told,) = (p.read_bytes() for p in (tmp_path / "archive").glob("e/s/c/*/*-gap-*.json"))
    assert orjson.loads(told)["end_ms"] == NOW - HOUR
    if begins == "a gap":
        assert [g.end_ms for g in (await known(b))[1:]] == [None]  # this one lasts


async def test_the_recorder_that_noted_it_knows_better(tmp_path: Path, database_url: str) -> None:
    """Two machines record one camera: neither is lost, and one tells the end of its gap later."""
    a, b = (machine(tmp_path, name, database_url) for name in "ab")
    lasting(a)
    await take_over(a)
    fill(b.spool, start_ms=NOW - HOUR, runs=1).close()
    await take_over(b)
    spool = fill(a.spool, start_ms=NOW - 2 * HOUR, runs=1)
    spool.close()
    await take_over(a)
    (gap,) = await known(a)
    assert (gap.end_ms, gap.detail) == (NOW - 2 * HOUR, WHY)


async def test_what_a_clock_that_was_ahead_recorded_ends_nothing(
    tmp_path: Path, database_url: str
) -> None:
    a, b = (machine(tmp_path, name, database_url) for name in "ab")
    lasting(a)
    await take_over(a)
    fill(b.spool, start_ms=later_ms() + HOUR, runs=1).close()
    await take_over(b)
    assert [g.end_ms for g in await known(a)] == [None]


async def test_what_lasted_when_its_election_was_over(tmp_path: Path) -> None:
    """The next election begins on the same spool: nobody ends the gaps of the last."""
    url = f"sqlite:///{tmp_path}/k.db"
    a = machine(tmp_path, "a", url)
    lasting(a)
    told = a.election.model_copy(update={"id": "e2"})
    e2 = a.model_copy(update={"election": told})
    fill(a.spool, start_ms=NOW - HOUR, runs=1, election="e2").close()
    await take_over(e2)
    (gap,) = await known(a)
    assert (gap.end_ms, gap.detail) == (NOW - HOUR, f"{WHY}; {END_UNKNOWN}")
    paths = (tmp_path / "archive").glob("e/s/c/*/*-gap-*.json")
    ends = {
        told["start_ms"]: told["end_ms"] for told in (orjson.loads(p.read_bytes()) for p in paths)
    }
    assert ends[BEGUN] == NOW - HOUR
