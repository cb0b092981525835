"""Writing one camera's spool: recordings and their index, gaps, and the numbers that outlive us.

The files and the order in which they are written are docs/formats.md. Every function here
blocks on the disk: a recorder calls them from a thread, one at a time per camera.
"""

from __future__ import annotations

import errno
import fcntl
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from base.clock import Clock, now_ms
from base.durable import boot_id, make_directory, nearest, replace_file
from storage.records import (
    ClockState,
    Gap,
    GapCause,
    Header,
    Segment,
    Track,
    recording_name,
    sha256_of,
)
from storage.spool.disk import is_mounted
from storage.spool.numbers import CameraNumbers, Numbers
from storage.spool.past import recover
from storage.spool.recording import Recording

# A recording that is due to end goes on for so long, so that the next begins with a keyframe.
KEY_WITHIN_MS = 60_000


class SpoolBusy(RuntimeError):
    """Another process records this camera."""


class TimeLine(NamedTuple):
    """A run of a camera, and the moment (UTC) from which its `tfdt` counts."""

    run_no: int
    run_start_ms: int


@dataclass(frozen=True, slots=True)
class Run:
    """What all recordings of a run share; `init` is `ftyp`+`moov`, times are UTC.

    `first_run_no`: of a second stream, the run of the first on whose time line it is.
    """

    run_start_ms: int
    init: bytes
    tracks: tuple[Track, ...]
    target_duration_s: int
    transcoded: tuple[str, ...] = ()
    first_run_no: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentInfo:
    """What a segment's index line says beside its number, its hash and where it lies: see
    `Segment`. Times in 1/90000 s on the run's time line, and in ms (UTC)."""

    tfdt_90k: int
    duration_90k: int
    starts_with_key: bool
    arrival_ms: int
    camera_ms: int | None
    moved_ms: int = 0
    by_arrival: bool = False
    lost: int = 0
    damaged: int = 0
    restarted: bool = False


def spool_problem(path: Path, mount: Path | None = None) -> str | None:
    """Say what keeps a spool from being written, if anything does; writes nothing.

    Where `mount` is given, a disk must be mounted there.
    """
    if not is_mounted(mount):
        return f"No disk is mounted at {mount}: mount it, or leave out 'spool_mount'"
    there = nearest(path)
    if os.access(f"{there}/.", os.W_OK | os.X_OK):
        return None
    why = "no right to write there, or a read-only disk, as each is for a unit of systemd"
    why += " whose ReadWritePaths do not name it"
    if not os.access(there, os.F_OK):
        why = "it is a link that leads nowhere"
    elif not there.is_dir():
        why = "it is a file"
    return (
        f"The spool {path} cannot be written ({there}: {why}): "
        "give this user the right to write there, or choose another with 'spool'"
    )


