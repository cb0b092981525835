"""The spool's disk full, slow, failing or gone: recording pauses or waits, and nothing is lost."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from structlog.testing import capture_logs

from config.limits import Reserve, SpoolLimits
from recorder.disk_watch import SpoolDisk, Thresholds
from storage.records import GapCause, parse_index
from storage.spool.disk import MARKER_FILE, check_spool, claim_spool, disk_space, seconds_left
from storage.spool.gaps import read_gaps
from streaming.context import AppContext
from streaming.ops.metrics import make_registry
from tests.support.config_files import read
from tests.support.programs import missing
from tests.support.repository import ROOT
from tests.support.spool_files import UTC0, check_files, open_spool, run_at, write
from tests.support.waiting import BOUND_S

WITH_MOUNTS = ["unshare", "-Urm"]


@pytest.fixture(scope="module")
def suffered() -> dict[str, Any]:
    """What became of the cameras of each spool in tests/support/disk_faults.py."""
    try:
        subprocess.run([*WITH_MOUNTS, "mount", "-t", "tmpfs", "none", "/mnt"], check=True)
    except (OSError, subprocess.CalledProcessError):
        missing("a mount namespace is needed (unshare -Urm): allow user namespaces")
    done = subprocess.run(
        [*WITH_MOUNTS, sys.executable, "-m", "tests.support.disk_faults", "json"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        timeout=3 * BOUND_S,
        check=True,  # it checks that recordings and gaps tile the schedule, hashes, and decodes
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "causes", "said"),
    [
        ("full", ["disk_full"], ["Recording pauses, why=the spool has no room", "Recording goes"]),
        ("read-only", ["disk_failed"], ["read-only", "Recording goes on"]),
        ("gone", ["disk_failed"], ["it is gone from", "Recording goes on"]),
        ("absent", ["disk_failed"], ["no disk is mounted at", "Recording goes on"]),
        ("slow", [], ["The spool's disk is slow", "The spool's disk is fast again"]),
        ("well", [], []),
    ],
)
@pytest.mark.slow
def test_what_is_wrong_with_the_disk_is_said_once_for_all_cameras(
    suffered: dict[str, Any], fault: str, causes: list[str], said: list[str]
) -> None:
    one = suffered[fault]
    assert one["causes"] == {"a": causes, "b": causes}, one
    lines = one["log"]
    if fault == "slow":  # a busy machine may be slow twice
        said = said * (len(lines) // 2)
    else:
        lines = [line for line in lines if "The spool's disk is" not in line]
    assert len(lines) == len(said) and all(s in line for s, line in zip(said, lines, strict=True))
    assert bool(causes or fault == "well") or lines
    assert one["runs"] == {"a": 1 + bool(causes) - (fault == "absent")} | {"b": one["runs"]["a"]}


@pytest.mark.slow
def test_a_disk_without_a_free_byte_costs_what_does_not_fit(suffered: dict[str, Any]) -> None:
    assert set(suffered["brim"]["causes"]["a"]) == {"disk_full"}


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["stuck", "error"])
def test_what_is_wrong_with_the_files_of_one_camera_harms_no_other(
    suffered: dict[str, Any], fault: str
) -> None:
    one = suffered[fault]
    assert one["causes"] == {"a": ["disk_failed"], "b": []}, one
    assert one["runs"] == {"a": 2, "b": 1}
    lines = [line for line in one["log"] if "The spool's disk is" not in line]  # on a busy machine
    said = [line for line in lines if f"camera={fault}/a" in line]
    assert any("Not recording" in line for line in said)
    assert "Recording again" in said[-1]
    assert not any(f"camera={fault}/b" in line for line in lines)


def test_a_spool_is_marked_once_and_known_by_its_mark(tmp_path: Path) -> None:
    spool, other = tmp_path / "spool", tmp_path / "other"
    assert claim_spool(spool) == claim_spool(spool)
    assert sorted(p.name for p in spool.iterdir()) == ["_status", "spool.json"]
    assert check_spool(spool, claim_spool(spool)).total_bytes == check_spool(spool).total_bytes
    with pytest.raises(OSError, match="another is at"):
        check_spool(spool, claim_spool(other))
    (spool / "spool.json").write_bytes(b"")
    with pytest.raises(OSError, match="cannot be read"):
        claim_spool(spool)
    (spool / "spool.json").unlink()
    with pytest.raises(OSError, match="is gone from"):
        check_spool(spool)
    with pytest.raises(OSError, match="no disk is mounted"):
        claim_spool(tmp_path / "new", tmp_path)
    assert not (tmp_path / "new").exists()


def test_the_mark_is_flushed_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torn by a loss of power it would keep every recorder from its spool."""
    spool, flushed, fsync = tmp_path / "spool", list[tuple[str, bool]](), os.fsync

    def watched(fd: int) -> None:
        flushed.append(
            (Path(f"/proc/self/fd/{fd}").readlink().name, (spool / MARKER_FILE).exists())
        )
        fsync(fd)

    monkeypatch.setattr(os, "fsync", watched)
    claim_spool(spool)
    assert (f"{MARKER_FILE}.{os.getpid()}.new", False) in flushed


