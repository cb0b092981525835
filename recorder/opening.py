"""The first pictures of a run, placed by the line that the later ones keep to (docs/time.md). Pure.

All times are in milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence

from recorder.arrivals import EARLY_MS, LASTING_MS, REORDERED, Line, Picture, most_back_ms
from recorder.display_order import keep_in_order

HELD_MS = 1_000.0  # of pictures that were lost from what was held back in the beginning


def place_opening(
    pictures: Sequence[Picture], live: int, line: Line | None, usual_ms: float, reach_ms: float
) -> None:
    """Give the first pictures their media time by a line; None: by their arrival.

    Before number `live` they were held back. `usual_ms` is from one to the next, `reach_ms` by how
    much B-frames show before what came earlier, 0 without such.
    """
    first = pictures[0]
    following: Picture | None = None
    # ffmpeg gives the first picture of a session the timestamp of the next one at times
    stamps = [p.stamp_ms for p in pictures[:REORDERED]]
    is_guess = stamps.count(first.stamp_ms) == 2 and len(set(stamps)) == len(stamps) - 1
    earliest_ms, offset_ms = float("inf"), 0.0
    for n, p in reversed(list(enumerate(pictures))):
        at_ms = p.arrival_ms if line is None else p.stamp_ms * line.rate
        right_ms = at_ms + offset_ms
        most_ms, least_ms = float("inf"), -most_back_ms(usual_ms) if reach_ms else 0.0
        if following is not None:
            waited_ms = following.arrival_ms - p.arrival_ms
            most_ms = waited_ms + (HELD_MS if n < live else LASTING_MS)
            most_ms = max(3 * usual_ms, 3 * reach_ms, most_ms)
        if line is None:
            right_ms = min(right_ms, earliest_ms - 1)
        elif following is not None and (
            not least_ms <= following.media_ms - right_ms <= most_ms or (p is first and is_guess)
        ):
            # it shows before all that follow, and so does what came before it
            right_ms = earliest_ms - usual_ms
            offset_ms = right_ms - at_ms
        elif (late_ms := line.late_ms(p) - offset_ms) < -EARLY_MS:
            offset_ms += late_ms  # it cannot show after it arrived, nor what came before it
            right_ms += late_ms
        p.media_ms, p.moved_ms, p.by_arrival = right_ms, right_ms - at_ms, line is None
        following, earliest_ms = p, min(earliest_ms, right_ms)
    if reach_ms and line is not None:
        keep_in_order(pictures, reach_ms)
