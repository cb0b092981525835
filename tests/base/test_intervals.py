"""Arithmetic of intervals, compared with sets of integers."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from base.intervals import Cover, clip, length, merge, subtract

POINTS = st.integers(-12, 12)
INTERVALS = st.lists(st.tuples(POINTS, POINTS), max_size=6)


def points(intervals: Iterable[tuple[int, int]]) -> set[int]:
    return {n for start, end in intervals for n in range(start, end)}


def canonical(intervals: list[tuple[int, int]]) -> bool:
    ordered = all(a[1] < b[0] for a, b in pairwise(intervals))
    return ordered and all(start < end for start, end in intervals)


@settings(deadline=None)
@given(INTERVALS)
def test_a_union(intervals: list[tuple[int, int]]) -> None:
    found = merge(intervals)
    assert canonical(found) and points(found) == points(intervals)
    assert length(intervals) == len(points(intervals))


@settings(deadline=None)
@given(INTERVALS, INTERVALS)
def test_a_difference(intervals: list[tuple[int, int]], cuts: list[tuple[int, int]]) -> None:
    found = subtract(intervals, cuts)
    assert canonical(found) and points(found) == points(intervals) - points(cuts)


@settings(deadline=None)
@given(INTERVALS, POINTS, POINTS)
def test_a_part(intervals: list[tuple[int, int]], start: int, end: int) -> None:
    found = clip(intervals, start, end)
    assert canonical(found) and points(found) == points(intervals) & set(range(start, end))


@settings(deadline=None)
@given(INTERVALS, INTERVALS, st.tuples(POINTS, POINTS))
def test_a_cover(
    before: list[tuple[int, int]], added: list[tuple[int, int]], asked: tuple[int, int]
) -> None:
    cover = Cover(before)
    for one in added:
        cover.add(*one)
    covered = merge([*before, *added])
    assert cover.left(*asked) == subtract([asked], covered)
    assert cover.end == max((end for _, end in covered), default=None)
