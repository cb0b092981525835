"""The mapping from media time to UTC, against cameras whose truth is known (docs/time.md)."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.clock_map import SETTLE_SLEW, SLEW, ClockMap

UTC0 = 1_764_392_400_000.0


def errors(
    *, ppm: float, jitter_ms: float, seconds: int, seed: int = 1, fps: float = 25, delay: float = 20
) -> list[tuple[float, float]]:
    """Run a camera whose media clock is `ppm` fast; return (second, placed - true) per frame."""
    rng = random.Random(seed)
    clock_map, out, piece = ClockMap(), [], None
    last_arrival = 0.0
    for n in range(int(seconds * fps)):
        true = n * 1000 / fps
        media = 5_000_000 + true * (1 + ppm / 1e6)
        arrival = max(last_arrival, true + delay + rng.uniform(0, jitter_ms))  # TCP keeps order
        last_arrival = arrival
        clock_map.observe(media, UTC0 + arrival)
        if n == int(2 * fps):
            piece = clock_map.start(5_000_000.0)
            piece = clock_map.advance(media)
        elif n > 2 * fps and n % int(2 * fps) == 0:
            piece = clock_map.advance(media)
        if piece is not None:
            out.append((true / 1000, piece.place(media) - UTC0 - true - delay))
    return out


def p99(values: list[tuple[float, float]], after_s: float = 10) -> float:
    late = sorted(abs(e) for s, e in values if s >= after_s)
    return late[int(len(late) * 0.99)]


def test_steady_link() -> None:
    assert p99(errors(ppm=0, jitter_ms=5, seconds=120)) < 10


def test_jitter_does_not_move_the_mapping() -> None:
    for seed in range(5):
        assert p99(errors(ppm=0, jitter_ms=150, seconds=120, seed=seed)) < 40


def test_a_fast_and_a_slow_clock_do_not_drift() -> None:
    for ppm in (200, -200, 2_000, -2_000):
        values = errors(ppm=ppm, jitter_ms=20, seconds=600)
        assert p99(values) < 60
        assert p99(values, after_s=300) < 20  # what is left when the rate is known


def test_a_wholly_wrong_rate_is_measured() -> None:
    # declares 25 fps and stamps so, delivers 21
    values = errors(ppm=(21 / 25 - 1) * 1e6, jitter_ms=20, seconds=120, fps=21)
    assert p99(values) < 100


def test_half_an_hour_at_200_ppm() -> None:
    values = errors(ppm=200, jitter_ms=20, seconds=1800, fps=15)
    first = [e for s, e in values if 60 <= s < 120]
    last = [e for s, e in values if s >= 1740]
    assert abs(sum(last) / len(last) - sum(first) / len(first)) < 20


@settings(max_examples=50, deadline=None)
@given(
    ppm=st.floats(-3_000, 3_000),
    jitter=st.floats(0, 400),
    stall=st.floats(0, 4_000),
    seed=st.integers(0, 99),
)
def test_never_a_step_never_backwards(ppm: float, jitter: float, stall: float, seed: int) -> None:
    """Pieces join, time goes forward, and the rate stays within the limits, whatever arrives."""
    rng = random.Random(seed)
    clock_map = ClockMap()
    last, arrival, pieces = None, 0.0, 0
    for n in range(1500):
        media = n * 40.0
        arrival = max(arrival, n * 40.0 * (1 - ppm / 1e6) + rng.uniform(0, jitter))
        if n == 700:
            arrival += stall
        clock_map.observe(media, UTC0 + arrival)
        if n == 50:
            last = clock_map.start(0.0)
        elif last is not None and n % 50 == 0:
            piece = clock_map.advance(media)
            assert abs(piece.utc_ms - last.place(media)) < 0.001
            limit = SETTLE_SLEW if media < 10_000 else SLEW
            assert abs(piece.rate - 1) <= limit + 0.1 + 1e-9
            assert piece.rate > 0
            last, pieces = piece, pieces + 1
    assert pieces > 20


def test_an_older_bucket_is_left_alone() -> None:
    clock_map = ClockMap()
    clock_map.observe(0, 100)
    clock_map.observe(1_500, 1_600)
    clock_map.observe(900, 0)  # a B-frame of the bucket before: too late to count
    assert clock_map.start(0).utc_ms == 100
