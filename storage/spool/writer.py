"""Writing one camera's spool: recordings and their index, gaps, and the numbers that outlive us.

The files and the order in which they are written are docs/formats.md. Every function here
blocks on the disk: a recorder calls them from a thread, one at a time per camera.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
import structlog

from base.durable import boot_id, replace_file
from storage.records import (
    NUMBERS,
    OTHERS,
    ClockState,
    FormatError,
    Gap,
    GapCause,
    Header,
    Index,
    Segment,
    Track,
    parse_index,
)
from storage.spool.gaps import Coverage, GapJournal, set_gaps_aside
from storage.spool.recording import Recording, recording_name
from storage.spool.repair import finish, had_lines

CAMERA_FORMAT = "camera/1"
# Numbers left out where segments may have been seen live whose lines are lost.
UNSEEN_SEGMENTS = 1_000
CLOCK_2020_S = 1_577_836_800
LATEST_S = (1 << 31) - (1 << 16)  # in 2088; a catalogue takes no epoch of more than 31 bits
ABSENT_S = 600  # without a recording for longer than this, another may have recorded meanwhile
COUNTED = ("run_no", "record_seq", "segment_no")

_CRASHED = GapCause.RECORDER_CRASHED

# A recording that is due to end goes on for so long, so that the next begins with a keyframe.
KEY_WITHIN_MS = 60_000

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
        seconds = min(max(0, int(now_ms / 1000) - CLOCK_2020_S), LATEST_S)
        return cls(seconds, seconds, seconds, seconds, seconds)


@dataclass(frozen=True, slots=True)
class Run:
    """What all recordings of a run share; `init` is `ftyp`+`moov`, times are UTC."""

    run_start_ms: int
    init: bytes
    tracks: tuple[Track, ...]
    target_duration_s: int
    transcoded: tuple[str, ...] = ()


def spool_problem(path: Path, mount: Path | None = None) -> str | None:
    """Say what keeps a spool from being written, if anything does; writes nothing.

    Where `mount` is given, a disk must be mounted there.
    """
    if mount is not None and not mount.is_mount():
        return f"No disk is mounted at {mount}: mount it, or leave out 'spool_mount'"
    there = next(p for p in (path, *path.parents) if p.exists())
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        return None
    why = "no right to write there, or a read-only disk" if there.is_dir() else "it is a file"
    return (
        f"The spool {path} cannot be written ({there}: {why}): "
        "give this user the right to write there, or choose another with 'spool'"
    )


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
        self._recording: Recording | None = None
        self._run: Run | None = None
        # recordings that the disk refused: why, and whether they are to be written anew
        self._abandoned: dict[Path, tuple[GapCause, bool]] = {}
        self._told: set[Path] = set()
        self._lock = self._take_lock()
        try:
            self._recover(floor)
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

    # -- state at start ------------------------------------------------------------------

    def _recover(self, floor: Numbers) -> None:
        self.last_end_ms: int | None = None  # end of the last recording
        self.last_end_reason: GapCause | None = None
        self._covered = Coverage()  # by recordings and carried gaps, as far as it is known
        state = self._of_this_election(_read_json(self.directory / "camera.json"))
        self._gaps = GapJournal(self.directory / "gaps.jsonl")
        if state is None:
            self._recover_without_state(floor)
        else:
            known = {k: state[k] for k in Numbers.__slots__ if k in state}
            self.numbers = Numbers(**known)
            rebooted = state.get("boot") != boot_id()
            for name in state.get("unfinished", ()):
                self._abandoned[self.directory / name] = GapCause.DISK_FAILED, True
            self._recover_recording(self.directory / state["recording"], rebooted, floor)
        self._gaps.carried_to(self.numbers.gap_no)
        self._rise_above_others(floor)

    def _of_this_election(self, state: dict[str, Any] | None) -> dict[str, Any] | None:
        """Leave the gaps of an earlier election under its own name; numbers go on."""
        if state is None:
            return None
        if (election := state.get("election")) is None:  # of a version that did not write it
            with contextlib.suppress(OSError, FormatError):
                path = self.directory / (state["recording"] + ".jsonl")
                election = parse_index(path.read_bytes()).header.election
        if election in (None, self.election):
            return state
        log.warning(
            "The spool has recordings of another election; they keep its name",
            camera=f"{self.station}/{self.camera}",
            election=election,
        )
        set_gaps_aside(self.directory, election)
        state |= {"election": self.election}
        replace_file(self.directory / "camera.json", orjson.dumps(state), durable=True)
        return state

    def _recover_recording(self, base: Path, rebooted: bool, floor: Numbers) -> None:
        """Finish the recording that camera.json names. Its numbers count as used, always.

        A recorder that died lost no line. A machine that lost power, or a disk that spoils an
        index, may have lost lines of segments that were seen live. Where the files are missing, or
        nobody recorded here for long, others may have used numbers that nobody here knows. Then
        all go on above the clock, as those of a new owner; never far ahead of it, as a spool that
        is lost later must find all of them below it.
        """
        there = any(base.with_name(base.name + ending).exists() for ending in (".mp4", ".jsonl"))
        index = finish(base)
        n = self.numbers
        if index is not None:
            carried = max([n.gap_no, *(g.gap_no for g in index.header.gaps)])
            last = max(n.segment_no, _last_segment(index))
            n = replace(n, segment_no=last, gap_no=carried)
            lost = rebooted and index.seal is not None and index.seal.end_reason is _CRASHED
            lost = lost or not index.segments
        else:
            lost = rebooted or not there or had_lines(base)
            n = replace(n, segment_no=n.segment_no - 1)  # that of a first segment, never written
        if lost and floor.segment_no <= n.segment_no:  # a clock that was set back
            n = replace(n, segment_no=n.segment_no + UNSEEN_SEGMENTS)
        self.numbers = n
        if index is None:
            previous = max(self._bases(), key=_seq_of, default=None)
            index = finish(previous) if previous else None
        if index is not None and index.seal is not None:
            self.last_end_ms = index.seal.end_ms
            self.last_end_reason = index.seal.end_reason
            if index.segments:
                self._covered.add(index.start_ms, index.seal.end_ms)
        absent_s = floor.segment_no - Numbers.by_clock(self.last_end_ms or 0).segment_no
        if lost or absent_s > ABSENT_S:
            self._rise_above(floor)

    def _recover_without_state(self, floor: Numbers) -> None:
        """Go on above `floor` and every number that the spool knows, as a new owner."""
        # where there is a journal its numbers are enough, and its gaps are to be carried yet
        self.numbers = replace(floor, gap_no=0) if self._gaps.last_no else floor
        found = [i for b in sorted(self._bases(), key=_seq_of) if (i := finish(b)) is not None]
        for index in found:
            n, h = self.numbers, index.header
            self.numbers = Numbers(
                max(n.epoch, h.epoch),
                max(n.run_no, h.run_no),
                max(n.record_seq, h.record_seq),
                max(n.segment_no, _last_segment(index)),
                max([n.gap_no, *(g.gap_no for g in h.gaps)]),
                h.target_duration_s,
            )
            assert index.seal is not None
            self.last_end_ms, self.last_end_reason = index.seal.end_ms, index.seal.end_reason
            if index.segments:
                self._covered.add(index.start_ms, index.seal.end_ms)
        if found:
            self.numbers = replace(self.numbers, epoch=self.numbers.epoch + 1)
            log.warning(
                "The numbers of this camera were lost and are continued from its recordings",
                camera=f"{self.station}/{self.camera}",
                record_seq=self.numbers.record_seq,
            )

    def _rise_above(self, floor: Numbers) -> None:
        """Have the next numbers above `floor`, and a higher epoch; nothing to do where they are."""
        n = self.numbers
        self._gaps.rise_above(floor.gap_no)
        higher = {f: max(getattr(n, f), getattr(floor, f)) for f in COUNTED}
        if all(higher[f] == getattr(n, f) for f in COUNTED) and n.epoch > floor.epoch:
            return
        self.numbers = replace(n, epoch=max(n.epoch, floor.epoch) + 1, **higher)

    def _rise_above_others(self, clock: Numbers) -> None:
        """Rise above what other spools used, as far as the uploader has found that."""
        try:
            found = orjson.loads((self.directory / OTHERS).read_bytes())
            others = {f: int(found[f]) for f in NUMBERS}
        except (OSError, TypeError, ValueError, KeyError):
            return  # not there, or spoilt: the uploader writes it again
        if others["epoch"] < self.numbers.epoch:
            return
        log.warning(
            "Another spool has recordings of this camera under a higher epoch; "
            "numbers are continued above them",
            camera=f"{self.station}/{self.camera}",
            epoch=others["epoch"],
        )
        # who records now is above what its catalogue knows, and below the clock
        self._rise_above(Numbers(**{f: max(others[f], getattr(clock, f)) for f in NUMBERS}))

    def _bases(self) -> Iterator[Path]:
        for path in self.directory.glob("????-??-??/*.jsonl"):
            yield path.with_suffix("")

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
        moved_ms: int = 0,
        by_arrival: bool = False,
        lost: int = 0,
        damaged: int = 0,
        restarted: bool = False,
    ) -> Segment:
        """Write a segment and its index line: when this returns, the segment is live.

        A run that was not seen before gets the next run_no and ends the open gap. Raises
        OSError when the disk refuses; the recording then ends at its last whole segment.
        """
        start_ms = run.run_start_ms + tfdt_90k // 90
        new_run = run is not self._run
        if self._recording is not None:
            late_ms = start_ms - self._recording.rotate_ms
            if new_run or late_ms >= (0 if starts_with_key else KEY_WITHIN_MS):
                self.seal(None)
        if self._recording is None:
            if new_run:
                self._gaps.end_for_run(start_ms)
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
            moved_ms=moved_ms,
            by_arrival=by_arrival,
            lost=lost,
            damaged=damaged,
            restarted=restarted,
        )
        end_ms = run.run_start_ms + (tfdt_90k + duration_90k) // 90
        recording.append(data, segment, end_ms)
        self.numbers = replace(self.numbers, segment_no=segment.segment_no)
        if recording.segments == 1:  # now its header counts, and carries these gaps for good
            carried = max([self.numbers.gap_no, *(g.gap_no for g in self._gaps.ended)])
            for gap in self._gaps.ended:
                self._covered.add(gap.start_ms, gap.end_ms or gap.start_ms)
            self.numbers = replace(self.numbers, gap_no=carried)
            self._gaps.carried_to(carried)
        self.last_end_ms, self.last_end_reason = end_ms, None
        self._covered.add(start_ms, end_ms)
        return segment

    def _begin(self, run: Run, start_ms: int, new_run: bool, clock: ClockState) -> None:
        self._renew_lock()
        self._finish_abandoned()
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
            gaps=tuple(g for g in self._gaps.ended if (g.end_ms or 0) > g.start_ms),
            overlaps=self.last_end_ms is not None and start_ms < self.last_end_ms,
        )
        state = {f: getattr(numbers, f) for f in Numbers.__slots__}
        state |= {
            "kuager": CAMERA_FORMAT,
            "election": self.election,
            "segment_no": self.next_segment_no,
            "recording": name,
            "unfinished": [f"{b.parent.name}/{b.name}" for b in self._abandoned],
            "boot": boot_id(),
        }
        # camera.json first: a recorder that dies here leaves a name without a file, which the
        # next one sees; the other way round a file would go unnoticed.
        replace_file(self.directory / "camera.json", orjson.dumps(state), durable=True)
        self._recording = Recording(
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
            self._rise_above_others(Numbers.by_clock(self.last_end_ms or 0))

    def abandon(self, cause: GapCause) -> None:
        """Give up the recording that the disk refused, for this cause; it is finished before the
        next begins or, where the disk refuses that too, before a later one."""
        recording, self._recording, self._run = self._recording, None, None
        if recording is not None:
            anew = recording.unsure or cause is GapCause.DISK_FAILED
            self._abandoned[recording.base] = cause, anew
            recording.close()

    def _finish_abandoned(self) -> None:
        for base, (cause, anew) in list(self._abandoned.items()):
            try:
                finish(base, cause, anew=anew)
            except OSError as error:  # its own files may be spoilt for good: go on beside them
                if base not in self._told:
                    self._told.add(base)
                    log.error(
                        "A recording cannot be finished; it is tried again with every new one",
                        file=str(base.with_name(base.name + ".mp4")),
                        why=error.strerror,
                    )
            else:
                del self._abandoned[base]
                self._told.discard(base)

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
        return self._gaps.open

    def covered_until_ms(self, now_ms: float) -> int | None:
        """Return the end of what recordings and ended gaps account for by now (UTC); None when
        nothing is known of the camera. What lies in the future does not count."""
        ends = [g.end_ms for g in self._gaps.ended if g.end_ms is not None and g.end_ms <= now_ms]
        covered = self._covered.until_ms(now_ms)
        return max([*ends, *([] if covered is None else [covered])], default=None)

    def look_back(self, now_ms: float) -> None:
        """Find the newest recording that began by now, where those that are known begin later:
        a clock was ahead. Reads the spool."""
        if self.last_end_ms is None or self._covered.until_ms(now_ms) is not None:
            return
        at = recording_name(int(now_ms), 0).rpartition("-")[0]
        earlier = [b for b in self._bases() if f"{b.parent.name}/{b.name}".rpartition("-")[0] <= at]
        newest = max(earlier, key=_seq_of, default=None)
        if newest is not None and (index := finish(newest)) is not None and index.segments:
            self._covered.add(index.start_ms, index.end_ms)

    def cut_future_gaps(self, now_ms: int) -> None:
        """Journal that no gap has lasted beyond now: the clock was ahead when it was written."""
        self._gaps.cut_future(now_ms)

    def begin_gap(self, start_ms: int, cause: GapCause, detail: str = "") -> None:
        """Journal that scheduled time goes without a recording from `start_ms` on."""
        self._gaps.begin(start_ms, cause, detail)

    def end_gap(self, end_ms: int) -> None:
        """Journal that the open gap ended; nothing to do without one."""
        self._gaps.end(end_ms)

    def write_gaps(self) -> None:
        """Journal what the disk refused to take before; raises OSError where it still does."""
        self._gaps.write()


def _last_segment(index: Index) -> int:
    """Return a recording's last segment number; 0 where none of its lines can be read."""
    return index.segments[-1].segment_no if index.segments else 0


def _seq_of(base: Path) -> int:
    tail = base.name.rpartition("-")[2]
    return int(tail) if tail.isdigit() else 0


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        state = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except orjson.JSONDecodeError:
        log.error("A file of numbers cannot be read; recordings tell them", file=str(path))
        return None
    return state if isinstance(state, dict) and "recording" in state else None
