"""What a dead recorder left: repaired at the start, and no number is used twice."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from structlog.testing import capture_logs

from base.durable import write_all
from storage.media.fmp4 import Sample, TrackRun, write_segment
from storage.records import GapCause, Index, parse_index
from storage.spool import past as past_module
from storage.spool import recording as recording_module
from storage.spool.gaps import read_gaps
from storage.spool.numbers import Numbers
from storage.spool.repair import finish
from storage.spool.writer import CameraSpool, Run, SegmentInfo
from tests.support.spool_files import CLOCK, UTC0, check_files, indexes, open_spool, run_at, write


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


@pytest.mark.parametrize("bad", ["camera.json", "gaps.jsonl", "*/*-2.jsonl"])
def test_one_bad_block_keeps_no_camera_from_being_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: str
) -> None:
    floor = replace(Numbers(), epoch=500, segment_no=500, record_seq=500, run_no=500, gap_no=500)
    spool = open_spool(tmp_path)
    for n in (0, 1):
        write(spool, run_at(UTC0 + 60_000 * n), 0, 3)
        spool.seal(GapCause.NO_DATA)
        spool.begin_gap(UTC0 + 60_000 * n + 6_000, GapCause.NO_DATA)
    used = spool.numbers
    spool.close()
    (path,), read = tmp_path.glob(f"s/c/{bad}"), Path.read_bytes

    def read_bytes(self: Path) -> bytes:
        if self == path:
            raise OSError(errno.EIO, "Input/output error")
        return read(self)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", read_bytes)
        with capture_logs() as log:
            spool = open_spool(tmp_path, floor)
    assert [entry["file"] for entry in log if "cannot be" in entry["event"]]
    assert spool.last_end_ms == UTC0 + (6_000 if "-2" in bad else 66_000)
    begun = spool.numbers
    write(spool, run_at(UTC0 + 200_000), 0, 3)
    spool.begin_gap(UTC0 + 206_000, GapCause.NO_DATA)
    spool.seal(GapCause.NO_DATA)
    assert begun.segment_no >= used.segment_no and begun.record_seq >= used.record_seq
    assert spool.open_gap is not None and spool.open_gap.gap_no > 2
    spool.close()
    assert sum(len(i.segments) for i in indexes(tmp_path)) == 9


def test_files_of_others_keep_no_camera_from_being_recorded(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    write(spool, run_at(UTC0), 0, 3)
    spool.seal(GapCause.NO_DATA)
    spool.close()
    (path,) = tmp_path.glob("s/c/*/*.jsonl")
    path.with_name("copy-\u00b2.jsonl").write_bytes(path.read_bytes())
    (tmp_path / "s/c/camera.json").unlink()
    spool = open_spool(tmp_path)
    assert spool.numbers.record_seq == 1
    spool.close()


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


def real_segment(number: int, k: int) -> bytes:
    samples = [Sample(90_000, 100, True, 0), Sample(90_000, 50, False, 0)]
    data = [os.urandom(sample.size) for sample in samples]
    return write_segment(number, [TrackRun(1, k * 180_000, samples, data)])


def append(spool: CameraSpool, run: Run, k: int, data: bytes | None = None) -> None:
    """Append the k-th segment of a run, of 2 s."""
    info = SegmentInfo(
        tfdt_90k=k * 180_000,
        duration_90k=180_000,
        starts_with_key=True,
        arrival_ms=UTC0 + 2000 * k,
        camera_ms=None,
    )
    spool.append(run, data or real_segment(spool.next_segment_no, k), info, CLOCK)


@pytest.mark.parametrize(
    ("lost", "zeros", "left"), [(1, 0, 10), (7, 0, 10), (7, 1, 9), (3, 2, 8), (10, 0, 10)]
)
@pytest.mark.parametrize(("begin", "end"), [(2_000, 10_192), (-600, 0)])
def test_lines_that_went_with_the_power_cost_no_footage(
    tmp_path: Path, lost: int, zeros: int, left: int, begin: int, end: int
) -> None:
    """Of ten segments the lines of the last `lost` never reached the disk, and pages of the last
    `zeros`."""
    spool, run = open_spool(tmp_path), run_at(UTC0)
    for k in range(10):
        samples = [Sample(180_000, 12_000, True, 0)]
        data = write_segment(
            spool.next_segment_no, [TrackRun(1, k * 180_000, samples, [os.urandom(12_000)])]
        )
        append(spool, run, k, data)
    spool.abandon(GapCause.DISK_FULL)
    spool.close()
    (path,) = tmp_path.glob("s/c/*/*.jsonl")
    before, media = parse_index(path.read_bytes()), path.with_suffix(".mp4")
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[: 11 - lost]))
    for segment in before.segments[10 - zeros :]:
        with media.open("r+b") as file:
            file.seek(segment.offset + begin % segment.length)
            file.write(bytes(end - begin))
    open_spool(tmp_path).close()
    after = parse_index(path.read_bytes())
    assert [s.sha256 for s in after.segments] == [s.sha256 for s in before.segments[:left]]
    assert [s.segment_no for s in after.segments] == list(range(1, left + 1))
    assert media.stat().st_size == before.segments[left - 1].offset + before.segments[0].length


@pytest.mark.parametrize("how", ["here", "at the next start", "by fsck"])
def test_a_segment_whose_line_was_refused_gives_its_number_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The disk took the bytes and not the line: the recorder goes on with the same number."""
    spool, run = open_spool(tmp_path), run_at(UTC0)

    append(spool, run, 0)
    append(spool, run, 1)

    def refuse(fd: int, data: bytes) -> None:
        if data.startswith(b'{"segment_no"'):
            raise OSError(errno.ENOSPC, "No space left on device")
        write_all(fd, data)

    with monkeypatch.context() as patch:
        patch.setattr(recording_module, "write_all", refuse)
        with pytest.raises(OSError, match="No space"):
            append(spool, run, 2)
    spool.abandon(GapCause.DISK_FULL)
    (first,) = tmp_path.glob("s/c/*/*-1.mp4")
    if how != "here":  # it is not finished before the next one begins
        monkeypatch.setattr(past_module, "finish", refuse_to_finish)
    run = run_at(UTC0 + 60_000)
    append(spool, run, 0)
    spool.seal(GapCause.NO_DATA)
    spool.close()
    monkeypatch.undo()
    if how == "by fsck":
        finish(first.with_suffix(""), compare=True)
    spool = open_spool(tmp_path)
    run = run_at(UTC0 + 120_000)
    append(spool, run, 0)
    spool.seal(GapCause.NO_DATA)
    spool.close()
    assert [[s.segment_no for s in i.segments] for i in check_files(tmp_path)] == [[1, 2], [3], [4]]


