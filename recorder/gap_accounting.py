"""Scheduled time without a recording, as gaps in the spool (docs/formats.md).

Every function blocks on the disk, and none is called for one camera in two threads at once.
"""

from __future__ import annotations

from collections.abc import Sequence

from base.intervals import clip
from config.schedule import Window
from config.secrets import redact_text
from recorder.clock import Clock
from storage.records import Ending, GapCause
from storage.spool.lease_file import CameraLease
from storage.spool.writer import CameraSpool

HEARTBEAT_MS = 2_000  # a gap that began after the last known heartbeat is believed for so long
CONNECTING = "the camera was asked, and no picture had come yet"

_RECORDER_CAUSES = (GapCause.RECORDER_STOPPED, GapCause.RECORDER_CRASHED)


def window_at(windows: Sequence[Window], ms: float) -> Window | None:
    """Return the window that holds a moment (UTC ms)."""
    return next((w for w in windows if w.start_ms <= ms < w.end_ms), None)


def note_gap(spool: CameraSpool, why: Ending, window: Window, clock: Clock) -> None:
    """Have an open gap with this cause, from where recordings and gaps end."""
    now_ms = int(clock.now_ms())
    if now_ms < window.start_ms:
        return
    gap = spool.open_gap
    if gap is not None and gap.cause is why.cause:
        spool.write_gaps()
        return
    if gap is not None:
        spool.end_gap(now_ms)
    start_ms = max(window.start_ms, spool.covered_until_ms(now_ms) or 0)
    if start_ms < window.end_ms:
        spool.begin_gap(start_ms, why.cause, redact_text(why.detail))


def note_gap_before_recording(
    spool: CameraSpool, why: Ending, window: Window, clock: Clock
) -> None:
    """Do as `note_gap` where nothing is recorded: the first segment may have come meanwhile."""
    if not spool.is_recording:
        note_gap(spool, why, window, clock)


def close_window(spool: CameraSpool, window: Window, clock: Clock) -> None:
    """Have a gap from where recordings and gaps end to the window's end."""
    start_ms = max(window.start_ms, spool.covered_until_ms(clock.now_ms()) or 0)
    if spool.open_gap is None and start_ms < window.end_ms:
        spool.begin_gap(start_ms, GapCause.NO_DATA, "the picture ended before the window")
    spool.end_gap(window.end_ms)


def cut_future_gaps(spool: CameraSpool, clock: Clock) -> None:
    """Journal that no gap has lasted beyond now: the clock was ahead when it was written."""
    now_ms = clock.now_ms()
    spool.look_back(now_ms)
    spool.cut_future_gaps(int(now_ms))


def account_for_absence(
    spool: CameraSpool,
    windows: Sequence[Window],
    clock: Clock,
    last_run_ms: int | None,
    begun_ms: float,
    refused: Ending | None,
    lease: CameraLease | None = None,
) -> None:
    """Make gaps of the scheduled time since a recorder was last at work on this camera.

    `last_run_ms` is when that was, as far as it is known. The disk refused since `begun_ms`
    where it was `refused` before the spool could be opened. What was before a `lease` another
    machine accounts for, unless it was lost.

    What a gap says that was open then is true until then: nobody tried after it. Where nothing
    tells when that was, or what tells it is of the future, it is the moment when it was said.
    """
    cut_future_gaps(spool, clock)
    now_ms = int(clock.now_ms())
    # since when it is not that no recorder ran
    here_ms = min(int(begun_ms), now_ms) if refused is not None else now_ms
    gap = spool.open_gap
    is_of_recorder = gap is not None and gap.cause in _RECORDER_CAUSES
    end_open_gap(spool, windows, last_run_ms, here_ms, here_ms if is_of_recorder else 0)
    covered = spool.covered_until_ms(now_ms)
    if lease is not None and (covered or 0) <= lease.since_ms:
        covered, why = _before_lease(lease, covered or 0, here_ms)
    elif (gap is not None and not is_of_recorder) or (
        covered is not None and spool.last_end_reason in (None, GapCause.RECORDER_CRASHED)
    ):
        why = Ending(GapCause.RECORDER_CRASHED, "the recorder ended without a word")
    elif covered is None and gap is None:
        detail = "no recorder was running, or what it wrote in this spool is gone"
        why = Ending(GapCause.RECORDER_STOPPED, detail)
    else:
        why = Ending(GapCause.RECORDER_STOPPED, "the recorder was not running")
    _account(spool, windows, covered or 0, here_ms, why)
    if refused is not None:
        _account(spool, windows, max(covered or 0, here_ms), now_ms, refused)
    if window_at(windows, now_ms) is not None:
        spool.begin_gap(now_ms, GapCause.CONNECTING, CONNECTING)


def end_open_gap(
    spool: CameraSpool,
    windows: Sequence[Window],
    last_run_ms: int | None,
    now_ms: int,
    known_ms: int = 0,
) -> None:
    """End the gap that lasted when the recorder before this one ended: then, as far as it is known
    when that was, at `known_ms` at the earliest, and by now at the latest."""
    if (gap := spool.open_gap) is None:
        return
    known_ms = max(known_ms, gap.start_ms + HEARTBEAT_MS)
    if last_run_ms is not None and last_run_ms <= now_ms:
        known_ms = max(known_ms, last_run_ms)
    window = window_at(windows, gap.start_ms)
    spool.end_gap(min(known_ms, now_ms, window.end_ms if window else now_ms))


def _before_lease(lease: CameraLease, covered_ms: int, here_ms: int) -> tuple[int, Ending]:
    """Return since when nobody recorded a camera that was given to this machine, and why."""
    if lease.missing is None:  # the machine before goes on until there are recordings here
        return here_ms, Ending(GapCause.CONNECTING, CONNECTING)
    since_ms, cause = lease.missing
    detail = "no recorder was running"
    if cause is GapCause.NODE_LOST:
        detail = (
            "the machine that recorded this camera is away; what it has of this time, and no "
            "archive has, comes back with it"
        )
    return max(covered_ms, since_ms), Ending(cause, detail)


def _account(
    spool: CameraSpool, windows: Sequence[Window], from_ms: int, to_ms: int, why: Ending
) -> None:
    """Have gaps in what is scheduled of a stretch."""
    for start_ms, end_ms in clip(windows, from_ms, to_ms):
        spool.begin_gap(start_ms, why.cause, why.detail)
        spool.end_gap(end_ms)
