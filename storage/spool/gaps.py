"""The journal of a camera's gaps (docs/formats.md), and those that no recording carries yet."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import orjson
import structlog

from base.clock import now_ms
from base.durable import replace_file, write_all
from base.intervals import merge
from storage.records import Gap, GapCause, Number, Record
from storage.spool.disk import may_be_of_one_file

PLACED_AHEAD_MS = 30_000  # pictures may be placed a little after they came

BEGINS = 100  # bytes by which a journal is told from one that took its place
EARLIER_GAPS = "gaps-{}.jsonl"  # of an earlier election

log = structlog.get_logger()


def set_gaps_aside(directory: Path, election: str) -> None:
    """Leave a camera's journal under the name of the election to which it belongs."""
    path, aside = directory / "gaps.jsonl", directory / EARLIER_GAPS.format(election)
    if not path.exists():
        return
    before = aside.read_bytes() if aside.exists() else b""
    replace_file(aside, before + path.read_bytes(), durable=True)
    path.unlink()


@dataclass(frozen=True, slots=True)
class _End(Record):
    """The line by which a gap ends."""

    gap_no: Number
    end_ms: Number


class Coverage:
    """What recordings and gaps account for: stretches of time that do not touch."""

    def __init__(self) -> None:
        self._stretches: list[tuple[int, int]] = []

    def add(self, start_ms: int, end_ms: int) -> None:
        """Account for a stretch (UTC), which may overlap others."""
        self._stretches = merge([*self._stretches, (start_ms, end_ms)])

    def until_ms(self, now_ms: float) -> int | None:
        """Return where what was accounted for by now ends; None where nothing was.

        What a clock that was ahead placed in the future does not count. A stretch that has begun
        ends at most PLACED_AHEAD_MS from now.
        """
        ends = (
            end_ms if end_ms <= now_ms + PLACED_AHEAD_MS else int(now_ms)
            for start_ms, end_ms in self._stretches
            if start_ms <= now_ms + PLACED_AHEAD_MS
        )
        return max(ends, default=None)


class GapJournal:
    """Writes a camera's journal. Every method that writes raises OSError when the disk refuses;
    what it was told is known all the same, and written with the next line."""

    def __init__(self, path: Path):
        """Read the journal, if there is one, and cut a torn last line. One that cannot be read is
        set aside, and another begun: a bad block must not keep its camera from being recorded."""
        self._path = path
        self.was_lost = False
        try:
            found = read_gaps(path)
            if path.exists():
                os.truncate(path, path.read_bytes().rfind(b"\n") + 1)
        except OSError as error:
            if not may_be_of_one_file(error):
                raise
            log.error(
                "The gap journal cannot be read; it is set aside",
                file=str(path),
                why=error.strerror,
            )
            path.rename(path.with_name(f"{path.name}.{now_ms()}.aside"))
            found, self.was_lost = [], True
        self._gaps = {gap.gap_no: gap for gap in found}  # that are not carried
        self._unwritten: list[bytes] = []  # lines that the disk refused
        self.last_no = max(self._gaps, default=0)

    def carried_to(self, number: int) -> None:
        """Leave out gaps up to this number: recordings carry them; later ones are above it."""
        self._gaps = {n: gap for n, gap in self._gaps.items() if n > number}
        self.last_no = max(self.last_no, number)

    def rise_above(self, number: int) -> None:
        """Have later gaps above this number."""
        self.last_no = max(self.last_no, number)

    @property
    def open(self) -> Gap | None:
        """The gap that lasts."""
        newest = self._gaps.get(max(self._gaps, default=0))
        return newest if newest and newest.end_ms is None else None

    @property
    def ended(self) -> list[Gap]:
        """Gaps that ended and are not carried yet, oldest first; some may be empty."""
        return [gap for _, gap in sorted(self._gaps.items()) if gap.end_ms is not None]

    def begin(self, start_ms: int, cause: GapCause, detail: str) -> None:
        """Begin a gap (UTC)."""
        self.last_no += 1
        gap = Gap(self.last_no, start_ms, None, cause, detail)
        self._gaps[gap.gap_no] = gap
        record = gap.to_dict()
        del record["end_ms"]
        self._write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))

    def end(self, end_ms: int) -> None:
        """End the open gap (UTC); nothing to do without one."""
        if (gap := self.open) is not None:
            self._set_end(gap, max(gap.start_ms, end_ms))

    def end_for_run(self, start_ms: int) -> None:
        """Have no gap last beyond the start of a run (UTC): a gap ends where footage is.

        Ends the open gap, and shortens those that are not carried yet: cameras send pictures that
        they held while we connected.
        """
        self.cut_future(start_ms)
        self.end(start_ms)

    def cut_future(self, now_ms: int) -> None:
        """Shorten what lies beyond now (UTC): by a clock that was ahead it had been missed."""
        for gap in list(self._gaps.values()):
            if (gap.start_ms if gap.end_ms is None else gap.end_ms) > now_ms:
                self._set_end(gap, max(gap.start_ms, now_ms))

    def _set_end(self, gap: Gap, end_ms: int) -> None:
        self._gaps[gap.gap_no] = replace(gap, end_ms=end_ms)
        self._write(_End(gap.gap_no, end_ms).to_line())

    def _write(self, line: bytes) -> None:
        self._unwritten.append(line)
        self.write()

    def write(self) -> None:
        """Write the lines that the disk refused; nothing to do without any."""
        if not self._unwritten:
            return
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            whole = os.fstat(fd).st_size
            try:
                write_all(fd, b"".join(self._unwritten))
                os.fsync(fd)
            except OSError:
                os.ftruncate(fd, whole)  # half a line would spoil the next
                raise
        finally:
            os.close(fd)
        self._unwritten = []


