"""What is offered of a stretch: all that exists, nothing twice, and why the rest is missing."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest

from copies.footage import find as footage
from copies.footage.find import CameraFootage, find
from copies.footage.plan import CopyPlan, file_name
from storage.archive.directory import DirectoryArchive
from storage.archive.port import Archive
from storage.catalogue.catalogue import Catalogue
from storage.records import GapCause, Losses
from tests.support.footage import NAME, UTC0, Camera
from tests.support.tables import open_catalogue

ZONE = "Asia/Almaty"


@pytest.fixture
async def catalogue(tmp_path: Path) -> AsyncIterator[Catalogue]:
    found = await open_catalogue(f"sqlite:///{tmp_path}/k.db")
    yield found
    await found.close()


@pytest.fixture
async def archive(tmp_path: Path) -> AsyncIterator[DirectoryArchive]:
    found = DirectoryArchive("archive", tmp_path / "archive")
    yield found
    await found.close()


async def ask(
    camera: Camera, from_ms: int, to_ms: int, catalogue: Catalogue | None = None, *archives: Archive
) -> CameraFootage:
    return await find(catalogue, archives, camera.root, NAME, from_ms, to_ms, zone=ZONE)


def numbers(files: tuple[CopyPlan, ...]) -> list[int]:
    return [
        n
        for f in files
        for p in f.parts
        for n in range(p.first_segment_no, p.first_segment_no + p.segments)
    ]


@pytest.mark.parametrize("where", ["spool", "both", "archive", "half"])
async def test_whole_segments_that_cover_the_stretch(
    tmp_path: Path, catalogue: Catalogue, archive: DirectoryArchive, where: str
) -> None:
    camera = Camera(tmp_path / "spool")
    camera.record(100)
    if where == "half":  # the spool has what the catalogue does not know yet
        first, *_ = camera.indexes()
        await camera.archive(catalogue, archive)
        camera.record(50, end=None)
        camera.spool.seal(None)
        assert first[1].header.record_seq == 1
    elif where != "spool":
        await camera.archive(catalogue, archive, keep=where == "both")
    for from_ms, to_ms in ((0, 200_000), (1, 1_000), (2_000, 4_000), (31_500, 132_250)):
        found = await ask(camera, UTC0 + from_ms, UTC0 + to_ms, catalogue, archive)
        (file,) = found.files
        assert file.start_ms <= UTC0 + from_ms < file.start_ms + 2_000
        assert file.end_ms - 2_000 < UTC0 + to_ms <= file.end_ms
        given = numbers(found.files)
        assert given == list(range(given[0], given[-1] + 1))
        assert (found.gaps, found.removed, found.settled_until_ms) == ((), (), UTC0 + to_ms)


async def test_a_gap_ends_a_file_and_begins_the_next(
    tmp_path: Path, catalogue: Catalogue, archive: DirectoryArchive
) -> None:
    camera = Camera(tmp_path / "spool")
    camera.record(40)
    camera.gap(10_000, GapCause.UNREACHABLE)
    camera.record(40, end=GapCause.PARAMETERS_CHANGED)
    camera.record(5)
    stretch = (UTC0 + 70_000, UTC0 + 500_000)
    before = await ask(camera, *stretch)
    await camera.archive(catalogue, archive)
    after = await ask(camera, *stretch, catalogue, archive)
    assert after == before
    assert [f.run_no for f in after.files] == [1, 2, 3]
    assert after.files[0].end_ms == after.gaps[0].start_ms
    assert after.gaps[0].cause is GapCause.UNREACHABLE
    assert after.gaps[0].end_ms == after.files[1].start_ms
    assert after.files[1].end_ms == after.files[2].start_ms
    assert after.unscheduled == ((after.files[2].end_ms, UTC0 + 500_000),)
    assert not after.overlaps
    assert len({f.file_name for f in after.files}) == len({f.etag for f in after.files}) == 3
    assert after.files[0].file_name == "e_s_c_20251129T100110-20251129T100120+0500.mp4"


async def test_only_the_recordings_at_its_ends_are_read(
    tmp_path: Path, catalogue: Catalogue, archive: DirectoryArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = Camera(tmp_path / "spool", size=10)
    camera.record(400)
    await camera.archive(catalogue, archive)
    asked: list[str] = []
    get = DirectoryArchive.get

    async def counted(self: DirectoryArchive, key: str, *more: object, **named: object) -> bytes:
        asked.append(key)
        return await get(self, key, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(DirectoryArchive, "get", counted)
    found = await ask(camera, UTC0, UTC0 + 900_000, catalogue, archive)
    assert len(found.files[0].parts) > 12
    assert len(asked) == 4  # two indexes, the init, the first moof


async def test_what_is_being_recorded_is_not_offered(tmp_path: Path) -> None:
    now_ms = int(time.time() * 1000)
    camera = Camera(tmp_path / "spool", start_ms=now_ms - 150_000)
    camera.record(45, end=None)
    *sealed, (_, last) = camera.indexes()
    assert sealed and last.seal is None
    found = await ask(camera, now_ms - 150_000, now_ms + 3_600_000)
    assert found.settled_until_ms == last.start_ms == found.files[-1].end_ms
    assert found.unscheduled == ()
    found = await ask(camera, last.start_ms + 1_000, now_ms)
    assert found.files == () and found.settled_until_ms == last.start_ms + 1_000
    future = await ask(camera, now_ms + 10_000_000, now_ms + 20_000_000)
    assert future.files == () and future.settled_until_ms <= now_ms + 10_000_000
    camera.spool.seal(None)
    camera.spool.close()


async def test_what_is_told_of_a_gap_is_final(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A camera that is back is placed some seconds before its first segment is written."""
    camera = Camera(tmp_path / "spool")
    camera.record(20)
    camera.gap(60_000, GapCause.UNREACHABLE)
    now_ms = camera.at_ms
    monkeypatch.setattr(footage, "now_ms", lambda: now_ms)
    told = await ask(camera, UTC0, now_ms)
    assert [gap.end_ms for gap in told.gaps] == [told.settled_until_ms]
    camera.at_ms -= 8_000
    camera.record(10)
    assert camera.spool.open_gap is None
    again = await ask(camera, UTC0, told.settled_until_ms)
    assert (again.gaps, again.files) == (told.gaps, told.files)


