"""Clocks of cameras that are wrong by some percent: that shows late, and is too much to bear."""

from __future__ import annotations

import random

import pytest

from tests.support.shots import Shot, record


def slow(ratio: float, jitter_ms: float) -> list[Shot]:
    """Return two minutes of a camera whose timestamps run at `ratio` of what passes."""
    rng, arrival, shots = random.Random(1), 0.0, []
    for n in range(120 * 25):
        taken = n * 40.0
        arrival = max(arrival + 0.01, taken + 5 + rng.uniform(0, jitter_ms))
        shots.append(Shot(taken, 5_000_000 + taken * ratio, arrival, n % 50 == 0))
    return shots


@pytest.mark.parametrize("ratio", [0.972, 0.975, 0.98, 0.985, 0.99, 0.993, 0.996, 1.01, 1.02])
@pytest.mark.parametrize("jitter_ms", [0.0, 55.0])
def test_once_it_shows_it_is_put_right_within_seconds(ratio: float, jitter_ms: float) -> None:
    """And not by 30 ms a minute, once it would have made 300."""
    result = record(slow(ratio, jitter_ms))
    assert result.worst(after=100_000) <= 25 and not result.ends
    assert result.worst() <= 200


@pytest.mark.parametrize("from_ms", [0.0, 20_000.0])
def test_timestamps_that_count_down_say_nothing(from_ms: float) -> None:
    """They keep to one step, and yet tell no time: pictures are placed by their arrival."""
    shots = slow(1.0, 5.0)
    for shot in shots:
        shot.stamp -= 2 * max(0.0, shot.taken - from_ms)
    result = record(shots)
    assert result.worst() <= 60 and not result.ends
    assert all(cut.by_arrival for cut in result.cuts[-20:])
