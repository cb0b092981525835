"""Arithmetic of intervals [start, end) of integers: the start is in them, the end is not.

What is returned is sorted, and no interval in it is empty or touches another.
"""

from __future__ import annotations

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
