"""Numbers of a camera that outlive a process, and `camera.json`, which keeps them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated

from pydantic import Field

from storage.records import Number, Record

CAMERA_FORMAT = "camera/1"
COUNTED = ("run_no", "record_seq", "segment_no")
CLOCK_2020_S = 1_577_836_800
LATEST_S = (1 << 31) - (1 << 16)  # in 2088; a catalogue takes no epoch of more than 31 bits
LEASE_NUMBERS = 1 << 23  # numbers of each epoch of a lease; with epochs of 2054 still below 2**53


def lease_of(number: int) -> int:
    """Return the epoch of the lease to which a number of a run, a recording, a segment or a gap
    belongs; 0 for one by the clock."""
    return number // LEASE_NUMBERS if number > LATEST_S * 2 else 0


RecordingName = Annotated[  # day and name without ending
    str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}/[0-9]{9}Z-[1-9][0-9]{0,17}$")
]


@dataclass(frozen=True, slots=True)
class Numbers(Record):
    """Last numbers used, per camera; 0 before the first. `epoch` counts owners."""

    epoch: Number = 1
    run_no: Number = 0
    record_seq: Number = 0
    segment_no: Number = 0
    gap_no: Number = 0
    target_duration_s: Number = 0

    @classmethod
    def by_clock(cls, now_ms: float) -> Numbers:
        """Return numbers above all that any earlier owner can have used.

        Nothing is numbered more than once a second, so the seconds since 2020 are above every
        number that was counted up from an earlier such start. For a camera of which nothing is
        known here: a new one, or one whose spool was lost.
        """
        seconds = min(max(0, int(now_ms / 1000) - CLOCK_2020_S), LATEST_S)
        return cls(seconds, seconds, seconds, seconds, seconds)

    @classmethod
    def by_lease(cls, epoch: int, now_ms: float) -> Numbers:
        """Return numbers above all that were used under an epoch of a lease by now, and that no
        other epoch has: each has a stretch of its own."""
        passed_s = int(now_ms / 1000) - CLOCK_2020_S - epoch
        first = epoch * LEASE_NUMBERS + min(max(0, passed_s), LEASE_NUMBERS - 1)
        return cls(epoch, first, first, first, first)

    @property
    def is_leased(self) -> bool:
        """Whether these are numbers of a lease: those by the clock are below 2**31."""
        return lease_of(self.segment_no) > 0

    @property
    def clock_s(self) -> int:
        """The seconds since 2020 when numbers were made `by_clock` or `by_lease`."""
        if self.is_leased:
            return self.epoch + self.segment_no % LEASE_NUMBERS
        return self.segment_no

    def above(self, floor: Numbers) -> Numbers:
        """Return numbers from which the next are above `floor`, with a higher epoch, or that of
        its lease; these where they are that already."""
        higher = {f: max(getattr(self, f), getattr(floor, f)) for f in COUNTED}
        if floor.is_leased:
            return replace(self, epoch=max(self.epoch, floor.epoch), **higher)
        if all(higher[f] == getattr(self, f) for f in COUNTED) and self.epoch > floor.epoch:
            return self
        return replace(self, epoch=max(self.epoch, floor.epoch) + 1, **higher)


@dataclass(frozen=True, slots=True)
class CameraNumbers(Numbers):
    """`camera.json`: the numbers of the first segment of the recording that was begun last."""

    recording: RecordingName = field(kw_only=True)
    unfinished: tuple[RecordingName, ...] = ()
    boot: str | None = None  # the kernel's boot id
    election: str | None = None  # of the journal of gaps
    kuager: str = CAMERA_FORMAT

    @property
    def numbers(self) -> Numbers:
        """The numbers alone."""
        return Numbers(**{name: getattr(self, name) for name in Numbers.__slots__})
