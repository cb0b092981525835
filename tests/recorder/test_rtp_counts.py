"""Cameras that count their packets anew just behind, and timestamps half a circle away."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.support.packets import rtp
from tests.support.payloads import receive

COUNT = 3_000


@pytest.mark.parametrize("every", [6, 60, 99, 300])
def test_numbers_that_begin_anew_again_and_again_cost_no_picture(every: int) -> None:
    """As with each keyframe: all but one packet in thirty were taken for doubled ones."""
    sent = [rtp(n % every, b"%d" % n, stamp=n // 3 * 3_600) for n in range(COUNT)]
    taken, counts, _ = receive(sent)
    assert counts.received == COUNT and counts.doubled == counts.lost == 0
    assert counts.restarts == (COUNT - 1) // every
    assert [body for body in taken.bodies() if body != b"restart"] == [
        b"%d" % n for n in range(COUNT)
    ]


def test_numbers_that_begin_anew_within_a_picture_cost_the_rest_of_it() -> None:
    sent = [rtp(n - 50 * (n >= 1_501), b"%d" % n, stamp=n // 3 * 3_600) for n in range(COUNT)]
    _, counts, _ = receive(sent)
    assert counts.received >= COUNT - 2 and counts.restarts == 1


def test_what_comes_twice_begins_no_other_count() -> None:
    sent = [rtp(n, stamp=n // 3 * 3_600) for n in range(300)]
    _, counts, _ = receive(packet for packet in sent for _ in range(2))
    assert counts.received == counts.doubled == 300 and counts.restarts == 0
    again = [*sent[:200], *sent[190:200], *sent[200:]]
    _, counts, _ = receive(again)
    assert counts.received == 300 and counts.doubled == 10 and counts.restarts == 0


@pytest.mark.parametrize("by", [1 << 31, (1 << 31) - 1, (1 << 31) + 3_600, 1 << 30, -(1 << 30) + 7])
@pytest.mark.parametrize("packets", [1, 3])
def test_a_timestamp_of_one_picture_that_is_half_a_circle_away(by: int, packets: int) -> None:
    """Its highest bit is turned over, say: what follows is where it would be without."""
    wild = range(1_500, 1_500 + packets)
    sent = [rtp(n, stamp=n // 3 * 3_600 + by * (n in wild)) for n in range(COUNT)]
    taken, counts, _ = receive(sent)
    right = [n // 3 * 3_600 for n in range(COUNT)]
    found = [pts for _, pts, *_ in taken.all]
    assert counts.received == COUNT
    assert [a for n, a in enumerate(found) if n not in wild] == [
        a for n, a in enumerate(right) if n not in wild
    ]


def test_time_that_goes_on_from_half_a_circle_away_does_so() -> None:
    sent = [rtp(n, stamp=n // 3 * 3_600 + (1 << 31) * (n >= 1_500)) for n in range(COUNT)]
    taken, _, _ = receive(sent)
    found = [pts for _, pts, *_ in taken.all]
    assert all(b - a in (0, 3_600) for a, b in pairwise(found[1_500:]))


@pytest.mark.parametrize("back_s", [1, 4, 60, 7_200, None])
def test_time_that_goes_back_and_runs_on(back_s: int | None) -> None:
    """By so many seconds, or to 0: no packet is missed, and pictures go on as before."""

    def stamp(n: int) -> int:
        on = 3_000_000_000 + n // 3 * 3_600
        if n >= 1_500:
            on = (n - 1_500) // 3 * 3_600 if back_s is None else on - back_s * 90_000
        return on

    taken, counts, _ = receive(rtp(n, stamp=stamp(n)) for n in range(COUNT))
    found = [pts for _, pts, *_ in taken.all]
    assert counts.received == COUNT and counts.restarts == 0
    assert all(b - a in (0, 3_600) for a, b in pairwise(found[1_500:]))
    assert back_s is None or found[1_500] - found[1_499] == 3_600 - back_s * 90_000
