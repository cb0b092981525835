"""Reading one camera's spool while a recorder writes it: a few system calls per look.

What is read is docs/formats.md. Readers never write and never lock; a file may vanish between
two calls (it was archived), and that is not an error. A file that cannot be read is said once
and harms nothing else: its whole lines up to the first bad one are believed, the rest is not.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import structlog

from storage.records import (
    LONGEST_MS,
    FormatError,
    Gap,
    Header,
    Index,
    Segment,
    parse_index,
    recording_name,
    start_of,
)
from storage.spool.gaps import GapReader
from storage.spool.numbers import CameraNumbers

log = structlog.get_logger()
SCAN_S = 5.0  # between two looks for a camera that has no camera.json
SCAN_ALL_S = 600.0  # what was removed meanwhile is forgotten this often

_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_NAME = re.compile(r"(\d{9})Z-([1-9]\d{0,17})", re.ASCII)


Key = tuple[int, int]  # record_seq and start_ms


@dataclass(slots=True)
class SpoolRecording:
    """A recording in the spool: its path without ending, and its index as far as it was read."""

    base: Path
    record_seq: int
    start_ms: int  # by its name
    index: Index | None = None
    seen: tuple[int, int] = (0, 0)  # inode and size of the index file that was read
    broken: bool = False

    @property
    def key(self) -> Key:
        """Number and start: its name, by which recordings are in order."""
        return self.record_seq, self.start_ms

    def check_name(self, index: Index) -> None:
        """Raise FormatError where an index names another recording: a digit of it is spoilt."""
        if index.segments and (index.header.record_seq, index.start_ms) != self.key:
            raise FormatError("its number or its start is not that of its name")

    @property
    def media(self) -> Path:
        """The `.mp4`."""
        return self.base.with_name(self.base.name + ".mp4")

    @property
    def lines(self) -> Path:
        """The `.jsonl`."""
        return self.base.with_name(self.base.name + ".jsonl")

    @property
    def camera(self) -> tuple[str, str]:
        """Station and camera."""
        return self.base.parts[-4], self.base.parts[-3]

    @property
    def name(self) -> str:
        """Day and name, the tail of its archive key."""
        return f"{self.base.parent.name}/{self.base.name}"


class SpoolReader:
    """One camera's recordings and gaps in the spool; the same directory for ever."""

    def __init__(self, spool: Path, station: str, camera: str):
        self.directory = spool / station / camera
        self._stored: dict[Key, SpoolRecording] = {}
        self._state: tuple[int, int] | None = None  # inode and mtime of camera.json
        self._scanned = float("-inf")
        self._told, self._counted = set[Path](), (-1, 0)  # segments in memory at a revision
        self._gaps = GapReader(self.directory / "gaps.jsonl")
        self._current: SpoolRecording | None = None
        self.revision = 0  # another number whenever recordings or segments came or went
        self.carried_gap_no = 0  # up to this, older recordings carry the gaps
        self.unlisted: set[Path] = set()  # folders that the disk did not list: more may be there
        self._election: str | None = None

    # -- keeping up ----------------------------------------------------------------------

    def refresh(self) -> None:
        """See what is new: a stat of two files, and a read of the current index's tail where it
        has grown."""
        path = self.directory / "camera.json"
        try:
            stat = path.stat()
            state = (stat.st_ino, stat.st_mtime_ns)
            if state != self._state:
                self._begun(CameraNumbers.parse(path.read_bytes()))
                self._state = state
        except OSError:  # nobody records here yet, or the numbers were lost
            if time.monotonic() - self._scanned > SCAN_S:
                self._scan()
        except ValueError as error:  # FormatError, or a recording with another name than there is
            self._tell(path, error)
            self._scan()
            self._state = state
        if self.unlisted and time.monotonic() - self._scanned > SCAN_S:
            self._scan()
        current = self._current
        if current is None or self.read(current) is None:
            return
        if self._stored.get(current.key) is not current:  # its files came after its name
            self._stored[current.key] = current
            self.revision += 1

    def _begun(self, state: CameraNumbers) -> None:
        """A recording was begun: finish reading the one before it and follow the new one."""
        if self._current is not None:
            self.read(self._current)
        stored = _stored(self.directory, *state.recording.split("/"))
        known = self._stored.get(stored.key)
        follows = self._current and stored.record_seq == self._current.record_seq + 1
        if not follows or time.monotonic() - self._scanned > SCAN_ALL_S:
            self._scan()
            known = self._stored.get(stored.key)
        if known is None:
            self._stored[stored.key] = known = stored
        self.revision += 1
        self._current = known
        self.carried_gap_no = state.gap_no
        self._election = state.election

    def _scan(self) -> None:
        """Look what there is; of a folder that cannot be listed what was known stays."""
        self._scanned = time.monotonic()
        self.unlisted.clear()
        found: dict[Key, SpoolRecording] = {}
        for day in self._entries(self.directory):
            for name in self._entries(self.directory / day) if _DAY.fullmatch(day) else ():
                if name.endswith(".jsonl") and _NAME.fullmatch(name[:-6]):
                    try:
                        stored = _stored(self.directory, day, name[:-6])
                    except ValueError:
                        continue
                    found[stored.key] = self._stored.get(stored.key, stored)
        self.revision += found.keys() != self._stored.keys()
        self._stored = found

    def _entries(self, path: Path) -> list[str]:
        try:
            return os.listdir(path)  # noqa: PTH208 names are enough, thousands a day
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            self._tell(path, error)
            self.unlisted.add(path)
            known = (s.lines for s in self._stored.values() if path in s.lines.parents)
            return list({lines.relative_to(path).parts[0] for lines in known})

    def read(self, stored: SpoolRecording) -> Index | None:
        """Read what is new of an index; None when there is nothing to believe (yet)."""
        index = stored.index
        if index is not None and index.seal is not None:
            return index
        path, before = stored.lines, stored.seen
        try:
            seen = _seen(path.stat())
            if seen == before or (stored.broken and seen[0] == before[0]):
                return index
            with path.open("rb") as file:
                seen = _seen(os.fstat(file.fileno()))
                if seen[0] != before[0]:  # another file: a recorder that started repaired it
                    index, stored.index, stored.broken = None, None, False
                file.seek(index.size if index else 0)
                data = file.read()
        except FileNotFoundError:
            if self._stored.get(stored.key) is stored:
                del self._stored[stored.key]
                self.revision += 1
            return None
        except OSError as error:  # of this moment, perhaps; what was read before stays true
            self._tell(path, error)
            return index
        stored.seen = seen
        self.revision += 1
        is_new = index is None
        try:
            if index is None:
                head = data.find(b"\n") + 1
                if head == 0:
                    return None
                index, data = parse_index(data[:head]), data[head:]
                stored.index = index
            index.feed(data)
            stored.check_name(index)
            if is_new:
                self._check_camera(stored, index)
        except FormatError as error:
            stored.broken = True
            if index is not None:
                index.seal = None
            self._tell(path, error)
        return stored.index

    def _check_camera(self, stored: SpoolRecording, index: Index) -> None:
        """Raise FormatError for an index that names another camera, or another election, than all
        those nearest to it of its run. A folder may have been renamed, and have of several."""
        if index.name == (self._election, *stored.camera):
            return
        keys, told = sorted({*self._stored, stored.key}), list[tuple[str, str, str]]()
        at = keys.index(stored.key)
        for key in (*keys[max(0, at - 2) : at], *keys[at + 1 : at + 3]):
            with contextlib.suppress(OSError, FormatError), self._stored[key].lines.open("rb") as f:
                beside = parse_index(f.readline())
                if beside.header.run == index.header.run:
                    told.append(beside.name)
        is_home = index.name[1:] == stored.camera
        if told and index.name not in told and (len(told) > 1 or not is_home):
            raise FormatError(f"it is of {'/'.join(index.name)}, and those of its run are not")

    def _tell(self, path: Path, error: Exception) -> None:
        if path not in self._told:
            self._told.add(path)
            log.error("A file of the spool cannot be read", file=str(path), why=str(error))

    @property
    def loaded(self) -> int:
        """Number of segments held in memory; counted again where something came or went."""
        if self._counted[0] != self.revision:
            count = sum(len(s.index.segments) for s in self._stored.values() if s.index)
            self._counted = self.revision, count
        return self._counted[1]

    def trim(self) -> None:
        """Forget the indexes of all recordings but the newest two; they are read again when
        somebody asks for them."""
        for stored in self.stored()[:-2]:
            stored.index, stored.seen = None, (0, 0)
        self._counted = -1, 0

    def forget(self, key: Key) -> None:
        """Leave out a recording that was removed."""
        self.revision += self._stored.pop(key, None) is not None
        if self._current is not None and self._current.key == key:
            self._current = None

    # -- looking -------------------------------------------------------------------------

    def stored(self) -> list[SpoolRecording]:
        """Return what is in the spool, oldest first, without reading it."""
        return [self._stored[key] for key in sorted(self._stored)]

    def newest(self) -> Index | None:
        """Return the index of the newest recording, as far as it was written."""
        return self.read(self._stored[max(self._stored)]) if self._stored else None

    def newest_whole(self) -> tuple[SpoolRecording, Index] | None:
        """Return the newest recording that is sealed, else the newest of all, once it has a
        segment."""
        found = None
        for key in sorted(self._stored, reverse=True)[:2]:
            stored = self._stored[key]
            if (index := self.read(stored)) is not None and index.segments:
                found = found or (stored, index)
                if index.seal is not None:
                    return stored, index
        return found

    def election(self) -> str | None:
        """Return the election to which the journal of gaps belongs; None where nothing says it."""
        if self._election is None and (newest := self.newest()) is not None:
            return newest.header.election
        return self._election

    def recordings(
        self, from_ms: int | None = None, to_ms: int | None = None
    ) -> Iterator[tuple[SpoolRecording, Index]]:
        """Yield what is in the spool, oldest first; with times, what touches [from_ms, to_ms)."""
        for key in sorted(self._stored):
            stored = self._stored.get(key)
            if stored is None or (to_ms is not None and stored.start_ms >= to_ms):
                continue
            if from_ms is not None and stored.start_ms <= from_ms - LONGEST_MS:
                continue
            index = self.read(stored)
            if index is not None and (from_ms is None or index.end_ms > from_ms):
                yield stored, index

    def live(self, count: int) -> list[tuple[Header, Segment]]:
        """Return the last `count` segments, oldest first."""
        out: list[tuple[Header, Segment]] = []
        for key in sorted(self._stored, reverse=True):
            stored = self._stored.get(key)
            if stored is not None and (index := self.read(stored)) is not None:
                out += [(index.header, s) for s in index.segments[: -count - 1 : -1]]
            if len(out) >= count:
                break
        return out[:count][::-1]

    def find(self, segment_no: int) -> tuple[SpoolRecording, Header, Segment] | None:
        """Return where a segment is; None when it is not in the spool."""

        def where(index: Index) -> int:
            if not index.segments or segment_no < index.segments[0].segment_no:
                return -1
            return int(segment_no > index.segments[-1].segment_no)

        if (found := self._search(where)) is None:
            return None
        stored, index = found
        at = bisect_left(index.segments, segment_no, key=lambda s: s.segment_no)
        if at == len(index.segments) or index.segments[at].segment_no != segment_no:
            return None
        return stored, index.header, index.segments[at]

    def init(self, run_no: int) -> tuple[SpoolRecording, Header] | None:
        """Return a recording of a run, whose first bytes are its init."""
        found = self._search(
            lambda index: (run_no > index.header.run_no) - (run_no < index.header.run_no)
        )
        return found and (found[0], found[1].header)

    def _search(self, where: Callable[[Index], int]) -> tuple[SpoolRecording, Index] | None:
        """Return the recording for which `where` is 0: -1 is before it, 1 is after it.

        Numbers rise with `record_seq`, so few indexes are read.
        """
        order = sorted(self._stored)
        low, high = 0, len(order)
        while low < high:
            middle = (low + high) // 2
            stored = self._stored.get(order[middle])
            if stored is None or (index := self.read(stored)) is None:
                del order[middle]
                high -= 1
                continue
            if (way := where(index)) == 0:
                return stored, index
            low, high = (low, middle) if way < 0 else (middle + 1, high)
        return None

    def stretch(self, from_ms: int, to_ms: int) -> Iterator[tuple[Index, list[Segment]]]:
        """Yield the recordings that touch [from_ms, to_ms), by number, with the segments that do.

        Between two of them others may use this reader. Of a recording that lies in it as a whole
        the segments are the index's own list.
        """
        for _, index in self.recordings(from_ms, to_ms):
            if not (segments := index.segments):
                continue
            if segments[0].end_ms <= from_ms or segments[-1].start_ms >= to_ms:
                segments = [s for s in segments if s.end_ms > from_ms and s.start_ms < to_ms]
            if segments:
                yield index, segments

    def gaps(self, from_ms: int, to_ms: int) -> list[Gap]:
        """Return the gaps that touch [from_ms, to_ms), oldest first, without the empty ones."""
        return [
            g
            for g in self.all_gaps()
            if g.start_ms < to_ms
            and (g.end_ms is None or (g.end_ms > from_ms and g.end_ms > g.start_ms))
        ]

    def open_gap(self) -> Gap | None:
        """Return the gap that lasts."""
        last = self.all_gaps()[-1:]
        return last[0] if last and last[0].end_ms is None else None

    def all_gaps(self) -> list[Gap]:
        """Return the gaps of the journal, oldest first; what is new of it is read."""
        try:
            return self._gaps.read()
        except OSError as error:
            self._tell(self.directory / "gaps.jsonl", error)
            return self._gaps.gaps


def _seen(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_ino, stat.st_size


def stored_at(directory: Path, start_ms: int, record_seq: int) -> SpoolRecording:
    """Return where a camera's directory has, or had, the recording of this start and number."""
    return SpoolRecording(directory / recording_name(start_ms, record_seq), record_seq, start_ms)


def _stored(directory: Path, day: str, name: str) -> SpoolRecording:
    """Return the recording that a day and a name mean; raises ValueError for others."""
    if not (_DAY.fullmatch(day) and (found := _NAME.fullmatch(name))):
        raise ValueError(f"{day}/{name} does not name a recording")
    clock, seq = found.groups()
    return SpoolRecording(directory / day / name, int(seq), start_of(day, clock))
