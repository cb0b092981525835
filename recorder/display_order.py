"""In which order pictures show, where it is not the one in which they come: B-frames. Pure.

A picture comes before those that show before it and refer to it (H.264, 3.1; H.265, 3.1: output
order), and decoders complain where times have them in another order. Timestamps tell it as long
as they are of one time: of a group of pictures, not across a jump. All times are in milliseconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from recorder.arrivals import REORDERED, Line, Picture, most_back_ms, reach_ms, usual_step

MISSING = 1.5  # steps between two timestamps, from which on one is missing between them
FIELD = 0.5  # of that, at most, by which a second field shows after the first one
BESIDE = 1.5  # of how far B-frames usually reach back: who is beyond is of another group


class DisplayOrder:
    """How far B-frames of a run reach back, and where the last pictures were placed."""

    def __init__(self) -> None:
        # by which they usually show before what came earlier; 0: there are none
        self.reach_ms = 0.0
        self._step_ms = 40.0  # from one timestamp to the next, as they show
        self._placed: deque[tuple[float, float]] = deque(maxlen=REORDERED)  # timestamp, media time

    def __bool__(self) -> bool:
        """Whether pictures show in another order than they come in."""
        return self.reach_ms > 0

    def learn(self, pictures: Sequence[Picture]) -> None:
        """Take from pictures, in the order in which they came, whether there are B-frames."""
        self.reach_ms, self._step_ms = reach_ms(pictures), usual_step(pictures, Line(1.0, 0.0))

    def back_ms(self, rate: float) -> float:
        """Return by how much media time B-frames show, at most, before what came earlier."""
        return most_back_ms(self._step_ms * rate)

    def is_step(self, ms: float) -> bool:
        """Say whether timestamps apart by so much follow each other, or are of one moment."""
        return ms <= BESIDE * self._step_ms

    def placed(self, p: Picture) -> None:
        """Take note of where a picture was placed."""
        self._placed.append((p.stamp_ms, p.media_ms))

    def begin_anew(self) -> None:
        """Timestamps before and after need not compare."""
        self._placed.clear()

    def between(self, p: Picture) -> float:
        """Return the media time of a picture, which may show before others that came earlier."""
        far_ms = self.reach_ms + MISSING * self._step_ms
        near = [(stamp, ms) for stamp, ms in self._placed if abs(stamp - p.stamp_ms) <= far_ms]
        # a wild timestamp of some pictures ago may be near this one by chance
        beside = [one for one in near if 2 * sum(_differ(one, other) for other in near) < len(near)]
        before = [ms for stamp, ms in beside if stamp <= p.stamp_ms]
        after = [ms for stamp, ms in beside if stamp > p.stamp_ms]
        least, most = max(before, default=p.media_ms), min(after, default=float("inf"))
        if least + 0.2 > most:
            return (least + most) / 2
        return min(max(p.media_ms, least + 0.1 * bool(before)), most - 0.1)

    def is_missing(self, p: Picture, newest_stamp_ms: float) -> bool:
        """Say whether a picture shows shortly before the newest, where one is missing."""
        before = [stamp for stamp, _ in self._placed if stamp < p.stamp_ms]
        after = [stamp for stamp, _ in self._placed if stamp > p.stamp_ms]
        reaches = 0 < newest_stamp_ms - p.stamp_ms <= BESIDE * self.reach_ms
        if not (reaches and before and after):
            return False
        return min(after) - max(before) > MISSING * self._step_ms


def _differ(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Say whether two pictures were placed in another order than their timestamps have."""
    return (one[0] - other[0]) * (one[1] - other[1]) < 0


def keep_in_order(pictures: Sequence[Picture], reach_ms: float) -> None:
    """Have each group show after the one before it, and its B-frames before its first picture,
    however far some of them were moved. That may come as two fields."""
    groups: list[list[Picture]] = []
    for p in pictures:
        first, *others = groups[-1] if groups else [p]
        is_field = not others and 0 <= p.media_ms - first.media_ms <= FIELD * reach_ms
        if groups and (is_field or 0 < first.stamp_ms - p.stamp_ms <= BESIDE * reach_ms):
            groups[-1].append(p)
        else:
            groups.append([p])
    latest_ms = float("inf")
    for group in reversed(groups):
        in_order = sorted(group, key=lambda p: p.stamp_ms)
        for p in reversed(in_order):
            right_ms = min(p.media_ms, latest_ms - 0.1)
            p.moved_ms += right_ms - p.media_ms
            p.media_ms = latest_ms = right_ms
