"""What the arrivals of pictures say of their timestamps (docs/time.md). Pure.

`arrival - delay = timestamp * rate + level`: pictures whose delay is the least lie on a line, all
others above it. All times are in milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from recorder.source import Frame

EARLY_MS = 60.0  # placed after its arrival by more: its timestamp is wrong
JUMP_MS = 220.0  # from one picture to the next: a jump, or one wild timestamp
LASTING_MS = 220.0  # a difference above this that lasts for WINDOW_MS is believed
WINDOW_MS = 2_000.0
SURE_MS = 400.0  # pictures that would all be placed after their arrival need not be waited for
REORDER_MS = 3_200.0  # B-frames show so much before those that came earlier: 16 at five a second
REORDERED = 16  # pictures, the most that H.264 and H.265 let a decoder hold back
REORDERS = 1 / 16  # of the pictures, at least, whose timestamp is before that of the one before
FEW = 3  # pictures that are needed for a verdict
DRAINS = 0.1  # a delay that shrinks by so much of the time that passes is a network's
STEADY_MS = 60.0  # by which the least delays of the quarters of a line may differ
OUTLIER_MS = 250.0  # earlier than half of its quarter: a wild timestamp
RATE_TAKES_MS = 1_500.0  # of later pictures, to know a rate in the beginning
REGULAR = 0.9  # of the steps between timestamps; the others are pictures that were lost
RATES = (0.3, 3.3)  # UTC per media time; what is beyond is no rate


@dataclass(slots=True)
class Picture:
    """One picture on its way to a segment; `media_ms` is known once it is settled."""

    frame: Frame
    stamp_ms: float  # the camera's timestamp
    size: int
    pieces: list[bytes | bytearray] = field(default_factory=list)  # what came of it after `frame`
    media_ms: float = 0.0
    late_ms: float = 0.0  # arrival less placed time
    moved_ms: float = 0.0  # by which media time was moved against the timestamps at this picture
    by_arrival: bool = False  # its timestamp says nothing
    slower_ms: float = 0.0  # by which the link is slower than it was when the run began
    lost: int = 0  # packets that are missing in it or before it
    damaged: bool = False  # it is not whole

    @property
    def arrival_ms(self) -> float:
        """When it arrived, or would have if the link were as quick as in the beginning (UTC)."""
        return self.frame.arrival_ms - self.slower_ms


@dataclass(frozen=True, slots=True)
class Line:
    """`arrival - delay = timestamp * rate + level`, with delays from 0 on."""

    rate: float
    level_ms: float

    def late_ms(self, p: Picture) -> float:
        """Return by how much a picture came later than the least delayed."""
        return p.arrival_ms - p.stamp_ms * self.rate - self.level_ms


def fit(pictures: Sequence[Picture], rate: float) -> Line | None:
    """Return the line under the arrivals: at the rate given, else at another steady rate.

    None where the timestamps keep to no rate between RATES. What the network held back in between
    only lifts some quarters.
    """
    levels = levels_of(pictures, rate)
    low = [level <= least(levels) + STEADY_MS for level, _ in levels]
    if low[-1] and (sum(low) > 1 or len(low) < FEW):
        return Line(rate, least(levels))
    return other_rate(pictures, rate)


def first_line(pictures: Sequence[Picture]) -> Line | None:
    """Return the line of the first pictures of a run.

    What the camera held back looks at half the rate as if it came in time. So a rate is taken from
    the later half, and where that is too short for one, not yet.
    """
    line = fit(pictures, 1.0)
    if line is None or line.rate == 1.0:
        return line
    later = pictures[len(pictures) // 2 :]
    if later[-1].arrival_ms - later[0].arrival_ms < RATE_TAKES_MS:
        return None
    return other_rate(later, line.rate)


def beginning_line(pictures: Sequence[Picture]) -> Line | None:
    """Return the line that the first pictures keep to: all of them, or as many as do.

    None where timestamps say nothing; where arrivals tell no rate, but timestamps keep to one step,
    the network or the machine held some back.
    """
    for part in (4, 3, 2, 1):
        some = pictures[: len(pictures) * part // 4]
        is_enough = part == 4 or (some and some[-1].arrival_ms - some[0].arrival_ms >= SURE_MS)
        if is_enough and (line := first_line(some)) is not None:
            return line
    return Line(1.0, least(levels_of(pictures, 1.0))) if is_regular(pictures) else None


def usual_step(pictures: Sequence[Picture], line: Line | None) -> float:
    """Return the usual time from one picture to the next, in the order in which they show."""
    if line is None:
        shown = [p.arrival_ms for p in pictures]
    else:
        shown = sorted(p.stamp_ms * line.rate for p in pictures)
    steps = sorted(b - a for a, b in pairwise(shown) if b > a)  # two fields may have one time
    return max(1.0, steps[len(steps) // 2] if steps else 40.0)


def most_back_ms(usual_ms: float) -> float:
    """Return by how much B-frames show, at most, before what came earlier, where pictures follow
    each other by so much: what is beyond no decoder could hold back."""
    return min(REORDER_MS, REORDERED * usual_ms)


def _steps_back(pictures: Sequence[Picture]) -> list[float]:
    """Return by how much timestamps step back as they do with B-frames, in order; none: they show
    in the order in which they come.

    They do so with every group, from a picture that came before its turn: it stepped ahead by
    several pictures, and by no more than a decoder holds back: what steps farther is wild. Time
    that jumps back does so from where it was.
    """
    steps = [b.stamp_ms - a.stamp_ms for a, b in pairwise(pictures)]
    usual_ms = usual_step(pictures, Line(1.0, 0.0))
    most_ms = most_back_ms(usual_ms)
    leaps = [step > 1.5 * usual_ms for step in steps]
    back = sorted(
        -step
        for n, step in enumerate(steps)
        if -most_ms <= step < 0 and any(leaps[max(0, n - 2) : n])  # a second field may follow
    )
    return back if len(back) > max(1.0, REORDERS * len(steps)) else []


def reach_ms(pictures: Sequence[Picture]) -> float:
    """Return by how much B-frames show before what came earlier, as is usual; 0 without them."""
    back = _steps_back(pictures)
    return back[len(back) // 2] if back else 0.0


def is_regular(pictures: Sequence[Picture]) -> bool:
    """Say whether timestamps, put in order, keep to one step: then they say when to show what."""
    stamps = sorted(p.stamp_ms for p in pictures)
    steps = sorted(b - a for a, b in pairwise(stamps))
    if not steps or (usual := steps[len(steps) // 2]) < 1:
        return False
    if pictures[-1].stamp_ms < pictures[0].stamp_ms:  # they count down
        return False
    usual_ones = sum(0.5 * usual <= step <= 1.5 * usual for step in steps)
    passed_ms = pictures[-1].arrival_ms - pictures[0].arrival_ms
    return usual_ones >= REGULAR * len(steps) and (
        passed_ms < WINDOW_MS or RATES[0] <= passed_ms / (stamps[-1] - stamps[0]) <= RATES[1]
    )


def other_rate(pictures: Sequence[Picture], rate: float) -> Line | None:
    """Return the line of another steady rate; `rate` is where to look first."""
    levels = levels_of(pictures, rate)
    for _ in range(3):  # the least delayed pictures depend on the rate themselves
        (_, first), (_, last) = levels[0], levels[-1]
        passed_ms = last.stamp_ms - first.stamp_ms
        if passed_ms <= 0:
            return None
        rate = (last.arrival_ms - first.arrival_ms) / passed_ms
        if not RATES[0] <= rate <= RATES[1]:
            return None
        levels = levels_of(pictures, rate)
    return Line(rate, least(levels)) if spread(levels) <= STEADY_MS else None


def levels_of(pictures: Sequence[Picture], rate: float) -> list[tuple[float, Picture]]:
    """Return the least delay, plus a constant, of each quarter, and the picture that has it.

    B-frames come later than they could, and so does what they wait for: the others are not wild.
    """
    outlier_ms = OUTLIER_MS + 2 * rate * reach_ms(pictures)
    count = len(pictures)
    quarters = min(4, count)
    found = []
    for n in range(quarters):
        part = pictures[n * count // quarters : (n + 1) * count // quarters]
        levels = [p.arrival_ms - p.stamp_ms * rate for p in part]
        floor = sorted(levels)[len(levels) // 2] - outlier_ms
        least = min(range(len(part)), key=lambda k: (levels[k] < floor, levels[k]))
        found.append((levels[least], part[least]))
    return found


def least(levels: list[tuple[float, Picture]]) -> float:
    """Return the least of some levels."""
    return min(level for level, _ in levels)


def spread(levels: list[tuple[float, Picture]]) -> float:
    """Return by how much some levels differ."""
    values = [level for level, _ in levels]
    return max(values) - min(values)


def grew_at(pictures: Sequence[Picture], b_frames: bool) -> int:
    """Return the number of the last picture at which the delay grew at once; 0 if it did not.

    B-frames come later than they could, and say nothing.
    """
    found, before = 0, pictures[0]
    for n, p in enumerate(pictures):
        if p.stamp_ms < before.stamp_ms and b_frames:
            continue
        if p.late_ms - before.late_ms > JUMP_MS:
            found = n
        before = p
    return found


def is_lasting(pictures: Sequence[Picture], rate: float) -> bool:
    """Say whether the delay grew and stayed: what the network holds back comes faster again."""
    passed_ms = pictures[-1].arrival_ms - pictures[0].arrival_ms
    return (
        len(pictures) >= FEW
        and passed_ms >= SURE_MS
        and min(p.late_ms for p in pictures) > LASTING_MS
        and spread(levels_of(pictures, rate)) <= STEADY_MS
    )


def grown_ms(pictures: Sequence[Picture]) -> float:
    """Return by how much the least delay of the last third is above that of the first."""
    third = max(1, len(pictures) // 3)
    return min(p.late_ms for p in pictures[-third:]) - min(p.late_ms for p in pictures[:third])


def drains(pictures: Sequence[Picture]) -> bool:
    """Say whether the delay shrinks all the while: the network held pictures back."""
    if len(pictures) < FEW:
        return False
    passed_ms = pictures[-1].arrival_ms - pictures[0].arrival_ms
    return passed_ms >= SURE_MS and -grown_ms(pictures) > DRAINS * passed_ms
