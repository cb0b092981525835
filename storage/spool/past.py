"""What a camera's directory tells of its past: numbers, gaps, and what must still be finished.

It is read when a recorder opens the directory, which repairs what a dead recorder left, and kept up
while it records.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog

from base.durable import boot_id, replace_file
from storage.records import (
    NUMBERS,
    OTHERS,
    FormatError,
    GapCause,
    Index,
    parse_index,
    recording_name,
)
from storage.spool.disk import may_be_of_one_file
from storage.spool.gaps import Coverage, GapJournal, set_gaps_aside
from storage.spool.numbers import LEASE_NUMBERS, CameraNumbers, Numbers
from storage.spool.repair import finish, had_lines

# Numbers left out where segments may have been seen live whose lines are lost.
UNSEEN_SEGMENTS = 1_000
ABSENT_S = 600  # without a recording for longer than this, another may have recorded meanwhile
UNFINISHED = "A recording cannot be finished; `kuager fsck --repair` tries it again"

log = structlog.get_logger()


@dataclass(slots=True)
class CameraPast:
    """The past of a camera, as far as it is known."""

    directory: Path
    numbers: Numbers
    gaps: GapJournal
    covered: Coverage = field(default_factory=Coverage)  # by recordings and carried gaps
    # recordings that the disk refused: why, and whether they are to be written anew
    abandoned: dict[Path, tuple[GapCause, bool]] = field(default_factory=dict)
    last_end_ms: int | None = None  # end of the last recording
    last_end_reason: GapCause | None = None
    _told: set[Path] = field(default_factory=set)

    @property
    def camera(self) -> str:
        """Station and camera, for the log."""
        return f"{self.directory.parent.name}/{self.directory.name}"

    def bases(self) -> Iterator[Path]:
        """Yield the recordings that have an index: their paths without ending."""
        for path in self.directory.glob("????-??-??/*.jsonl"):
            yield path.with_suffix("")

    def account(self, index: Index) -> None:
        """Take note of a sealed recording, which is the last so far."""
        assert index.seal is not None
        self.last_end_ms, self.last_end_reason = index.seal.end_ms, index.seal.end_reason
        if index.segments:
            self.covered.add(index.start_ms, index.seal.end_ms)

    def carry_gaps(self) -> None:
        """Take note that a recording now carries all gaps that ended, for good."""
        for gap in self.gaps.ended:
            self.covered.add(gap.start_ms, gap.end_ms or gap.start_ms)
        carried = max([self.numbers.gap_no, *(g.gap_no for g in self.gaps.ended)])
        self.numbers = replace(self.numbers, gap_no=carried)
        self.gaps.carried_to(carried)

    def rise_above(self, floor: Numbers) -> None:
        """Have the next numbers above `floor`, with a higher epoch."""
        self.gaps.rise_above(floor.gap_no)
        self.numbers = self.numbers.above(floor)

    def rise_above_others(self, clock: Numbers) -> None:
        """Rise above what other spools used, as far as the uploader has found that."""
        try:
            others = Numbers.parse((self.directory / OTHERS).read_bytes())
        except (OSError, FormatError):
            return  # not there, or spoilt: the uploader writes it again
        if others.epoch < self.numbers.epoch:
            return
        log.warning(
            "Another spool has recordings of this camera under a higher epoch; "
            "numbers are continued above them",
            camera=self.camera,
            epoch=others.epoch,
        )
        # who records now is above what its catalogue knows, and below the clock
        floor = Numbers(**{f: max(getattr(others, f), getattr(clock, f)) for f in NUMBERS})
        if floor.is_leased:  # by others: the epoch of a lease is kept by its holder alone
            floor = replace(floor, epoch=floor.epoch + 1)
        self.rise_above(floor)

    def finish_abandoned(self) -> None:
        """Seal the recordings that the disk refused, as far as it takes that now."""
        for base, (cause, anew) in list(self.abandoned.items()):
            try:
                finish(base, cause, anew=anew, has_all_lines=True)
            except OSError as error:  # its own files may be spoilt for good: go on beside them
                if base not in self._told:
                    self._told.add(base)
                    log.error(
                        "A recording cannot be finished; it is tried again with every new one",
                        file=str(base.with_name(base.name + ".mp4")),
                        why=error.strerror,
                    )
            else:
                del self.abandoned[base]
                self._told.discard(base)

    def covered_until_ms(self, now_ms: float) -> int | None:
        """Return the end of what recordings and ended gaps account for by now (UTC); None when
        nothing is known of the camera. What lies in the future does not count."""
        ends = [g.end_ms for g in self.gaps.ended if g.end_ms is not None and g.end_ms <= now_ms]
        covered = self.covered.until_ms(now_ms)
        return max([*ends, *([] if covered is None else [covered])], default=None)

    def look_back(self, now_ms: float) -> None:
        """Find the newest recording that began by now, where those that are known begin later:
        a clock was ahead. Reads the spool."""
        if self.last_end_ms is None or self.covered.until_ms(now_ms) is not None:
            return
        at = recording_name(int(now_ms), 0).rpartition("-")[0]
        earlier = [b for b in self.bases() if f"{b.parent.name}/{b.name}".rpartition("-")[0] <= at]
        newest = max(earlier, key=_seq_of, default=None)
        if newest and (index := self.finish(newest)[0]) is not None and index.segments:
            self.covered.add(index.start_ms, index.end_ms)

    def finish(self, base: Path) -> tuple[Index | None, bool]:
        """Return the sealed index of a recording, and whether it could be read: one bad block must
        not keep its camera from being recorded. Raises OSError for what is not of one file."""
        try:
            return finish(base), True
        except OSError as error:
            if not may_be_of_one_file(error):
                raise
            media = base.with_name(base.name + ".mp4")
            log.error(UNFINISHED, file=str(media), why=error.strerror)
            return None, False


def recover(directory: Path, election: str, floor: Numbers) -> CameraPast:
    """Read the past of a camera, and finish what a dead recorder left.

    `floor` holds numbers to be above where none are known here. Raises OSError.
    """
    state = _read_state(directory, election)
    past = CameraPast(directory, floor, GapJournal(directory / "gaps.jsonl"))
    if state is None:
        _recover_without_state(past, floor)
    else:
        past.numbers = state.numbers
        for name in state.unfinished:
            past.abandoned[directory / name] = GapCause.DISK_FAILED, True
        _recover_recording(past, directory / state.recording, state.boot != boot_id(), floor)
    past.gaps.carried_to(past.numbers.gap_no)
    if floor.is_leased or past.gaps.was_lost:
        past.gaps.rise_above(floor.gap_no)
    past.rise_above_others(floor)
    return past


def _read_state(directory: Path, election: str) -> CameraNumbers | None:
    """Return camera.json; None where it is missing or cannot be read.

    The gaps of an earlier election are left under its own name; numbers go on.
    """
    path = directory / "camera.json"
    try:
        state = CameraNumbers.parse(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, FormatError) as error:
        if isinstance(error, OSError) and not may_be_of_one_file(error):
            raise
        log.error("A file of numbers cannot be read; recordings tell them", file=str(path))
        return None
    if (found := state.election) is None:  # of a version that did not write it
        with contextlib.suppress(OSError, FormatError):
            lines = directory / (state.recording + ".jsonl")
            found = parse_index(lines.read_bytes()).header.election
    if found in (None, election):
        return state
    log.warning(
        "The spool has recordings of another election; they keep its name",
        camera=f"{directory.parent.name}/{directory.name}",
        election=found,
    )
    set_gaps_aside(directory, found)
    state = replace(state, election=election)
    replace_file(path, state.to_line(), durable=True)
    return state


def _recover_recording(past: CameraPast, base: Path, rebooted: bool, floor: Numbers) -> None:
    """Finish the recording that camera.json names. Its numbers count as used, always.

    A recorder that died lost no line. A machine that lost power, or a disk that spoils an
    index, may have lost lines of segments that were seen live. Where the files are missing, or
    nobody recorded here for long, others may have used numbers that nobody here knows. Then
    all go on above the clock, as those of a new owner; never far ahead of it, as a spool that
    is lost later must find all of them below it.
    """
    there = any(base.with_name(base.name + ending).exists() for ending in (".mp4", ".jsonl"))
    index, is_read = past.finish(base)
    n = past.numbers
    if index is not None:
        carried = max([n.gap_no, *(g.gap_no for g in index.header.gaps)])
        n = replace(n, segment_no=max(n.segment_no, _last_segment(index)), gap_no=carried)
        crashed = index.seal is not None and index.seal.end_reason is GapCause.RECORDER_CRASHED
        lost = (rebooted and crashed) or not index.segments
    else:
        lost = rebooted or not there or not is_read or had_lines(base)
        n = replace(n, segment_no=n.segment_no - 1)  # that of a first segment, never written
    if lost and floor.segment_no <= n.segment_no:  # a clock that was set back
        n = replace(n, segment_no=n.segment_no + UNSEEN_SEGMENTS)
    past.numbers = n
    if index is None:
        before = (b for b in sorted(past.bases(), key=_seq_of, reverse=True) if b != base)
        found = (past.finish(previous) for previous in before)
        index = next((i for i, is_read in found if is_read), None)
    if index is not None and index.seal is not None:
        past.account(index)
    absent_s = floor.clock_s - Numbers.by_clock(past.last_end_ms or 0).segment_no
    is_new_lease = floor.is_leased and past.numbers.segment_no < floor.epoch * LEASE_NUMBERS
    if lost or absent_s > ABSENT_S or is_new_lease:
        past.rise_above(floor)


def _recover_without_state(past: CameraPast, floor: Numbers) -> None:
    """Go on above `floor` and every number that the spool knows, as a new owner."""
    # where there is a journal its numbers are enough, and its gaps are to be carried yet
    past.numbers = replace(floor, gap_no=0) if past.gaps.last_no else floor
    bases = sorted(past.bases(), key=_seq_of)
    found = [index for base in bases if (index := past.finish(base)[0]) is not None]
    for index in found:
        n, h = past.numbers, index.header
        past.numbers = Numbers(
            max(n.epoch, h.epoch),
            max(n.run_no, h.run_no),
            max(n.record_seq, h.record_seq),
            max(n.segment_no, _last_segment(index)),
            max([n.gap_no, *(g.gap_no for g in h.gaps)]),
            h.target_duration_s,
        )
        past.account(index)
    if found:
        past.numbers = replace(past.numbers, epoch=past.numbers.epoch + (not floor.is_leased))
        log.warning(
            "The numbers of this camera were lost and are continued from its recordings",
            camera=past.camera,
            record_seq=past.numbers.record_seq,
        )


def _last_segment(index: Index) -> int:
    """Return a recording's last segment number; 0 where none of its lines can be read."""
    return index.segments[-1].segment_no if index.segments else 0


def _seq_of(base: Path) -> int:
    tail = base.name.rpartition("-")[2]
    return int(tail) if tail.isascii() and tail.isdigit() else 0
