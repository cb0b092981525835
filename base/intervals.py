"""Arithmetic of intervals [start, end) of integers: the start is in them, the end is not.

What is returned is sorted, and no interval in it is empty or touches another.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable


def merge(intervals: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return what at least one of the intervals covers."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(intervals):
        if start >= end:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end)
        else:
            merged.append((start, end))
    return merged


def subtract(
    intervals: Iterable[tuple[int, int]], cuts: Iterable[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Return what the intervals cover and no cut does."""
    left: list[tuple[int, int]] = []
    merged_cuts, n = merge(cuts), 0
    for start, end in merge(intervals):
        while n < len(merged_cuts) and merged_cuts[n][1] <= start:
            n += 1
        at, k = start, n
        while k < len(merged_cuts) and merged_cuts[k][0] < end:
            if at < merged_cuts[k][0]:
                left.append((at, merged_cuts[k][0]))
            at = merged_cuts[k][1]
            k += 1
        if at < end:
            left.append((at, end))
    return left


def clip(intervals: Iterable[tuple[int, int]], start: int, end: int) -> list[tuple[int, int]]:
    """Return what the intervals cover of [start, end)."""
    return merge((max(first, start), min(last, end)) for first, last in intervals)


def length(intervals: Iterable[tuple[int, int]]) -> int:
    """Return how much the intervals cover; what several cover counts once."""
    return sum(end - start for start, end in merge(intervals))


class Cover:
    """What intervals cover that come one after the other, thousands of them: each is added, and
    asked about, without a look at all others."""

    def __init__(self, intervals: Iterable[tuple[int, int]] = ()):
        merged = merge(intervals)
        self._starts = [start for start, _ in merged]
        self._ends = [end for _, end in merged]

    @property
    def end(self) -> int | None:
        """Where the last of it ends; None where nothing is covered."""
        return self._ends[-1] if self._ends else None

    def add(self, start: int, end: int) -> None:
        """Cover an interval, too."""
        if start >= end:
            return
        first, stop = bisect_left(self._ends, start), bisect_right(self._starts, end)
        if first < stop:  # it touches these
            start, end = min(start, self._starts[first]), max(end, self._ends[stop - 1])
        self._starts[first:stop], self._ends[first:stop] = [start], [end]

    def left(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return what of an interval is not covered."""
        found, at = list[tuple[int, int]](), bisect_right(self._ends, start)
        while at < len(self._starts) and self._starts[at] < end:
            if start < self._starts[at]:
                found.append((start, self._starts[at]))
            start = self._ends[at]
            at += 1
        return [*found, (start, end)] if start < end else found
