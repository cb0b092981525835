"""The spool: what is on the disk at any moment is enough to go on, and numbers never repeat."""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from storage.archive.directory import DirectoryArchive
from storage.records import NUMBERS, OTHERS, OTHERS_FORMAT, GapCause, Index
from storage.spool.disk import is_mounted
from storage.spool.gaps import read_gaps
from storage.spool.numbers import Numbers
from storage.spool.writer import CameraSpool, SpoolBusy
from tests.support.spool_files import UTC0, check_files, indexes, open_spool, run_at, write


def test_recordings_rotate_within_a_run_and_tile(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    write(spool, run_at(UTC0), 0, 100)
    spool.seal(GapCause.CLOSED_BY_CAMERA)
    spool.close()
    found = check_files(tmp_path)
    assert 4 <= len(found) <= 5
    for before, after in itertools.pairwise(found):
        assert before.seal is not None
        assert before.seal.end_ms == after.start_ms
        assert before.seal.end_reason is None
        assert before.header.run_no == after.header.run_no == 1
        assert not after.header.overlaps
    assert found[-1].seal is not None
    assert found[-1].seal.end_reason is GapCause.CLOSED_BY_CAMERA
    assert all(len(i.segments) <= 31 for i in found)


@pytest.mark.parametrize("every_s", [2, 10, 20, 50])
def test_a_recording_begins_with_a_keyframe_where_one_comes_in_time(
    tmp_path: Path, every_s: int
) -> None:
    """So that each can be decoded alone; a camera that sends none for long is cut all the same."""
    spool, run = open_spool(tmp_path), run_at(UTC0)
    for k in range(150):
        write(spool, run, k, key=k * 2 % every_s == 0)
    for k in range(150, 250):
        write(spool, run, k, key=False)
    spool.seal(None)
    spool.close()
    found = check_files(tmp_path)
    whole = [i for i in found if i.segments[0].start_ms < UTC0 + 300_000]
    assert len(whole) >= 3 and all(i.segments[0].starts_with_key for i in whole)
    assert all(i.end_ms - i.start_ms <= 125_000 for i in found)


def test_rotations_of_cameras_are_staggered(tmp_path: Path) -> None:
    firsts = set()
    for n in range(20):
        spool = CameraSpool(tmp_path, "e", "s", f"c{n}", Numbers())
        write(spool, run_at(UTC0), 0, 40)
        spool.seal(None)
        spool.close()
        paths = sorted((tmp_path / "s" / f"c{n}").glob("*/*.jsonl"))
        firsts.add(paths[1].name[:9])
    assert len(firsts) > 10


def test_one_owner(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    with pytest.raises(SpoolBusy):
        open_spool(tmp_path)
    spool.close()
    open_spool(tmp_path).close()


def test_a_gap_is_carried_by_the_next_recording(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    write(spool, run_at(UTC0), 0, 5)
    spool.seal(GapCause.NO_DATA)
    spool.begin_gap(UTC0 + 10_000, GapCause.NO_DATA, "no picture for 5 s")
    assert spool.open_gap is not None
    write(spool, run_at(UTC0 + 25_000), 0, 2)
    assert spool.open_gap is None
    spool.seal(GapCause.RECORDER_STOPPED)
    spool.close()
    found = check_files(tmp_path)
    (gap,) = found[1].header.gaps
    assert (gap.start_ms, gap.end_ms, gap.cause) == (UTC0 + 10_000, UTC0 + 25_000, "no_data")
    assert read_gaps(tmp_path / "s/c/gaps.jsonl") == [gap]
    assert [i.header.run_no for i in found] == [1, 2]


def test_pictures_that_the_camera_held_shorten_the_gap(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    write(spool, run_at(UTC0), 0, 5)
    spool.seal(GapCause.NO_DATA)
    spool.begin_gap(UTC0 + 10_000, GapCause.NO_DATA)
    spool.end_gap(UTC0 + 20_000)
    spool.begin_gap(UTC0 + 20_000, GapCause.UNREACHABLE)
    write(spool, run_at(UTC0 + 19_000), 0, 2)
    spool.seal(None)
    spool.close()
    assert [(g.start_ms - UTC0, g.end_ms) for g in read_gaps(tmp_path / "s/c/gaps.jsonl")] == [
        (10_000, UTC0 + 19_000),
        (20_000, UTC0 + 20_000),  # none: it ends where it starts
    ]
    assert [len(i.header.gaps) for i in indexes(tmp_path)] == [0, 1]


def test_a_clock_set_back_overlaps_and_drops_nothing(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    write(spool, run_at(UTC0), 0, 5)
    spool.seal(GapCause.CLOCK_JUMP)
    write(spool, run_at(UTC0 - 3_600_000), 0, 5)
    spool.seal(None)
    spool.close()
    found = check_files(tmp_path)
    assert [i.header.overlaps for i in found] == [False, True]


@pytest.mark.slow
def test_who_was_away_goes_on_above_who_recorded_meanwhile(tmp_path: Path) -> None:
    """A an hour, B an hour with a spool of its own, then A again: numbers say the order."""
    hour = 3_600_000
    found: list[list[Index]] = []
    for n, owner in enumerate("ABA"):
        begin = UTC0 + n * hour
        root = tmp_path / owner
        known = len(indexes(root))
        spool = open_spool(root, Numbers.by_clock(begin))
        for k in range(60):
            write(spool, run_at(begin + k * 60_000), 0, 20)
        spool.seal(GapCause.RECORDER_STOPPED)
        spool.close()
        found.append(indexes(root)[known:])
    for before, after in itertools.pairwise(found):
        a, b = before[-1], after[0]
        assert a.header.record_seq < b.header.record_seq and a.header.run_no < b.header.run_no
        assert a.header.epoch < b.header.epoch
        assert a.segments[-1].segment_no < b.segments[0].segment_no


def test_a_restart_goes_on_by_one(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, Numbers.by_clock(UTC0))
    write(spool, run_at(UTC0), 0, 100)
    spool.seal(GapCause.RECORDER_STOPPED)
    used = spool.numbers
    spool.close()
    assert open_spool(tmp_path, Numbers.by_clock(UTC0 + 260_000)).numbers == used


def test_a_recorder_rises_above_what_another_spool_used(tmp_path: Path) -> None:
    """The uploader found higher numbers in the catalogue; they count at the next run."""
    spool = open_spool(tmp_path, Numbers(5, 10, 20, 30, 2))
    write(spool, run_at(UTC0), 0, 2)
    others = {"epoch": 7, "run_no": 40, "record_seq": 50, "segment_no": 600, "gap_no": 9}
    (tmp_path / "s/c/others.json").write_bytes(orjson.dumps({"kuager": "others/1"} | others))
    spool.seal(GapCause.NO_DATA)
    # whoever writes a segment asks for its number first, as that is a part of its bytes
    number = spool.next_segment_no
    write(spool, run_at(UTC0 + 4_000), 0, 2)
    assert indexes(tmp_path)[-1].segments[0].segment_no == number
    newest = indexes(tmp_path)[-1]
    assert newest.header.run_no == Numbers.by_clock(UTC0 + 4_000).run_no + 1
    assert newest.header.epoch > 7 and newest.header.run_no > 40
    assert newest.header.record_seq > 50 and newest.segments[0].segment_no > 600
    spool.begin_gap(UTC0 + 9_000, GapCause.NO_DATA)
    assert spool.open_gap is not None and spool.open_gap.gap_no > 9
    write(spool, run_at(UTC0 + 12_000), 0, 2)
    assert indexes(tmp_path)[-1].header.record_seq == newest.header.record_seq + 1
    spool.seal(None)
    spool.close()


def test_a_recorder_that_is_alone_takes_over_no_lease(tmp_path: Path) -> None:
    """Of several machines one goes on without the others: above their numbers, by its own epoch."""
    spool = open_spool(tmp_path, Numbers.by_clock(UTC0))
    write(spool, run_at(UTC0), 0, 2)
    lease = Numbers.by_lease(Numbers.by_clock(UTC0).epoch + 9, UTC0 + 60_000)
    told = {name: value for name, value in lease.to_dict().items() if name in NUMBERS}
    (tmp_path / "s/c" / OTHERS).write_bytes(orjson.dumps({"kuager": OTHERS_FORMAT} | told))
    spool.seal(GapCause.NO_DATA)
    for k in (1, 2):  # it is told once: what follows is above it
        write(spool, run_at(UTC0 + k * 4_000), 0, 2)
        newest = indexes(tmp_path)[-1]
        assert newest.header.epoch == lease.epoch + 1
        assert newest.header.record_seq == lease.record_seq + k
        spool.seal(GapCause.NO_DATA)
    spool.close()


@contextlib.contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """Have the kernel refuse writes, after a short one, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_gap_that_the_disk_refused_is_written_with_the_next_line(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    write(spool, run_at(UTC0), 0, 5)
    spool.seal(GapCause.NO_DATA)
    spool.begin_gap(UTC0 + 10_000, GapCause.NO_DATA)
    spool.end_gap(UTC0 + 12_000)
    journal = tmp_path / "s/c/gaps.jsonl"
    with no_file_larger_than(journal.stat().st_size + 10), pytest.raises(OSError):
        spool.begin_gap(UTC0 + 12_000, GapCause.DISK_FULL)
    assert journal.read_bytes().endswith(b"\n")
    write(spool, run_at(UTC0 + 25_000), 0, 2)
    spool.seal(None)
    spool.close()
    pieces = [(g.start_ms - UTC0, (g.end_ms or 0) - UTC0) for g in read_gaps(journal)]
    assert pieces == [(10_000, 12_000), (12_000, 25_000)]
    assert len(check_files(tmp_path)[1].header.gaps) == 2


def test_gaps_stay_to_be_carried_when_the_first_segment_does_not_fit(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    write(spool, run_at(UTC0), 0, 5)
    spool.seal(GapCause.NO_DATA)
    spool.begin_gap(UTC0 + 10_000, GapCause.NO_DATA)
    run = run_at(UTC0 + 25_000)
    with no_file_larger_than(5_000), pytest.raises(OSError):  # init and header fit
        write(spool, run, 0, size=9_000)
    spool.abandon(GapCause.DISK_FULL)
    spool.begin_gap(UTC0 + 25_000, GapCause.DISK_FULL)
    write(spool, run_at(UTC0 + 40_000), 0, 2)
    spool.seal(None)
    spool.close()
    found = indexes(tmp_path)
    assert [g.cause for g in found[-1].header.gaps] == ["no_data", "disk_full"]
    assert open_spool(tmp_path).numbers.gap_no == found[-1].header.gaps[-1].gap_no


def test_a_failed_seal_closes_no_file_of_another_camera(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    write(spool, run_at(UTC0), 0, 5)
    (index,) = tmp_path.glob("s/c/*/*.jsonl")
    with no_file_larger_than(index.stat().st_size + 5), pytest.raises(OSError):
        spool.seal(None)
    others = [os.open(tmp_path / "s/c/lock", os.O_RDONLY) for _ in range(4)]
    spool.abandon(GapCause.DISK_FULL)
    for fd in others:
        os.fstat(fd)
        os.close(fd)
    spool.close()


def test_an_open_gap_of_a_camera_never_recorded_is_gone_on_with(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, Numbers.by_clock(UTC0))
    spool.begin_gap(UTC0, GapCause.UNREACHABLE)
    spool.close()
    spool = open_spool(tmp_path, Numbers.by_clock(UTC0 + 3_600_000))
    assert spool.open_gap is not None and spool.open_gap.start_ms == UTC0
    spool.close()


async def test_a_mount_may_be_named_by_a_link(tmp_path: Path) -> None:
    """Of a link Python says that nothing is mounted there: such a spool was waited for for ever."""
    (link := tmp_path / "link").symlink_to("/proc")
    (loop := tmp_path / "loop").symlink_to("loop")
    assert is_mounted(link) and not is_mounted(loop) and not is_mounted(tmp_path)
    archive = DirectoryArchive("a", tmp_path / "archive", link)
    await archive.check_id()
    await archive.close()


def test_a_clock_before_2020_gives_no_negative_numbers() -> None:
    assert Numbers.by_clock(0).segment_no == 0
