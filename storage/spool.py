"""Writing one camera's spool: recordings and their index, gaps, and the numbers that outlive us.

The files and the order in which they are written are docs/formats.md. Every function here
blocks on the disk: a recorder calls them from a thread, one at a time per camera.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import orjson
import structlog

from storage.index import (
    ClockState,
    FormatError,
    Gap,
    GapCause,
    Header,
    Index,
    Seal,
    Segment,
    Track,
    parse_index,
)

CAMERA_FORMAT = "camera/1"
ROTATE_MS = 60_000
# A new run that reaches back before the end of a gap shortens the gap: cameras send pictures
# that they held while we connected. Further back than this it is a clock that was set.
REACH_BACK_MS = 30_000
# Numbers left out after a loss of power: segments may have been seen live whose lines are lost.
UNSEEN_SEGMENTS = 1_000
CLOCK_2020_S = 1_577_836_800

_CRASHED = GapCause.RECORDER_CRASHED

log = structlog.get_logger()


class SpoolBusy(RuntimeError):
    """Another process records this camera."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """Last numbers used, per camera; 0 before the first. `epoch` counts owners."""

    epoch: int = 1
    run_no: int = 0
    record_seq: int = 0
    segment_no: int = 0
    gap_no: int = 0
    target_duration_s: int = 0

    @classmethod
    def by_clock(cls, now_ms: float) -> Numbers:
        """Return numbers above all that any earlier owner can have used.

        Nothing is numbered more than once a second, so the seconds since 2020 are above every
        number that was counted up from an earlier such start. For a camera of which nothing is
        known here: a new one, or one whose spool was lost.
        """
        seconds = max(0, int(now_ms / 1000) - CLOCK_2020_S)
        return cls(seconds, seconds, seconds, seconds, seconds)


@dataclass(frozen=True, slots=True)
class Run:
    """What all recordings of a run share; `init` is `ftyp`+`moov`, times are UTC."""

    run_start_ms: int
    init: bytes
    tracks: tuple[Track, ...]
    target_duration_s: int
    transcoded: tuple[str, ...] = ()


def spool_problem(path: Path) -> str | None:
    """Say what keeps a spool from being written, if anything does; writes nothing."""
    there = next(p for p in (path, *path.parents) if p.exists())
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return None
    why = "no right to write there" if there.is_dir() else "it is a file"
    return (
        f"The spool {path} cannot be written ({there}: {why}): "
        "give this user the right to write there, or choose another with 'spool'"
    )


def recording_name(start_ms: int, record_seq: int) -> str:
    """Return day and name without ending, as in the spool and in archive keys."""
    at = datetime.fromtimestamp(start_ms // 1000, UTC)
    return f"{at:%Y-%m-%d/%H%M%S}{start_ms % 1000:03d}Z-{record_seq}"


class _Recording:
    """The recording in the making: two open files and a running hash."""

    def __init__(self, base: Path, header: Header, init: bytes, start_ms: int, camera_id: str):
        self.header = header
        self.segments = 0
        self.end_ms = start_ms
        phase = zlib.crc32(camera_id.encode()) % ROTATE_MS  # so that cameras do not rotate at once
        self.rotate_ms = start_ms + ROTATE_MS - (start_ms - phase) % ROTATE_MS
        base.parent.mkdir(parents=True, exist_ok=True)
        self.directory = base.parent
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self.base = base
        self.digest = hashlib.sha256(init)
        self.length = len(init)
        with contextlib.ExitStack() as undo:  # a disk that refuses leaves no half recording
            for ending, data in ((".mp4", init), (".jsonl", header.to_line())):
                path = base.with_name(base.name + ending)
                fd = os.open(path, flags, 0o644)
                undo.callback(path.unlink, missing_ok=True)
                undo.callback(os.close, fd)
                _write_all(fd, data)
                if ending == ".mp4":
                    self.media = fd
                else:
                    self.index = fd
            undo.pop_all()

    def append(self, data: bytes, segment: Segment, end_ms: int) -> None:
        _write_all(self.media, data)
        _write_all(self.index, segment.to_line())
        self.digest.update(data)
        self.length += len(data)
        self.segments += 1
        self.end_ms = end_ms

    def seal(self, reason: GapCause | None) -> None:
        try:
            os.fsync(self.media)
            seal = Seal(
                sealed_ms=time.time_ns() // 1_000_000,
                segments=self.segments,
                length=self.length,
                sha256=self.digest.hexdigest(),
                end_ms=self.end_ms,
                end_reason=reason,
            )
            _write_all(self.index, seal.to_line())
            os.fsync(self.index)
        finally:
            self.close()
        _fsync_directory(self.directory)

    def close(self) -> None:
        """Close both files, once: their numbers may be another camera's a moment later."""
        files, self.media, self.index = (self.media, self.index), -1, -1
        for fd in files:
            if fd >= 0:
                with contextlib.suppress(OSError):
                    os.close(fd)