class GapReader:
    """Reads a camera's journal while it is written: what was read is not read again, as a camera
    that comes and goes has thousands of gaps."""

    def __init__(self, path: Path):
        self._path = path
        self._by_no: dict[int, Gap] = {}
        self._file, self._until, self._begins = 0, 0, b""  # what was read: of which file, how far
        self.gaps: list[Gap] = []  # as they were read last

    def read(self) -> list[Gap]:
        """Return the gaps, oldest first; no file is no gaps, a torn line is not there.

        A later line of the same gap replaces an earlier one. Lines that cannot be read are skipped.
        Raises OSError.
        """
        try:
            stat = self._path.stat()
            if (stat.st_ino, stat.st_size) == (self._file, self._until):
                return self.gaps
            with self._path.open("rb") as file:
                stat, begins = os.fstat(file.fileno()), file.read(len(self._begins))
                if (
                    stat.st_ino != self._file
                    or stat.st_size < self._until
                    or begins != self._begins
                ):
                    self._forget()
                file.seek(self._until)
                data = file.read()
        except FileNotFoundError:
            self._forget()
            return self.gaps
        whole = data[: data.rfind(b"\n") + 1]
        self._file, self._until = stat.st_ino, self._until + len(whole)
        self._begins = self._begins or whole[:BEGINS]
        for line in whole.splitlines():
            self._take(line)
        if whole:
            self.gaps = list(self._by_no.values())
        return self.gaps

    def _forget(self) -> None:
        self._by_no, self.gaps, self._until, self._begins = {}, [], 0, b""

    def _take(self, line: bytes) -> None:
        gaps = self._by_no
        try:
            if b'"cause":' in line:
                gap = Gap.of({"end_ms": None} | orjson.loads(line))
                gaps[gap.gap_no] = gap
            elif (end := _End.parse(line)).gap_no in gaps:
                gaps[end.gap_no] = replace(gaps[end.gap_no], end_ms=end.end_ms)
        except (ValueError, TypeError):
            log.error("A line of the gap journal cannot be read", file=str(self._path))


def read_gaps(path: Path) -> list[Gap]:
    """Read a journal of gaps as it is now; see `GapReader`."""
    return GapReader(path).read()
