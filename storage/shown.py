"""What people are shown of a camera that several machines may have recorded (decision 20).

Of recordings of the same time that of the highest epoch is shown; the others are second recordings,
which are kept and listed as such. A gap is time that nobody recorded. Pure functions over
stretches of UTC milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby

from base.intervals import Cover, merge
from storage.records import Gap, GapCause
from storage.spool.numbers import lease_of

Stretch = tuple[int, int]
Recorded = tuple[int, int, int]  # epoch, start, end


class Shown:
    """Which time each epoch of a camera shows."""

    def __init__(self, recordings: Iterable[Recorded]):
        """`recordings` may come in any order, and overlap."""
        found = sorted(recordings, reverse=True)
        self._begun = [(epoch, start) for epoch, start, _ in found]
        self.recorded: list[Stretch] = []  # by anybody
        self._above: dict[int, Cover] = {}  # what higher epochs have of the time of each
        for epoch, some in groupby(found, key=lambda one: one[0]):
            self._above[epoch] = Cover(self.recorded)
            self.recorded = merge([*self.recorded, *((start, end) for _, start, end in some)])

    def parts(self, epoch: int, start_ms: int, end_ms: int) -> list[Stretch]:
        """Return what is shown of a stretch of an epoch that was among the recordings."""
        return self._above[epoch].left(start_ms, end_ms)

    def is_second(self, epoch: int, start_ms: int, end_ms: int) -> bool:
        """Tell whether nothing is shown of it: another epoch shows all of its time."""
        return not self.parts(epoch, start_ms, end_ms) and start_ms < end_ms

    def missing(self, gaps: Iterable[Gap]) -> list[Gap]:
        """Return what is missing, by start: what nobody recorded, each moment with one cause.

        Of gaps that overlap that of the higher number counts: numbers rise with the epoch. But one
        that says that no recorder ran counts only where no recorder tells of something else: a new
        spool says so of all that was before it. One that lasts does so where nobody recorded after
        it began, and no later owner began anything: it is not of one who died.
        """
        gaps, found = list(gaps), list[Gap]()
        taken = Cover(self.recorded)
        for gap in sorted(gaps, key=_knowledge, reverse=True):
            end_ms, lasts = gap.end_ms, False
            if end_ms is None:
                epoch = lease_of(gap.gap_no)
                begun = [start for of, start in self._begun if of > epoch]
                begun += [other.start_ms for other in gaps if other.gap_no > gap.gap_no]
                ends = [start for start in begun if start >= gap.start_ms]
                lasts = not ends
                end_ms = min(ends, default=max(gap.start_ms, taken.end or 0) + 1)
            for start_ms, until_ms in taken.left(gap.start_ms, end_ms):
                is_last = lasts and until_ms == end_ms
                found.append(replace(gap, start_ms=start_ms, end_ms=None if is_last else until_ms))
            taken.add(gap.start_ms, end_ms)
        return sorted(found, key=lambda gap: (gap.start_ms, gap.gap_no))


def _knowledge(gap: Gap) -> tuple[bool, int]:
    """Return the order of gaps by what they know."""
    return gap.cause is not GapCause.RECORDER_STOPPED, gap.gap_no
