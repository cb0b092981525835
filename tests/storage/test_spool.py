"""The spool: what is on the disk at any moment is enough to go on, and numbers never repeat."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from storage.media.fmp4 import Sample, TrackRun, write_segment
from storage.records import (
    NUMBERS,
    OTHERS,
    OTHERS_FORMAT,
    GapCause,
    Index,
    parse_index,
)
from storage.spool.gaps import read_gaps
from storage.spool.numbers import Numbers
from storage.spool.writer import CameraSpool, SpoolBusy
from tests.support.spool_files import (
    CLOCK,
    UTC0,
    check_files,
    indexes,
    open_spool,
    run_at,
    write,
)


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


@pytest.mark.parametrize("tail", [b"", b'{"segment_no":4,"sta', b"\0" * 40])
def test_crash_in_a_recording_is_repaired_at_start(tmp_path: Path, tail: bytes) -> None:
    spool = open_spool(tmp_path)
    write(spool, run_at(UTC0), 0, 3)
    spool.abandon(GapCause.DISK_FULL)
    spool.close()
    (path,) = tmp_path.glob("s/c/*/*.jsonl")
    with path.open("ab") as index, path.with_suffix(".mp4").open("ab") as media:
        media.write(b"a segment without its line")
        index.write(tail)
    spool = open_spool(tmp_path)
    assert spool.last_end_reason is GapCause.RECORDER_CRASHED
    assert spool.last_end_ms == UTC0 + 6_000
    write(spool, run_at(UTC0 + 9_000), 0, 2)
    spool.seal(None)
    spool.close()
    found = check_files(tmp_path)
    assert [len(i.segments) for i in found] == [3, 2]
    assert [i.header.run_no for i in found] == [1, 2]
    assert found[0].seal is not None and found[0].seal.end_reason == "recorder_crashed"


def test_a_crash_before_the_first_segment_leaves_its_numbers_out(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    write(spool, run_at(UTC0), 0, 3)
    spool.seal(GapCause.NO_DATA)
    write(spool, run_at(UTC0 + 60_000), 0, 1)
    spool.abandon(GapCause.DISK_FULL)
    spool.close()
    last = max(tmp_path.glob("s/c/*/*.jsonl"), key=lambda p: int(p.stem.rpartition("-")[2]))
    last.write_bytes(last.read_bytes().splitlines(keepends=True)[0])
    spool = open_spool(tmp_path)
    assert (spool.numbers.record_seq, spool.numbers.run_no) == (2, 2)
    assert spool.next_segment_no == 4  # none was live
    spool.close()


@pytest.mark.parametrize("gone", ["newest", "all"])
def test_numbers_of_recordings_that_somebody_deleted_are_not_used_again(
    tmp_path: Path, gone: str
) -> None:
    """An operator makes room by hand while no recorder runs."""
    spool = open_spool(tmp_path, Numbers.by_clock(UTC0))
    write(spool, run_at(UTC0), 0, 100)
    spool.seal(GapCause.RECORDER_STOPPED)
    used = spool.numbers
    spool.close()
    files = sorted(tmp_path.glob("s/c/*/*Z-*"))
    for path in files if gone == "all" else files[-2:]:
        path.unlink()
    spool = open_spool(tmp_path, Numbers.by_clock(UTC0 + 201_000))
    write(spool, run_at(UTC0 + 202_000), 0, 2)
    (index,) = [i for i in indexes(tmp_path) if i.header.run_start_ms == UTC0 + 202_000]
    assert index.header.record_seq > used.record_seq and index.header.run_no > used.run_no
    assert index.segments[0].segment_no > used.segment_no + 100
    assert index.header.epoch > used.epoch
    spool.seal(None)
    spool.close()


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


def real_segment(number: int, k: int) -> bytes:
    samples = [Sample(90_000, 100, True, 0), Sample(90_000, 50, False, 0)]
    data = [os.urandom(sample.size) for sample in samples]
    return write_segment(number, [TrackRun(1, k * 180_000, samples, data)])


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("spoilt", [[1], [5], [2, 3], [9], [10], list(range(1, 10))])
@pytest.mark.parametrize("how", ["a bad character", "no newline"])
def test_a_spoilt_line_costs_nothing(
    tmp_path: Path, spoilt: list[int], sealed: bool, how: str
) -> None:
    """Ten segments, of which the lines of some cannot be read: all are kept, with their bytes."""
    spool = open_spool(tmp_path, Numbers.by_clock(UTC0))
    run = run_at(UTC0)
    for k in range(10):
        spool.append(
            run,
            real_segment(spool.next_segment_no, k),
            tfdt_90k=k * 180_000,
            duration_90k=180_000,
            starts_with_key=True,
            arrival_ms=UTC0 + 2000 * k,
            camera_ms=None,
            clock=CLOCK,
        )
    if sealed:
        spool.seal(GapCause.NO_DATA)
    else:
        spool.abandon(GapCause.DISK_FULL)
    spool.close()
    (path,) = tmp_path.glob("s/c/*/*.jsonl")
    before, media = parse_index(path.read_bytes()), path.with_suffix(".mp4").read_bytes()
    lines = path.read_bytes().splitlines(keepends=True)
    for n in spoilt:
        lines[n] = lines[n].replace(b'"offset"', b'"off\xffet"')
        if how == "no newline":
            lines[n] = lines[n].replace(b"\n", b"")
    path.write_bytes(b"".join(lines))
    open_spool(tmp_path, Numbers.by_clock(UTC0)).close()
    after = parse_index(path.read_bytes())
    torn = not sealed and how == "no newline" and 10 in spoilt  # a line without end is not there
    want = before.segments[: 9 if torn else 10]
    if how == "no newline":  # the next line is spoilt with it
        spoilt = [*spoilt, *(n + 1 for n in spoilt)]
    assert [replace(s, arrival_ms=None) for s in after.segments] == [
        replace(s, arrival_ms=None) for s in want
    ]
    assert [s.arrival_ms is None for s in after.segments] == [
        n in spoilt for n in range(1, len(want) + 1)
    ]
    assert path.with_suffix(".mp4").read_bytes() == media[: want[-1].offset + want[-1].length]
    assert after.seal is not None and after.seal.length == want[-1].offset + want[-1].length
    if sealed and 11 not in spoilt:
        assert after.seal == before.seal


def test_damaged_bytes_are_cut_off_not_believed(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    write(spool, run_at(UTC0), 0, 5)
    spool.abandon(GapCause.DISK_FULL)
    spool.close()
    (path,) = tmp_path.glob("s/c/*/*.mp4")
    data = bytearray(path.read_bytes())
    data[-300] ^= 1  # in the segment before the last
    path.write_bytes(data)
    open_spool(tmp_path).close()
    (index,) = check_files(tmp_path)
    assert len(index.segments) == 3
    aside = path.with_name(path.name + ".aside")
    assert path.read_bytes() + aside.read_bytes() == data  # also the last segment, which is whole


@pytest.mark.parametrize(
    ("lost", "aside"),
    [
        ("first byte", [".jsonl.aside", ".mp4.aside"]),
        ("zeros from 1", []),
        ("zeros from 3", []),
        ("short", []),
    ],
)
def test_bytes_that_a_line_names_are_not_removed(
    tmp_path: Path, lost: str, aside: list[str]
) -> None:
    """One bad byte in the first of five segments costs not all of them; what a disk lost with its
    power is not there to be kept."""
    spool = open_spool(tmp_path)
    write(spool, run_at(UTC0), 0, 5)
    spool.abandon(GapCause.DISK_FULL)
    spool.close()
    (path,) = tmp_path.glob("s/c/*/*.mp4")
    data = bytearray(path.read_bytes())
    parts = parse_index(path.with_suffix(".jsonl").read_bytes()).segments
    if lost == "first byte":
        data[parts[0].offset] ^= 1
    elif lost == "short":
        del data[parts[3].offset + 10 :]
    else:
        at = parts[int(lost[-1]) - 1].offset
        data[at:] = bytes(len(data) - at)
    path.write_bytes(data)
    before = {p.name + ".aside": p.read_bytes() for p in path.parent.iterdir()}
    open_spool(tmp_path).close()
    assert sorted("." + p.name.partition(".")[2] for p in path.parent.glob("*.aside")) == aside
    if aside:
        assert {p.name: p.read_bytes() for p in path.parent.iterdir()} == before


def test_lost_numbers_go_on_higher_with_a_new_epoch(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    write(spool, run_at(UTC0), 0, 40)
    spool.seal(GapCause.NO_DATA)
    before = spool.numbers
    spool.close()
    (tmp_path / "s/c/camera.json").write_bytes(b"\0\0\0")
    spool = open_spool(tmp_path)
    assert spool.numbers.epoch == before.epoch + 1
    assert spool.numbers.segment_no == before.segment_no
    assert spool.numbers.record_seq == before.record_seq
    spool.close()
    other = open_spool(tmp_path / "new", Numbers(3, 7, 90, 2_500, 4, 2))
    assert (other.numbers.epoch, other.next_segment_no) == (3, 2_501)
    other.close()


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


def started_again(root: Path, boot: str) -> None:
    """Have the camera's state be of another start of the machine."""
    path = root / "s/c/camera.json"
    path.write_bytes(orjson.dumps(orjson.loads(path.read_bytes()) | {"boot": boot}))


