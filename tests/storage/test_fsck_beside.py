"""`kuager fsck` beside others at work, and on a database that came back from a copy."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import pytest
import sqlalchemy as sa

from base.clock import now_ms
from config.model import Config
from kuager import fsck as fsck_module
from kuager.fsck import _look, _read_state
from kuager.fsck import fsck as fsck_command
from storage.archival.pending import read_sealed
from storage.archival.retention import retire
from storage.archival.uploader import Uploader
from storage.archival.verified_archive import VerifiedArchive
from storage.archive.directory import DirectoryArchive
from storage.archive.port import TRACE, AnotherArchive, ArchiveError, Entry, Fault, Put
from storage.catalogue.cameras import Name
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.rows import RecordingRow
from storage.catalogue.schema import archived
from storage.fsck.camera import Finding
from storage.fsck.check import Fsck
from storage.records import REMOVED_FORMAT, Trace, recording_name
from storage.spool import reader as reader_module
from storage.spool.disk import spool_id
from storage.spool.reader import SpoolReader
from tests.support.archiving import C, configure, forget_the_spool, later_ms, opened
from tests.support.spools import UTC0, fill
from tests.support.waiting import until

DAY_S = 86_400


class Busy(DirectoryArchive):
    """An archive that is at work just after it was listed."""

    work: Callable[[], Awaitable[object]] | None = None
    shows: int | None = None  # of its recordings; None: all

    async def entries(self, prefix: str) -> AsyncIterator[Entry]:
        async for entry in super().entries(prefix):
            if self.shows is None or f"Z-{self.shows + 1}." not in entry.key:
                yield entry
        if self.work is not None and prefix.endswith("/c/"):
            work, self.work = self.work, None
            await work()


@contextlib.asynccontextmanager
async def filled(
    folder: Path, archives: int
) -> AsyncIterator[tuple[Config, Catalogue, Busy, Callable[[int], Awaitable[object]]]]:
    """Have a spool with rows, of which the archive has so many recordings; yields what stores
    another one, too."""
    url = f"sqlite:///{folder}/k.db"
    config = configure(folder, url, f"archives: [{{url: archive, keep: {DAY_S}s}}]\n", "2d")
    fill(config.spool, start_ms=UTC0).close()
    reader = SpoolReader(config.spool, "s", "c")
    reader.refresh()
    found = [read_sealed(stored) for stored in reader.stored()]
    archive = Busy("archive", folder / "archive")
    async with opened(config) as (catalogue, _):
        await catalogue.cameras.sync(config)
        await catalogue.writer.put_recordings([i for i, _ in found], spool_id(config.spool))
        verified = VerifiedArchive(config.archives[0], archive, catalogue)
        await verified.identify()

        async def store(number: int) -> object:
            return await verified.store(*found[number])

        for number in range(archives):
            await store(number)
        yield config, catalogue, archive, store
    await archive.close()


async def look(
    config: Config, catalogue: Catalogue, archive: Busy, *, repair: bool = False
) -> list[Finding]:
    fsck = Fsck(config, catalogue, [archive], repair=repair, clock=later_ms)
    return [f for f in await fsck.check(C) if f.where not in ("schedule", "spool")]


async def test_what_is_stored_while_an_archive_is_listed_is_not_missed(tmp_path: Path) -> None:
    async with filled(tmp_path, 1) as (config, catalogue, archive, store):
        archive.work = lambda: store(1)
        assert [f for f in await look(config, catalogue, archive) if f.which == "2"] == []


async def test_what_is_removed_while_an_archive_is_listed_is_not_left_over(tmp_path: Path) -> None:
    async with filled(tmp_path, 3) as (config, catalogue, archive, _):
        archive.work = lambda: retire(catalogue, archive, C, DAY_S, share=1.0)
        found = await look(config, catalogue, archive)
        assert not [f for f in found if "removed" in f.what]
        assert len(list((tmp_path / "archive").glob("e/s/c/*/*.removed.json"))) == 3


class Late:
    """Has something done just after, or just before, rows are read for the last time of `left`."""

    def __init__(self, catalogue: Catalogue, work: Callable[[], Awaitable[object]]):
        self._read, self._work, self.left = catalogue.recordings_of, work, 0

    async def after(self, name: Name) -> list[RecordingRow]:
        rows = await self._read(name)
        await self._count()
        return rows

    async def before(self, name: Name) -> list[RecordingRow]:
        await self._count()
        return await self._read(name)

    async def _count(self) -> None:
        self.left -= 1
        if self.left == 0:
            await self._work()


@pytest.mark.parametrize("archives", [1, 2])
async def test_what_leaves_the_spool_while_fsck_looks_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, archives: int
) -> None:
    """Neither there, nor in an archive that had it just in time."""
    async with filled(tmp_path, archives) as (config, catalogue, archive, store):
        row = (await catalogue.recordings_of(C))[1]

        async def leave() -> None:
            if archives == 1:
                await store(1)
            for path in config.spool.glob(f"s/c/*/*Z-{row.record_seq}.*"):
                path.unlink()
            await catalogue.writer.mark_removed(C, row.identity, now_ms())

        late = Late(catalogue, leave)
        monkeypatch.setattr(catalogue, "recordings_of", late.after)
        late.left = 2
        found = await Fsck(config, catalogue, [archive], clock=later_ms).check(C)
        assert late.left < 0 and [f for f in found if f.which == "2"] == []


async def test_what_is_recorded_while_fsck_looks_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with filled(tmp_path, 3) as (config, catalogue, archive, _):
        row = (await catalogue.recordings_of(C))[3]
        reader = SpoolReader(config.spool, "s", "c")
        reader.refresh()
        (index,) = [i for _, i in reader.recordings() if i.identity == row.identity]
        there = list(config.spool.glob(f"s/c/*/*Z-{row.record_seq}.*"))
        for path in there:
            path.rename(tmp_path / path.name)
        await catalogue.writer.forget_recording(C, row.identity)

        async def record() -> None:
            for path in there:
                (tmp_path / path.name).rename(path)
            await catalogue.writer.put_recordings([index], spool_id(config.spool))

        late = Late(catalogue, record)
        monkeypatch.setattr(catalogue, "recordings_of", late.before)
        late.left = 3
        found = await Fsck(config, catalogue, [archive], repair=True, clock=later_ms).check(C)
        assert late.left < 0 and [f for f in found if f.which == "4"] == []


async def test_what_had_just_been_sealed_is_not_late_when_its_turn_comes(tmp_path: Path) -> None:
    """Before it all else of its camera is hashed, for minutes."""
    async with filled(tmp_path, 0) as (config, catalogue, archive, _):
        begun_ms, looks = now_ms(), itertools.count()
        fsck = Fsck(
            config, catalogue, [archive], deep=True, clock=lambda: begun_ms + 120_000 * next(looks)
        )
        assert not [f for f in await fsck.check(C) if f.where in ("archive", "spool")]


async def test_what_cannot_be_read_for_a_moment_is_not_forgotten(tmp_path: Path) -> None:
    class Overloaded(DirectoryArchive):
        async def get(self, key: str, *args: Any, **named: Any) -> bytes:
            if key.endswith("Z-2.mp4"):
                raise ArchiveError("is overloaded", Fault.SLOW)
            return await super().get(key, *args, **named)

        async def put(self, *_: Any, **__: Any) -> Put:
            raise ArchiveError("is overloaded", Fault.SLOW)

    async with filled(tmp_path, 3) as (config, catalogue, _, _):
        archive = Overloaded("archive", tmp_path / "archive")
        fsck = Fsck(config, catalogue, [archive], repair=True, deep=True, clock=later_ms)
        found = {(f.which, f.what, f.done) for f in await fsck.check(C)}
        assert ("2", "bytes that cannot be read", "") in found
        assert [len(row.there) for row in await catalogue.recordings_of(C)] == [1, 1, 1, 0]
        await archive.close()


async def test_of_a_disk_that_goes_while_fsck_looks_nothing_is_called_lost(tmp_path: Path) -> None:
    async with filled(tmp_path, 3) as (config, catalogue, archive, _):
        await forget_the_spool(config, catalogue)

        async def go() -> None:
            (tmp_path / "archive").rename(tmp_path / "away")

        archive.work, archive.shows = go, 1
        with pytest.raises(AnotherArchive, match="mount its disk"):
            await look(config, catalogue, archive, repair=True)
        assert [len(row.there) for row in await catalogue.recordings_of(C)] == [1, 1, 1, 0]


@pytest.mark.parametrize("why", ["its time", "before its time", "a time to come", "a hold"])
async def test_a_copy_of_the_database_learns_what_was_removed_since(
    tmp_path: Path, why: str
) -> None:
    """Only where its time had come, and nothing was to keep it, a trace is believed."""
    async with filled(tmp_path, 4) as (config, catalogue, archive, _):
        await forget_the_spool(config, catalogue)
        early = why == "before its time"
        at_ms = UTC0 + 3_600_000 if early else now_ms()
        at_ms += 30 * DAY_S * 1000 * (why == "a time to come")
        keep_s = 60 if early else DAY_S
        assert await retire(catalogue, archive, C, keep_s, share=1.0, clock=lambda: at_ms) == 4
        copied = sa.update(archived).values(removed_ms=None, removed_reason=None)
        await catalogue.pool.execute(copied)
        if why == "a hold":
            await catalogue.holds.add("e", "a court asks", UTC0)
        found = await look(config, catalogue, archive, repair=True)
        if why == "its time":
            assert {(f.what, f.done) for f in found} == {
                ("recording that was removed", "row written")
            }
            assert await look(config, catalogue, archive) == []
            assert all(row.removed for row in await catalogue.recordings_of(C))
        else:
            assert [f.done for f in found if "lost" in f.what] == [""] * 4


async def test_a_deep_look_that_is_interrupted_forgets_nothing_that_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fsck_module, "SAVE_S", 0.0)
    state = tmp_path / "fsck.json"
    async with filled(tmp_path, 3) as (config, catalogue, _, _):
        first, _, last = sorted((tmp_path / "archive").glob("e/s/c/*/*.mp4"))
        first.write_bytes(first.read_bytes()[:-1] + b"?")

        class Hanging(DirectoryArchive):
            async def get(self, key: str, *args: Any, **named: Any) -> bytes:
                if key.endswith(last.name):
                    await asyncio.Event().wait()
                return await super().get(key, *args, **named)

        fsck = Fsck(config, catalogue, [Hanging("archive", tmp_path / "archive")], deep=True)
        looking = asyncio.create_task(_look(fsck, [C], state, 0))
        await until(state.exists)
        await until(lambda: _read_state(state, "e")[0] == fsck.position)
        looking.cancel()
        await asyncio.wait({looking})
        assert fsck.position is not None and fsck.position[3][0] == 2
        wrong = [f for f in fsck.findings if f.kind == "different"]
        assert [f.which for f in wrong] == ["1"]
        assert _read_state(state, "e")[1] == len(fsck.findings) > 0
        assert _read_state(state, "the next") == (None, 0)


def test_a_deep_look_at_one_camera_neither_goes_on_with_another_nor_ends_it(tmp_path: Path) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n")
    fill(config.spool).close()
    state = config.spool / "_status/fsck.json"
    state.write_text('{"position":["s","d",0,[1,0]],"wrong":0}')
    before = state.read_bytes()
    assert fsck_command(config, repair=False, deep=True, from_start=False, cameras=["s/c"]) == 1
    assert state.read_bytes() == before


@pytest.mark.parametrize("what", ["arrival_ms", "start_ms"])
async def test_words_that_were_altered_beside_whole_bytes_are_found(
    tmp_path: Path, what: str
) -> None:
    """Of times that do not fit together one archive is enough; of an arrival it takes two."""
    async with filled(tmp_path, 3) as (config, catalogue, near, _):
        await forget_the_spool(config, catalogue)
        shutil.copytree(tmp_path / "archive", tmp_path / "far")
        path = sorted((tmp_path / "archive").glob("e/s/c/*/*-2.json"))[0]
        words = orjson.loads(path.read_bytes())
        words["segments"][3][what] += 1_000
        path.write_bytes(orjson.dumps(words))
        settings = config.archives[0]
        pair = (settings, settings.model_copy(update={"name": "far"}))
        two = config.model_copy(update={"archives": pair})
        far = Busy("far", tmp_path / "far")
        fsck = Fsck(two, catalogue, [near, far], deep=True, clock=later_ms)
        found = [f for f in await fsck.check(C) if f.kind == "different"]
        assert [f.which for f in found] == ["2"]
        where = "far: other words than archive has" if what == "arrival_ms" else "fit together"
        assert where in f"{found[0].where}: {found[0].what}"
        await far.close()


async def test_what_is_in_a_folder_that_cannot_be_read_is_not_called_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader_module, "SCAN_S", -1.0)
    listdir = os.listdir

    def listed(path: Path) -> list[str]:
        if path.parent.name == "c":
            raise OSError(errno.EACCES, "Permission denied")
        return listdir(path)

    async with filled(tmp_path, 4) as (config, catalogue, archive, _):
        waits = (await catalogue.recordings_of(C))[0]  # as yet only there
        await catalogue.writer.forget_archived(C, waits.identity, archive.name)
        for ending in (".mp4", ".json"):
            name = recording_name(waits.start_ms, waits.record_seq) + ending
            await archive.remove("/".join((*C, name)))
        with monkeypatch.context() as patch:
            patch.setattr(os, "listdir", listed)
            uploader = Uploader(config, catalogue, [archive])
            assert await uploader.recognise()
            await uploader.discovery.look()
            fsck = Fsck(config, catalogue, [archive], repair=True, clock=later_ms)
            found = [f for f in await fsck.check(C) if f.where != "schedule"]
        assert {f.what for f in found} == {"folder that cannot be read"}
        assert all(r.removed_ms is None for r in await catalogue.recordings_of(C))
        await uploader.discovery.look()
        (camera,) = uploader.cameras
        assert camera.known is not None and len(camera.known) == 4 and not camera.unsure


async def test_a_recording_that_is_in_no_list_is_not_called_lost(tmp_path: Path) -> None:
    """On a server whose lists end too early, or come late."""
    async with filled(tmp_path, 4) as (config, catalogue, archive, _):
        await forget_the_spool(config, catalogue)
        archive.shows = 3
        (finding,) = await look(config, catalogue, archive, repair=True)
        assert "not in its list" in finding.what and not finding.done
        archive.shows = None
        assert await look(config, catalogue, archive) == []


async def an_old_trace(folder: Path, catalogue: Catalogue) -> Path:
    """Have the trace that a process left that was killed before it wrote the row."""
    row = (await catalogue.recordings_of(C))[0]
    camera = dict(zip(("election", "station", "camera"), C, strict=True))
    why = {"kuager": REMOVED_FORMAT, "removed_ms": UTC0 + 200 * DAY_S * 1000, "reason": "kept"}
    (path,) = (folder / "archive").glob(f"e/s/c/*/*Z-{row.record_seq}.mp4")
    trace = path.with_name(path.stem + TRACE)
    trace.write_bytes(Trace.of({**asdict(row), **camera, **why}).to_json())
    os.utime(trace, (1, 1))
    return trace


async def test_fsck_takes_back_no_trace_of_a_removal_that_goes_on(tmp_path: Path) -> None:
    """The uploader removes what fsck was told just before to be there."""
    async with filled(tmp_path, 1) as (config, catalogue, _, _):
        await forget_the_spool(config, catalogue)
        trace = await an_old_trace(tmp_path, catalogue)

        class Going(DirectoryArchive):
            async def remove(self, key: str, **named: Any) -> None:
                if key.endswith(TRACE):
                    await retire(catalogue, self, C, DAY_S, share=1.0)
                await super().remove(key, **named)

        going = Going("archive", tmp_path / "archive")
        fsck = Fsck(config, catalogue, [going], repair=True, clock=later_ms)
        (finding,) = [f for f in await fsck.check(C) if f.which == "1" and f.where == "archive"]
        assert "trace" in finding.what and not finding.done
        assert trace.exists()
        assert not list((tmp_path / "archive").glob("e/s/c/*/*Z-1.mp4"))
        await going.close()


async def test_a_removal_whose_trace_fsck_took_back_is_told_of_again(tmp_path: Path) -> None:
    async with filled(tmp_path, 1) as (config, catalogue, _, _):
        await forget_the_spool(config, catalogue)
        trace = await an_old_trace(tmp_path, catalogue)

        class Going(DirectoryArchive):
            async def get(self, key: str, *args: Any, **named: Any) -> bytes:
                data = await super().get(key, *args, **named)
                if key.endswith(TRACE):
                    trace.unlink()
                return data

        going = Going("archive", tmp_path / "archive")
        assert await retire(catalogue, going, C, DAY_S, share=1.0) == 1
        assert trace.exists() and not list((tmp_path / "archive").glob("e/s/c/*/*Z-1.mp4"))
        await going.close()


def test_who_interrupts_a_look_is_not_told_that_something_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    async def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(fsck_module, "_fsck", interrupted)
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n")
    for from_start, goes_on in (
        (False, "looked at: the same command goes on there."),
        (True, "looked at: without --from-start the same command goes on there."),
    ):
        how: dict[str, Any] = {"deep": True, "from_start": from_start, "cameras": []}
        assert fsck_command(config, repair=False, **how) == 2
        assert goes_on in " ".join(capfd.readouterr().err.split())
