"""Reading one camera's spool while a recorder writes it: a few system calls per look.

What is read is docs/formats.md. Readers never write and never lock; a file may vanish between
two calls (it was archived), and that is not an error.
"""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
import structlog

from storage.index import FormatError, Gap, Header, Index, Segment, parse_index
from storage.spool import read_gaps

log = structlog.get_logger()
SCAN_S = 5.0


@dataclass(slots=True)
class Stored:
    """A recording in the spool: its path without ending, and its index as far as it was read."""

    base: Path
    record_seq: int
    index: Index | None = None

    @property
    def media(self) -> Path:
        """The `.mp4`."""
        return self.base.with_name(self.base.name + ".mp4")


class CameraView:
    """One camera's recordings and gaps in the spool."""

    def __init__(self, spool: Path, station: str, camera: str):
        self._directory = spool / station / camera
        self._stored: dict[int, Stored] = {}
        self._state: tuple[int, int] | None = None  # inode and mtime of camera.json
        self._scanned = float("-inf")
        self._broken: set[Path] = set()
        self._gaps: list[Gap] = []
        self._gaps_seen: tuple[int, int] | None = None
        self._current: Stored | None = None

    # -- keeping up ----------------------------------------------------------------------

    def refresh(self) -> None:
        """See what is new: normally one stat and one read of the current index's tail."""
        try:
            stat = (self._directory / "camera.json").stat()
        except OSError:
            self._scan()
            return
        state = (stat.st_ino, stat.st_mtime_ns)
        if state != self._state:
            if self._current is not None:
                self._read(self._current)  # its last lines
            self._scan(force=True)
            self._state = state
            try:
                name = orjson.loads((self._directory / "camera.json").read_bytes())["recording"]
            except (OSError, ValueError, KeyError, TypeError):
                name = None
            seq = _seq(Path(name)) if name else 0
            self._current = self._stored.get(seq)
            if self._current is None and name:
                self._state = None  # named, but its files are not there yet: look again
        if self._current is not None:
            self._read(self._current)

    def _scan(self, force: bool = False) -> None:
        now = time.monotonic()
        if not force and now - self._scanned < SCAN_S:
            return
        self._scanned = now
        found: set[int] = set()
        for day in _entries(self._directory):
            if len(day) == 10 and day[4] == "-":
                for name in _entries(self._directory / day):
                    if name.endswith(".jsonl"):
                        base = self._directory / day / name[:-6]
                        seq = _seq(base)
                        found.add(seq)
                        if seq not in self._stored:
                            self._stored[seq] = Stored(base, seq)
        for gone in set(self._stored) - found:
            del self._stored[gone]

    def _read(self, stored: Stored) -> Index | None:
        """Read what is new of an index; None when it cannot be read (yet)."""
        index = stored.index
        if index is not None and index.seal is not None:
            return index
        path = stored.base.with_name(stored.base.name + ".jsonl")
        try:
            with path.open("rb") as file:
                if index is None:
                    stored.index = parse_index(file.read())
                else:
                    file.seek(index.size)
                    index.feed(file.read())
        except FileNotFoundError:
            self._stored.pop(stored.record_seq, None)
            return None
        except (FormatError, OSError) as error:
            if path not in self._broken and path.stat().st_size:
                self._broken.add(path)
                log.error("An index cannot be read and is left out", file=str(path), why=str(error))
            return None
        return stored.index

    # -- looking -------------------------------------------------------------------------

    def recordings(self) -> Iterator[tuple[Stored, Index]]:
        """Yield what is in the spool, oldest first."""
        for seq in sorted(self._stored):
            stored = self._stored.get(seq)
            if stored is not None and (index := self._read(stored)) is not None:
                yield stored, index

    def live(self, count: int) -> list[tuple[Header, Segment]]:
        """Return the last `count` segments, oldest first."""
        out: list[tuple[Header, Segment]] = []
        for seq in sorted(self._stored, reverse=True):
            index = self._read(self._stored[seq]) if seq in self._stored else None
            if index is not None:
                out += [(index.header, s) for s in reversed(index.segments)]
            if len(out) >= count:
                break
        return out[:count][::-1]

    def find(self, segment_no: int) -> tuple[Stored, Header, Segment] | None:
        """Return where a segment is; None when it is not in the spool."""
        order = sorted(self._stored)
        low, high = 0, len(order)
        while low < high:  # by number, reading few indexes
            middle = (low + high) // 2
            stored = self._stored.get(order[middle])
            index = self._read(stored) if stored else None
            if index is None or not index.segments:
                del order[middle]
                high -= 1
                continue
            if segment_no < index.segments[0].segment_no:
                high = middle
            elif segment_no > index.segments[-1].segment_no:
                low = middle + 1
            else:
                at = bisect_left(index.segments, segment_no, key=lambda s: s.segment_no)
                assert stored is not None
                if index.segments[at].segment_no != segment_no:
                    return None
                return stored, index.header, index.segments[at]
        return None

    def init(self, run_no: int) -> tuple[Stored, Header] | None:
        """Return a recording of a run, whose first bytes are its init."""
        for seq in sorted(self._stored, reverse=True):
            index = self._read(self._stored[seq]) if seq in self._stored else None
            if index is not None and index.header.run_no <= run_no:
                if index.header.run_no == run_no:
                    return self._stored[seq], index.header
                return None
        return None

    def between(self, from_ms: int, to_ms: int) -> list[tuple[Header, Segment]]:
        """Return the segments that touch [from_ms, to_ms), by number."""
        out: list[tuple[Header, Segment]] = []
        for _, index in self.recordings():
            if not index.segments or index.end_ms <= from_ms or index.start_ms >= to_ms:
                continue
            first = bisect_right(index.segments, from_ms, key=lambda s: s.start_ms)
            out += [
                (index.header, s)
                for s in index.segments[max(0, first - 1) :]
                if s.end_ms > from_ms and s.start_ms < to_ms
            ]
        return out

    def forget(self, record_seq: int) -> None:
        """Leave out a recording that was removed."""
        self._stored.pop(record_seq, None)

    def gaps(self) -> list[Gap]:
        """Return the gaps of the journal, oldest first, without the empty ones."""
        return [g for g in self.all_gaps() if g.end_ms is None or g.end_ms > g.start_ms]

    def all_gaps(self) -> list[Gap]:
        """Return the gaps of the journal, oldest first."""
        path = self._directory / "gaps.jsonl"
        try:
            stat = path.stat()
        except OSError:
            return []
        if (seen := (stat.st_ino, stat.st_size)) != self._gaps_seen:
            self._gaps = read_gaps(path)
            self._gaps_seen = seen
        return self._gaps


def _entries(path: Path) -> list[str]:
    try:
        return [entry.name for entry in path.iterdir()]
    except OSError:
        return []


def _seq(base: Path) -> int:
    tail = base.name.rpartition("-")[2]
    return int(tail) if tail.isdigit() else 0
