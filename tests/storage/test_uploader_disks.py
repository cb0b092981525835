"""The uploader and disks: a spool that goes away, fills or was renamed, a clock that was ahead."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from storage.archival.pending import PendingUpload
from storage.archival.replicator import Replicator
from storage.archival.verified_archive import VerifiedArchive
from storage.records import ClockState, GapCause
from storage.spool.disk import MARKER_FILE, DiskSpace, claim_spool
from storage.spool.reader import SpoolReader, SpoolRecording
from storage.spool.writer import Run, SegmentInfo
from tests.support.archiving import BRISK, NOW, C, configure, kept, opened, sealed, uploading
from tests.support.spools import TRACKS, fill
from tests.support.waiting import until


async def test_a_recording_of_the_future_blocks_no_removal(tmp_path: Path) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n")
    spool = fill(config.spool, start_ms=NOW + 10**9, runs=1, segments=5)
    future = len(list(config.spool.glob("s/c/*/*.mp4")))
    old = Run(NOW - 7_200_000, b"\0\0\0\x10ftypiso5" + bytes(4), TRACKS, 2)
    for k in range(90):
        spool.append(
            old,
            b"x" * 100,
            SegmentInfo(
                tfdt_90k=k * 180_000,
                duration_90k=180_000,
                starts_with_key=True,
                arrival_ms=0,
                camera_ms=None,
            ),
            ClockState(True, 2),
        )
    spool.seal(GapCause.RECORDER_STOPPED)
    spool.close()
    before = len(list(config.spool.glob("s/c/*/*.mp4")))
    async with uploading(config) as (uploader, _, _):
        await until(lambda: uploader.status.removed_total == before - future - 1)


async def test_a_disk_that_goes_and_comes_back_is_gone_on_with(tmp_path: Path) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2d")
    fill(config.spool, start_ms=NOW - 600_000).close()
    count = len(list(config.spool.glob("s/c/*/*.mp4")))
    (tmp_path / "archive").write_text("not a directory")  # so that they wait
    pauses = replace(BRISK, retry_s=(0.01,))  # many tries in each look
    with capture_logs() as log:
        async with uploading(config, pauses) as (uploader, _, _):
            await until(lambda: not kept(uploader).ok)
            config.spool.rename(tmp_path / "away")
            (tmp_path / "archive").unlink()
            for _ in range(5):
                looked_ms = uploader.status.written_ms
                await until(lambda: uploader.status.written_ms > looked_ms)  # noqa: B023
            status = kept(uploader)  # what was read before the disk went may have got there
            assert status.archived_total + status.backlog_recordings == count
            assert not config.spool.exists()
            (tmp_path / "away").rename(config.spool)
            await until(lambda: kept(uploader).archived_total == count)
            assert kept(uploader).ok
    assert not any("cannot be archived" in entry["event"] for entry in log)


class Back(SpoolRecording):
    """A recording whose disk is away at the first `away` reads of its index."""

    reads, away, marker = 0, 1, Path()

    @property
    def lines(self) -> Path:
        """Its index; the disk has come back just after the last read that failed."""
        type(self).reads += 1
        if self.reads > self.away:
            return super().lines
        hidden = self.marker.with_suffix(".away")
        if self.reads == 1:
            self.marker.rename(hidden)
        if self.reads == self.away:
            hidden.rename(self.marker)
        return Path("/no/such/disk.jsonl")


@pytest.mark.parametrize("away", [1, 2, 3])
async def test_a_disk_that_comes_back_in_the_middle_of_a_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, away: int
) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2d")
    fill(config.spool, start_ms=NOW - 600_000, runs=1).close()
    claim_spool(config.spool)
    for name, value in (("reads", 0), ("away", away), ("marker", config.spool / MARKER_FILE)):
        monkeypatch.setattr(Back, name, value)
    view = SpoolReader(config.spool, "s", "c")
    view.refresh()
    stored = view.stored()[0]
    async with opened(config) as (catalogue, archives):
        await catalogue.writer.put_recordings([i for _, i in view.recordings()])
        archive = VerifiedArchive(config.archives[0], archives[0], catalogue)
        replicator = Replicator(archive, config.spool, BRISK, lambda _: None)
        back = Back(stored.base, stored.record_seq, stored.start_ms)
        replicator.add(PendingUpload.of(C, back, 1, {}))
        (backlog,) = replicator._backlogs.values()
        while not await replicator._take(backlog):
            pass
        assert replicator.status.archived_total == 1 and Back.reads == away + 1
        assert replicator.status.failures_total == 0


@pytest.mark.slow
async def test_a_disk_that_is_nearly_full_is_cleared_of_what_is_archived(tmp_path: Path) -> None:
    """The oldest go first, and no more than is needed; what is not archived stays."""
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2d")
    fill(config.spool, start_ms=NOW - 600_000, segments=120).close()
    before = sorted(config.spool.glob("s/c/*/*.mp4"))
    asked, full = 0, False

    def room(spool: Path) -> DiskSpace:  # when all are archived none is left, until three have gone
        nonlocal asked
        asked += 1
        short = full and len(list(spool.glob("s/c/*/*.mp4"))) > len(before) - 3
        return DiskSpace(0 if short else 1 << 50, 1 << 50, True)

    async with uploading(config, disk_space=room) as (uploader, _, archive):
        await until(lambda: uploader.replicators.all[0].status.archived_total >= len(before) - 1)
        full = True
        await until(lambda: uploader.status.removed_total == 3)
        begun = asked
        await until(lambda: asked > begun + 3)  # it has looked again and found no need
        assert sorted(config.spool.glob("s/c/*/*.mp4")) == before[3:]
        keys = [e.key async for e in archive.entries("e/")]
        assert all(any(k.endswith(p.name) for k in keys) for p in before[:3])


async def test_recordings_in_a_renamed_folder_leave_the_spool(tmp_path: Path) -> None:
    """They are archived under the name that they were recorded with, once."""
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n")
    fill(config.spool, camera="c", start_ms=NOW - 7_200_000).close()
    count = sealed(config)
    (config.spool / "s/c").rename(config.spool / "s/renamed")
    async with uploading(config) as (uploader, _, _):
        await until(lambda: uploader.cleaner.removed_total == count - 1)
        assert kept(uploader).archived_total == count
        assert kept(uploader).failures_total == 0
    assert len(list((tmp_path / "archive/e/s/c").glob("*/*.mp4"))) == count
    assert not (tmp_path / "archive/e/s/renamed").exists()
