"""Archives are cleared on the word of a clock that a witness confirms, and little by little."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pytest

from base.clock import Clock, now_ms
from base.hostclock import ClockWatch, KernelClock
from storage.archival.replicator import Pauses
from storage.archival.retention import retire
from storage.archival.uploader import Uploader
from storage.archive.directory import DirectoryArchive
from storage.archive.port import Archive
from storage.catalogue.catalogue import Catalogue
from storage.fsck.check import Fsck
from storage.records import GapCause
from storage.spool.numbers import Numbers
from storage.spool.writer import CameraSpool
from tests.support.archiving import (
    NOW,
    C,
    configure,
    forget_the_spool,
    kept,
    later_ms,
    opened,
    sealed,
    uploading,
)
from tests.support.spools import fill
from tests.support.waiting import until

DAY = 86_400_000
KEEP = "archives: [{url: archive, keep: 1d}]\n"
# a day of the clock that nobody sets is over at once
SOON = Pauses(look_s=0.05, remove_s=0.05, retire_s=86_400)


class Machine:
    """A clock that can be set, and a day that passes when it is told to."""

    def __init__(self, *, synchronized: bool, ahead_ms: int = 0):
        self.up_ms, self.ahead_ms, self.synchronized = 0.0, ahead_ms, synchronized

    def now_ms(self) -> int:
        return int(NOW + self.ahead_ms + self.up_ms)

    def watch(self) -> ClockWatch:
        return ClockWatch(
            self.now_ms,
            lambda: self.up_ms,
            lambda: KernelClock(self.synchronized, None),
        )


class Dated(DirectoryArchive):
    """A directory whose server says that it is NOW."""

    machine: Machine

    @property
    def server_time(self) -> tuple[int, float] | None:
        return int(NOW + self.machine.up_ms), self.machine.up_ms


@contextlib.asynccontextmanager
async def retiring(
    folder: Path, machine: Machine, *, dated: bool = False, clock: Clock = now_ms
) -> AsyncIterator[tuple[Uploader, Catalogue]]:
    """Have an uploader at work where ten recordings of three days ago are in the archive."""
    config = configure(folder, f"sqlite:///{folder}/k.db", KEEP, rewind="30d")
    fill(config.spool, camera="c", start_ms=NOW - 3 * DAY, runs=5, segments=60).close()
    async with uploading(config) as (uploader, _, _):
        await until(lambda: kept(uploader).archived_total >= 10)
        await until(lambda: kept(uploader).backlog_recordings == 0)
    async with opened(config) as (catalogue, archives):
        chosen: Archive = archives[0]
        if dated:
            chosen = Dated("archive", folder / "archive")
            chosen.machine = machine
        watch = machine.watch()
        uploader = Uploader(config, catalogue, [chosen], pauses=SOON, clock=clock, watch=watch)
        task = asyncio.create_task(uploader.run())
        try:
            yield uploader, catalogue
        finally:
            task.cancel()
            await asyncio.wait({task})


def looks(uploader: Uploader) -> int:
    return uploader.status.written_ms


async def some_looks(uploader: Uploader) -> None:
    """Wait until the uploader has looked for work a few times more."""
    for _ in range(4):
        before = looks(uploader)
        await until(lambda: looks(uploader) > before)  # noqa: B023


async def removed(catalogue: Catalogue) -> int:
    rows = await catalogue.recordings_of(C)
    return sum(r.archives[0].removed_ms is not None for r in rows)


async def test_the_first_pass_is_a_day_after_the_start_and_takes_a_tenth(tmp_path: Path) -> None:
    machine = Machine(synchronized=True)
    async with retiring(tmp_path, machine) as (uploader, catalogue):
        count = len(await catalogue.recordings_of(C))
        await some_looks(uploader)
        assert await removed(catalogue) == 0
        machine.up_ms += DAY
        await until(lambda: uploader.status.retired_total > 0)
        await some_looks(uploader)
        assert uploader.status.retired_total == await removed(catalogue) == -(-count // 10)


async def test_what_cannot_be_removed_is_counted(tmp_path: Path) -> None:
    machine = Machine(synchronized=True)
    async with retiring(tmp_path, machine) as (uploader, _):
        assert uploader.retention.overdue == {}
        for media in sorted((tmp_path / "archive").rglob("*.mp4"))[:2]:
            media.write_bytes(b"other bytes")
        machine.up_ms += DAY
        await until(lambda: uploader.retention.overdue == {"archive": 2})
        await until(lambda: uploader.status.archives["archive"].overdue_recordings == 2)


async def test_a_hold_that_nobody_can_read_keeps_all_and_is_seen(tmp_path: Path) -> None:
    machine = Machine(synchronized=True)
    async with retiring(tmp_path, machine) as (uploader, catalogue):
        count = len(await catalogue.recordings_of(C))
        spoilt = tmp_path / "archive/_kuager/holds/e/spoilt.json"
        spoilt.parent.mkdir(parents=True)
        spoilt.write_bytes(b"{")
        machine.up_ms += DAY
        await until(lambda: uploader.retention.overdue == {"archive": count})
        assert uploader.status.retired_total == await removed(catalogue) == 0
        spoilt.unlink()
        machine.up_ms += 700_000
        await until(lambda: uploader.retention.overdue == {"archive": 0})
        assert uploader.retention.retired_total > 0


@pytest.mark.parametrize(
    ("machine", "dated", "words"),
    [
        (Machine(synchronized=False), False, "nobody synchronizes"),
        (Machine(synchronized=True, ahead_ms=400 * DAY), True, "+400.0 days"),
        (Machine(synchronized=True, ahead_ms=-10 * DAY), False, "is dated"),
    ],
    ids=["unsynchronized", "400 days ahead of the server", "before the newest recording"],
)
async def test_nothing_is_removed_on_the_word_of_a_doubtful_clock(
    tmp_path: Path, machine: Machine, dated: bool, words: str
) -> None:
    async with retiring(tmp_path, machine, dated=dated) as (uploader, catalogue):
        await some_looks(uploader)
        machine.up_ms += DAY
        await some_looks(uploader)
        await until(lambda: uploader.status.clock_doubt)
        assert words in (uploader.status.clock_doubt or "")
        assert await removed(catalogue) == 0


async def test_a_server_that_agrees_is_witness_enough(tmp_path: Path) -> None:
    machine = Machine(synchronized=False)
    async with retiring(tmp_path, machine, dated=True) as (uploader, catalogue):
        machine.up_ms += DAY
        await until(lambda: uploader.status.retired_total > 0)
        assert await removed(catalogue) > 0


async def test_a_clock_that_is_set_puts_it_off_by_a_day(tmp_path: Path) -> None:
    machine = Machine(synchronized=True)
    async with retiring(tmp_path, machine) as (uploader, catalogue):
        machine.up_ms += DAY - 1000
        machine.ahead_ms += 400 * DAY
        await until(lambda: "was set by +400.0 days" in (uploader.status.clock_doubt or ""))
        machine.ahead_ms = 0
        await some_looks(uploader)
        machine.up_ms += DAY - 1000
        await some_looks(uploader)
        assert await removed(catalogue) == 0
        machine.up_ms += 2000
        await until(lambda: uploader.status.retired_total > 0)


async def test_a_hold_ends_by_a_clock_that_is_believed(tmp_path: Path) -> None:
    """A day ahead it is over, and what it keeps is there until its end."""
    machine = Machine(synchronized=True)
    site = retiring(tmp_path, machine, dated=True, clock=machine.now_ms)
    async with site as (uploader, catalogue):
        await catalogue.holds.add("e", "a court asks", NOW, until_ms=NOW + 3 * DAY)
        machine.up_ms += DAY
        await until(lambda: uploader.retention.overdue == {"archive": 0})
        machine.ahead_ms = DAY + 1000
        await until(lambda: "+1.0 days" in (uploader.status.clock_doubt or ""))
        machine.up_ms += DAY
        await until(lambda: "+1.0 days" in (uploader.retention._outage.why or ""))
        machine.ahead_ms = 0
        # not what the status says: that may be written before it is noticed that the clock was set
        await until(lambda: uploader.clocks._doubt.why is None)
        assert await removed(catalogue) == 0
        machine.up_ms += DAY + 1000
        await until(lambda: uploader.status.retired_total > 0)


async def test_bytes_of_a_removal_that_nothing_tells_of_are_kept(tmp_path: Path) -> None:
    """A row that says removed, from a pass that died before its trace was stored."""
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n")
    fill(config.spool, camera="c", start_ms=NOW - 7_200_000, segments=60).close()
    async with uploading(config) as (uploader, catalogue, _):
        await until(lambda: kept(uploader).archived_total >= 4)
        await until(lambda: kept(uploader).backlog_recordings == 0)
    async with opened(config) as (catalogue, archives):
        await forget_the_spool(config, catalogue)
        row, *_ = await catalogue.recordings_of(C)
        assert await catalogue.holds.begin_removal(C, row, "archive", NOW, "by a wrong clock")
        before = sorted((tmp_path / "archive").rglob("*.mp4"))
        found = await Fsck(config, catalogue, archives, repair=True, clock=later_ms).check(C)
        (finding,) = [f for f in found if f.where == "archive"]
        assert finding.what == "bytes of what was removed" and "kept" in finding.done
        assert sorted((tmp_path / "archive").rglob("*.mp4")) == before
        assert await removed(catalogue) == 0


async def test_a_hold_that_comes_after_the_trace_takes_it_back(tmp_path: Path) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n")
    fill(config.spool, camera="c", start_ms=NOW - 7_200_000, segments=60).close()
    async with uploading(config) as (uploader, _, _):
        await until(lambda: kept(uploader).archived_total >= 4)
        await until(lambda: kept(uploader).backlog_recordings == 0)
    async with opened(config) as (catalogue, _):

        class Late(DirectoryArchive):
            async def put(self, key: str, *args: object, **named: object) -> object:  # type: ignore[override]
                done = await super().put(key, *args, **named)  # type: ignore[arg-type]
                if not await catalogue.holds.of("e"):
                    await catalogue.holds.add("e", "a court asks", NOW)
                return done

        archive = Late("archive", tmp_path / "archive")
        assert await retire(catalogue, archive, C, 60, share=1) == 0  # type: ignore[arg-type]
        assert list((tmp_path / "archive").rglob("*.removed.json")) == []
        assert await removed(catalogue) == 0


async def test_an_archive_is_told_of_a_gap_when_it_has_stood_for_three_minutes(
    tmp_path: Path,
) -> None:
    """By the clock that nobody sets: a wrong one may say that a gap to come has long ended."""
    machine = Machine(synchronized=True, ahead_ms=3 * DAY)
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "30d")
    spool = fill(config.spool, camera="c", start_ms=NOW - DAY)
    for n in (1, 2):
        spool.begin_gap(NOW + n * DAY, GapCause.RECORDER_STOPPED, "by a clock that was ahead")
        spool.end_gap(NOW + n * DAY + 1000)
    spool.close()
    async with opened(config) as (catalogue, archives):
        uploader = Uploader(config, catalogue, archives, pauses=SOON, watch=machine.watch())
        task = asyncio.create_task(uploader.run())
        await until(lambda: kept(uploader).archived_total >= 2)
        machine.up_ms += 100_000
        await some_looks(uploader)
        assert list((tmp_path / "archive").rglob("*-gap-*")) == []
        machine.up_ms += 100_000

        def files() -> list[Path]:  # without those that are being written
            return list((tmp_path / "archive").rglob("[0-9]*-gap-*"))

        await until(lambda: len(files()) == 2)
        spool = CameraSpool(config.spool, "e", "s", "c", Numbers())
        spool.cut_future_gaps(NOW)  # the clock is right again
        spool.close()
        await some_looks(uploader)
        machine.up_ms += 200_000

        def taken_back() -> bool:
            found = [orjson.loads(p.read_bytes()) for p in files()]
            return all(gap["start_ms"] == gap["end_ms"] for gap in found)

        await until(taken_back)
        task.cancel()
        await asyncio.wait({task})
        look = Fsck(config, catalogue, archives, repair=True, clock=later_ms)
        assert not [f for f in await look.check(C) if "gap" in f.what and f.where != "schedule"]
        assert all(g.start_ms < NOW for g in await catalogue.gaps_between(C, 0, 1 << 60))


async def test_a_description_that_is_none_holds_up_no_other(tmp_path: Path) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n")
    fill(config.spool, camera="c", start_ms=NOW - 3 * DAY, runs=3, segments=60).close()
    count = sealed(config)
    async with uploading(config) as (uploader, _, _):
        await until(lambda: kept(uploader).archived_total >= count)
    (first, *_) = sorted((tmp_path / "archive/e/s/c").glob("*/*.json"))
    first.write_bytes(orjson.dumps(orjson.loads(first.read_bytes()) | {"segments": []}))
    async with opened(config) as (catalogue, archives):
        await forget_the_spool(config, catalogue)
        assert await retire(catalogue, archives[0], C, 60, share=1) == count - 1