class CameraSpool:
    """The one owner of a camera's directory in the spool.

    Opening it takes the lock, repairs what a dead recorder left and knows the next numbers.
    """

    def __init__(
        self,
        spool: Path,
        election: str,
        station: str,
        camera: str,
        floor: Numbers,
        clock: Clock = now_ms,
    ):
        """Open the directory; `floor` holds numbers to be above where none are known here.

        `clock` says when recordings are sealed: the recorder's, which may not follow the machine's.
        Raises SpoolBusy while another process holds it, OSError when the disk refuses.
        """
        self.election, self.station, self.camera = election, station, camera
        self._clock = clock
        self.directory = spool / station / camera
        make_directory(self.directory, parents=True)
        self.time_line: TimeLine | None = None  # of the run that goes on
        self._recording: Recording | None = None
        self._run: Run | None = None
        self._lock = self._take_lock()
        try:
            self._past = recover(self.directory, election, floor)
        except BaseException:
            os.close(self._lock)
            raise

    def _take_lock(self) -> int:
        fd = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise SpoolBusy(f"{self.directory}: another process records this camera") from None
        return fd

    def _renew_lock(self) -> None:
        """Lock the file that is there now: a disk that went and came back has another."""
        ours = os.fstat(self._lock)
        there = (self.directory / "lock").stat()
        if (ours.st_dev, ours.st_ino) != (there.st_dev, there.st_ino):
            try:
                lock, self._lock = self._lock, self._take_lock()
            except SpoolBusy as busy:
                raise OSError(errno.EBUSY, str(busy)) from None
            os.close(lock)

    @property
    def numbers(self) -> Numbers:
        """The last numbers used."""
        return self._past.numbers

    @property
    def last_end_ms(self) -> int | None:
        """The end of the last recording (UTC)."""
        return self._past.last_end_ms

    @property
    def last_end_reason(self) -> GapCause | None:
        """Why the last run ended; None while it goes on, or where nothing was recorded."""
        return self._past.last_end_reason

    # -- recording -----------------------------------------------------------------------

    @property
    def next_segment_no(self) -> int:
        """The number that the next appended segment will have."""
        return self.numbers.segment_no + 1

    def append(self, run: Run, data: bytes, info: SegmentInfo, clock: ClockState) -> Segment:
        """Write a segment and its index line: when this returns, the segment is live.

        A run that was not seen before gets the next run_no and ends the open gap. Raises
        OSError when the disk refuses; the recording then ends at its last whole segment.
        """
        start_ms = run.run_start_ms + info.tfdt_90k // 90
        new_run = run is not self._run
        if self._recording is not None:
            late_ms = start_ms - self._recording.rotate_ms
            if new_run or late_ms >= (0 if info.starts_with_key else KEY_WITHIN_MS):
                self.seal(None)
        if self._recording is None:
            if new_run:
                self._past.gaps.end_for_run(start_ms)
            self._begin(run, start_ms, new_run, clock)
        recording = self._recording
        assert recording is not None
        segment = Segment(
            segment_no=self.next_segment_no,
            start_ms=start_ms,
            tfdt_90k=info.tfdt_90k,
            duration_90k=info.duration_90k,
            offset=recording.length,
            length=len(data),
            sha256=sha256_of(data),
            starts_with_key=info.starts_with_key,
            arrival_ms=info.arrival_ms,
            camera_ms=info.camera_ms,
            moved_ms=info.moved_ms,
            by_arrival=info.by_arrival,
            lost=info.lost,
            damaged=info.damaged,
            restarted=info.restarted,
        )
        end_ms = run.run_start_ms + (info.tfdt_90k + info.duration_90k) // 90
        recording.append(data, segment, end_ms)
        past = self._past
        past.numbers = replace(past.numbers, segment_no=segment.segment_no)
        if recording.segments == 1:  # now its header counts, and carries these gaps for good
            past.carry_gaps()
        past.last_end_ms, past.last_end_reason = end_ms, None
        past.covered.add(start_ms, end_ms)
        return segment

    def _begin(self, run: Run, start_ms: int, new_run: bool, clock: ClockState) -> None:
        self._renew_lock()
        self._past.finish_abandoned()
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
            init_sha256=sha256_of(run.init),
            target_duration_s=run.target_duration_s,
            tracks=run.tracks,
            transcoded=run.transcoded,
            first_run_no=run.first_run_no,
            clock=clock,
            gaps=tuple(g for g in self._past.gaps.ended if (g.end_ms or 0) > g.start_ms),
            overlaps=self.last_end_ms is not None and start_ms < self.last_end_ms,
        )
        state = CameraNumbers(
            **numbers.to_dict() | {"segment_no": self.next_segment_no},
            recording=name,
            unfinished=tuple(f"{b.parent.name}/{b.name}" for b in self._past.abandoned),
            boot=boot_id(),
            election=self.election,
        )
        # camera.json first: a recorder that dies here leaves a name without a file, which the
        # next one sees; the other way round a file would go unnoticed.
        replace_file(self.directory / "camera.json", state.to_line(), durable=True)
        camera_id = f"{self.station}/{self.camera}"
        self._recording = Recording(
            self.directory / name, header, run.init, start_ms, camera_id, self._clock
        )
        self._run = run
        self._past.numbers = numbers
        self.time_line = TimeLine(numbers.run_no, run.run_start_ms)

    def seal(self, reason: GapCause | None) -> None:
        """Flush the recording in the making to disk and seal it; nothing to do without one."""
        if self._recording is not None:
            self._recording.seal(reason)
            self._recording = None
        if reason is not None:
            self.time_line = None
            self._run, self._past.last_end_reason = None, reason
            self._past.rise_above_others(Numbers.by_clock(self.last_end_ms or 0))

    def abandon(self, cause: GapCause) -> None:
        """Give up the recording that the disk refused, for this cause; it is finished before the
        next begins or, where the disk refuses that too, before a later one."""
        recording, self._recording, self._run = self._recording, None, None
        self.time_line = None
        if recording is not None:
            anew = recording.unsure or cause is GapCause.DISK_FAILED
            self._past.abandoned[recording.base] = cause, anew
            recording.close()

    def close(self) -> None:
        """Give up the lock; the recording in the making must have been sealed."""
        os.close(self._lock)

    # -- gaps ----------------------------------------------------------------------------

    @property
    def is_recording(self) -> bool:
        """Whether a run goes on."""
        return self._run is not None

    @property
    def open_gap(self) -> Gap | None:
        """The gap that lasts."""
        return self._past.gaps.open

    def covered_until_ms(self, now_ms: float) -> int | None:
        """Return the end of what recordings and ended gaps account for by now (UTC); None when
        nothing is known of the camera. What lies in the future does not count."""
        return self._past.covered_until_ms(now_ms)

    def look_back(self, now_ms: float) -> None:
        """Find the newest recording that began by now, where those that are known begin later:
        a clock was ahead. Reads the spool."""
        self._past.look_back(now_ms)

    def cut_future_gaps(self, now_ms: int) -> None:
        """Journal that no gap has lasted beyond now: the clock was ahead when it was written."""
        self._past.gaps.cut_future(now_ms)

    def begin_gap(self, start_ms: int, cause: GapCause, detail: str = "") -> None:
        """Journal that scheduled time goes without a recording from `start_ms` on."""
        self._past.gaps.begin(start_ms, cause, detail)

    def end_gap(self, end_ms: int) -> None:
        """Journal that the open gap ended; nothing to do without one."""
        self._past.gaps.end(end_ms)

    def write_gaps(self) -> None:
        """Journal what the disk refused to take before; raises OSError where it still does."""
        self._past.gaps.write()
