"""The catalogue, the same on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from storage.catalogue.catalogue import Catalogue
from storage.catalogue.database import CatalogueError
from storage.catalogue.rows import Archived, RecordingRow
from storage.records import Gap, GapCause, Losses
from storage.spool.numbers import Numbers
from storage.spool.reader import SpoolReader
from storage.spool.writer import CameraSpool
from tests.support.spools import UTC0, fill
from tests.support.waiting import BOUND_S

pytest_plugins = ["tests.support.postgres"]
NAME = ("e", "s", "c")


async def filled(url: str, spool: Path) -> Catalogue:
    fill(spool, runs=2, segments=70).close()
    catalogue = await Catalogue.open(url)
    view = SpoolReader(spool, "s", "c")
    view.refresh()
    found = [index for _, index in view.recordings()]
    await catalogue.writer.put_recordings(found)
    await catalogue.writer.put_recordings(found)  # a crash repeats the step
    await catalogue.writer.put_gaps(NAME, view.all_gaps())
    return catalogue


async def test_recordings_and_gaps_are_found_again(database_url: str, tmp_path: Path) -> None:
    catalogue = await filled(database_url, tmp_path / "spool")
    try:
        every = await catalogue.recordings_between(NAME, UTC0, UTC0 + 10**9)
        assert [r.record_seq for r in every] == list(range(1, len(every) + 1))
        assert len(every) >= 4
        shown, between = (await catalogue.timelines([NAME], UTC0, UTC0 + 10**9))[NAME]
        assert [(r.key, r.end_ms) for r in shown] == [(r.key, r.end_ms) for r in every]
        second = every[1]
        found = await catalogue.recordings_between(NAME, second.start_ms, second.start_ms + 1)
        assert [r.record_seq for r in found] == [2]
        assert await catalogue.recordings_between(NAME, UTC0 - 10**6, UTC0) == []
        for number in (1, 30, 70, 71, 140):
            row = await catalogue.recording_with_segment(NAME, number)
            assert row is not None
            assert row.first_segment_no <= number < row.first_segment_no + row.segments
        assert await catalogue.recording_with_segment(NAME, 141) is None
        run = await catalogue.recording_of_run(NAME, 2)
        assert run is not None and run.run_no == 2
        (gap,) = await catalogue.gaps_between(NAME, UTC0, UTC0 + 10**9)
        assert between == [gap]
        other = (*NAME[:2], "other")
        both = await catalogue.timelines([other, NAME], UTC0, UTC0 + 10**9)
        assert both == {other: ([], []), NAME: (shown, between)}
        assert (gap.start_ms, gap.end_ms) == (UTC0 + 140_000, UTC0 + 150_000)
    finally:
        await catalogue.close()


async def test_what_is_missing_of_a_recording_is_told(database_url: str, tmp_path: Path) -> None:
    catalogue = await filled(database_url, tmp_path / "spool")
    view = SpoolReader(tmp_path / "spool", "s", "c")
    view.refresh()
    index = next(index for _, index in view.recordings())
    index.segments[3] = replace(index.segments[3], lost=4, damaged=2)
    index.segments[5] = replace(index.segments[5], lost=1, restarted=True)
    try:
        for _ in range(2):  # a crash repeats the step
            await catalogue.writer.put_recordings([index])
        between = await catalogue.recordings_between(NAME, UTC0, UTC0 + 10**9)
        shown, _ = (await catalogue.timelines([NAME], UTC0, UTC0 + 10**9))[NAME]
        for rows in between, shown:
            whole = [Losses()] * (len(rows) - 1)
            assert [row.losses for row in rows] == [Losses(5, 2, restarted=True), *whole]
        await catalogue.writer.forget_recording(NAME, index.identity)
        (row, *_) = await catalogue.recordings_between(NAME, UTC0, UTC0 + 10**9)
        assert row.record_seq == 2 and not row.losses
    finally:
        await catalogue.close()


async def test_states_of_a_recording(database_url: str, tmp_path: Path) -> None:
    catalogue = await filled(database_url, tmp_path / "spool")
    view = SpoolReader(tmp_path / "spool", "s", "c")
    view.refresh()
    first, second = [index for _, index in view.recordings()][:2]
    try:
        known = await catalogue.in_spool("s", "c", "a")
        key = first.identity[:2]
        assert known[key].archives == {} and len(known) >= 4
        for name in ("near", "far", "far"):  # a crash repeats the step
            assert await catalogue.writer.mark_archived(first, Archived(name, "", 5, "read back"))
        assert (await catalogue.in_spool("s", "c", "a"))[key].archives.keys() == {"near", "far"}
        assert first.seal is not None and second.seal is not None
        others = replace(first, seal=replace(first.seal, sha256=second.seal.sha256))
        later = Archived("near", "", 6, "read back")
        assert not await catalogue.writer.mark_archived(others, later)
        unknown = replace(first, header=replace(first.header, record_seq=99))
        assert not await catalogue.writer.mark_archived(unknown, later)
        await catalogue.writer.mark_removed(NAME, first.identity, 9)
        assert key not in await catalogue.in_spool("s", "c", "a")
        (row,) = await catalogue.recordings_between(NAME, first.start_ms, first.start_ms + 1)
        assert [a.archive for a in row.archives] == ["far", "near"]
        await catalogue.writer.forget_archived(NAME, first.identity, "far")
        (row,) = await catalogue.recordings_between(NAME, first.start_ms, first.start_ms + 1)
        assert [a.archive for a in row.archives] == ["near"]
    finally:
        await catalogue.close()


async def test_what_is_due_and_what_a_hold_keeps(database_url: str, tmp_path: Path) -> None:
    catalogue = await filled(database_url, tmp_path / "spool")
    view = SpoolReader(tmp_path / "spool", "s", "c")
    view.refresh()
    every = [index for _, index in view.recordings()]
    now = UTC0 + 10**9

    async def due(before_ms: int = now) -> list[int]:
        return [r.record_seq for r in await catalogue.holds.due(NAME, "near", before_ms, now)]

    try:
        for index in every:
            locked = now + 1 if index is every[-1] else None
            kept = Archived("near", "", 5, "read back", locked_until_ms=locked)
            assert await catalogue.writer.mark_archived(index, kept)
        free = [i.header.record_seq for i in every[:-1]]
        assert await due() == free
        assert await due(every[1].end_ms) == [1]
        assert await catalogue.holds.due(NAME, "far", now, now) == []
        for where in (
            {},
            {"station": "s"},
            {"station": "s", "camera": "c", "until_ms": now + 1},
            {"from_ms": UTC0, "to_ms": now},
        ):
            number = await catalogue.holds.add("e", "a court asks", 1, **where)
            assert await due() == []
            assert await catalogue.holds.release(number, 2)
            assert not await catalogue.holds.release(number, 3)
        second = every[1]
        await catalogue.holds.add("e", "an order", 1, from_ms=second.start_ms, to_ms=second.end_ms)
        for elsewhere in ({"station": "t"}, {"camera": "d"}, {"until_ms": now}):
            await catalogue.holds.add("e", "another's", 1, **elsewhere)
        await catalogue.holds.add("other", "another's", 1)
        assert await due() == [n for n in free if n != 2]
        assert len(await catalogue.holds.of("e")) == 8
        row = RecordingRow.of(every[0])
        told = NAME, row, "near"
        assert await catalogue.holds.begin_removal(*told, now, "its time has come")
        assert await catalogue.holds.begin_removal(*told, now, "by another process, at once")
        assert await due() == free[:1] + free[2:]  # until its bytes are gone
        await catalogue.holds.end_removal(*told)
        assert await due() == [n for n in free if n not in (1, 2)]
        (row,) = await catalogue.recordings_between(NAME, every[0].start_ms, UTC0 + 1)
        assert row.archives[0].removed_reason == "its time has come"
        ((shown,), _) = (await catalogue.timelines([NAME], every[0].start_ms, UTC0 + 1))[NAME]
        assert shown.archives == row.archives
        at = second.start_ms
        ((other,), _) = (await catalogue.timelines([NAME], at, at + 1))[NAME]
        assert not other.archives  # nothing was removed
    finally:
        await catalogue.close()


async def test_a_gap_ends_and_an_empty_one_goes(database_url: str) -> None:
    catalogue = await Catalogue.open(database_url)
    try:
        await catalogue.writer.put_gaps(NAME, [Gap(1, 100, None, GapCause.NO_DATA)])
        assert (await catalogue.gaps_between(NAME, 0, 10**6))[0].end_ms is None
        await catalogue.writer.put_gaps(NAME, [Gap(1, 100, 200, GapCause.NO_DATA)])
        assert (await catalogue.gaps_between(NAME, 0, 10**6))[0].end_ms == 200
        assert await catalogue.gaps_between(NAME, 200, 300) == []
        await catalogue.writer.put_gaps(NAME, [Gap(1, 100, 100, GapCause.NO_DATA)])
        assert await catalogue.gaps_between(NAME, 0, 10**6) == []
    finally:
        await catalogue.close()


async def test_several_processes_open_at_once(database_url: str) -> None:
    # of those that find the schema being made, some are refused; processes then try again
    opened = await asyncio.gather(*(Catalogue.open_patiently(database_url) for _ in range(4)))
    try:
        await asyncio.gather(
            *(
                c.writer.put_gaps(("e", "s", f"c{n}"), [Gap(1, 1, 2, GapCause.NO_DATA)])
                for n, c in enumerate(opened)
            )
        )
        for n in range(4):
            assert len(await opened[0].gaps_between(("e", "s", f"c{n}"), 0, 10)) == 1
    finally:
        for catalogue in opened:
            await catalogue.close()


async def test_an_unreachable_database_is_named_without_its_password() -> None:
    with pytest.raises(CatalogueError) as error:
        await Catalogue.open("postgresql://kuager:very-secret@127.0.0.1:1/kuager")
    assert "127.0.0.1" in str(error.value) and "secret" not in str(error.value)
    assert str(error.value).endswith("connection refused")  # and not in the words of Python
    with pytest.raises(CatalogueError):
        await Catalogue.open("sqlite:////no/such/place/kuager.db")


async def test_what_is_stopped_while_it_asks_ends(database_url: str) -> None:
    """Whatever a stop leaves in the event loop ends when it is cancelled, as a process that ends
    does, else the process hangs."""
    catalogue = await Catalogue.open(database_url)
    here = asyncio.current_task()

    async def ask() -> None:
        while True:
            await catalogue.cameras.names("e")

    for turns in range(40):
        asking = [asyncio.create_task(ask()) for _ in range(3)]
        await asyncio.sleep(turns / 4000)
        for task in asking:
            task.cancel()
        for _ in range(turns % 12):  # of the loop
            await asyncio.sleep(0)
        left = asyncio.all_tasks() - {here}
        for task in left:
            task.cancel()
        if left:
            _, hang = await asyncio.wait(left, timeout=BOUND_S)
            assert not hang
    await catalogue.close()


async def test_words_that_a_database_does_not_take_keep_no_recording_out(
    database_url: str, tmp_path: Path
) -> None:
    """A recorder before this one wrote what a camera said as it was."""
    spool = CameraSpool(tmp_path / "spool", "e", "s", "c", Numbers())
    spool.begin_gap(UTC0 - 5000, GapCause.STREAM_BROKEN, "codec H2\0 64")
    spool.close()
    fill(tmp_path / "spool", runs=1, segments=3).close()
    reader = SpoolReader(tmp_path / "spool", "s", "c")
    reader.refresh()
    indexes = [index for _, index in reader.recordings()]
    assert "\0" in indexes[0].header.gaps[0].detail
    catalogue = await Catalogue.open(database_url)
    await catalogue.writer.put_recordings(indexes)
    await catalogue.writer.put_gaps(NAME, reader.all_gaps())
    assert len(await catalogue.recordings_of(NAME)) == len(indexes)
    (gap,) = await catalogue.gaps_between(NAME, 0, UTC0)
    assert "codec H2" in gap.detail and "\0" not in gap.detail
    await catalogue.close()
