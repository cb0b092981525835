"""What the processes say of themselves in the spool's `_status/` (docs/formats.md)."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from base.clock import Clock, now_ms
from base.hostclock import UNSYNCHRONIZED, elapsed_ms
from storage.records import FormatError
from storage.spool.status_records import (
    HEARTBEAT,
    NODE,
    ORDERS,
    PEER,
    PICTURES,
    SUPERVISOR,
    UNKNOWN,
    UPLOADER,
    CameraStatus,
    ClockStatus,
    Heartbeat,
    NodeStatus,
    OrdersStatus,
    PeerStates,
    PicturesStatus,
    ProcessStatus,
    RecorderStates,
    RecorderStatus,
    Status,
    SupervisorStatus,
    UploaderStatus,
)

STATUS_OLD_MS = 10_000  # a status file older than this was written by a process that is gone
RECORDER, RECORDING = "recorder-", "recording"
TYPES: dict[str, type[Status]] = {
    NODE: NodeStatus,
    UPLOADER: UploaderStatus,
    PICTURES: PicturesStatus,
    ORDERS: OrdersStatus,
    SUPERVISOR: SupervisorStatus,
}

S = TypeVar("S", bound=Status)


def last_runs_ms(spool: Path) -> dict[str, int]:
    """Return when a recorder was last at work on each camera ("station/camera"), in UTC.

    A loss of power leaves no status file, or a torn one; the heartbeat is flushed, and is older.
    """
    found: dict[str, int] = {}
    kinds: dict[str, type[Heartbeat | RecorderStates]]
    kinds = {HEARTBEAT: Heartbeat, ".json": RecorderStates}
    for path in (spool / "_status").glob(f"{RECORDER}*"):
        if kind := kinds.get(path.suffix):
            try:
                said = kind.parse(path.read_bytes())
            except (OSError, FormatError):
                continue
            found |= {name: max(found.get(name, 0), said.written_ms) for name in said.cameras}
    return found


@dataclass(slots=True)
class _File:
    """What is kept of a status file: of cameras only their state, which is asked for often."""

    seen: tuple[int, int]  # inode and mtime of what was read
    seen_ms: float  # when it was read, in `elapsed_ms`
    goes_on: bool  # whether its writer's time went on since the one before as ours did
    said: Status
    states: dict[str, str] = field(default_factory=dict)
    missing: dict[str, tuple[int, str]] = field(default_factory=dict)  # since when, and why

    def is_alive(self, now_ms: int) -> bool:
        """Say whether who wrote it is there: by the time that it gives, or because it was
        replaced a moment ago, where the clocks of the two differ and one of them is wrong."""
        if self.goes_on and elapsed_ms() - self.seen_ms <= STATUS_OLD_MS:
            return True
        return abs(now_ms - self.said.written_ms) <= STATUS_OLD_MS


def _goes_on(known: _File | None, said: Status, now_ms: float) -> bool:
    if known is None:
        return False
    passed_ms = said.written_ms - known.said.written_ms
    return passed_ms > 0 and abs(passed_ms - (now_ms - known.seen_ms)) <= STATUS_OLD_MS


class SpoolStatus:
    """What the status files said at the last `refresh`; a file is read when it was replaced."""

    def __init__(self, spool: Path, clock: Clock = now_ms, *, with_peers: bool = False):
        """With `with_peers` states are those of all machines of an installation."""
        self._clock, self._with_peers = clock, with_peers
        self._directory = spool / "_status"
        self._files: dict[str, _File] = {}
        # what `cameras` read last, with inode and mtime
        self._told: dict[str, tuple[tuple[int, int], RecorderStatus]] = {}
        self.states: dict[str, str] = {}  # of "station/camera"
        # since when cameras of other machines are not recorded, and why
        self.missing_elsewhere: dict[str, tuple[int, str]] = {}

    def _paths(self) -> list[Path]:
        """Return all files. While the spool's disk is away, those that were there: what they said
        last goes on to be told."""
        with contextlib.suppress(OSError):
            return [path for path in sorted(self._directory.iterdir()) if path.suffix == ".json"]
        return [self._directory / name for name in sorted(self._files)]

    def refresh(self) -> Iterator[None]:
        """Look at all files; yields after each, as many cameras make it long. What it found
        counts when it has ended."""
        states: dict[str, str] = {}
        missing: dict[str, tuple[int, str]] = {}
        files: dict[str, _File] = {}
        for path in self._paths():
            if file := self._look(path):
                files[path.name] = file
                if file.is_alive(self._clock()):
                    # while two machines have a camera, that one counts that records it
                    both = states.keys() & file.states.keys()
                    recorded = {name: RECORDING for name in both if states[name] == RECORDING}
                    states |= file.states | recorded
                    missing |= file.missing
            yield
        self._files, self.states, self.missing_elsewhere = files, states, missing

    def _kind(self, name: str) -> type[Status] | None:
        if name.startswith(RECORDER):
            return RecorderStates
        if name.startswith(PEER):
            return PeerStates if self._with_peers else None
        return TYPES.get(name)

    def _look(self, path: Path) -> _File | None:
        if (kind := self._kind(path.name)) is None:
            return None
        known = self._files.get(path.name)
        try:
            seen = _seen(path)
            if known and known.seen == seen:
                return known
            said, now_ms = kind.parse(path.read_bytes()), elapsed_ms()
        except FormatError:
            return None  # not ours
        except FileNotFoundError:
            return None if self._directory.exists() else known
        except OSError:
            return known
        file = _File(seen, now_ms, _goes_on(known, said, now_ms), said)
        if isinstance(said, PeerStates):
            file.missing = {
                sys.intern(name): (camera["since_ms"], camera["cause"])
                for name, camera in said.cameras.items()
                if "cause" in camera and "since_ms" in camera
            }
        if isinstance(said, RecorderStates | PeerStates):
            file.states = {
                sys.intern(name): sys.intern(camera.get("state", UNKNOWN))
                for name, camera in said.cameras.items()
            }
            said.cameras = {}
        return file

    def cameras(self, *, low: bool = False) -> Iterator[tuple[bool, dict[str, CameraStatus]]]:
        """Yield all that each recorder said of its cameras, or of their second streams (`low`), by
        "station/camera", and whether it is alive: who wrote last comes last."""
        now_ms, files = self._clock(), self._files
        self._told = {name: said for name, said in self._told.items() if name in files}
        found = [
            (file.is_alive(now_ms), file.said.written_ms, name)
            for name, file in files.items()
            if file.states and isinstance(file.said, RecorderStates)
        ]
        for is_alive, _, name in sorted(found):
            with contextlib.suppress(OSError, FormatError):
                self._listen(self._directory / name)
            if name in self._told:
                _, said = self._told[name]
                yield is_alive, said.low if low else said.cameras

    def _listen(self, path: Path) -> None:
        """Read what a recorder says of its cameras, if it was replaced: with many machines each is
        asked for it many times a second. Raises OSError and FormatError."""
        seen = _seen(path)
        if path.name not in self._told or self._told[path.name][0] != seen:
            self._told[path.name] = seen, RecorderStatus.parse(path.read_bytes())

    def recorders(self, *, is_alive: bool = True) -> dict[int, RecorderStates]:
        """Return what the recorders say of disk and clock, by share: those that live, or of all
        what they said last."""
        return {
            int(share): file.said
            for name, file in self._files.items()
            if isinstance(file.said, RecorderStates)
            and (share := name.removeprefix(RECORDER).removesuffix(".json")).isdigit()
            and share.isascii()
            and (file.is_alive(self._clock()) or not is_alive)
        }

    def clocks(self) -> list[ClockStatus]:
        """Return what the living recorders say of their clock."""
        return [said.clock for said in self.recorders().values() if said.clock]

    def clock_warnings(self) -> list[str]:
        """Return what is wrong with the clocks of recorders and uploader, in sentences."""
        clocks = self.clocks()
        said = [UNSYNCHRONIZED for clock in clocks if not clock.synchronized]
        said += [clock.doubt for clock in clocks if clock.doubt]
        uploader = self.last(UploaderStatus, is_alive=True)
        if uploader and uploader.clock_doubt:
            said.append(f"nothing is removed on its word: {uploader.clock_doubt}")
        return [f"the clock: {text}" for text in dict.fromkeys(said)]

    @property
    def nothing(self) -> bool:
        """Whether no process ever told anything here."""
        return not self._files

    def is_up(self, process: str) -> bool | None:
        """Tell whether a process of the installation is there, as "recorder-0": by its own file
        or, of web processes, which write none, by the supervisor's; None where nobody tells."""
        if process.startswith("web-"):
            told = self.supervised()
            return (process in told and told[process].up) if told else None
        file = self._files.get(_file_of(process))
        return file is not None and file.is_alive(self._clock())

    def told_ms(self, process: str) -> int:
        """Return when a process last wrote its file, 0 where it never did."""
        file = self._files.get(_file_of(process))
        return file.said.written_ms if file else 0

    def supervised(self, *, is_alive: bool = True) -> dict[str, ProcessStatus]:
        """Return what a supervisor says of its processes, by name: one that lives, or of the last
        one what it said last."""
        told = self.last(SupervisorStatus, is_alive=is_alive)
        return told.processes if told else {}

    def last(self, kind: type[S], *, is_alive: bool = False) -> S | None:
        """Return what a process said last: one that is gone, too, where it need not be alive."""
        for file in self._files.values():
            if isinstance(file.said, kind) and (not is_alive or file.is_alive(self._clock())):
                return file.said
        return None


def _seen(path: Path) -> tuple[int, int]:
    """Return what tells a file from the one that was there before; raises OSError."""
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns


def _file_of(process: str) -> str:
    role = process.rpartition("-")[0]  # the file of `node` is its map
    return f"{process}.json" if role == "recorder" else f"{role}.json"
