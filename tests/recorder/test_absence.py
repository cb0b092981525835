"""What a recorder makes of the time in which none ran, and of what a wrong clock left behind."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import orjson
import pytest

from base.clock import now_ms
from base.durable import replace_file
from config.schedule import Window
from recorder.camera_spec import CameraSpec
from recorder.clock import Clock
from recorder.gap_accounting import account_for_absence
from recorder.worker import Worker
from storage.records import Ending, Gap, GapCause
from storage.spool.gaps import read_gaps
from storage.spool.lease_file import CameraLease
from storage.spool.numbers import Numbers
from storage.spool.status import SpoolStatus, last_runs_ms
from storage.spool.writer import CameraSpool
from tests.support.spools import UTC0, fill
from tests.support.stack import gaps

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
END = UTC0 + 160_000 + 10_000  # of what `fill` writes: two runs of 80 s and 10 s between
WINDOW = Window(UTC0, UTC0 + 12 * HOUR)


def start(
    root: Path,
    at_ms: int,
    last_run_ms: int | None,
    windows: tuple[Window, ...] = (WINDOW,),
    refused_ms: int = 0,
    lease: CameraLease | None = None,
) -> list[Gap]:
    """Have a recorder account for its absence when it starts; returns all gaps since `fill`.

    Before that the disk refuses for `refused_ms`.
    """
    begun_ms = at_ms - refused_ms
    clock = Clock(offset_ms=lambda: at_ms, elapsed=lambda: 0.0)
    refused = Ending(GapCause.DISK_FAILED, "no disk is mounted") if refused_ms else None
    spool = CameraSpool(root, "e", "s", "c", Numbers())
    account_for_absence(spool, windows, clock, last_run_ms, begun_ms, refused, lease)
    spool.close()
    return [g for g in gaps(root, "c") if g.end_ms is None or g.end_ms > END - MINUTE]


def told(found: list[Gap]) -> list[tuple[str, int, int | None]]:
    return [(g.cause.value, g.start_ms, g.end_ms) for g in found]


def test_power_was_lost_while_a_camera_did_not_answer(tmp_path: Path) -> None:
    """Until then it was tried; after that nobody tried, and it is not said to be unreachable."""
    spool = fill(tmp_path)
    spool.begin_gap(END, GapCause.UNREACHABLE, "No route to host")
    spool.close()
    lost, back = END + 5 * MINUTE, END + 6 * HOUR
    assert told(start(tmp_path, back, lost)) == [
        ("unreachable", END, lost),
        ("recorder_crashed", lost, back),
        ("connecting", back, None),
    ]


def test_a_gap_that_began_after_the_last_heartbeat(tmp_path: Path) -> None:
    spool = fill(tmp_path)
    spool.begin_gap(END, GapCause.STREAM_BROKEN, "ffmpeg was ended by signal 9")
    spool.close()
    assert told(start(tmp_path, END + HOUR, END - 500))[:2] == [
        ("stream_broken", END, END + 2_000),
        ("recorder_crashed", END + 2_000, END + HOUR),
    ]


@pytest.mark.parametrize(
    "last_run_ms",
    [None, END - DAY, END + 2 * DAY],
    ids=["no status file", "an older one", "one of a clock that was ahead"],
)
def test_nothing_tells_how_long_a_camera_was_tried(tmp_path: Path, last_run_ms: int | None) -> None:
    """Nobody knows that it did not answer for six hours: nobody tried."""
    spool = fill(tmp_path)
    spool.begin_gap(END, GapCause.UNREACHABLE, "No route to host")
    spool.close()
    assert told(start(tmp_path, END + 6 * HOUR, last_run_ms)) == [
        ("unreachable", END, END + 2_000),
        ("recorder_crashed", END + 2_000, END + 6 * HOUR),
        ("connecting", END + 6 * HOUR, None),
    ]


@pytest.mark.parametrize("before", ["unreachable", "recorder_stopped", "recording"])
def test_a_disk_that_refuses_at_the_start_is_blamed_from_then_on_only(
    tmp_path: Path, before: str
) -> None:
    """Nobody ran for six hours; then the disk was away for five minutes."""
    spool = fill(tmp_path, sealed=before != "recording")
    if before != "recording":
        spool.begin_gap(END, GapCause(before))
    spool.close()
    lost, back, ready = END + MINUTE, END + 6 * HOUR, END + 6 * HOUR + 5 * MINUTE
    found = told(start(tmp_path, ready, lost, refused_ms=5 * MINUTE))
    assert found[-2:] == [("disk_failed", back, ready), ("connecting", ready, None)]
    assert (
        found[:-2]
        == {
            "unreachable": [("unreachable", END, lost), ("recorder_crashed", lost, back)],
            "recorder_stopped": [("recorder_stopped", END, back)],
            "recording": [("recorder_crashed", END, back)],
        }[before]
    )


def test_a_recorder_that_was_stopped(tmp_path: Path) -> None:
    spool = fill(tmp_path)
    spool.begin_gap(END, GapCause.RECORDER_STOPPED, "the recorder was stopped")
    spool.close()
    back = END + 6 * HOUR
    assert told(start(tmp_path, back, END)) == [
        ("recorder_stopped", END, back),
        ("connecting", back, None),
    ]


def test_a_recorder_that_died_while_it_recorded(tmp_path: Path) -> None:
    fill(tmp_path, sealed=False).close()
    assert told(start(tmp_path, END + MINUTE, END)) == [
        ("recorder_crashed", END, END + MINUTE),
        ("connecting", END + MINUTE, None),
    ]


def test_windows_that_passed_meanwhile(tmp_path: Path) -> None:
    spool = fill(tmp_path)
    spool.begin_gap(END, GapCause.NO_DATA, "no picture for 5 s")
    spool.close()
    tomorrow = Window(UTC0 + DAY, UTC0 + DAY + HOUR)
    assert told(start(tmp_path, UTC0 + 2 * DAY, END + MINUTE, (WINDOW, tomorrow))) == [
        ("no_data", END, END + MINUTE),
        ("recorder_crashed", END + MINUTE, WINDOW.end_ms),
        ("recorder_crashed", tomorrow.start_ms, tomorrow.end_ms),
    ]


def test_what_a_clock_that_was_ahead_left_does_not_count(tmp_path: Path) -> None:
    """Its gaps of the future are cut, and its recordings of the future are not the present."""
    fill(tmp_path).close()
    spool = fill(tmp_path, start_ms=UTC0 + 3 * DAY)
    spool.begin_gap(UTC0 + 3 * DAY + HOUR, GapCause.RECORDER_STOPPED, "")
    spool.end_gap(UTC0 + 4 * DAY)
    spool.close()
    back = END + HOUR
    window = Window(UTC0, UTC0 + 10 * DAY)
    found = told(start(tmp_path, back, END, (window,)))
    assert found[-2:] == [("recorder_stopped", END, back), ("connecting", back, None)]
    journal = read_gaps(tmp_path / "s/c/gaps.jsonl")
    uncarried = [g for g in journal if g.start_ms == UTC0 + 3 * DAY + HOUR]
    assert [g.end_ms for g in uncarried] == [UTC0 + 3 * DAY + HOUR]  # it is none


@pytest.mark.parametrize("at", [MINUTE, 3 * HOUR])
def test_a_run_cuts_a_gap_in_which_it_begins(tmp_path: Path, at: int) -> None:
    """A clock that was ahead when the machine started had journaled all of the window."""
    spool = CameraSpool(tmp_path, "e", "s", "c", Numbers())
    spool.begin_gap(WINDOW.start_ms, GapCause.RECORDER_STOPPED, "")
    spool.end_gap(WINDOW.end_ms)
    spool.close()
    fill(tmp_path, start_ms=WINDOW.start_ms + at, runs=1).close()
    assert [(g.start_ms, g.end_ms) for g in gaps(tmp_path, "c")] == [
        (WINDOW.start_ms, WINDOW.start_ms + at)
    ]


def test_the_status_files_tell_when_a_recorder_last_ran(tmp_path: Path) -> None:
    status = tmp_path / "_status"
    status.mkdir()
    for share, written_ms, names in ((0, UTC0, ["s/a", "s/b"]), (1, UTC0 + 5, ["s/b"])):
        record = {"written_ms": written_ms, "cameras": {n: {} for n in names}}
        (status / f"recorder-{share}.json").write_bytes(orjson.dumps(record))
    (status / "recorder-2.json").write_bytes(b"{")
    (status / "recorder-3.json").write_bytes(b"")  # torn by a loss of power
    beat = {"written_ms": UTC0 - 7, "cameras": ["s/b", "s/c"]}
    (status / "recorder-3.heartbeat").write_bytes(orjson.dumps(beat))
    assert last_runs_ms(tmp_path) == {"s/a": UTC0, "s/b": UTC0 + 5, "s/c": UTC0 - 7}
    assert last_runs_ms(tmp_path / "none") == {}


def test_a_recorder_flushes_its_heartbeat(tmp_path: Path) -> None:
    """What a loss of power leaves: files whose last flush has come to an end."""
    spec = CameraSpec("e", "s", "c", "rtsp://127.0.0.1/c", windows=(WINDOW,))
    worker = Worker([spec], tmp_path, "ffmpeg", clock=Clock(offset_ms=lambda: UTC0))
    (tmp_path / "_status").mkdir()
    worker._write_status()
    worker._write_status(heartbeat=False)
    (tmp_path / "_status/recorder-0.json").write_bytes(b"")
    worker.disk.close()
    assert last_runs_ms(tmp_path)["s/c"] > UTC0


def test_who_writes_on_is_alive_whatever_the_clocks_say(tmp_path: Path) -> None:
    """A recorder that does not follow a leap gives other times than the reader's clock."""
    path = tmp_path / "_status/recorder-0.json"
    path.parent.mkdir()
    status, behind_ms = SpoolStatus(tmp_path), now_ms() - DAY

    def write(written_ms: int) -> dict[str, str]:
        cameras = {"s/c": {"state": "recording"}}
        replace_file(path, orjson.dumps({"written_ms": written_ms, "cameras": cameras}))
        list(status.refresh())
        return status.states

    assert write(behind_ms) == {}  # nobody knows whether it is old
    assert write(behind_ms + 2_000) == {"s/c": "recording"}
    assert write(behind_ms - 60_000) == {}  # time does not go back