def refuse_to_finish(*_: object, **__: object) -> None:
    raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize("seed", range(8))
def test_whatever_is_damaged_no_whole_segment_is_thrown_away(tmp_path: Path, seed: int) -> None:
    """Bits, runs of zeros, cuts and ends that are missing, in index and bytes: what is still whole
    afterwards is in the recording or beside it, and nothing is raised."""
    random_, run = random.Random(seed), run_at(UTC0)
    sealed = bool(seed % 2)
    spool = open_spool(tmp_path / "as it was", Numbers.by_lease(186_555_000, UTC0))
    for k in range(8):
        append(spool, run, k)
    if sealed:
        spool.seal(GapCause.NO_DATA)
    else:
        spool.abandon(GapCause.DISK_FULL)
    spool.close()
    (was,) = tmp_path.glob("as it was/s/c/*/*.jsonl")
    segments, media = parse_index(was.read_bytes()).segments, was.with_suffix(".mp4").read_bytes()
    for n in range(25):
        shutil.copytree(tmp_path / "as it was", tmp_path / f"{n}")
        (path,) = (tmp_path / f"{n}").glob("s/c/*/*.jsonl")
        for file in random_.sample([path, path.with_suffix(".mp4")], random_.randint(1, 2)):
            file.write_bytes(damaged(file.read_bytes(), random_))
        now = path.with_suffix(".mp4").read_bytes()
        parts = [(s.offset, s.offset + s.length) for s in segments]
        whole = [media[a:b] for a, b in parts if now[a:b] == media[a:b]]
        finish(path.with_suffix(""), compare=bool(random_.getrandbits(1)))
        left = b"".join(p.read_bytes() for p in path.parent.glob("*.mp4*"))
        assert all(part in left for part in whole)


def damaged(data: bytes, random_: random.Random) -> bytes:
    """Return bytes with one or two faults of a disk."""
    spoilt = bytearray(data)
    for _ in range(random_.randint(1, 2)):
        at = random_.randrange(len(spoilt) + 1)
        end = min(len(spoilt), at + random_.randint(1, 400))
        match random_.randrange(4):
            case 0:
                spoilt[at : at + 1] = bytes(
                    b ^ 1 << random_.randrange(8) for b in spoilt[at : at + 1]
                )
            case 1:
                spoilt[at:end] = bytes(end - at)
            case 2:
                del spoilt[at:end]
            case _:
                del spoilt[at:]
    return bytes(spoilt)


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("spoilt", [[1], [5], [2, 3], [9], [10], list(range(1, 10))])
@pytest.mark.parametrize("how", ["a bad character", "no newline"])
@pytest.mark.parametrize("floor", [Numbers.by_clock(UTC0), Numbers.by_lease(186_555_000, UTC0)])
def test_a_spoilt_line_costs_nothing(
    tmp_path: Path, spoilt: list[int], sealed: bool, how: str, floor: Numbers
) -> None:
    """Ten segments, of which the lines of some cannot be read: all are kept, with their bytes,
    and with their numbers, which on several machines have more than 32 bits."""
    spool = open_spool(tmp_path, floor)
    run = run_at(UTC0)
    for k in range(10):
        spool.append(
            run,
            real_segment(spool.next_segment_no, k),
            SegmentInfo(
                tfdt_90k=k * 180_000,
                duration_90k=180_000,
                starts_with_key=True,
                arrival_ms=UTC0 + 2000 * k,
                camera_ms=None,
            ),
            CLOCK,
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
    open_spool(tmp_path, floor).close()
    after = parse_index(path.read_bytes())
    want = before.segments
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
