"""What the processes say of themselves in the spool's `_status/` (docs/formats.md)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from base.clock import Clock, now_ms
from base.hostclock import UNSYNCHRONIZED, elapsed_ms

STATUS_OLD_MS = 10_000  # a status file older than this was written by a process that is gone
HEARTBEAT = ".heartbeat"  # ending of the file that is flushed
UPLOADER, PICTURES, ORDERS = "uploader.json", "pictures.json", "orders.json"
SUPERVISOR = "supervisor.json"


def last_runs_ms(spool: Path) -> dict[str, int]:
    """Return when a recorder was last at work on each camera ("station/camera"), in UTC.

    A loss of power leaves no status file, or a torn one; the heartbeat is flushed, and is older.
    """
    found: dict[str, int] = {}
    for path in (spool / "_status").glob("recorder-*"):
        if path.suffix not in (HEARTBEAT, ".json"):
            continue
        try:
            said = orjson.loads(path.read_bytes())
            found |= {n: max(found.get(n, 0), int(said["written_ms"])) for n in said["cameras"]}
        except (OSError, ValueError, TypeError, KeyError):
            continue
    return found


@dataclass(slots=True)
class _File:
    """What is kept of a status file: of cameras only their state, which is asked for often."""

    seen: tuple[int, int]  # inode and mtime of what was read
    seen_ms: float  # when it was read, in `elapsed_ms`
    goes_on: bool  # whether its writer's time went on since the one before as ours did
    said: dict[str, Any] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)

    def is_alive(self, now_ms: int) -> bool:
        """Say whether who wrote it is there: by the time that it gives, or because it was
        replaced a moment ago, where the clocks of the two differ and one of them is wrong."""
        if self.goes_on and elapsed_ms() - self.seen_ms <= STATUS_OLD_MS:
            return True
        written_ms = self.said.get("written_ms")
        return isinstance(written_ms, int | float) and abs(now_ms - written_ms) <= STATUS_OLD_MS


def _goes_on(known: _File | None, said: dict[str, Any], now_ms: float) -> bool:
    if known is None:
        return False
    passed_ms = float(said["written_ms"]) - float(known.said["written_ms"])
    return passed_ms > 0 and abs(passed_ms - (now_ms - known.seen_ms)) <= STATUS_OLD_MS


class SpoolStatus:
    """What the status files said at the last `refresh`; a file is read when it was replaced."""

    def __init__(self, spool: Path, clock: Clock = now_ms):
        self._clock = clock
        self._directory = spool / "_status"
        self._files: dict[str, _File] = {}
        self.states: dict[str, str] = {}  # of "station/camera"

    def refresh(self) -> Iterator[None]:
        """Look at all files; yields after each, as many cameras make it long. What it found
        counts when it has ended."""
        states: dict[str, str] = {}
        files: dict[str, _File] = {}
        for path in sorted(self._directory.glob("*.json")):
            if file := self._look(path):
                files[path.name] = file
                states |= file.states if file.is_alive(self._clock()) else {}
            yield
        self._files, self.states = files, states

    def _look(self, path: Path) -> _File | None:
        known = self._files.get(path.name)
        try:
            stat = path.stat()
            seen = (stat.st_ino, stat.st_mtime_ns)
            if known and known.seen == seen:
                return known
            said, now_ms = orjson.loads(path.read_bytes()), elapsed_ms()
            file = _File(seen, now_ms, _goes_on(known, said, now_ms), said)
            cameras = file.said.pop("cameras", {}).items()
            file.said.pop("low", None)
            file.states = {
                sys.intern(name): sys.intern(one["state"])
                for name, one in cameras
                if isinstance(one["state"], str)
            }
            return file
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None  # being replaced, or not ours

    def cameras(self, streams: str = "cameras") -> Iterator[tuple[bool, dict[str, dict[str, Any]]]]:
        """Yield all that each recorder said of its cameras, or of their second streams (`low`), by
        "station/camera", and whether it is alive."""
        for name, file in list(self._files.items()):
            if file.states:
                try:
                    said = orjson.loads((self._directory / name).read_bytes())[streams]
                except (OSError, ValueError, TypeError, KeyError):
                    continue
                yield file.is_alive(self._clock()), said

    def recorders(self) -> dict[int, dict[str, Any]]:
        """Return what the living recorders say of the spool's disk, by share."""
        return {
            int(share): file.said["spool"]
            for name, file in self._files.items()
            if (share := name.removeprefix("recorder-").removesuffix(".json")).isdigit()
            and file.is_alive(self._clock())
            and isinstance(file.said.get("spool"), dict)
        }

    def clocks(self) -> list[dict[str, Any]]:
        """Return what the living recorders say of their clock: `synchronized` and `doubt`."""
        return [
            file.said["clock"]
            for name, file in self._files.items()
            if name.startswith("recorder-")
            and file.is_alive(self._clock())
            and isinstance(file.said.get("clock"), dict)
        ]

    def clock_warnings(self) -> list[str]:
        """Return what is wrong with the clocks of recorders and uploader, in sentences."""
        said = [UNSYNCHRONIZED for c in self.clocks() if not c.get("synchronized")]
        said += [str(c["doubt"]) for c in self.clocks() if c.get("doubt")]
        uploader = self.uploader() or {}
        if uploader.get("clock_doubt"):
            said.append(f"nothing is removed on its word: {uploader['clock_doubt']}")
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
            return told.get(process, {}).get("up") is True if told else None
        return self._said(_file_of(process)) is not None

    def told_ms(self, process: str) -> int:
        """Return when a process last wrote its file, 0 where it never did."""
        written_ms = (self.last(_file_of(process)) or {}).get("written_ms")
        return written_ms if isinstance(written_ms, int) else 0

    def supervised(self) -> dict[str, Any]:
        """Return what a living supervisor says of its processes, by name."""
        told = (self._said(SUPERVISOR) or {}).get("processes")
        return told if isinstance(told, dict) else {}

    def uploader(self) -> dict[str, Any] | None:
        """Return what a living uploader says."""
        return self._said(UPLOADER)

    def last(self, name: str) -> dict[str, Any] | None:
        """Return what a file said last, though its writer may be gone."""
        file = self._files.get(name)
        return file.said if file else None

    def orders(self) -> dict[str, Any] | None:
        """Return what a living desk of orders says."""
        return self._said(ORDERS)

    def pictures(self) -> dict[str, Any] | None:
        """Return what a living picture process says."""
        return self._said(PICTURES)

    def _said(self, name: str) -> dict[str, Any] | None:
        file = self._files.get(name)
        return file.said if file and file.is_alive(self._clock()) else None


def _file_of(process: str) -> str:
    role = process.rpartition("-")[0]
    return f"{process}.json" if role == "recorder" else f"{role}.json"