def test_marks_are_told_when_passed_and_not_again_while_near() -> None:
    marks = Thresholds((24, 6, 2))
    left = [100, 23, 25, 23, 5, 5, 7, 5, 9, 5, 1, 0, 31, 23]
    told = [None, 24, None, None, 6, None, None, None, None, 6, 2, None, 0, 24]
    assert [marks.take(hours) for hours in left] == told


async def test_an_operator_is_told_how_long_the_room_lasts(tmp_path: Path) -> None:
    spool, written = tmp_path / "spool", iter(range(0, 10**9, 10**6))
    found = disk_space(tmp_path)
    limits = SpoolLimits((10**12,), Reserve(0, None))  # a mark that any disk is below
    seconds = itertools.count()
    disk = SpoolDisk(spool, limits, 0, lambda: next(written), lambda: float(next(seconds)))
    try:
        with capture_logs() as said:
            for _ in range(30):  # a second or more of its clock passes with each
                await disk.look()
        assert [line["event"].partition(":")[0] for line in said] == ["The spool fills"]
        status = disk.status()
        assert status.hours_left and status.free_bytes
        assert status.hours_left == said[0]["hours_left"] or status.hours_left > 0
        assert abs(status.free_bytes - found.free_bytes) < 10**9
        shutil.rmtree(spool)
        with capture_logs() as said:
            await disk.look()
            await disk.look()
        assert [line["event"] for line in said] == ["Recording pauses"]
        assert disk.refusal is not None and disk.refusal.cause is GapCause.DISK_FAILED
        assert disk.status().hours_left == 0 and not spool.exists()
    finally:
        disk.close()


async def test_of_several_recorders_one_says_what_is_wrong_with_the_disk(tmp_path: Path) -> None:
    claim_spool(tmp_path)
    status = {"written_ms": int(time.time() * 1000), "spool": {"bytes_per_s": 0}}
    (tmp_path / "_status/recorder-1.json").write_text(json.dumps(status))
    disks = [SpoolDisk(tmp_path, SpoolLimits(), share, lambda: 0) for share in (1, 2)]
    try:
        for disk in disks:
            await disk.look()
        (tmp_path / "spool.json").unlink()
        with capture_logs() as said:
            for disk in disks:
                await disk.look()
        assert all(disk.refusal for disk in disks) and len(said) == 1
    finally:
        for disk in disks:
            disk.close()


@pytest.mark.parametrize("rate", [{}, {"bytes_per_s": None}, {"bytes_per_s": "much"}])
async def test_what_another_writes_of_itself_ends_no_recorder(
    tmp_path: Path, rate: dict[str, Any]
) -> None:
    """Its status may be of another version; all cameras of this process would pay for it."""
    claim_spool(tmp_path)
    status = {"written_ms": time.time() * 1000, "cameras": {}, "spool": rate}
    (tmp_path / "_status/recorder-1.json").write_text(json.dumps(status))
    disk = SpoolDisk(tmp_path, SpoolLimits(), 0, lambda: 0)
    try:
        await disk.look()
        assert disk.refusal is None
    finally:
        disk.close()


def test_metrics_tell_of_the_disk(tmp_path: Path) -> None:
    config, now_ms = read(tmp_path), int(time.time() * 1000)
    assert seconds_left(disk_space(tmp_path), 0, 0) is None

    def told() -> dict[str, float]:
        context = AppContext(config, None, [], lambda: now_ms)
        list(context.refresh())
        text = generate_latest(make_registry(context)).decode()
        lines = [line.split() for line in text.splitlines() if line.startswith("kuager_spool_")]
        values = {name.removeprefix("kuager_spool_"): float(value) for name, value in lines}
        return {name: value for name, value in values.items() if not math.isnan(value)}

    full, failed = 'cause{cause="disk_full"}', 'cause{cause="disk_failed"}'
    assert told() == {"ok": 0, full: 0, failed: 1, "waiting_bytes": 0, "slow_seconds": 0}
    claim_spool(config.spool)
    for n in range(2):
        spool = {"bytes_per_s": 500_000, "waiting_bytes": 7, "slow_s": n * 3.5}
        status = {"written_ms": now_ms, "cameras": {}, "spool": spool}
        (config.spool / f"_status/recorder-{n}.json").write_text(json.dumps(status))
    found = told()
    reserve = config.spool_limits.reserve.of(disk_space(config.spool).total_bytes)
    seconds = (found["free_bytes"] - reserve) / 1_000_000
    assert abs(found.pop("left_seconds") - seconds) < 360 and found.pop("free_bytes") > 0
    assert found == {"ok": 1, full: 0, failed: 0, "waiting_bytes": 14, "slow_seconds": 3.5}


