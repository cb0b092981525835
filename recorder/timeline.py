"""A camera's timestamps made into media time that runs with UTC (docs/time.md). Pure.

Most pictures pass at once. One that seems to be placed wrongly waits, at most some seconds, until
the pictures after it say what happened: the network held them back, one timestamp was wild, time
jumped, the camera stood still, its rate changed, or its timestamps say nothing. All times are in
milliseconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from recorder.arrivals import (
    DRAINS,
    EARLY_MS,
    FEW,
    JUMP_MS,
    LASTING_MS,
    REORDERED,
    SURE_MS,
    WINDOW_MS,
    Line,
    Picture,
    beginning_line,
    drains,
    fit,
    grew_at,
    grown_ms,
    is_lasting,
    is_regular,
    least,
    levels_of,
    other_rate,
    spread,
    usual_step,
)
from recorder.clock_map import WHOLLY_WRONG, ClockMap
from recorder.display_order import DisplayOrder
from recorder.opening import place_opening
from recorder.reports import SenderReports

DOUBT_MS = 100.0  # placed before its arrival by so much more than others: is it late, or wrong?
HOLD_MS = 3_000.0  # what was held back longer by the network is placed as it was before
GROWS_MS = 40.0  # a delay that grows by more within the window is not judged before it is large
LONGEST_HOLD_MS = 6_000.0  # or before it was waited for so long
MOST_HELD = 500  # pictures; with more, each would take too long to look at
REORDER_SEEN = 32  # pictures that tell whether there are B-frames
OPENING = 8  # pictures of a run, whose timestamps may be of another time than what follows


class Timeline:
    """Gives the pictures of one run their media time, in the order in which they came."""

    def __init__(self, clock_map: ClockMap):
        """`clock_map` has the mapping that arrivals are compared with, and is told of arrivals."""
        self.by_arrival = False
        self._clock_map = clock_map
        self._rate, self._offset_ms = 1.0, 0.0  # media time = timestamp * rate + offset
        self._held: list[Picture] = []
        self._newest_ms = self._before_newest_ms = float("-inf")  # media time
        self._newest_stamp_ms = float("-inf")  # of the picture that has it
        self._is_field = False  # it may be the second one of the picture before it
        self._order = DisplayOrder()
        self._lately: deque[Picture] = deque(maxlen=REORDER_SEEN)  # are there B-frames by now?
        self._late_ms = 0.0  # of the newest that is settled
        self._before: Picture | None = None  # that picture
        self._tolerated_ms = 0.0  # a difference that lasts and is not above LASTING_MS
        self._judge_at_ms = 0.0
        self._lasting_ms = 0.0  # by which all came later at once, and still do
        self._slower_ms = 0.0  # by which the link is slower by now, as sender reports say
        self._reports = SenderReports()
        self._recent: list[Picture] = []  # do they keep to a rate, to another one?

    @property
    def reorders(self) -> bool:
        """Whether pictures show in another order than they come in: there are B-frames."""
        return bool(self._order)

    def begin(self, pictures: Sequence[Picture], live: int) -> list[Picture]:
        """Take the first pictures of a run, return those that are settled; starts the clock map.

        From number `live` on none was held back: by these time is set, and what came before is
        placed by them. The others are looked at as all that come later.
        """
        tail = pictures[live:]
        if len(tail) < FEW or tail[-1].arrival_ms - tail[0].arrival_ms < SURE_MS:
            tail = pictures
        self._order.learn(pictures)
        line = beginning_line(tail)
        self.by_arrival = line is None
        count, before = len(pictures), len(pictures) - len(tail)
        if line is not None:
            self._rate = line.rate
            in_line = [n for n, p in enumerate(tail, 1) if abs(line.late_ms(p)) <= DOUBT_MS]
            last = in_line[-1] if in_line else len(tail)
            count = before + next((n for n in in_line if n >= OPENING), last)
            for p in tail:
                if -EARLY_MS <= line.late_ms(p) <= LASTING_MS:
                    self._clock_map.observe(p.stamp_ms * line.rate, p.arrival_ms)
        for p in pictures:
            self._reports.hear(p.frame)
        opening = pictures[:count]
        place_opening(opening, before, line, usual_step(tail, line), self._order.reach_ms)
        newest = max(opening, key=lambda p: p.media_ms)
        self._newest_ms, self._newest_stamp_ms = newest.media_ms, newest.stamp_ms
        if line is not None:
            for p in opening:
                if not p.moved_ms:  # else its timestamp may be of another time
                    self._order.placed(p)
        self._clock_map.start(min(p.media_ms for p in opening))
        self._before = opening[-1]
        settled = list(opening)
        for p in pictures[count:]:
            settled += self.push(p)
        return settled

    def push(self, p: Picture) -> Sequence[Picture]:
        """Take a picture; return those that are settled now."""
        self._lately.append(p)
        if len(self._lately) == REORDER_SEEN and p.stamp_ms < self._lately[-2].stamp_ms:
            self._order.learn(self._lately)
        p.slower_ms = self._slower_ms
        if self.by_arrival:
            return self._push_by_arrival(p)
        p.media_ms = self.media_ms(p.stamp_ms)
        heard = self._reports.hear(p.frame) and self._lasting_ms > 0
        if heard and self._reports.grew_ms(p.frame) > self._lasting_ms / 2:
            self._grow_slower(self._lasting_ms)
            p.slower_ms = self._slower_ms
        late_ms = p.late_ms = p.arrival_ms - self._clock_map.place(p.media_ms)
        if late_ms < 0 <= p.slower_ms + late_ms:  # the link is quicker again
            self._slower_ms = p.slower_ms = p.slower_ms + late_ms
            late_ms = p.late_ms = 0.0
        if self._recent:  # whatever becomes of it: with B-frames some wait in each group
            self._recent.append(p)
            if p.arrival_ms - self._recent[0].arrival_ms > LONGEST_HOLD_MS:
                self._recent.clear()
        if not self._held:
            if self._is_in_line(p):
                self._look_for_a_rate(p)
                return (self._settle(p),)
            if self._late_ms - JUMP_MS < late_ms < 0:  # it cannot be: put right at once
                self._offset_ms += late_ms
                p.media_ms += late_ms
                p.moved_ms, p.late_ms = late_ms, 0.0
                self._look_for_a_rate(p)
                return (self._settle(p),)
        self._held.append(p)
        return self._resolve(p)

    def _grow_slower(self, more_ms: float) -> None:
        self._slower_ms += more_ms
        self._tolerated_ms = self._lasting_ms = 0.0
        self._reports.begin_anew()

    def _is_slower(self, at: int, by_ms: float) -> bool | None:
        """Say whether the link became slower at a picture that waits: all sender reports since come
        as much later as pictures do, by so much.

        None where no report came since, and one may come.
        """
        first, *others = self._held[at:]
        since = [h.frame for h in others if h.frame.report_ms != first.frame.report_ms]
        if since:
            return min(map(self._reports.grew_ms, since)) > by_ms / 2
        return None if self._reports.may_come(first.frame.arrival_ms) else False

    def _jumped_back(self, at: int) -> bool:
        """Say whether timestamps stepped back, at a picture that waits, and nothing was silent.

        Where the link becomes slower nothing comes meanwhile, and timestamps go on as usual.
        """
        p = self._held[at]
        before = self._held[at - 1] if at else self._before
        if before is None:
            return False
        usual_ms = usual_step(self._lately, Line(self._rate, 0.0))
        waited_ms, stepped_ms = p.arrival_ms - before.arrival_ms, p.media_ms - before.media_ms
        return abs(waited_ms - usual_ms) < abs(stepped_ms - usual_ms)

    def _go_on_slower(self, more_ms: float) -> list[Picture]:
        """Place what waits where its timestamps say: it all comes later by so much."""
        for h in self._held:
            slower_ms = max(0.0, min(more_ms, h.late_ms))
            h.slower_ms += slower_ms
            h.late_ms -= slower_ms
        settled = self._release(len(self._held))
        self._grow_slower(more_ms)
        return settled

    def _look_for_a_rate(self, p: Picture) -> None:
        """Take another rate where one picture after the other has to be put right.

        What the network held back does the same for a while, at a rate that is nearly right.
        """
        if p.moved_ms and not self._recent:
            self._recent.append(p)
        if not self._recent or p.arrival_ms - self._recent[0].arrival_ms < WINDOW_MS:
            return
        recent, self._recent = self._recent, []
        if sum(bool(r.moved_ms) for r in recent) >= FEW:
            line = other_rate(recent, self._rate)
            if line is not None and abs(line.rate / self._rate - 1) > WHOLLY_WRONG:
                self._take(line, p)
                self._clock_map.restart()

    def media_ms(self, stamp_ms: float) -> float:
        """Return the media time of a timestamp, as timestamps are read now."""
        return stamp_ms * self._rate + self._offset_ms

    def flush(self) -> Sequence[Picture]:
        """Settle what waits, by what is known so far."""
        if len(self._held) >= (REORDERED if self.reorders else FEW):  # B-frames alone say nothing
            return self._judge(last=True)
        return self._release(len(self._held))

    def _settle(self, p: Picture, placed: bool = False) -> Picture:
        """Take leave of a picture; one that is `placed` stays where it is, others keep in order."""
        self._late_ms, self._before = p.late_ms, p
        self._tolerated_ms = max(0.0, min(self._tolerated_ms, p.late_ms))
        self._lasting_ms = max(0.0, min(self._lasting_ms, p.late_ms))
        if self._is_in_line(p) and not self._lasting_ms:
            self._reports.take_usual(p.frame)
        if not placed:
            if p.stamp_ms > self._newest_stamp_ms or not self.reorders:  # after all that came
                p.media_ms = max(p.media_ms, self._newest_ms + 0.1)
            elif not p.by_arrival:
                p.media_ms = self._order.between(p)
            if not p.by_arrival:
                self._order.placed(p)
        if p.media_ms > self._newest_ms:
            step_ms = p.media_ms - self._newest_ms
            # B-frames come after two fields of the picture that they show before
            self._is_field = not self._is_field and self._order.is_step(step_ms / self._rate)
            if not self._is_field:
                self._before_newest_ms = self._newest_ms
            self._newest_ms, self._newest_stamp_ms = p.media_ms, p.stamp_ms
        if not p.by_arrival and p.late_ms >= -EARLY_MS:
            self._clock_map.observe(p.media_ms, p.arrival_ms)
        return p

    @property
    def _utc_rate(self) -> float:
        """UTC per timestamp as it is known by now: what arrivals have told is not forgotten."""
        beside = self._clock_map.rate
        return self._rate * (beside if abs(beside - 1) < WHOLLY_WRONG else 1.0)

    def _is_in_line(self, p: Picture) -> bool:
        return -EARLY_MS <= p.late_ms <= self._tolerated_ms + DOUBT_MS

    def _resolve(self, p: Picture) -> Sequence[Picture]:
        held = self._held
        if len(held) > 1 and self._is_in_line(p) and self._shows_after(p, held):
            return self._release(len(held))  # all is as it was; only some came late or were wild
        waited_ms = p.arrival_ms - held[0].arrival_ms
        if len(held) < FEW:
            return ()
        if waited_ms >= SURE_MS and all(h.late_ms < -EARLY_MS for h in held):
            levels = levels_of(held, self._utc_rate)
            if spread(levels) <= LASTING_MS:  # one jump, not many
                return self._move(Line(self._utc_rate, least(levels)))
        if len(held) >= MOST_HELD:
            return self._judge(last=True)
        if waited_ms >= WINDOW_MS and p.arrival_ms >= self._judge_at_ms:
            return self._judge()
        return ()

    def _shows_after(self, p: Picture, held: Sequence[Picture]) -> bool:
        """Say whether a picture shows after those that wait: a B-frame says nothing of them."""
        if not self.reorders:
            return True
        wild = [h.arrival_ms for h in held if self._is_wild(h)]
        return p.media_ms >= self._clock_map.media_of(max(wild, default=0.0))

    def _judge(self, last: bool = False) -> Sequence[Picture]:
        """Decide what the pictures that wait mean."""
        held = self._held
        newest_ms = held[-1].arrival_ms
        recent = [h for h in held if h.arrival_ms >= newest_ms - WINDOW_MS]
        recent = held if len(recent) < FEW else recent
        if (grew := grew_at(held, self.reorders)) and not last:
            if is_lasting(held[:grew], self._utc_rate):  # it happened twice
                self._held = held[:grew]
                settled = self._move(
                    Line(self._utc_rate, least(levels_of(self._held, self._utc_rate)))
                )
                return settled + [p for h in held[grew:] for p in self.push(h)]
            if drains([h for h in held[:grew] if h.late_ms >= -EARLY_MS]):
                return self._release(grew)  # the network held it back, and something else happened
            judged_ms = newest_ms - held[grew].arrival_ms
            if judged_ms < WINDOW_MS and newest_ms - held[0].arrival_ms < LONGEST_HOLD_MS:
                return ()  # what is to be judged has only begun
        late = [h for h in recent if h.late_ms >= -EARLY_MS]
        stepped = held[0].late_ms - self._late_ms > DOUBT_MS / 2  # no clock that runs slowly
        if len(late) > len(recent) // 2:
            least_ms, more_ms = min(h.late_ms for h in late), grown_ms(late)
            if -more_ms > DRAINS * (newest_ms - recent[0].arrival_ms) and not last:
                self._judge_at_ms = newest_ms + SURE_MS
                return self._release(sum(h.arrival_ms < newest_ms - HOLD_MS for h in held))
            waited_ms = newest_ms - held[0].arrival_ms
            may_wait = waited_ms < LONGEST_HOLD_MS and not last
            small = least_ms <= LASTING_MS
            if small and more_ms > GROWS_MS and may_wait:
                return ()
            jumped = stepped and self._jumped_back(grew)
            slower = stepped and not jumped and self._is_slower(grew, least_ms)
            if slower:
                return self._go_on_slower(least_ms)
            if small and not (jumped and least_ms > DOUBT_MS and not self.reorders):
                self._tolerated_ms = min(LASTING_MS - DOUBT_MS, max(0.0, least_ms))
                self._lasting_ms = least_ms if stepped else 0.0
                return self._release(len(held))
            if slower is None and may_wait:
                return ()
        line = fit(held, self._utc_rate) or fit(recent, self._utc_rate)
        if line is None and is_regular(held):
            line = Line(self._utc_rate, least(levels_of(held, self._utc_rate)))
        return self._move(line)

    def _move(self, line: Line | None) -> list[Picture]:
        """Go on by another line from the first picture that waits; None: by arrival."""
        held, clock_map = self._held, self._clock_map
        before_ms = [h.media_ms for h in held]
        stay: list[Picture] = []
        for h in held[:REORDERED] if self.reorders else ():
            # B-frames from before the jump come after the first picture from after it
            if self._is_in_line(h) or self._order.is_missing(h, self._newest_stamp_ms):
                h.media_ms = self._order.between(h)
                self._order.placed(h)
                stay.append(h)
        moved = [h for h in held if h not in stay]
        newest_ms = max([self._newest_ms, *(h.media_ms for h in stay)])
        self._order.begin_anew()
        if line is None or abs(line.rate / self._rate - 1) > WHOLLY_WRONG:
            self._recent.clear()  # else it may be this rate that moves them, again and again
        if line is None:
            self.by_arrival = True
            for h in held:
                h.media_ms = self._newest_ms = self._by_arrival(h)
        else:
            self._take(line, held[-1])
            self._move_to(moved, newest_ms)
            for h in moved:
                self._order.placed(h)
        self._tolerated_ms = self._lasting_ms = 0.0
        clock_map.restart()
        for h, was_ms in zip(held, before_ms, strict=True):
            h.moved_ms = h.media_ms - was_ms
            h.late_ms = h.arrival_ms - clock_map.place(h.media_ms)
        self._held = []
        return [self._settle(h, placed=True) for h in held]

    def _move_to(self, moved: Sequence[Picture], newest_ms: float) -> None:
        """Give pictures the time that their timestamps say now, none after its arrival."""
        in_order = sorted(moved, key=lambda h: h.stamp_ms) if self.reorders else moved
        latest_ms, back_ms = float("inf"), self._order.back_ms(self._rate)
        for h in reversed(in_order):
            h.media_ms = min(self.media_ms(h.stamp_ms), self._clock_map.media_of(h.arrival_ms))
            if self.reorders and h.media_ms < latest_ms + back_ms:
                latest_ms = h.media_ms = min(h.media_ms, latest_ms - 0.1)
        for h in in_order:  # none before others
            newest_ms = h.media_ms = max(h.media_ms, newest_ms + 0.1)

    def _take(self, line: Line, p: Picture) -> None:
        """Make a line the one in force, so that its least delayed pictures are placed in time."""
        self._rate = line.rate
        right_ms = self._clock_map.media_of(p.stamp_ms * line.rate + line.level_ms)
        self._offset_ms = right_ms - p.stamp_ms * line.rate

    def _release(self, count: int) -> list[Picture]:
        """Settle the first pictures that wait; a wild one between its neighbours."""
        done, self._held = self._held[:count], self._held[count:]
        if self.by_arrival:
            return [self._settle(p) for p in done]
        at = 0
        while at < count:
            end = at
            while end < count and self._is_wild(done[end]):
                end += 1
            if end > at:
                self._place_between(done[at:end], done[end] if end < count else None)
            else:
                self._settle(done[at])
            at = max(end, at + 1)
        return done

    def _is_wild(self, p: Picture) -> bool:
        earliest_ms = self._newest_ms
        if self.reorders:  # a B-frame shows after the one that was the newest before the newest
            earliest_ms = max(
                self._newest_ms - self._order.back_ms(self._rate), self._before_newest_ms - 1
            )
        return p.late_ms < -EARLY_MS or p.media_ms < earliest_ms

    def _place_between(self, pictures: Sequence[Picture], following: Picture | None) -> None:
        """Settle wild pictures between the newest one and the following; None: by arrival.

        With B-frames, if several are wild, their timestamps may still tell which shows first.
        """
        times, at_ms = [], self._newest_ms
        for p in pictures:
            if following is not None and not self.reorders:
                step_ms = (following.media_ms - self._newest_ms) / (len(pictures) + 1)
                at_ms += max(0.1, step_ms)
            else:
                at_ms = max(at_ms + 0.1, self._clock_map.media_of(p.arrival_ms))
            times.append(at_ms)
        in_order = sorted(pictures, key=lambda p: p.stamp_ms) if self.reorders else pictures
        for p, right_ms in zip(in_order, times, strict=True):
            p.moved_ms += right_ms - p.media_ms
            p.media_ms = right_ms
        for p in pictures:
            if self.reorders:
                right_ms = self._order.between(p)
                p.moved_ms += right_ms - p.media_ms
                p.media_ms = right_ms
                self._order.placed(p)
            p.late_ms = p.arrival_ms - self._clock_map.place(p.media_ms)
            self._settle(p, placed=True)

    # -- where timestamps say nothing ----------------------------------------------------

    def _by_arrival(self, p: Picture) -> float:
        p.by_arrival = True
        return max(self._clock_map.media_of(p.arrival_ms), self._newest_ms + 0.1)

    def _push_by_arrival(self, p: Picture) -> Sequence[Picture]:
        p.media_ms = self._by_arrival(p)
        self._recent.append(p)
        if p.arrival_ms - self._recent[0].arrival_ms >= WINDOW_MS and len(self._recent) >= 2 * FEW:
            if (line := fit(self._recent, 1.0)) is not None:
                self.by_arrival = False
                self._take(line, p)
            self._recent.clear()
        return (self._settle(p),)