class CameraSpool:
    """The one owner of a camera's directory in the spool.

    Opening it takes the lock, repairs what a dead recorder left and knows the next numbers.
    """

    def __init__(self, spool: Path, election: str, station: str, camera: str, floor: Numbers):
        """Open the directory; `floor` holds numbers to be above where none are known here.

        Raises SpoolBusy while another process holds it, OSError when the disk refuses.
        """
        self.election, self.station, self.camera = election, station, camera
        self.directory = spool / station / camera
        self.directory.mkdir(parents=True, exist_ok=True)
        self._recording: _Recording | None = None
        self._run: Run | None = None
        self._abandoned: Path | None = None
        self._unwritten: list[dict[str, Any]] = []  # lines of the journal that the disk refused
        self._lock = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise SpoolBusy(f"{self.directory}: another process records this camera") from None
        try:
            self._recover(floor)
        except BaseException:
            os.close(self._lock)
            raise

    # -- state at start ------------------------------------------------------------------

    def _recover(self, floor: Numbers) -> None:
        self.last_end_ms: int | None = None  # end of the last recording
        self.last_end_reason: GapCause | None = None
        self._gaps = {gap.gap_no: gap for gap in read_gaps(self.directory / "gaps.jsonl")}
        self._cut_torn_line()
        state = _read_json(self.directory / "camera.json")
        if state is None:
            self._recover_without_state(floor)
        else:
            known = {k: state[k] for k in Numbers.__slots__ if k in state}
            self.numbers = Numbers(**known)
            rebooted = state.get("boot") != boot_id()
            self._recover_recording(self.directory / state["recording"], rebooted)
        self._last_gap_no = max([self.numbers.gap_no, *self._gaps])
        self._gaps = {n: g for n, g in self._gaps.items() if n > self.numbers.gap_no}

    def _recover_recording(self, base: Path, rebooted: bool) -> None:
        """Finish the recording that camera.json names; with none, its numbers were not used.

        A recorder that died lost no line. A machine that lost power, or a disk that spoils an
        index, may have lost lines of segments that were seen live: their numbers are left out.
        """
        index = _finish(base)
        n = self.numbers
        if index is not None:
            carried = max([n.gap_no, *(g.gap_no for g in index.header.gaps)])
            last = index.segments[-1].segment_no
            n = replace(n, segment_no=last, gap_no=carried)
            lost = rebooted and index.seal is not None and index.seal.end_reason is _CRASHED
        elif not (lost := rebooted or _had_lines(base)):
            first_of_run = not any(self._indexes(n.run_no))
            n = replace(
                n,
                record_seq=n.record_seq - 1,
                segment_no=n.segment_no - 1,
                run_no=n.run_no - first_of_run,
            )
        self.numbers = replace(n, segment_no=n.segment_no + UNSEEN_SEGMENTS * lost)
        if index is None:
            previous = max(self._bases(), key=_seq_of, default=None)
            index = _finish(previous) if previous else None
        if index is not None and index.seal is not None:
            self.last_end_ms = index.seal.end_ms
            self.last_end_reason = index.seal.end_reason

    def _recover_without_state(self, floor: Numbers) -> None:
        """Go on above `floor` and every number that the spool knows, as a new owner."""
        # where there is a journal its numbers are enough, and its gaps are to be carried yet
        self.numbers = replace(floor, gap_no=0) if self._gaps else floor
        found = [i for b in sorted(self._bases(), key=_seq_of) if (i := _finish(b)) is not None]
        for index in found:
            n, h = self.numbers, index.header
            self.numbers = Numbers(
                max(n.epoch, h.epoch),
                max(n.run_no, h.run_no),
                max(n.record_seq, h.record_seq),
                max(n.segment_no, index.segments[-1].segment_no),
                max([n.gap_no, *(g.gap_no for g in h.gaps)]),
                h.target_duration_s,
            )
            assert index.seal is not None
            self.last_end_ms, self.last_end_reason = index.seal.end_ms, index.seal.end_reason
        if found:
            self.numbers = replace(self.numbers, epoch=self.numbers.epoch + 1)
            log.warning(
                "The numbers of this camera were lost and are continued from its recordings",
                camera=f"{self.station}/{self.camera}",
                record_seq=self.numbers.record_seq,
            )

    def _bases(self) -> Iterator[Path]:
        for path in self.directory.glob("????-??-??/*.jsonl"):
            yield path.with_suffix("")

    def _indexes(self, run_no: int) -> Iterator[Index]:
        for base in sorted(self._bases(), key=_seq_of, reverse=True)[:2]:
            try:
                index = parse_index(base.with_name(base.name + ".jsonl").read_bytes())
            except (OSError, FormatError):
                continue
            if index.header.run_no == run_no and index.segments:
                yield index

    # -- recording -----------------------------------------------------------------------

    @property
    def next_segment_no(self) -> int:
        """The number that the next appended segment will have."""
        return self.numbers.segment_no + 1

    def append(
        self,
        run: Run,
        data: bytes,
        *,
        tfdt_90k: int,
        duration_90k: int,
        starts_with_key: bool,
        arrival_ms: int,
        camera_ms: int | None,
        clock: ClockState,
    ) -> Segment:
        """Write a segment and its index line: when this returns, the segment is live.

        A run that was not seen before gets the next run_no and ends the open gap. Raises
        OSError when the disk refuses; the recording then ends at its last whole segment.
        """
        start_ms = run.run_start_ms + tfdt_90k // 90
        new_run = run is not self._run
        if self._recording and (new_run or start_ms >= self._recording.rotate_ms):
            self.seal(None)
        if self._recording is None:
            if new_run:
                self._end_gaps(start_ms)
            self._begin(run, start_ms, new_run, clock)
        recording = self._recording
        assert recording is not None
        segment = Segment(
            segment_no=self.next_segment_no,
            start_ms=start_ms,
            tfdt_90k=tfdt_90k,
            duration_90k=duration_90k,
            offset=recording.length,
            length=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            starts_with_key=starts_with_key,
            arrival_ms=arrival_ms,
            camera_ms=camera_ms,
        )
        end_ms = run.run_start_ms + (tfdt_90k + duration_90k) // 90
        recording.append(data, segment, end_ms)
        self.numbers = replace(self.numbers, segment_no=segment.segment_no)
        if recording.segments == 1:  # now its header counts, and carries these gaps for good
            ended = [n for n, g in self._gaps.items() if g.end_ms is not None]
            self.numbers = replace(self.numbers, gap_no=max([self.numbers.gap_no, *ended]))
            for n in ended:
                del self._gaps[n]
        self.last_end_ms, self.last_end_reason = end_ms, None
        return segment

    def _begin(self, run: Run, start_ms: int, new_run: bool, clock: ClockState) -> None:
        if self._abandoned is not None:
            _finish(self._abandoned, GapCause.DISK_FULL)
            self._abandoned = None
        carried = [g for _, g in sorted(self._gaps.items())]
        numbers = replace(
            self.numbers,
            run_no=self.numbers.run_no + new_run,
            record_seq=self.numbers.record_seq + 1,
            target_duration_s=run.target_duration_s,
        )
        name = recording_name(start_ms, numbers.record_seq)
        header = Header(
            election=self.election,
            station=self.station,
            camera=self.camera,
            epoch=numbers.epoch,
            run_no=numbers.run_no,
            record_seq=numbers.record_seq,
            run_start_ms=run.run_start_ms,
            init_length=len(run.init),
            init_sha256=hashlib.sha256(run.init).hexdigest(),
            target_duration_s=run.target_duration_s,
            tracks=run.tracks,
            transcoded=run.transcoded,
            clock=clock,
            gaps=tuple(g for g in carried if g.end_ms is not None and g.end_ms > g.start_ms),
            overlaps=self.last_end_ms is not None and start_ms < self.last_end_ms,
        )
        state = {f: getattr(numbers, f) for f in Numbers.__slots__}
        state |= {
            "kuager": CAMERA_FORMAT,
            "segment_no": self.next_segment_no,
            "recording": name,
            "boot": boot_id(),
        }
        # camera.json first: a recorder that dies here leaves a name without a file, which the
        # next one sees; the other way round a file would go unnoticed.
        replace_file(self.directory / "camera.json", orjson.dumps(state), durable=True)
        self._recording = _Recording(
            self.directory / name, header, run.init, start_ms, f"{self.station}/{self.camera}"
        )
        self._run = run
        self.numbers = numbers

    def seal(self, reason: GapCause | None) -> None:
        """Flush the recording in the making to disk and seal it; nothing to do without one."""
        if self._recording is not None:
            self._recording.seal(reason)
            self._recording = None
        if reason is not None:
            self._run, self.last_end_reason = None, reason

    def abandon(self) -> None:
        """Give up the recording that the disk refused; it is finished before the next begins."""
        recording, self._recording, self._run = self._recording, None, None
        if recording is not None:
            self._abandoned = recording.base
            recording.close()

    def close(self) -> None:
        """Give up the lock; the recording in the making must have been sealed."""
        os.close(self._lock)

    # -- gaps ----------------------------------------------------------------------------

    @property
    def open_gap(self) -> Gap | None:
        """The gap that lasts."""
        newest = self._gaps.get(self._last_gap_no)
        return newest if newest and newest.end_ms is None else None

    @property
    def covered_until_ms(self) -> int | None:
        """End of the last recording or ended gap; None when nothing is known of the camera."""
        ends = [g.end_ms for g in self._gaps.values() if g.end_ms is not None]
        return max(
            [*ends, *([self.last_end_ms] if self.last_end_ms is not None else [])], default=None
        )

    def begin_gap(self, start_ms: int, cause: GapCause, detail: str = "") -> Gap:
        """Journal that scheduled time goes without a recording from `start_ms` on.

        Raises OSError when the disk refuses; the gap is known all the same, and written with
        the next line.
        """
        self._last_gap_no += 1
        gap = Gap(self._last_gap_no, start_ms, None, cause, detail)
        self._gaps[gap.gap_no] = gap
        record: dict[str, Any] = gap.to_dict()
        del record["end_ms"]
        self._journal(record)
        return gap

    def end_gap(self, end_ms: int) -> None:
        """Journal that the open gap ended; nothing to do without one."""
        if (gap := self.open_gap) is not None:
            self._set_end(gap, max(gap.start_ms, end_ms))

    def _end_gaps(self, start_ms: int) -> None:
        for _, gap in sorted(self._gaps.items()):
            if gap.end_ms is None or start_ms < gap.end_ms < start_ms + REACH_BACK_MS:
                self._set_end(gap, max(gap.start_ms, start_ms))

    def _set_end(self, gap: Gap, end_ms: int) -> None:
        self._gaps[gap.gap_no] = replace(gap, end_ms=end_ms)
        self._journal({"gap_no": gap.gap_no, "end_ms": end_ms})

    def _journal(self, record: dict[str, Any]) -> None:
        self._unwritten.append(record)
        lines = [orjson.dumps(r, option=orjson.OPT_APPEND_NEWLINE) for r in self._unwritten]
        fd = os.open(
            self.directory / "gaps.jsonl",
            os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC,
            0o644,
        )
        try:
            whole = os.fstat(fd).st_size
            try:
                _write_all(fd, b"".join(lines))
                os.fsync(fd)
            except OSError:
                os.ftruncate(fd, whole)  # half a line would spoil the next
                raise
        finally:
            os.close(fd)
        self._unwritten = []

    def _cut_torn_line(self) -> None:
        path = self.directory / "gaps.jsonl"
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return
        whole = data.rfind(b"\n") + 1
        if whole != len(data):
            os.truncate(path, whole)