def test_a_recording_that_cannot_be_finished_waits_and_is_finished_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EIO on one file for good, then a restart on a disk that reads it again."""
    spool = open_spool(tmp_path)
    write(spool, run_at(UTC0), 0, 3)
    spool.abandon(GapCause.DISK_FAILED)
    (bad,) = tmp_path.glob("s/c/*/*.mp4")
    opened = Path.open

    def refuses(self: Path, *args: Any, **options: Any) -> Any:
        if self == bad:
            raise OSError(5, "Input/output error")
        return opened(self, *args, **options)

    with monkeypatch.context() as patch, capture_logs() as said:
        patch.setattr(Path, "open", refuses)
        for n in (1, 2):  # two more recordings, beside it
            write(spool, run_at(UTC0 + n * 60_000), 0, 2)
            spool.seal(GapCause.NO_DATA)
    assert len([line for line in said if "cannot be finished" in line["event"]]) == 1
    assert parse_index(bad.with_suffix(".jsonl").read_bytes()).seal is None
    spool.close()
    spool = open_spool(tmp_path)
    write(spool, run_at(UTC0 + 200_000), 0, 2)
    spool.seal(GapCause.NO_DATA)
    spool.close()
    found = check_files(tmp_path)
    assert all(i.seal for i in found) and len(found[0].segments) == 3
    assert found[0].seal and found[0].seal.end_reason is GapCause.DISK_FAILED


async def test_files_that_this_process_lacks_are_not_the_disks_fault(tmp_path: Path) -> None:
    disk = SpoolDisk(tmp_path, SpoolLimits(), 0, lambda: 0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        await disk.look()
        with capture_logs() as said:
            held = []
            resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
            try:
                with contextlib.suppress(OSError):
                    while True:
                        held.append(os.open(os.devnull, os.O_RDONLY))
                await disk.look()
                await disk.look()
                with pytest.raises(OSError, match="Too many open files") as refused:
                    open_spool(tmp_path)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                for fd in held:
                    os.close(fd)
        assert disk.refusal is None  # no camera pauses
        assert [line["event"] for line in said] == [
            "The spool's disk cannot be looked at; recording goes on"
        ]
        assert "LimitNOFILE" in said[0]["why"]
        assert "LimitNOFILE" in (await disk.why(refused.value)).detail
    finally:
        disk.close()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("which", [".mp4", ".jsonl", ""])  # the last is the directory
def test_a_flush_that_failed_is_written_anew_whatever_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, which: str
) -> None:
    """Thin volumes, NFS and quotas say at the flush that there is no room."""
    spool = open_spool(tmp_path)
    write(spool, run_at(UTC0), 0, 3)
    (media,) = tmp_path.glob("s/c/*/*.mp4")
    before = media.stat().st_ino, media.read_bytes()

    def refuses(fd: int) -> None:
        if Path(f"/proc/self/fd/{fd}").resolve().suffix == which:
            raise OSError(code, "injected")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="injected"):
        patch.setattr(os, "fsync", refuses)
        spool.seal(None)
    full = code in (errno.ENOSPC, errno.EDQUOT)
    spool.abandon(GapCause.DISK_FULL if full else GapCause.DISK_FAILED)
    write(spool, run_at(UTC0 + 60_000), 0, 2)
    spool.seal(None)
    spool.close()
    assert media.stat().st_ino != before[0] and media.read_bytes() == before[1]
    check_files(tmp_path)


def test_what_a_failed_flush_left_in_memory_is_written_to_another_place(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    write(spool, run_at(UTC0), 0, 3)
    (media,) = tmp_path.glob("s/c/*/*.mp4")
    before = media.stat().st_ino, media.read_bytes()
    spool.abandon(GapCause.DISK_FAILED)
    write(spool, run_at(UTC0 + 60_000), 0, 2)
    spool.seal(None)
    spool.close()
    assert media.stat().st_ino != before[0] and media.read_bytes() == before[1]
    check_files(tmp_path)


def test_a_directory_that_came_back_is_locked_anew(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    (tmp_path / "s").rename(tmp_path / "away")
    with pytest.raises(FileNotFoundError):
        write(spool, run_at(UTC0), 0)
    spool.abandon(GapCause.DISK_FAILED)
    assert not (tmp_path / "s").exists()
    shutil.copytree(tmp_path / "away", tmp_path / "s")
    other = open_spool(tmp_path)
    with pytest.raises(OSError, match="another process"):
        write(spool, run_at(UTC0), 0)
    other.close()
    write(spool, run_at(UTC0), 0)
    spool.seal(None)
    with pytest.raises(RuntimeError):
        open_spool(tmp_path)
    spool.close()


def test_gaps_that_the_disk_refused_are_written_when_asked(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with contextlib.suppress(OSError):
            spool.begin_gap(UTC0, GapCause.DISK_FULL, "x")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert read_gaps(tmp_path / "s/c/gaps.jsonl") == []
    spool.write_gaps()
    (gap,) = read_gaps(tmp_path / "s/c/gaps.jsonl")
    assert gap == spool.open_gap
    spool.close()
