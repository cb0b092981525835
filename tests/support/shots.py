"""Pictures whose true time is known, recorded through the segmenter."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from recorder.segmenter import Discontinuity, SegmentDraft, Segmenter
from recorder.source import Frame
from tests.support.frames import UTC0, VIDEO, check


@dataclass
class Shot:
    """One picture: when it was taken, what its timestamp says, when it arrived; ms."""

    taken: float
    stamp: float
    arrival: float
    key: bool
    report: float | None = None  # how much later than it was sent the newest report came
    ahead: float = 0.0  # the camera's clock, by which it dates its reports


@dataclass
class Result:
    """placed - taken of every picture with the marks of its segment, and how runs ended."""

    errors: list[tuple[float, float, bool]]  # taken, error, marked
    cuts: list[SegmentDraft]
    ends: list[Discontinuity]

    def worst(self, *, marked_too: bool = True, after: float = 0) -> float:
        return max(abs(e) for t, e, m in self.errors if t >= after and (marked_too or not m))


def reported(shots: list[Shot], every: float) -> list[Shot]:
    """Have the camera send reports, by its clock, which is an hour ahead and read to a ms."""
    at, report, read = shots[0].taken, None, itertools.cycle([0.0, 0.3, 1.0, 0.6])
    for shot in shots:
        shot.report = report
        if shot.taken >= at:  # right after this picture
            at += every
            report = shot.arrival - shot.taken - shot.ahead - 3_600_000 + next(read)
    return shots


def record(shots: list[Shot], ordered: bool = True) -> Result:
    """Cut as a session does: where a run breaks, the next one goes on with the frame in hand."""
    cutter, result = Segmenter([VIDEO]), Result([], [], [])
    runs: list[tuple[Segmenter, list[SegmentDraft]]] = [(cutter, [])]
    for number, shot in enumerate(shots):
        mark, arrival = number.to_bytes(4, "big"), UTC0 + shot.arrival
        pts, report = round(shot.stamp * 90), shot.report
        frame = Frame(1, pts, shot.key, mark, arrival, report_ms=report)
        try:
            runs[-1][1].extend(runs[-1][0].push(frame))
        except Discontinuity as broken:
            result.ends.append(broken)
            runs[-1][1].extend(runs[-1][0].finish())
            runs.append((Segmenter([VIDEO], runs[-1][0].target_duration_s, needs_key=False), []))
            runs[-1][1].extend(runs[-1][0].push(frame))
    runs[-1][1].extend(runs[-1][0].finish())
    seen = set()
    for cutter, cuts in runs:
        check(cutter, cuts)
        for cut in cuts:
            at, pictures, shown = cut.tfdt_90k, cut.runs[0], -1
            assert cutter.run_start_ms is not None
            assert cutter.run_start_ms + cut.tfdt_90k // 90 <= cut.arrival_ms
            for sample, data in zip(pictures.samples, pictures.data, strict=True):
                number = int.from_bytes(data, "big")
                assert number not in seen
                seen.add(number)
                assert not ordered or at + sample.cts > shown, "pictures change places"
                shown = at + sample.cts
                placed = cutter.run_start_ms + (at + sample.cts) / 90 - UTC0
                assert placed <= shots[number].arrival + 1
                marked = bool(cut.moved_ms or cut.by_arrival)
                result.errors.append((shots[number].taken, placed - shots[number].taken, marked))
                at += sample.duration
        result.cuts += cuts
    first = next(n for n, s in enumerate(shots) if s.key)
    assert len(seen) == len(shots) - first, "pictures were lost"
    return result