def test_what_is_wrong_with_the_clocks_is_said_once(tmp_path: Path) -> None:
    """By check, /readyz and metrics, as recorders and uploader tell it."""
    (tmp_path / "_status").mkdir()
    clocks = [
        {"synchronized": True, "doubt": None},
        {"synchronized": False, "doubt": None},
        {"synchronized": False, "doubt": "it is off by +1.0 days"},
    ]
    for share, clock in enumerate(clocks):
        record = {"written_ms": now_ms(), "cameras": {}, "clock": clock}
        (tmp_path / f"_status/recorder-{share}.json").write_bytes(orjson.dumps(record))
    told = {"written_ms": now_ms(), "clock_doubt": "it is off by +400.0 days"}
    (tmp_path / "_status/uploader.json").write_bytes(orjson.dumps(told))
    status = SpoolStatus(tmp_path)
    list(status.refresh())
    assert [asdict(clock) for clock in status.clocks()] == clocks
    unsynchronized, doubt, removes = status.clock_warnings()
    assert "nobody synchronizes" in unsynchronized and "+1.0 days" in doubt
    assert "nothing is removed" in removes and "+400.0 days" in removes


# -- a machine of several --------------------------------------------------------------------

NODE_LOST, STOPPED = GapCause.NODE_LOST, GapCause.RECORDER_STOPPED