@pytest.mark.parametrize("kept", [0, 1, 3])
def test_after_a_loss_of_power_no_number_that_was_seen_is_used_again(
    tmp_path: Path, kept: int
) -> None:
    """Of six live segments the disk kept the lines of some, or not even the header."""
    spool = open_spool(tmp_path)
    write(spool, run_at(UTC0), 0, 6)
    seen = spool.numbers
    spool.abandon(GapCause.DISK_FULL)
    spool.close()
    (path,) = tmp_path.glob("s/c/*/*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[: kept + 1]) if kept else b"")
    started_again(tmp_path, "another start")
    spool = open_spool(tmp_path)
    assert spool.next_segment_no > seen.segment_no
    write(spool, run_at(UTC0 + 60_000), 0, 2)
    assert spool.numbers.record_seq > seen.record_seq and spool.numbers.run_no > seen.run_no
    spool.seal(GapCause.RECORDER_STOPPED)
    before = spool.numbers.segment_no
    spool.close()
    started_again(tmp_path, "a third")
    assert open_spool(tmp_path).next_segment_no == before + 1  # it was sealed: nothing is lost


def test_the_names_of_new_directories_survive_a_loss_of_power(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a station, a camera and a day; a file system may lose what was not flushed."""
    flushed, fsync = set[Path](), os.fsync

    def watched(fd: int) -> None:
        at = Path(f"/proc/self/fd/{fd}").readlink()
        flushed.update(at.iterdir() if at.is_dir() else ())
        fsync(fd)

    monkeypatch.setattr(os, "fsync", watched)
    spool = open_spool(tmp_path)
    assert {tmp_path / "s", tmp_path / "s/c"} <= flushed
    write(spool, run_at(UTC0), 0, 3)
    spool.seal(None)
    spool.close()
    (media,) = tmp_path.glob("s/c/*/*.mp4")
    assert {media.parent, media, media.with_suffix(".jsonl")} <= flushed


def test_an_open_gap_of_a_camera_never_recorded_is_gone_on_with(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, Numbers.by_clock(UTC0))
    spool.begin_gap(UTC0, GapCause.UNREACHABLE)
    spool.close()
    spool = open_spool(tmp_path, Numbers.by_clock(UTC0 + 3_600_000))
    assert spool.open_gap is not None and spool.open_gap.start_ms == UTC0
    spool.close()


def test_a_clock_before_2020_gives_no_negative_numbers() -> None:
    assert Numbers.by_clock(0).segment_no == 0


WRITER = """
import sys
sys.path[:0] = {path!r}
from collections.abc import Iterator
from pathlib import Path
from tests.support.spool_files import open_spool, run_at, write, UTC0
from storage.records import GapCause
root = Path(sys.argv[1])
spool = open_spool(root)
start = (spool.last_end_ms or UTC0) + 3_000
print("open", flush=True)
for r in range(1000):
    run = run_at(start)
    for n in range(17):
        write(spool, run, n)
        print("written", flush=True)
    spool.seal(GapCause.NO_DATA)
    start += 40_000
    spool.begin_gap(start - 6_000, GapCause.NO_DATA)
"""


@pytest.mark.slow
def test_kill_at_any_moment(tmp_path: Path) -> None:
    """kill -9 forty times: numbers never repeat, nothing indexed is lost, gaps can be read."""
    rng = random.Random(7)
    seen: dict[int, str] = {}
    code = WRITER.format(path=sys.path)
    for _ in range(40):
        child = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        while (line := child.stdout.readline()) != b"open\n":  # log lines come before it
            assert line
        for _ in range(rng.randrange(12)):  # it does not wait for us, so it dies at any step
            assert child.stdout.readline()
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        now = {s.segment_no: s.sha256 for i in indexes_whole(tmp_path) for s in i.segments}
        assert all(now[n] == digest for n, digest in seen.items())
        seen = now
    open_spool(tmp_path).close()
    found = check_files(tmp_path, holes=True)
    assert all(i.seal for i in found)
    assert len(seen) > 100
    read_gaps(tmp_path / "s/c/gaps.jsonl")


def indexes_whole(root: Path) -> list[Index]:
    out = []
    for path in root.glob("s/c/*/*.jsonl"):
        data = path.read_bytes()
        if b"\n" in data:
            out.append(parse_index(data))
    return out