async def test_a_slow_catalogue_hides_nothing_that_began_meanwhile(
    tmp_path: Path, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = Camera(tmp_path / "spool")
    camera.record(30)
    now_ms = camera.at_ms

    async def slow(*_: object) -> list[object]:
        nonlocal now_ms
        camera.record(30)
        now_ms = camera.at_ms + footage.UNSURE_MS
        return []

    monkeypatch.setattr(footage, "now_ms", lambda: now_ms)
    monkeypatch.setattr(catalogue, "recordings_between", slow)
    found = await ask(camera, UTC0, UTC0 + 120_000, catalogue)
    assert found.settled_until_ms == UTC0 + 60_000 - footage.UNSURE_MS  # the rest is said later
    assert (found.unscheduled, found.gaps, len(found.files)) == ((), (), 1)


async def test_what_was_removed_is_told_with_when_and_why(
    tmp_path: Path, catalogue: Catalogue, archive: DirectoryArchive
) -> None:
    camera = Camera(tmp_path / "spool")
    camera.record(100)
    await camera.archive(catalogue, archive)
    rows = await catalogue.recordings_of(NAME)
    for row in rows[1:3]:
        assert await catalogue.holds.begin_removal(NAME, row, "archive", 5, "kept 1 day")
    found = await ask(camera, UTC0, UTC0 + 200_000, catalogue, archive)
    (gone,) = found.removed
    assert (gone.removed_ms, gone.reason) == (5, "kept 1 day")
    assert (gone.start_ms, gone.end_ms) == (rows[1].start_ms, rows[2].end_ms)
    assert [f.start_ms for f in found.files] == [rows[0].start_ms, rows[3].start_ms]
    elsewhere = DirectoryArchive("other", tmp_path / "other")
    found = await ask(camera, UTC0, UTC0 + 200_000, catalogue, elsewhere)
    await elsewhere.close()
    assert found.files == ()
    reason = "the archive 'archive' is not configured here"
    assert [(m.removed_ms, m.reason) for m in found.removed] == [
        (None, reason),
        (5, "kept 1 day"),
        (None, reason),
    ]


async def test_a_clock_that_was_set_back_is_said_and_loses_nothing(tmp_path: Path) -> None:
    camera = Camera(tmp_path / "spool")
    camera.record(20, end=GapCause.CLOCK_JUMP)
    camera.at_ms -= 15_000
    camera.record(20, end=GapCause.CLOCK_JUMP)
    camera.at_ms -= 40_000
    camera.record(20)
    found = await ask(camera, UTC0 - 600_000, UTC0 + 600_000)
    assert found.overlaps
    assert numbers(found.files) == list(range(1, 61))  # by number, not by time
    assert len({f.file_name for f in found.files}) == len(found.files) == 3
    again = await ask(camera, UTC0 + 30_000, UTC0 + 31_000)
    assert len(again.files) == 3 and again.overlaps


async def test_files_of_one_second_have_names_of_their_own(tmp_path: Path) -> None:
    camera = Camera(tmp_path / "spool")
    for _ in range(3):
        camera.record(1, end=GapCause.CLOCK_JUMP)
        camera.at_ms -= 2_000
    found = await ask(camera, UTC0 - 600_000, UTC0 + 600_000)
    names = [f.file_name for f in found.files]
    assert len(set(names)) == 3 and names[1] == names[0].replace(".mp4", "_2.mp4")


async def test_a_picture_can_be_seen_from_the_first_moment(tmp_path: Path) -> None:
    """A segment without a keyframe shows nothing: those before it are given too."""
    camera = Camera(tmp_path / "spool")
    camera.record(12, keys=4)
    found = await ask(camera, UTC0 + 14_500, UTC0 + 15_000)
    assert numbers(found.files) == [5, 6, 7, 8]


async def test_more_segments_than_a_sidx_holds_make_two_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(footage, "MAX_REFERENCES", 70)
    camera = Camera(tmp_path / "spool")
    camera.record(100)
    found = await ask(camera, UTC0, UTC0 + 600_000)
    assert numbers(found.files) == list(range(1, 101))
    assert len(found.files) == 2
    for a, b in pairwise(found.files):
        assert a.segments <= 70 and a.end_ms == b.start_ms


async def test_nothing_recorded(tmp_path: Path, catalogue: Catalogue) -> None:
    found = await find(catalogue, [], tmp_path, NAME, UTC0, UTC0 + 1_000, zone=ZONE)
    assert found == CameraFootage((), (), (), ((UTC0, UTC0 + 1_000),), UTC0 + 1_000, False)


async def test_a_plan_survives_json(tmp_path: Path) -> None:
    camera = Camera(tmp_path / "spool")
    camera.record(70)
    (plan,) = (await ask(camera, UTC0 + 5_000, UTC0 + 100_000)).files
    again = CopyPlan.from_dict(plan.to_dict())
    assert again == plan and again.etag == plan.etag and again.length == plan.length
    with pytest.raises(ValueError, match="not a copy-plan/1"):
        CopyPlan.from_dict(plan.to_dict() | {"kuager": "copy-plan/2"})


async def test_a_copy_tells_what_is_missing_of_it(
    tmp_path: Path, catalogue: Catalogue, archive: DirectoryArchive
) -> None:
    """Of the segments that are in it: by the catalogue, or by the spool."""
    camera = Camera(tmp_path / "spool", size=10)
    camera.record(100, lost=3)
    for _ in range(2):  # from the spool, then from the archive
        (plan,) = (await ask(camera, UTC0 + 5_000, UTC0 + 155_000, catalogue, archive)).files
        assert len(plan.parts) > 2
        assert plan.losses == Losses(3 * plan.segments, plan.segments)
        assert CopyPlan.from_dict(plan.to_dict()) == plan
        await camera.archive(catalogue, archive)


def test_names_are_local_time_in_ascii() -> None:
    name = file_name(("kz-2026", "117", "box"), UTC0, UTC0 + 3_600_000, "Asia/Kolkata")
    assert name == "kz-2026_117_box_20251129T103000-20251129T113000+0530.mp4"