def test_a_machine_that_was_lost_leaves_a_gap_from_what_is_known_of_it(tmp_path: Path) -> None:
    """Not from when this machine last had the camera: the other one recorded it since."""
    fill(tmp_path).close()
    since = END + 3 * HOUR
    lease = CameraLease(9, since, missing=(since - 70_000, NODE_LOST))
    assert told(start(tmp_path, since + 500, None, lease=lease)) == [
        ("node_lost", since - 70_000, since + 500),
        ("connecting", since + 500, None),
    ]


def test_a_camera_that_is_handed_over_is_missing_from_now_on_only(tmp_path: Path) -> None:
    spool = fill(tmp_path)
    spool.begin_gap(END, GapCause.UNREACHABLE)
    spool.close()
    lease = CameraLease(9, END + HOUR, alone=False)
    assert told(start(tmp_path, END + HOUR + 500, END + MINUTE, lease=lease)) == [
        ("unreachable", END, END + MINUTE),
        ("connecting", END + HOUR + 500, None),
    ]


def test_a_camera_that_nobody_had_before(tmp_path: Path) -> None:
    lease = CameraLease(9, UTC0 + HOUR, missing=(0, STOPPED))
    assert told(start(tmp_path, UTC0 + HOUR + 500, None, lease=lease)) == [
        ("recorder_stopped", UTC0, UTC0 + HOUR + 500),
        ("connecting", UTC0 + HOUR + 500, None),
    ]


def test_a_recorder_that_is_started_again_under_its_lease(tmp_path: Path) -> None:
    fill(tmp_path, sealed=False).close()
    lease = CameraLease(9, UTC0 - 5_000, missing=(UTC0 - 90_000, NODE_LOST))
    back = END + MINUTE
    assert told(start(tmp_path, back, END, lease=lease)) == [
        ("recorder_crashed", END, back),
        ("connecting", back, None),
    ]


def test_a_disk_that_refuses_a_camera_of_a_machine_that_was_lost(tmp_path: Path) -> None:
    since = UTC0 + HOUR
    lease = CameraLease(9, since, missing=(since - 70_000, NODE_LOST))
    found = told(start(tmp_path, since + MINUTE, None, refused_ms=50_000, lease=lease))
    assert found == [
        ("node_lost", since - 70_000, since + 10_000),
        ("disk_failed", since + 10_000, since + MINUTE),
        ("connecting", since + MINUTE, None),
    ]


def test_outside_its_windows_a_lease_leaves_nothing(tmp_path: Path) -> None:
    at = UTC0 + 13 * HOUR
    lease = CameraLease(9, at, missing=(at - HOUR // 2, NODE_LOST))
    assert told(start(tmp_path, at + 500, None, lease=lease)) == []
