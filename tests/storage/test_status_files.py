"""What processes say of themselves in `_status/`, and what readers make of it."""

from __future__ import annotations

import time
from pathlib import Path

import orjson
import pytest

from base.durable import replace_file
from storage.archive.port import Fault
from storage.records import FormatError, GapCause
from storage.spool.status import TYPES, SpoolStatus
from storage.spool.status_records import (
    ArchiveStatus,
    CameraStatus,
    ClockStatus,
    DiskStatus,
    Heartbeat,
    PeerState,
    PeerStates,
    RecorderStates,
    RecorderStatus,
    ReloadStatus,
    Status,
    UploaderStatus,
)


def test_status_files(tmp_path: Path) -> None:
    folder = tmp_path / "_status"
    folder.mkdir()
    now = int(time.time() * 1000)
    said = {"s/c": {"state": "recording"}}
    for name, text in (
        ("recorder-0.json", orjson.dumps({"written_ms": now, "cameras": said})),
        ("recorder-1.json", orjson.dumps({"written_ms": now - 11_000, "cameras": {"s/old": {}}})),
        ("recorder-2.json", b"[1]"),
        ("recorder-3.json", b'{"written_ms":"x","cameras":7}'),
        ("recorder-4.json", b'{"written'),
        ("uploader.json", orjson.dumps({"written_ms": now + 60_000})),  # the clock was set back
    ):
        (folder / name).write_bytes(text)
    status = SpoolStatus(tmp_path, lambda: now)
    list(status.refresh())
    assert status.states == {"s/c": "recording"}
    recording, unknown = CameraStatus(state="recording"), CameraStatus()
    assert list(status.cameras()) == [(False, {"s/old": unknown}), (True, {"s/c": recording})]
    assert status.last(UploaderStatus) == UploaderStatus(written_ms=now + 60_000)
    assert status.last(UploaderStatus, is_alive=True) is None
    assert SpoolStatus(tmp_path / "nowhere").last(UploaderStatus) is None


@pytest.mark.parametrize(
    "kind", [*TYPES.values(), RecorderStatus, PeerStates, Heartbeat, ReloadStatus]
)
def test_a_status_file_of_another_version_is_read(kind: type[Status]) -> None:
    """Whatever it leaves out, adds, or says of a list that has grown."""
    assert kind.parse(b'{"written_ms":7}') == kind(written_ms=7)
    said = orjson.loads(kind(written_ms=7).to_json())
    assert next(iter(said)) == "kuager" and said["kuager"]
    assert kind.parse(orjson.dumps(said | {"what": {"nobody": ["knows"]}})) == kind(written_ms=7)
    for text in (b"", b"{", b"[1]", b"{}", b'{"written_ms":"x"}', b'{"written_ms":null}'):
        with pytest.raises(FormatError):
            kind.parse(text)


def test_what_is_written_of_cameras_and_archives_is_read_again() -> None:
    camera = CameraStatus(state="dreaming", cause="bored", recorded_ms=5, packets_lost=2)
    disk = DiskStatus(bytes_per_s=3, cause=GapCause.DISK_FULL, slow_s=2.5)
    recorder = RecorderStatus(
        written_ms=7, clock=ClockStatus(True), spool=disk, cameras={"s/c": camera}
    )
    assert RecorderStatus.parse(recorder.to_json()) == recorder
    states = RecorderStates.parse(recorder.to_json())
    assert states.cameras == {"s/c": {"state": "dreaming"}} and states.spool == disk
    archive = ArchiveStatus(fault=Fault.DISK, blocked={"bored": 2}, clock_offset_ms=-1.5)
    uploader = UploaderStatus(written_ms=7, archives={"a": archive})
    assert UploaderStatus.parse(uploader.to_json()) == uploader


def test_what_a_recorder_says_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each machine of a country is asked for it forty times a second, on the thread of live."""
    (folder := tmp_path / "_status").mkdir()
    now, read, parse = 1_800_000_000_000, list[bytes](), RecorderStatus.parse

    def noted(data: bytes) -> RecorderStatus:
        read.append(data)
        return parse(data)

    monkeypatch.setattr(RecorderStatus, "parse", noted)
    status = SpoolStatus(tmp_path, lambda: now)
    for state in ("connecting", "recording"):
        cameras = {"s/c": CameraStatus(state=state)}
        told = RecorderStatus(written_ms=now, cameras=cameras)
        replace_file(folder / "recorder-0.json", told.to_json())
        list(status.refresh())
        for _ in range(3):
            assert list(status.cameras()) == [(True, cameras)]
            assert list(status.cameras(low=True)) == [(True, {})]
    assert len(read) == 2


def test_what_other_machines_said_counts_for_those_alone_who_ask_for_it(tmp_path: Path) -> None:
    (folder := tmp_path / "_status").mkdir()
    now = 1_800_000_000_000
    own = {"s/c": CameraStatus(state="recording"), "s/d": CameraStatus(state="connecting")}
    (folder / "recorder-0.json").write_bytes(RecorderStatus(written_ms=now, cameras=own).to_json())
    others: dict[str, PeerState] = {
        "s/c": {"state": "backoff"},  # it gives the camera away
        "s/d": {"state": "recording"},
        "s/e": {"state": "backoff", "since_ms": now - 9, "cause": "no_data"},
    }
    said = PeerStates(written_ms=now, name="b", cameras=others)
    (folder / f"peer-{'a' * 32}.json").write_bytes(said.to_json())
    alone, site = (SpoolStatus(tmp_path, lambda: now, with_peers=with_) for with_ in (False, True))
    for status in (alone, site):
        list(status.refresh())
        assert list(status.cameras()) == [(True, own)]
    assert alone.states == {"s/c": "recording", "s/d": "connecting"}
    assert site.states == {"s/c": "recording", "s/d": "recording", "s/e": "backoff"}
    assert (alone.missing_elsewhere, site.missing_elsewhere) == ({}, {"s/e": (now - 9, "no_data")})
