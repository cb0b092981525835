"""One camera's life: connect, record, notice, wait, connect again, for as long as the schedule.

States and gaps are made here; frames go from the source through the session to the spool.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from concurrent.futures import Executor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from config.schedule import Window
from recorder import gap_accounting
from recorder.approach import Approach
from recorder.camera_spec import CameraSpec
from recorder.camera_state import BACKOFF_S, CameraState, fault
from recorder.clock import Clock
from recorder.disk_watch import SpoolDisk
from recorder.ffmpeg import COPIED_VIDEO
from recorder.gap_accounting import CONNECTING, window_at
from recorder.native import NativeSource
from recorder.rtsp.connection import Connection, Resolver
from recorder.rtsp.describe import DescribeFailed, Offer, connect
from recorder.second_stream import SecondStream
from recorder.session import Session
from recorder.source import Source
from recorder.source_choice import CONFIGURED, ffmpeg_source, why_ffmpeg
from recorder.states import Event, State
from storage.records import Ending, GapCause
from storage.spool.numbers import Numbers
from storage.spool.writer import CameraSpool, SpoolBusy, TimeLine

LEAD_MS = 15_000  # connect this long before a window opens, so that it opens with a picture
LOOK_S = 30.0  # between looks whether a window opens: that none is left is true of one clock only
REFUSED_S = 0.5  # between looks whether the spool takes recordings again


class CameraRecorder:
    """Records one camera into its spool until cancelled."""

    def __init__(
        self,
        spec: CameraSpec,
        spool: Path,
        ffmpeg: str,
        clock: Clock,
        pool: Executor,
        disk: SpoolDisk,
        resolver: Resolver,
        last_run_ms: int | None = None,
    ):
        """`last_run_ms` is when a recorder before this one was last at work on this camera."""
        self.spec, self.clock, self._disk = spec, clock, disk
        self.state = CameraState(spec.name, clock, disk, pool)
        self.status, self._log = self.state.status, self.state.log
        self._root, self._ffmpeg = spool, ffmpeg
        self._approach, self._resolver = Approach(), resolver
        self._remarks: set[str] = set()  # on what the camera offers, which were said
        self._why_ffmpeg: str | None = None  # of the last session
        self._spool: CameraSpool | None = None
        self._session: Session | None = None
        self._gap_task: asyncio.Future[None] | None = None
        self._last_run_ms = last_run_ms
        self._look_again = asyncio.Event()  # at the schedule
        self._try_again = asyncio.Event()  # now, although a pause lasts
        self._given_away = False
        self._begun_ms = clock.now_ms()
        self._refused: Ending | None = None  # by the disk, since then, before it could be opened
        self._second: SecondStream | None = None  # where it is one

    def follow(self, first: Callable[[], TimeLine | None]) -> None:
        """Record a second stream: only while `first` says that the first one is recorded."""
        self._second = SecondStream(self.spec.name, first, self._disk)

    @property
    def time_line(self) -> TimeLine | None:
        """The run that is recorded now; None while none is."""
        return self._spool.time_line if self._spool and self._session else None

    # -- the life ------------------------------------------------------------------------

    async def run(self, spread_s: float = 0.0) -> None:
        """Record whenever the schedule says so; cancel to stop, which seals what is open."""
        spool = self._spool = await self._open()
        self.status.recorded_ms = spool.last_end_ms
        state = self.state
        try:
            await self._at_spool(
                gap_accounting.account_for_absence,
                spool,
                self.spec.windows,
                self.clock,
                self._last_run_ms,
                self._begun_ms,
                self._refused,
                self.spec.lease,
            )
            await asyncio.sleep(random.uniform(0, spread_s))
            while True:
                state.window = await self._until_scheduled()
                state.move(Event.SCHEDULED)
                self.status.cause = self.status.detail = None
                while self._is_open():
                    ending = await self._run_once(spool)
                    if ending is None:
                        break
                    await self._back_off(spool, ending)
                state.move(Event.UNSCHEDULED)
                self.status.cause = None
                await self._at_spool(gap_accounting.close_window, spool, state.window, self.clock)
        except asyncio.CancelledError:
            await asyncio.shield(self._stop(spool))
            raise
        finally:
            spool.close()

    async def _open(self) -> CameraSpool:
        told, spec, opened = "", self.spec, list[CameraSpool]()

        def open_spool(floor: Numbers) -> None:
            where = self._root, spec.election, spec.station, spec.camera
            opened.append(CameraSpool(*where, floor, lambda: int(self.clock.now_ms())))

        while True:
            if (refusal := self._disk.refusal) is not None:
                self._refused = refusal
                self.status.cause, self.status.detail = refusal.cause, refusal.detail
                await asyncio.sleep(REFUSED_S)
                continue
            try:
                lease, now_ms = spec.lease, self.clock.now_ms()
                floor = Numbers.by_lease(lease.epoch, now_ms) if lease else Numbers.by_clock(now_ms)
                await self.state.in_thread(open_spool, floor)
                return opened[0]
            except asyncio.CancelledError:
                for spool in opened:  # nobody has it, and its lock would stay until we end
                    spool.close()
                raise
            except (SpoolBusy, OSError) as error:
                if str(error) != told:
                    told = str(error)
                    self._log.warning("The spool cannot be used yet; trying again", why=told)
            await asyncio.sleep(1)

    def _is_open(self) -> bool:
        """Whether the window is not over."""
        return self.clock.now_ms() < self.state.window.end_ms

    async def _until_scheduled(self) -> Window:
        """Wait until shortly before the next window, for ever where none is left; a clock that is
        set is looked at at once."""
        while True:
            self._look_again.clear()
            now_ms = self.clock.now_ms()
            window = next((w for w in self.spec.windows if w.end_ms > now_ms), None)
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

    async def _run_once(self, spool: CameraSpool) -> Ending | None:
        """Run one session; None when the window closed. Any failure is an end with a cause."""
        if self._second and not await self._second.wait(self._is_open):
            return None
        if (refusal := self._disk.refusal) is not None:
            return refusal
        try:
            if (offer := self._approach.remembered()) is not None:
                return await self._by_ffmpeg(spool, offer)
            connection, offer = await self._connect()
            try:
                learned = self._approach.native_failed()
                why = why_ffmpeg(self.spec, offer, self._wants_audio(), learned)
                if why not in (None, CONFIGURED, self._why_ffmpeg):
                    self._log.info("Recording through ffmpeg", why=why)
                self._why_ffmpeg = why
                if why is None:
                    return await self._natively(spool, connection, offer)
            finally:
                await connection.close()
            await asyncio.sleep(self._approach.described(offer))
            return await self._by_ffmpeg(spool, offer)
        except DescribeFailed as failed:
            return failed.ending
        except Exception as error:  # a fault of ours may cost this camera a session, not its life
            self.state.tell_fault(error)
            return fault(error)

    async def _natively(
        self, spool: CameraSpool, connection: Connection, offer: Offer
    ) -> Ending | None:
        source = NativeSource(
            connection,
            offer,
            transport=self.spec.transport,
            keep_audio=self._wants_audio(),
            on_remark=self._remark,
            closed_at=self._approach.closed_at,
        )
        try:
            ending, pictures = await self._run_session(spool, source, offer)
        except Exception as error:
            self._approach.native_ended(fault(error), 0)
            raise
        if ending is None:
            return None
        if not source.sound_broke_it:
            self._approach.native_ended(ending, pictures)
        elif self._approach.sound_broke():
            self._log.warning("Trying without sound", why=ending.detail)
        return ending

    async def _by_ffmpeg(self, spool: CameraSpool, offer: Offer) -> Ending | None:
        if offer.description.video not in COPIED_VIDEO:
            codec = offer.description.video
            self._remark(f"the camera sends {codec}; it is encoded again, as H.264, at a cost")
        audio, now_ms = self._wants_audio(), self.clock.now_ms
        source = ffmpeg_source(self.spec, self._ffmpeg, offer, audio, now_ms)
        ending, pictures = await self._run_session(spool, source, offer)
        if ending is None:
            return None
        if source.refused_setup and not pictures and self._leave_out_sound():
            self._log.warning("Trying without sound", why=ending.detail)
        else:
            self._approach.ended(ending, pictures)
        return ending

    async def _run_session(
        self, spool: CameraSpool, source: Source, offer: Offer
    ) -> tuple[Ending | None, int]:
        """Return how a session ended, and how many pictures it had."""
        before = self.status.frames
        sound = self._wants_audio() and offer.description.audio is not None
        line = self._second.line if self._second else None
        session = Session(self.state, source, spool, sound, self._approach.needs_key, line)
        self._session = session
        try:
            return await session.run(), self.status.frames - before
        finally:
            self._session = None
            if self.status.frames > before:
                self._approach.needs_key = session.saw_key
                if self._second is not None:
                    self._second.came()

    async def _connect(self) -> tuple[Connection, Offer]:
        connection, offer = await connect(
            self.spec.url,
            self._resolver,
            user_agent=self.spec.user_agent,
            video_track=self.spec.video_track,
            on_waking=self._waking,
            clock_ms=self.clock.now_ms,
        )
        for text in offer.description.remarks:
            self._remark(text)
        return connection, offer

    def _remark(self, text: str) -> None:
        """Say something of what the camera offers, once."""
        if text not in self._remarks:
            self._remarks.add(text)
            self._log.info("What the camera offers", what=text)

    def _waking(self, text: str) -> None:
        """Say that an answer is waited for; a cause of before stays until there is another."""
        self.status.detail = text
        self._log.info("Waiting for the camera", why=text)

    def _wants_audio(self) -> bool:
        return self.spec.keep_audio and self._approach.takes_sound()

    def _leave_out_sound(self) -> bool:
        return self.spec.keep_audio and self._approach.leave_out_sound()

    async def _back_off(self, spool: CameraSpool, why: Ending) -> None:
        state = self.state
        state.move(Event.ENDED)
        state.tell_ending(why)
        if self._second is not None:
            self._second.refused(why)
        await self._at_spool(gap_accounting.note_gap, spool, why, state.window, self.clock)
        if self._refused_for(why.cause):
            await self._pause(spool, why.cause)
        pause_s = max(min(BACKOFF_S[-1], state.backoff.failed()), self._approach.pause_s())
        self.status.retries += 1
        self._try_again.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._try_again.wait(), pause_s)

    async def _pause(self, spool: CameraSpool, cause: GapCause) -> None:
        """Wait until the disk takes recordings again, or refuses for another cause."""
        while self._is_open():
            await asyncio.sleep(REFUSED_S)
            if not self._refused_for(cause):
                break
        self.state.backoff.succeeded()
        await self._at_spool(spool.write_gaps)

    def _refused_for(self, cause: GapCause) -> bool:
        return self._disk.refusal is not None and self._disk.refusal.cause is cause

    async def _stop(self, spool: CameraSpool) -> None:
        """Journal that nobody records now. The session has sealed its recording already."""
        if self._given_away:
            await self._at_spool(spool.end_gap, int(self.clock.now_ms()))
            return
        window = window_at(self.spec.windows, self.clock.now_ms())
        if window is not None:
            stopped = Ending(GapCause.RECORDER_STOPPED, "the recorder was stopped")
            await self._at_spool(gap_accounting.note_gap, spool, stopped, window, self.clock)

    async def _at_spool(self, work: Callable[..., None], *args: Any) -> None:
        """Do something with the spool that must not end the camera's life when it fails."""
        try:
            await self.state.in_thread(work, *args)
        except OSError as error:
            await self._disk.look()
            self.state.tell_refusal("The spool refuses to be written", error)
        except Exception:
            self._log.exception("A fault of the recorder at the spool")

    # -- what the worker calls -----------------------------------------------------------

    def tick(self) -> None:
        """Check the deadlines; the worker calls this about twice a second."""
        if self._session is not None:
            if (refusal := self._disk.refusal) is not None:
                self._session.end(refusal)
            elif self._second and (why := self._second.why_not()) is not None:
                self._session.end(why)
            self._session.tick()
        spool, status = self._spool, self.status
        if spool is None or status.state in (State.IDLE, State.RECORDING, State.STALLED):
            return
        # a window that opens before the first picture opens with a gap; so does a clock's new time
        window = window_at(self.spec.windows, self.clock.now_ms())
        if window is not None and spool.open_gap is None and not spool.is_recording:
            why = Ending(status.cause or GapCause.CONNECTING, status.detail or CONNECTING)
            self._gap_task = asyncio.ensure_future(
                self._at_spool(
                    gap_accounting.note_gap_before_recording, spool, why, window, self.clock
                )
            )

    def end_by_fault(self, error: Exception) -> None:
        """End the session by a fault of ours, while that is handled: the next begins anew."""
        self.state.tell_fault(error)
        if self._session is not None:
            self._session.end(fault(error))

    def clock_jumped(self, by_ms: float) -> None:
        """End the run: what comes is placed by another clock. Look at the schedule again."""
        self._look_again.set()
        if self._session is not None:
            text = f"the recorder's clock was set by {by_ms / 1000:+.1f} s"
            why = Ending(GapCause.CLOCK_JUMP, text)
            if self._second is None:
                self._session.clock_was_set(why, by_ms)
            else:
                self._second.clock_was_set()
                self._session.end(why)
        if by_ms < 0 and self._spool is not None:
            self._gap_task = asyncio.ensure_future(
                self._at_spool(gap_accounting.cut_future_gaps, self._spool, self.clock)
            )

    def give_away(self) -> None:
        """Have another machine account for what comes when this recorder ends."""
        self._given_away = True

    def change(self, spec: CameraSpec) -> None:
        """Take over what differs and ends no session: what is recorded goes on."""
        if spec.lease and spec.lease.alone and self.spec.lease != spec.lease:
            self.state.backoff.succeeded()  # the machine before has let the camera go
            self._try_again.set()
        self.spec = spec
        if self.status.state is not State.IDLE:
            now_ms = int(self.clock.now_ms())
            window = self.state.window
            ended = Window(window.start_ms, min(window.end_ms, now_ms))
            is_open = (w for w in spec.windows if w.start_ms - LEAD_MS <= now_ms < w.end_ms)
            self.state.window = next(is_open, ended)
        self._look_again.set()


def _utc(ms: float) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M:%S} UTC"
