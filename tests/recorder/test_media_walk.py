"""Random cameras on random links: each picture within bounds, or marked and soon within them.

A walk is drawn from a seed: stalls of the network and of the camera, jumps, wild timestamps, other
rates, a camera's clock that is set, and jitter, with and without B-frames. One event is at least
5 s after the other.
"""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.shots import Result, Shot, record, reported

pytestmark = pytest.mark.slow

SECONDS = 50
LAST_EVENT_MS = 43_000.0  # what happens at the very end nothing explains
APART_S = (5.0, 12.0)
WITHIN_MS, SOON_MS = 150.0, 3_000.0
NETWORK = ["stall", "slow stall", "jitter"]
SLOWER = "slower"  # or as quick as before: told from a camera that stalls by sender reports alone
CAMERA = ["jump", "freeze", "wild", "rate", "clock"]


class Walk:
    """A camera and a link: `shots` in the order in which they come."""

    def __init__(
        self,
        seed: int,
        kinds: list[str],
        b_frames: int,
        report_ms: float = 0.0,
        apart_s: tuple[float, float] = APART_S,
    ):
        self.chance = random.Random(seed)
        self.fps = self.chance.choice([12.5, 15, 25, 30])
        self.step = 1000 / self.fps
        self.gop = round(self.fps * self.chance.choice([1, 2, 4]))
        self.b_frames = b_frames
        self.events: list[tuple[float, str]] = []
        at = self.chance.uniform(*apart_s)
        while at * 1000 < LAST_EVENT_MS:
            self.events.append((at * 1000, self.chance.choice(kinds)))
            at += self.chance.uniform(*apart_s)
        self.delay_ms = 20 + b_frames * self.step
        stamped = self._stamped()
        self.shots = self._arrived(stamped)
        if report_ms:
            reported(self.shots, report_ms)

    def _stamped(self) -> list[tuple[float, float, float]]:
        """Return when pictures were taken, what their timestamps say, and how far the camera's
        clock is ahead, as they show."""
        chance, events = self.chance, [e for e in self.events if e[1] in CAMERA]
        frozen, rate, stamp, ahead, found = 0.0, 1.0, 50e6, 0.0, []
        clock = 1 + chance.uniform(-200, 200) / 1e6
        for n in range(int(SECONDS * self.fps)):
            at, wild = n * self.step + frozen, 0.0
            if events and events[0][0] <= at:
                kind, sign = events.pop(0)[1], chance.choice([-1, 1])
                if kind in ("jump", "clock"):
                    by = sign * math.exp(chance.uniform(math.log(300), math.log(7.2e6)))
                    stamp += by * rate  # what a camera's second is in its timestamps
                    ahead += by if kind == "clock" else 0.0
                elif kind == "freeze":
                    frozen += chance.uniform(300, 2_000)
                    at = n * self.step + frozen
                elif kind == "wild":
                    wild = sign * math.exp(chance.uniform(math.log(600), math.log(7.2e6)))
                else:
                    rate = chance.choice([0.5, 0.8, 1.0, 1.25, 2.0])
            stamp += self.step * rate * clock
            found.append((at, stamp + wild, ahead))
        return found

    def _order(self, count: int) -> list[int]:
        order: list[int] = []
        while (n := len(order)) < count:
            more = min(self.b_frames, self.gop - n % self.gop - 1, count - 1 - n)
            more = 0 if n % self.gop == 0 else more
            order += [n + more, *range(n, n + more)]
        return order

    def _arrived(self, stamped: list[tuple[float, float, float]]) -> list[Shot]:
        chance, events = self.chance, [e for e in self.events if e[1] not in CAMERA]
        held_ms = jitter_until = jitter = pace = before = newest = slower = 0.0
        shots = []
        for n in self._order(len(stamped)):
            taken, stamp, ahead = stamped[n]
            newest = max(newest, taken)
            at = newest + self.delay_ms
            if events and events[0][0] <= newest:
                kind = events.pop(0)[1]
                if kind == "jitter":
                    jitter_until, jitter = at + 5_000, chance.uniform(0, 150)
                elif kind == SLOWER:
                    slower = 0.0 if slower else chance.uniform(100, 600)
                else:
                    held_ms = at + chance.uniform(300, 2_000 if kind == "stall" else 1_500)
                    pace = 0.5 if kind == "stall" else self.step * chance.choice([0.3, 0.5, 0.7])
            at += slower + chance.uniform(0, jitter if at < jitter_until else 3)
            before = max(at, held_ms, before + (pace if at < before + pace else 0.1))
            shots.append(Shot(taken, stamp, before, n % self.gop == 0, ahead=ahead))
        return shots


def check_walk(walk: Walk) -> None:
    result = record(walk.shots, ordered=not walk.b_frames)  # none lost, none after its arrival
    assert not result.ends
    wrong_since, within_ms = None, WITHIN_MS + walk.b_frames * walk.step
    for taken, late_ms, marked in sorted(result.errors):
        error = abs(late_ms - walk.delay_ms)
        assert error <= within_ms or marked, (taken, error, walk.events)
        if error <= within_ms:
            wrong_since = None
        else:
            wrong_since = taken if wrong_since is None else wrong_since
            assert taken - wrong_since <= SOON_MS, (taken, error, walk.events)
    if not set(CAMERA).intersection(kind for _, kind in walk.events):
        check_order(result)


def check_order(result: Result) -> None:
    times = [taken + late_ms for taken, late_ms, _ in sorted(result.errors)]
    assert all(a < b for a, b in itertools.pairwise(times)), "pictures change places"


@pytest.mark.parametrize("kind", [*NETWORK, *CAMERA])
@given(seed=st.integers(0, 2**32))
def test_one_kind_of_event(kind: str, seed: int) -> None:
    check_walk(Walk(seed, [kind], b_frames=0))


@given(seed=st.integers(0, 2**32))
def test_all_kinds_of_events(seed: int) -> None:
    check_walk(Walk(seed, [*NETWORK, *CAMERA], b_frames=0))


# a jump ahead by less than the link is slower looks like one that is quick again
@pytest.mark.parametrize(
    "kinds", [[SLOWER], [*NETWORK, SLOWER, "freeze", "wild"], [*NETWORK, *CAMERA]]
)
@given(seed=st.integers(0, 2**32), report_ms=st.sampled_from([1_000, 2_000]))
def test_with_sender_reports(kinds: list[str], seed: int, report_ms: float) -> None:
    check_walk(Walk(seed, kinds, b_frames=0, report_ms=report_ms))


@pytest.mark.parametrize("b_frames", [1, 2, 3])
@given(seed=st.integers(0, 2**32))
@example(seed=19)  # another rate, of which most pictures are waited for, and then a freeze
@example(seed=373)  # a wild timestamp that by chance is that of a picture a second later
@example(seed=1_201)  # another rate, by which pictures are moved with each keyframe, the same
def test_b_frames(b_frames: int, seed: int) -> None:
    check_walk(Walk(seed, [*NETWORK, *CAMERA], b_frames))


@pytest.mark.parametrize("b_frames", [1, 2, 3])
@given(seed=st.integers(0, 2**32))
@example(seed=1)  # one stall after the other: what is put right comes between two of a group
@example(seed=2)  # a run that begins with a stall
@example(seed=47)  # a group of which the first picture was settled before the others were moved
def test_b_frames_keep_their_order_on_a_bad_link(b_frames: int, seed: int) -> None:
    """Stalls, one right after the other: decoders complain of pictures that change places."""
    result = record(Walk(seed, NETWORK, b_frames, apart_s=(0.3, 3.0)).shots, ordered=False)
    check_order(result)
    assert not result.ends
