"""Something in an archive that cannot be read is named, and hides nothing else."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from config.model import Config
from storage.archival.retention import retire
from storage.archive.directory import DirectoryArchive
from storage.archive.port import Archive, ArchiveError
from storage.catalogue.catalogue import Catalogue
from storage.fsck.camera import Finding
from storage.fsck.check import Fsck
from storage.fsck.listing import GIVE_WAY
from storage.fsck.spool import seal_abandoned, seal_all_abandoned
from storage.records import GapCause, parse_index
from storage.spool.disk import claim_spool
from storage.spool.numbers import Numbers
from storage.spool.reader import SpoolReader
from storage.spool.writer import CameraSpool
from tests.support.archiving import (
    NOW,
    C,
    configure,
    forget_the_spool,
    kept,
    later_ms,
    opened,
    uploading,
)
from tests.support.spools import fill
from tests.support.waiting import until

HOUR = 3_600_000


class Spoilt(DirectoryArchive):
    """A directory on a disk with bad blocks under some keys."""

    bad: tuple[str, ...] = ()

    async def get(self, key: str, *args: Any, **named: Any) -> bytes:
        if key.endswith(self.bad):
            raise ArchiveError(f"{key}: Input/output error")
        return await super().get(key, *args, **named)


@asynccontextmanager
async def archived(folder: Path) -> AsyncIterator[tuple[Config, Catalogue, Spoilt, list[str]]]:
    """Yield also the names of the recordings, oldest first."""
    config = configure(folder, f"sqlite:///{folder}/k.db", "archives: [archive]\n")
    fill(config.spool, camera="c", start_ms=NOW - 3 * HOUR, segments=60).close()
    async with uploading(config) as (uploader, catalogue, _):
        await until(lambda: kept(uploader).archived_total >= 4)
        await until(lambda: kept(uploader).backlog_recordings == 0)
        await forget_the_spool(config, catalogue)
    async with opened(config) as (catalogue, _):
        archive = Spoilt("archive", folder / "archive")
        names = [p.stem for p in sorted((folder / "archive/e/s/c").glob("*/*.mp4"))]
        yield config, catalogue, archive, names
        await archive.close()


async def look(
    config: Config, catalogue: Catalogue, archives: Sequence[Archive], **how: Any
) -> list[Finding]:
    found = await Fsck(config, catalogue, archives, clock=later_ms, **how).check(C)
    return [f for f in found if f.where != "schedule"]


def seq(name: str) -> str:
    return name.rpartition("-")[2]


@pytest.mark.parametrize("ending", [".mp4", ".json"])
async def test_a_bad_block(tmp_path: Path, ending: str) -> None:
    async with archived(tmp_path) as (config, catalogue, archive, names):
        archive.bad = (names[1] + ending,)
        found = await look(config, catalogue, [archive], deep=True, repair=True)
        assert [(f.kind, f.which, f.done) for f in found] == [("different", seq(names[1]), "")]
        assert "cannot be read" in found[0].what
        assert len(list((tmp_path / "archive/e/s/c").glob("*/*.mp4"))) == len(names)


async def test_an_archive_that_cannot_be_read_at_all_ends_the_look(tmp_path: Path) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n")
    fill(config.spool, start_ms=NOW - 3 * HOUR, runs=4, segments=90).close()
    async with uploading(config) as (uploader, _, _):
        await until(lambda: kept(uploader).archived_total > GIVE_WAY)
        await until(lambda: kept(uploader).backlog_recordings == 0)
    async with opened(config) as (catalogue, _):
        archive = Spoilt("archive", tmp_path / "archive")
        archive.bad = ("",)
        with pytest.raises(ArchiveError, match="Input/output error"):
            await look(config, catalogue, [archive], deep=True)
        await archive.close()


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"kuager": "removed/1"}'])
async def test_what_an_archive_tells_that_cannot_be_read(tmp_path: Path, data: bytes) -> None:
    """A trace and a gap, of which the catalogue does not know; the others come back."""
    async with archived(tmp_path) as (_, catalogue, archive, names):
        assert await retire(catalogue, archive, C, 60, share=1) == len(names)
        traces = sorted((tmp_path / "archive/e/s/c").glob("*/*.removed.json"))
        traces[1].write_bytes(data)
        gap = traces[0].with_name(traces[0].name.replace("Z-1.removed", "Z-gap-7"))
        assert gap != traces[0]
        gap.write_bytes(data)
    other = configure(tmp_path, f"sqlite:///{tmp_path}/new.db", "archives: [archive]\n")
    async with opened(other) as (catalogue, archives):
        found = await look(other, catalogue, archives, repair=True)
        unread = {(f.what, f.which) for f in found if f.kind == "different"}
        assert unread == {("trace that cannot be read", seq(names[1]))} | {
            ("gap that cannot be read", "7")
        }
        assert len(await catalogue.recordings_of(C)) == len(names) - 1


async def test_a_gap_that_only_the_spool_has(tmp_path: Path) -> None:
    """It ended long ago, no recording carries it, and its object is lost."""
    async with archived(tmp_path) as (config, catalogue, archive, _):
        spool = CameraSpool(config.spool, "e", "s", "c", Numbers.by_clock(NOW - 2 * HOUR))
        for n in range(2):
            spool.begin_gap(NOW - 2 * HOUR + n * 1000, GapCause.UNREACHABLE, "no route")
            spool.end_gap(NOW - 2 * HOUR + (n + 1) * 1000)
        spool.begin_gap(NOW - HOUR, GapCause.CONNECTING, "asked")  # lasts
        spool.close()
        found = await look(config, catalogue, [archive])
        assert [f.what for f in found] == ["gap that only the spool has"] * 2
        found = await look(config, catalogue, [archive], repair=True)
        assert [f.done for f in found] == ["put"] * 2
        after = await look(config, catalogue, [archive], repair=True)  # whose rows are missing yet
        assert {f.what for f in after} == {"gap that an archive has"} and len(after) == 2
        assert await look(config, catalogue, [archive]) == []
        told = [p.read_bytes() for p in (tmp_path / "archive/e/s/c").glob("*/*-gap-*.json")]
        assert len(set(told)) == 2


async def test_a_spoilt_recording_that_no_archive_has(tmp_path: Path) -> None:
    """Its only copy has rotted in the spool: nobody is to read that all agree."""
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2d")
    fill(config.spool, camera="c", start_ms=NOW - 3 * HOUR, runs=1, segments=5).close()
    for media in config.spool.glob("s/c/*/*.mp4"):
        media.write_bytes(media.read_bytes()[:-1] + b"?")
    indexes = [parse_index(p.read_bytes()) for p in config.spool.glob("s/c/*/*.jsonl")]
    async with opened(config) as (catalogue, archives):
        for has_rows in (False, True):
            what = "waits in the spool" if has_rows else "only the spool has"
            for deep in (False, True):
                found = [f.what for f in await look(config, catalogue, archives, deep=deep)]
                assert sum(what in text for text in found) == len(indexes)
                assert found.count("altered in the spool") == (len(indexes) if deep else 0)
            await catalogue.writer.put_recordings(indexes, claim_spool(config.spool))


def test_a_bad_block_of_the_spool_keeps_no_other_from_being_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = fill(tmp_path, sealed=False)
    spool.abandon(GapCause.DISK_FAILED)
    spool.close()
    bad, *_, last = sorted(tmp_path.glob("s/c/*/*.jsonl"))
    bad.write_bytes(b"?" + bad.read_bytes())
    read = Path.read_bytes

    def read_bytes(self: Path) -> bytes:
        if self == bad:
            raise OSError(errno.EIO, "Input/output error")
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    reader = SpoolReader(tmp_path, "s", "c")
    reader.refresh()
    seal_all_abandoned(reader, C)
    assert parse_index(last.read_bytes()).seal is not None
    assert bad.exists() and bad.with_suffix(".mp4").exists()


@pytest.mark.parametrize("left", [b"", bytes(20_000)])
def test_what_a_sealed_recording_says_of_bytes_that_are_gone_stays(
    tmp_path: Path, left: bytes
) -> None:
    fill(tmp_path).close()
    media = sorted(tmp_path.glob("s/c/*/*.mp4"))[0]
    media.write_bytes(left[: media.stat().st_size])
    index = media.with_suffix(".jsonl").read_bytes()
    reader = SpoolReader(tmp_path, "s", "c")
    reader.refresh()
    assert seal_abandoned(reader, C, reader.stored()[0]) == ""
    assert media.exists() and media.with_suffix(".jsonl").read_bytes() == index
