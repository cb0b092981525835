"""What other archives, and other elections, have to do with what is kept."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from config.load import load
from config.model import Config
from kuager.fsck import fsck
from kuager.upload import upload
from storage.archival import discovery as discovery_module
from storage.archival.backlog import Blocked
from storage.archival.pending import PermanentUploadError
from storage.archival.replicator import Replicator
from storage.archival.retention import gap_object, retire
from storage.archival.uploader import Uploader
from storage.archival.verified_archive import VerifiedArchive
from storage.archive.port import Put, UnreadableSource
from storage.catalogue.catalogue import Catalogue
from storage.fsck.check import Fsck
from storage.records import Gap, GapCause
from storage.spool.numbers import Numbers
from tests.support.archiving import (
    BRISK,
    NOW,
    C,
    configure,
    forget_the_spool,
    later_ms,
    opened,
)
from tests.support.spools import fill

DAY_S = 86_400
DAY = DAY_S * 1000
TWO = """\
archives:
  - {name: near, url: near, keep: 1d}
  - {name: far, url: far}
archives_needed: 1
"""


async def take(uploader: Uploader, *archives: str) -> None:
    """Have an uploader look, and archives of these names take what is due."""
    assert await uploader.recognise()
    await uploader.discovery.look()
    for replicator in uploader.replicators.all:
        for backlog in replicator._backlogs.values() if replicator.name in archives else ():
            while await replicator._take(backlog):
                pass


@contextlib.asynccontextmanager
async def an_uploader(config: Config) -> AsyncIterator[tuple[Uploader, Catalogue, Any]]:
    async with opened(config) as (catalogue, archives):
        yield Uploader(config, catalogue, archives, pauses=BRISK), catalogue, archives


@pytest.mark.parametrize(
    ("far_keeps_s", "goes"), [(None, False), (30 * DAY_S, False), (2 * DAY_S, True)]
)
async def test_what_another_archive_is_to_keep_and_never_had_stays(
    tmp_path: Path, far_keeps_s: int | None, goes: bool
) -> None:
    """The far one is away for longer than the near one keeps: that has the last copy."""
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", TWO)
    fill(config.spool, start_ms=NOW - 3 * DAY, runs=2, segments=5).close()
    async with an_uploader(config) as (uploader, catalogue, archives):
        await take(uploader, "near")
        count = len(await catalogue.recordings_of(C))
        others = {"far": far_keeps_s}
        removed = await retire(catalogue, archives[0], C, DAY_S, share=1, others=others)
        assert removed == (count if goes else 0)
        if not goes:
            await take(uploader, "far")
            assert await retire(catalogue, archives[0], C, DAY_S, share=1, others=others) == count


async def test_the_schedule_asks_for_the_other_archives(tmp_path: Path) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", TWO)
    fill(config.spool, start_ms=NOW - 3 * DAY, runs=2, segments=5).close()
    async with an_uploader(config) as (uploader, _, _):
        await take(uploader, "near")
        uploader.retention._watch.doubt = lambda: None  # type: ignore[method-assign]
        uploader.retention._watch.steady_s = lambda: 2.0 * DAY_S  # type: ignore[method-assign]
        await uploader.retention.retire()
        assert uploader.retention.retired_total == 0
        await take(uploader, "far")
        await uploader.retention.retire()
        assert uploader.retention.retired_total == 1  # a tenth


def next_election(folder: Path) -> Config:
    """Return the same configuration with another election."""
    path = folder / "kuager.yaml"
    path.write_text(path.read_text().replace("election: {id: e,", "election: {id: e2,"))
    return load(path, {})


async def test_fsck_tells_what_the_last_election_left_in_the_spool(tmp_path: Path) -> None:
    """Nobody is to read that all agree, and then to wipe a disk that has the only copy."""
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n")
    fill(config.spool, start_ms=NOW - DAY, runs=2, segments=5).close()
    count = len(list(config.spool.glob("s/c/*/*.jsonl")))
    config = next_election(tmp_path)
    for has_rows in (False, True):
        async with an_uploader(config) as (uploader, catalogue, archives):
            if has_rows:
                await take(uploader)
            fsck = Fsck(config, catalogue, archives, clock=later_ms)
            found = [f for name in await fsck.cameras() for f in await fsck.check(name)]
            what = "waits in the spool" if has_rows else "only the spool has"
            assert sum(what in f.what for f in found) == count
            assert fsck.spool.waits["archive"].recordings == count
    async with an_uploader(config) as (uploader, catalogue, archives):
        await take(uploader, "archive")
        fsck = Fsck(config, catalogue, archives, clock=later_ms)
        found = [f for name in await fsck.cameras() for f in await fsck.check(name)]
        assert [f for f in found if f.where != "schedule"] == [] and not fsck.spool.waits


async def test_another_election_is_not_removed_by_what_this_one_says(tmp_path: Path) -> None:
    """A rehearsal that keeps a day would empty the archive of an election; but it is told."""
    keep = "archives: [{url: archive, keep: 1d}]\n"
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", keep)
    fill(config.spool, start_ms=NOW - 3 * DAY, runs=2, segments=5).close()
    async with an_uploader(config) as (uploader, _, _):
        await take(uploader, "archive")
    config = next_election(tmp_path)
    async with an_uploader(config) as (uploader, _, _):
        uploader.retention._watch.doubt = lambda: None  # type: ignore[method-assign]
        uploader.retention._watch.steady_s = lambda: 2.0 * DAY_S  # type: ignore[method-assign]
        with capture_logs() as logs:
            for _ in range(2):
                await uploader.retention.retire()
        assert uploader.retention.retired_total == 0
        assert [line["elections"] for line in logs if "elections" in line] == [["e"]]


async def test_what_nobody_has_is_said_to_be_gone(tmp_path: Path) -> None:
    """It is not said to stay in the spool, and it stays in the backlog: one may still have it."""
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", TWO)
    fill(config.spool, start_ms=NOW - DAY, runs=1, segments=1).close()
    async with an_uploader(config) as (uploader, _, _):
        await take(uploader)
        for path in config.spool.glob("s/c/*/*"):
            path.unlink()
        with capture_logs() as logs:
            await take(uploader, "near", "far")
        said = [line["why"] for line in logs if "cannot be archived now" in line["event"]]
        assert len(said) == 2
        assert all("gone from the spool, and no other archive has it now" in why for why in said)
        assert {one.blocked for _, one in uploader.replicators.blocked} == {Blocked.GONE}
        assert [r.status.backlog_recordings for r in uploader.replicators.all] == [1, 1]


async def test_what_nobody_has_any_more_keeps_no_other_from_an_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More are missed than are asked for at a time, and the oldest of them is lost."""
    monkeypatch.setattr(discovery_module, "MISSING", 2)
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", TWO.replace(", keep: 1d", ""))
    fill(config.spool, start_ms=NOW - DAY, segments=120).close()
    async with an_uploader(config) as (uploader, catalogue, _):
        await take(uploader, "near")
        await forget_the_spool(config, catalogue)
    lost, *others = sorted((tmp_path / "near").glob("e/s/c/*/*.mp4"))
    lost.unlink()
    fill(config.spool, start_ms=NOW - 60_000, runs=1, floor=Numbers(9, *[900] * 4)).close()
    wanted = [tmp_path / "far" / p.relative_to(tmp_path / "near") for p in others]
    async with an_uploader(config) as (uploader, _, _):
        for _ in wanted:
            await take(uploader, "near", "far")
            await uploader.discovery.find_missing()
    assert len(wanted) > 4 and all(p.with_suffix(".json").exists() for p in wanted)


