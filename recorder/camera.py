"""One camera's life: connect, record, notice, wait, connect again, for as long as the schedule.

What the operator is told, the gaps and the states come from here; frames pass through.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog

from base.backoff import Backoff
from config.schedule import Window, clip
from config.secrets import redact_text
from recorder.approach import Approach
from recorder.clock import Clock
from recorder.disk_watch import SpoolDisk
from recorder.ffmpeg import COPIED_VIDEO, FfmpegSource
from recorder.rtsp.connection import DEFAULT_USER_AGENT, Resolver
from recorder.rtsp.describe import DescribeFailed, Offer, describe
from recorder.session import Session
from recorder.source import SourceEnd
from recorder.states import TRANSITIONS, Event, State
from storage.records import GapCause, Numbers, Segment
from storage.spool.disk import Refusal
from storage.spool.writer import CameraSpool, SpoolBusy

LEAD_MS = 15_000  # connect this long before a window opens, so that it opens with a picture
BACKOFF_S = (0.5, 1.0, 2.0, 4.0, 5.0)
HEARTBEAT_MS = 2_000  # a gap that began after the last known heartbeat is believed for so long
LOOK_S = 30.0  # between looks whether a window opens: that none is left is true of one clock only
REFUSED_S = 0.5  # between looks whether the spool takes recordings again
CONNECTING = "the camera was asked, and no picture had come yet"
HEALTHY_S = 60.0  # of recording, until the ladder begins at its foot again

RECORDER_CAUSES = (GapCause.RECORDER_STOPPED, GapCause.RECORDER_CRASHED)

TOLD_AGAIN_S = 60.0  # a new run for the same cause

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class CameraSpec:
    """What a recorder needs to know of a camera; `url` may hold a password."""

    election: str
    station: str
    camera: str
    url: str = field(repr=False)
    transport: str = "auto"
    keep_audio: bool = True
    windows: tuple[Window, ...] = ()
    video_track: int | None = None  # counted from 1; None for the largest picture
    user_agent: str = DEFAULT_USER_AGENT

    @property
    def name(self) -> str:
        """Station and camera, as in addresses."""
        return f"{self.station}/{self.camera}"


@dataclass(slots=True)
class Status:
    """What `_status/` says of a camera (docs/formats.md)."""

    state: State
    since_ms: int
    cause: GapCause | None = None
    detail: str | None = None
    segment_no: int = 0
    bytes: int = 0
    frames: int = 0
    runs: int = 0
    retries: int = 0
    recorded_ms: int | None = None  # the end of the newest segment


class CameraRecorder:
    """Records one camera into its spool until cancelled."""

    def __init__(
        self,
        target: CameraSpec,
        spool: Path,
        ffmpeg: str,
        clock: Clock,
        pool: Executor,
        disk: SpoolDisk,
        resolver: Resolver,
        last_run_ms: int | None = None,
    ):
        """`last_run_ms` is when a recorder before this one was last at work on this camera."""
        self.target, self.disk = target, disk
        self.status = Status(State.IDLE, int(clock.now_ms()))
        self._root, self._ffmpeg, self.clock, self._pool = spool, ffmpeg, clock, pool
        self.log = log.bind(camera=target.name)
        self.approach, self._resolver = Approach(), resolver
        self._remarks: tuple[str, ...] = ()  # of the camera's offer, which were said
        self._spool: CameraSpool | None = None
        self._session: Session | None = None
        self._backoff = Backoff(BACKOFF_S, spread=0.3)
        self._hears = True  # the sound that the camera promises
        self._cut_told: tuple[GapCause, float] | None = None  # and when
        self._one_at_a_time = asyncio.Lock()  # the spool is not made for two threads
        self._gap_task: asyncio.Future[None] | None = None
        self._last_run_ms = last_run_ms
        self.window = Window(0, 0)  # that is recorded now, or was last
        self._look_again = asyncio.Event()  # at the schedule
        self._begun_ms = clock.now_ms()
        self._refused: Refusal | None = None  # by the disk, since then, before it could be opened
        self._told = False  # why nothing is recorded, in a line of this camera's own

    def move(self, event: Event) -> None:
        """Change the state as the table says; KeyError for what it does not have."""
        state = TRANSITIONS[self.status.state, event]
        if state is not self.status.state:
            self.status.state, self.status.since_ms = state, int(self.clock.now_ms())

    # -- the life ------------------------------------------------------------------------

    async def run(self, spread_s: float = 0.0) -> None:
        """Record whenever the schedule says so; cancel to stop, which seals what is open."""
        spool = self._spool = await self._open()
        self.status.recorded_ms = spool.last_end_ms
        try:
            await self._disk(self._account_for_absence)
            await asyncio.sleep(random.uniform(0, spread_s))
            while True:
                self.window = await self._until_scheduled()
                self.move(Event.SCHEDULED)
                self.status.cause = self.status.detail = None
                while self.clock.now_ms() < self.window.end_ms:
                    end = await self._run_once()
                    if end is None:
                        break
                    await self._back_off(end)
                self.move(Event.UNSCHEDULED)
                self.status.cause = None
                await self._disk(self._close_window, self.window)
        except asyncio.CancelledError:
            await asyncio.shield(self._stop())
            raise
        finally:
            spool.close()

    async def _open(self) -> CameraSpool:
        told = ""
        t = self.target
        while True:
            if (refusal := self.disk.refusal) is not None:
                self._refused = refusal
                self.status.cause, self.status.detail = refusal.cause, refusal.detail
                await asyncio.sleep(REFUSED_S)
                continue
            try:
                floor = Numbers.by_clock(self.clock.now_ms())
                spool: CameraSpool = await self.thread(
                    CameraSpool, self._root, t.election, t.station, t.camera, floor
                )
                return spool
            except (SpoolBusy, OSError) as error:
                if str(error) != told:
                    told = str(error)
                    self.log.warning("The spool cannot be used yet; trying again", why=told)
            await asyncio.sleep(1)

    async def _until_scheduled(self) -> Window:
        """Wait until shortly before the next window, for ever where none is left; a clock that is
        set is looked at at once."""
        while True:
            self._look_again.clear()
            now_ms = self.clock.now_ms()
            window = next((w for w in self.target.windows if w.end_ms > now_ms), None)
            wait_s = LOOK_S
            if window is None:
                self.status.detail = "no window is left by this clock; it is looked at every 30 s"
            else:
                wait_s = min(LOOK_S, (window.start_ms - LEAD_MS - now_ms) / 1000)
                self.status.detail = f"nothing is scheduled before {_utc(window.start_ms)}"
            if wait_s <= 0:
                assert window is not None
                return window
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._look_again.wait(), wait_s)

    async def _run_once(self) -> SourceEnd | None:
        """Hold one session; None when the window closed. Any failure is an end with a cause."""
        assert self._spool is not None
        if (refusal := self.disk.refusal) is not None:
            return SourceEnd(refusal.cause, refusal.detail)
        try:
            offer = self.approach.remembered() or await self._describe()
            keep_audio = self.target.keep_audio and self.approach.takes_sound(self.clock.now_ms())
            source = FfmpegSource(
                self._ffmpeg,
                offer.address.url,
                offer.description,
                transport=self.target.transport,
                keep_audio=keep_audio,
                clock_ms=self.clock.now_ms,
                user_agent=self.target.user_agent,
                proof=offer.proof,
            )
            before = self.status.frames
            sound = keep_audio and offer.description.audio is not None
            self._session = Session(self, source, self._spool, sound)
            end = await self._session.hold()
            if end is not None:
                self._learn(end, source.refused_setup, self.status.frames - before)
            return end
        except DescribeFailed as failed:
            return SourceEnd(failed.cause, failed.detail, failed.remedy)
        except Exception as error:  # a fault of ours may cost this camera a session, not its life
            self.log.exception("A session ended by a fault of the recorder")
            return SourceEnd(GapCause.STREAM_BROKEN, f"a fault of the recorder: {error!r}")
        finally:
            self._session = None

    async def _describe(self) -> Offer:
        offer = await describe(
            self.target.url,
            self._resolver,
            user_agent=self.target.user_agent,
            video_track=self.target.video_track,
            on_waking=self._waking,
        )
        remarks = offer.description.remarks
        if offer.description.video not in COPIED_VIDEO:
            codec = offer.description.video
            remarks += (f"the camera sends {codec}; it is encoded again, as H.264, at a cost",)
        for text in remarks:
            if text not in self._remarks:
                self.log.info("What the camera offers", what=text)
        self._remarks = remarks
        await asyncio.sleep(self.approach.described(offer))
        return offer

    def _waking(self, text: str) -> None:
        """Say that an answer is waited for; a cause of before stays until there is another."""
        self.status.detail = text
        self.log.info("Waiting for the camera", why=text)

    def _learn(self, end: SourceEnd, refused_setup: bool, pictures: int) -> None:
        """Take note of how a session ended: the next one may have to be another."""
        if refused_setup and not pictures and self._leave_out_sound():
            self.log.warning("Trying without sound", why=end.detail)
        else:
            self.approach.ended(end, pictures)

    def _leave_out_sound(self) -> bool:
        return self.target.keep_audio and self.approach.leave_out_sound(self.clock.now_ms())

    async def _back_off(self, end: SourceEnd) -> None:
        status = self.status
        self.move(Event.ENDED)
        self.tell(end)
        await self._disk(self._note_gap, end, self.window)
        if self._refused_for(end.cause):
            await self._pause(end.cause)
        pause_s = max(min(BACKOFF_S[-1], self._backoff.failed()), self.approach.pause_s())
        status.retries += 1
        await asyncio.sleep(pause_s)

    async def _pause(self, cause: GapCause) -> None:
        """Wait until the disk takes recordings again, or refuses for another cause."""
        while self.clock.now_ms() < self.window.end_ms:
            await asyncio.sleep(REFUSED_S)
            if not self._refused_for(cause):
                break
        self._backoff.succeeded()
        await self._disk(self._write_gaps)

    def tell(self, end: SourceEnd) -> None:
        """Say why nothing is recorded, once a cause; what all cameras suffer the disk says."""
        status, refusal = self.status, self.disk.refusal
        if end.cause != status.cause:
            self._told = refusal is None or refusal.detail != end.detail
            if self._told:
                to_do = {"to_do": end.remedy} if end.remedy else {}
                self.log.warning("Not recording", cause=end.cause.value, why=end.detail, **to_do)
        status.cause, status.detail = end.cause, end.detail

    def hears(self, heard: bool) -> None:
        """Say once when the sound that the camera promises does not come, and when it does."""
        if heard is not self._hears:
            self._hears = heard
            if heard:
                self.log.info("The camera sends sound again; it is recorded with it")
            else:
                self.log.warning("The camera promises sound and sends none; it is recorded without")

    def run_ended(self, why: SourceEnd) -> None:
        """Take note, in a thread, that a run ended and the session goes on with another."""
        now = time.monotonic()
        before = self._cut_told
        if before is None or before[0] is not why.cause or now - before[1] > TOLD_AGAIN_S:
            self._cut_told = why.cause, now
            self.log.warning("A new run begins", cause=why.cause.value, why=why.detail)
        self._note_gap(why, self.window)

    def refused(self, what: str, error: OSError) -> None:
        """Say what the disk refused, where that is not told of all of the disk."""
        if self.disk.refusal is None:
            self.log.error(what, why=error.strerror)

    def _refused_for(self, cause: GapCause) -> bool:
        return self.disk.refusal is not None and self.disk.refusal.cause is cause

    def recorded(self, segment: Segment, healthy_s: float) -> None:
        """Take note of a written segment; `healthy_s` is how long its session has recorded."""
        status = self.status
        if status.state in (State.CONNECTING, State.BACKOFF):
            self.move(Event.SEGMENT)
            status.runs += 1
            if status.cause is not None and self._told:
                self.log.info("Recording again", after=status.cause.value)
            status.cause = status.detail = None
        if healthy_s > HEALTHY_S:
            self._backoff.succeeded()
        status.segment_no, status.recorded_ms = segment.segment_no, segment.end_ms
        status.bytes += segment.length

    def change_windows(self, target: CameraSpec) -> None:
        """Take over a target that differs in its windows alone: what is recorded goes on."""
        self.target = target
        if self.status.state is not State.IDLE:
            now_ms = int(self.clock.now_ms())
            ended = Window(self.window.start_ms, min(self.window.end_ms, now_ms))
            is_open = (w for w in target.windows if w.start_ms - LEAD_MS <= now_ms < w.end_ms)
            self.window = next(is_open, ended)
        self._look_again.set()

    async def _stop(self) -> None:
        """Journal that nobody records now. The session has sealed its recording already."""
        window = _window_at(self.target.windows, self.clock.now_ms())
        if window is not None:
            stopped = SourceEnd(GapCause.RECORDER_STOPPED, "the recorder was stopped")
            await self._disk(self._note_gap, stopped, window)

    def tick(self) -> None:
        """Check the deadlines; the worker calls this about twice a second."""
        if self._session is not None:
            if (refusal := self.disk.refusal) is not None:
                self._session.end(SourceEnd(refusal.cause, refusal.detail))
            self._session.tick()
        if self._spool is None or self.status.state in (State.IDLE, State.RECORDING, State.STALLED):
            return
        # a window that opens before the first picture opens with a gap; so does a clock's new time
        window = _window_at(self.target.windows, self.clock.now_ms())
        if window is not None and self._spool.open_gap is None and not self._spool.is_recording:
            cause = self.status.cause or GapCause.CONNECTING
            end = SourceEnd(cause, self.status.detail or CONNECTING)
            self._gap_task = asyncio.ensure_future(self._disk(self._open_with_gap, end, window))

    def clock_jumped(self, by_ms: float) -> None:
        """End the run: what comes is placed by another clock. Look at the schedule again."""
        self._look_again.set()
        if self._session is not None:
            text = f"the recorder's clock was set by {by_ms / 1000:+.1f} s"
            self._session.clock_was_set(SourceEnd(GapCause.CLOCK_JUMP, text), by_ms)
        if by_ms < 0 and self._spool is not None:
            self._gap_task = asyncio.ensure_future(self._disk(self._cut_gaps))

    # -- gaps (in a thread) --------------------------------------------------------------

    def _covered_until_ms(self) -> int | None:
        assert self._spool is not None
        return self._spool.covered_until_ms(self.clock.now_ms())

    def _cut_gaps(self) -> None:
        assert self._spool is not None
        self._spool.look_back(self.clock.now_ms())
        self._spool.cut_future_gaps(int(self.clock.now_ms()))

    def _account_for_absence(self) -> None:
        """Make gaps of the scheduled time since a recorder was last at work on this camera.

        What a gap says that was open then is true until then: nobody tried after it. Where nothing
        tells when that was, or what tells it is of the future, it is the moment when it was said.
        """
        spool = self._spool
        assert spool is not None
        self._cut_gaps()
        now_ms = int(self.clock.now_ms())
        # since when it is not that no recorder ran
        begun_ms = min(int(self._begun_ms), now_ms) if self._refused is not None else now_ms
        gap, windows = spool.open_gap, self.target.windows
        is_of_recorder = gap is not None and gap.cause in RECORDER_CAUSES
        if gap is not None:
            known_ms = begun_ms if is_of_recorder else gap.start_ms + HEARTBEAT_MS
            if self._last_run_ms is not None and self._last_run_ms <= now_ms:
                known_ms = max(known_ms, self._last_run_ms)
            window = _window_at(windows, gap.start_ms)
            spool.end_gap(min(known_ms, begun_ms, window.end_ms if window else now_ms))
        covered = spool.covered_until_ms(now_ms)
        if (gap is not None and not is_of_recorder) or (
            covered is not None and spool.last_end_reason in (None, GapCause.RECORDER_CRASHED)
        ):
            cause, detail = GapCause.RECORDER_CRASHED, "the recorder ended without a word"
        elif covered is None and gap is None:
            detail = "no recorder was running, or what it wrote in this spool is gone"
            cause = GapCause.RECORDER_STOPPED
        else:
            cause, detail = GapCause.RECORDER_STOPPED, "the recorder was not running"
        self._account(covered or 0, begun_ms, cause, detail)
        if self._refused is not None:
            from_ms = max(covered or 0, begun_ms)
            self._account(from_ms, now_ms, self._refused.cause, self._refused.detail)
        if _window_at(windows, now_ms) is not None:
            spool.begin_gap(now_ms, GapCause.CONNECTING, CONNECTING)

    def _account(self, from_ms: int, to_ms: int, cause: GapCause, detail: str) -> None:
        """Have gaps in what is scheduled of a stretch."""
        assert self._spool is not None
        for piece in clip(self.target.windows, from_ms, to_ms):
            self._spool.begin_gap(piece.start_ms, cause, detail)
            self._spool.end_gap(piece.end_ms)

    def _close_window(self, window: Window) -> None:
        """Have a gap from where recordings and gaps end to the window's end."""
        spool = self._spool
        assert spool is not None
        start_ms = max(window.start_ms, self._covered_until_ms() or 0)
        if spool.open_gap is None and start_ms < window.end_ms:
            spool.begin_gap(start_ms, GapCause.NO_DATA, "the picture ended before the window")
        spool.end_gap(window.end_ms)

    def _open_with_gap(self, end: SourceEnd, window: Window) -> None:
        assert self._spool is not None
        if not self._spool.is_recording:  # the first segment may have come meanwhile
            self._note_gap(end, window)

    def _note_gap(self, end: SourceEnd, window: Window) -> None:
        """Have an open gap with this cause, from where recordings and gaps end."""
        spool = self._spool
        assert spool is not None
        now_ms = int(self.clock.now_ms())
        if now_ms < window.start_ms:
            return
        gap = spool.open_gap
        if gap is not None and gap.cause is end.cause:
            spool.write_gaps()
            return
        if gap is not None:
            spool.end_gap(now_ms)
        start_ms = max(window.start_ms, self._covered_until_ms() or 0)
        if start_ms < window.end_ms:
            spool.begin_gap(start_ms, end.cause, redact_text(end.detail))

    def _write_gaps(self) -> None:
        assert self._spool is not None
        self._spool.write_gaps()

    # -- helpers -------------------------------------------------------------------------

    async def thread(self, work: Callable[..., Any], *args: Any) -> Any:
        """Do something with the disk, one thing at a time per camera."""
        async with self._one_at_a_time:
            with self.disk.at_work(self.target.name):
                done = asyncio.get_running_loop().run_in_executor(self._pool, work, *args)
                try:
                    return await asyncio.shield(done)
                except asyncio.CancelledError:  # a thread cannot be: it has the spool until then
                    await asyncio.wait({done})
                    raise

    async def _disk(self, work: Callable[..., Any], *args: Any) -> None:
        """Do something with the disk that must not end the camera's life when it fails."""
        try:
            await self.thread(work, *args)
        except OSError as error:
            await self.disk.look()
            self.refused("The spool refuses to be written", error)
        except Exception:
            self.log.exception("A fault of the recorder at the spool")

    def status_dict(self) -> dict[str, Any]:
        """Return the camera's entry in `_status/`."""
        return asdict(self.status)


def _utc(ms: float) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _window_at(windows: Sequence[Window], ms: float) -> Window | None:
    return next((w for w in windows if w.start_ms <= ms < w.end_ms), None)
