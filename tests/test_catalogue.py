"""The catalogue, the same on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from storage.catalogue import Catalogue, CatalogueError
from storage.index import Gap, GapCause
from storage.view import CameraView
from tests.spools import UTC0, fill

pytest_plugins = ["tests.postgres"]
NAME = ("e", "s", "c")


async def filled(url: str, spool: Path) -> Catalogue:
    fill(spool, runs=2, segments=70).close()
    catalogue = await Catalogue.open(url)
    view = CameraView(spool, "s", "c")
    view.refresh()
    found = [(index, f"key-{index.header.record_seq}") for _, index in view.recordings()]
    await catalogue.put_recordings(found)
    await catalogue.put_recordings(found)  # a crash repeats the step
    await catalogue.put_gaps(NAME, view.all_gaps())
    return catalogue


async def test_recordings_and_gaps_are_found_again(database_url: str, tmp_path: Path) -> None:
    catalogue = await filled(database_url, tmp_path / "spool")
    try:
        every = await catalogue.recordings_between(NAME, UTC0, UTC0 + 10**9)
        assert [r["record_seq"] for r in every] == list(range(1, len(every) + 1))
        assert len(every) >= 4
        second = every[1]
        found = await catalogue.recordings_between(NAME, second["start_ms"], second["start_ms"] + 1)
        assert [r["record_seq"] for r in found] == [2]
        assert await catalogue.recordings_between(NAME, UTC0 - 10**6, UTC0) == []
        for number in (1, 30, 70, 71, 140):
            row = await catalogue.recording_with_segment(NAME, number)
            assert row is not None
            assert row["first_segment_no"] <= number < row["first_segment_no"] + row["segments"]
        assert await catalogue.recording_with_segment(NAME, 141) is None
        assert (await catalogue.recording_of_run(NAME, 2) or {})["run_no"] == 2
        (gap,) = await catalogue.gaps_between(NAME, UTC0, UTC0 + 10**9)
        assert (gap["start_ms"], gap["end_ms"]) == (UTC0 + 140_000, UTC0 + 150_000)
    finally:
        await catalogue.close()


async def test_states_of_a_recording(database_url: str, tmp_path: Path) -> None:
    catalogue = await filled(database_url, tmp_path / "spool")
    try:
        known = await catalogue.archived(NAME)
        assert set(known.values()) == {None}
        key = next(k for k in known if k.endswith("-1"))
        assert await catalogue.mark_archived(NAME, 1, key, 5, "read back")
        assert (await catalogue.archived(NAME))[key] == 5
        assert not await catalogue.mark_archived(NAME, 1, "another's", 6, "read back")
        assert not await catalogue.mark_archived(NAME, 99, key, 6, "read back")
        await catalogue.mark_removed(NAME, 1, 9)
        assert key not in await catalogue.archived(NAME)
    finally:
        await catalogue.close()


async def test_a_gap_ends_and_an_empty_one_goes(database_url: str) -> None:
    catalogue = await Catalogue.open(database_url)
    try:
        await catalogue.put_gaps(NAME, [Gap(1, 100, None, GapCause.NO_DATA)])
        assert (await catalogue.gaps_between(NAME, 0, 10**6))[0]["end_ms"] is None
        await catalogue.put_gaps(NAME, [Gap(1, 100, 200, GapCause.NO_DATA)])
        assert (await catalogue.gaps_between(NAME, 0, 10**6))[0]["end_ms"] == 200
        assert await catalogue.gaps_between(NAME, 200, 300) == []
        await catalogue.put_gaps(NAME, [Gap(1, 100, 100, GapCause.NO_DATA)])
        assert await catalogue.gaps_between(NAME, 0, 10**6) == []
    finally:
        await catalogue.close()


async def test_several_processes_open_at_once(database_url: str) -> None:
    opened = await asyncio.gather(*(Catalogue.open(database_url) for _ in range(4)))
    try:
        await asyncio.gather(
            *(
                c.put_gaps(("e", "s", f"c{n}"), [Gap(1, 1, 2, GapCause.NO_DATA)])
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
    with pytest.raises(CatalogueError):
        await Catalogue.open("sqlite:////no/such/place/kuager.db")