@contextlib.asynccontextmanager
async def one_waits(folder: Path) -> AsyncIterator[tuple[Uploader, Replicator]]:
    """An uploader with a recording that waits for its only archive."""
    config = configure(folder, f"sqlite:///{folder}/k.db", "archives: [archive]\n")
    fill(config.spool, start_ms=NOW - DAY, runs=1, segments=5).close()
    async with an_uploader(config) as (uploader, _, _):
        (replicator,) = uploader.replicators.all
        yield uploader, replicator


async def test_a_file_that_this_process_cannot_open_is_no_fault_of_the_catalogue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with one_waits(tmp_path) as (uploader, replicator):
        archive = replicator.archive.archive
        there = archive.put

        async def put(key: str, data: bytes | Path, *rest: Any, **named: Any) -> Put:
            if isinstance(data, Path):
                raise UnreadableSource("0001.mp4 cannot be read: Too many open files")
            return await there(key, data, *rest, **named)

        monkeypatch.setattr(archive, "put", put)
        await take(uploader, "archive")
        assert uploader._outage.why is None and not replicator.is_away
        blocked = list(replicator.blocked())
        assert blocked and {one.blocked for one in blocked} == {Blocked.UNREADABLE}
        assert "0001.mp4 cannot be read: Too many open files" in blocked[0].why


async def test_what_has_no_row_is_sent_once_at_an_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with one_waits(tmp_path) as (uploader, replicator):
        sent = list[object]()

        async def store(index: object, *_: object) -> None:
            sent.append(index)
            raise PermanentUploadError(Blocked.NO_ROW, "the catalogue has no row")

        monkeypatch.setattr(replicator.archive, "store", store)
        await take(uploader, "archive")
        assert len(sent) == replicator.status.failures_total > 0


@pytest.mark.slow
def test_upload_leaves_no_gap_on_the_disk_alone(tmp_path: Path) -> None:
    """The disk may go elsewhere then: no recording follows that carries it."""
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2d")
    spool = fill(config.spool, start_ms=NOW - DAY, runs=1)
    spool.begin_gap(NOW - DAY + 80_000, GapCause.NO_DATA)
    spool.end_gap(NOW - DAY + 90_000)
    spool.close()
    assert upload(config, until_done=False) == 0
    assert len(list((tmp_path / "archive").glob("e/s/c/*/*-gap-*.json"))) == 1


async def test_a_gap_that_ended_otherwise_is_no_damaged_object(tmp_path: Path) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n")
    async with opened(config) as (catalogue, archives):
        verified = VerifiedArchive(config.archives[0], archives[0], catalogue)
        for end_ms in (NOW + 2_000, NOW + 1_000):
            gap = Gap(7, NOW, end_ms, GapCause.NO_DATA)
            await verified.put_document(*gap_object(C, gap))
            assert await archives[0].get(gap_object(C, gap)[0]) == gap_object(C, gap)[1]
        assert verified.verification_failures == 0
        (path,) = (tmp_path / "archive").glob("e/s/c/*/*-gap-7.json")
        path.write_bytes(b"half")
        await verified.put_document(*gap_object(C, gap))
        assert verified.verification_failures == 1 and path.read_bytes() == gap_object(C, gap)[1]


def test_of_a_disk_that_is_not_mounted_nothing_is_said_to_agree(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n")
    assert upload(config, until_done=True) == 2
    assert not config.spool.exists() and "mount its disk" in capsys.readouterr().err
    assert fsck(config, repair=False, deep=False, from_start=False, cameras=[]) == 0
    said = capsys.readouterr()
    assert "No spool can be read at" in said.err and "Spool, catalogue" not in said.out