def read_gaps(path: Path, data: bytes | None = None) -> list[Gap]:
    """Read a journal of gaps, oldest first; no file is no gaps, a torn line is not there.

    A later line of the same gap replaces an earlier one. Lines that cannot be read are skipped.
    """
    if data is None:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return []
    gaps: dict[int, Gap] = {}
    for line in data[: data.rfind(b"\n") + 1].splitlines():
        try:
            record = orjson.loads(line)
            if "cause" in record:
                gap = Gap.from_dict({"end_ms": None} | record)
                gaps[gap.gap_no] = gap
            elif record["gap_no"] in gaps:
                gap = gaps[record["gap_no"]]
                gaps[gap.gap_no] = replace(gap, end_ms=int(record["end_ms"]))
        except (ValueError, TypeError, KeyError):
            log.error("A line of the gap journal cannot be read", file=str(path))
    return list(gaps.values())


def replace_file(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Replace a file as a whole: readers see the old bytes or the new, never a part.

    With `durable` it also survives a loss of power.
    """
    temporary = path.with_name(path.name + ".new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        _write_all(fd, data)
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)
    temporary.replace(path)
    if durable:
        _fsync_directory(path.parent)


def _finish(base: Path, reason: GapCause = GapCause.RECORDER_CRASHED) -> Index | None:
    """Return the sealed index of a recording; seal it first if its recorder died.

    None when it has no whole segment: then its files are removed, or set aside where they
    hold bytes that no index line describes.
    """
    media, index_path = base.with_name(base.name + ".mp4"), base.with_name(base.name + ".jsonl")
    try:
        data = index_path.read_bytes()
        index = parse_index(data)
    except FileNotFoundError:
        index = None
    except FormatError as error:
        index = None
        log.error(
            "An index cannot be read; its recording is set aside",
            file=str(index_path),
            why=str(error),
        )
    if index and index.seal:
        return index
    if index is None or not media.exists():
        for path in (media, index_path):
            if path.exists():
                path.rename(path.with_name(path.name + ".aside"))
        return None
    digest, good = hashlib.sha256(), 0
    with media.open("rb") as file:
        digest.update(file.read(index.header.init_length))
        for segment in index.segments:
            part = file.read(segment.length)
            if hashlib.sha256(part).hexdigest() != segment.sha256:
                break
            digest.update(part)
            good += 1
    lines = data[: index.size].splitlines(keepends=True)
    del index.segments[good:]
    if not index.segments:
        media.unlink()
        index_path.unlink()
        return None
    last = index.segments[-1]
    index.seal = Seal(
        sealed_ms=time.time_ns() // 1_000_000,
        segments=good,
        length=last.offset + last.length,
        sha256=digest.hexdigest(),
        end_ms=index.end_ms,
        end_reason=reason,
    )
    os.truncate(media, index.seal.length)
    with media.open("rb") as file:
        os.fsync(file.fileno())
    replace_file(index_path, b"".join(lines[: good + 1]) + index.seal.to_line(), durable=True)
    log.warning("A recording that was not finished was sealed", file=str(media), segments=good)
    return index


def _had_lines(base: Path) -> bool:
    """Say whether an index that was set aside had a header, and so perhaps segments."""
    try:
        return b"\n" in base.with_name(base.name + ".jsonl.aside").read_bytes()
    except FileNotFoundError:
        return False


@cache
def boot_id() -> str:
    """Return what the kernel drew at random when this machine started; "" where it does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _seq_of(base: Path) -> int:
    tail = base.name.rpartition("-")[2]
    return int(tail) if tail.isdigit() else 0


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        state = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except orjson.JSONDecodeError:
        log.error(
            "camera.json cannot be read; numbers are taken from the recordings", file=str(path)
        )
        return None
    return state if isinstance(state, dict) and "recording" in state else None


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _fsync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
