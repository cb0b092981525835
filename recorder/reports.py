"""What sender reports say of the link alone: how late they come by the camera's own clock. Pure.

It does not matter what that clock says, only whether it is later than before. All times are in
milliseconds.
"""

from __future__ import annotations

from collections import deque

from recorder.source import Frame

USUAL_REPORTS = 3  # reports that say how late they come as usual
SET_BACK_MS = (
    220.0  # one that comes later by more while pictures do not: the camera's clock was set
)
AGAIN_MS = 12_000.0  # a camera that sent a report so lately sends another one soon


class SenderReports:
    """The reports that came with the pictures of one run."""

    def __init__(self) -> None:
        self._newest_ms: float | None = None  # how late it came
        self._came_ms = float("-inf")  # when
        # the newest that came while all was usual
        self._usual: deque[float] = deque(maxlen=USUAL_REPORTS)

    def hear(self, frame: Frame) -> bool:
        """Take note of the newest report by a frame; say whether it is another than before."""
        report_ms = frame.report_ms
        if report_ms is None or report_ms == self._newest_ms:
            return False
        self._newest_ms, self._came_ms = report_ms, frame.arrival_ms
        if self._usual and report_ms < min(self._usual):
            self._usual.append(report_ms)  # so quick the link is, whatever the picture says
        return True

    def take_usual(self, frame: Frame) -> None:
        """Take note that the report of a frame came while pictures came as usual.

        One that came much later than those before it is then by a clock that was set back.
        """
        report_ms = frame.report_ms
        if report_ms is None or report_ms in self._usual:
            return
        if self._usual and report_ms - min(self._usual) > SET_BACK_MS:
            self._usual.clear()
        self._usual.append(report_ms)

    def grew_ms(self, frame: Frame) -> float:
        """Return by how much later a frame's report came than those before: the link, alone."""
        if frame.report_ms is None or not self._usual:
            return 0.0
        return frame.report_ms - min(self._usual)

    def may_come(self, at_ms: float) -> bool:
        """Say whether another report may be on its way at a moment (UTC)."""
        return at_ms - self._came_ms < AGAIN_MS

    def begin_anew(self) -> None:
        """Compare those to come with the newest one alone: the link is another."""
        self._usual.clear()
        if self._newest_ms is not None:
            self._usual.append(self._newest_ms)
