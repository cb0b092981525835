"""One camera's life: connect, record, notice, wait, connect again, for as long as the schedule.

What the operator is told, the gaps and the states come from here; frames pass through.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from config.schedule import Window, clip
from config.secrets import redact_text
from recorder.clock import Clock, clock_state
from recorder.cutting import Broken, Cut, Cutter, output_tracks
from recorder.ffmpeg import FfmpegSource
from recorder.rtsp import DescribeFailed, describe
from recorder.source import Frame, Source, SourceEnd
from storage.fmp4 import TrackInit, write_init, write_segment
from storage.index import GapCause, Track
from storage.spool import CameraSpool, Numbers, Run, SpoolBusy

CONNECT_S = 10.0  # for an answer
FIRST_S = 15.0  # then for the first picture: a keyframe, for which some cameras take long
STALLED_S = 2.0  # without a picture: said so
SILENCE_S = 5.0  # without a picture: the session is ended
LEAD_MS = 15_000  # connect this long before a window opens, so that it opens with a picture
TAIL_MS = 500  # go on this long after it closed: what was taken last is still on its way
LADDER_S = (0.5, 1.0, 2.0, 4.0, 5.0)
SOUND_S = 10.0  # without sound where it was promised
DEAF_MS = 600_000  # until it is asked for again
HEALTHY_S = 60.0  # of recording, until the ladder begins at its foot again
MAX_UNWRITTEN = 64 * 1024 * 1024  # bytes that wait for a slow disk before the camera must wait

log = structlog.get_logger()


class State(StrEnum):
    """What a camera is doing."""

    IDLE = "idle"
    CONNECTING = "connecting"
    RECORDING = "recording"
    STALLED = "stalled"
    BACKOFF = "backoff"


class Event(StrEnum):
    """What moves a camera from one state to another."""

    SCHEDULED = "scheduled"
    SEGMENT = "segment"
    SILENCE = "silence"
    PICTURE = "picture"
    ENDED = "ended"
    RETRY = "retry"
    UNSCHEDULED = "unscheduled"


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.IDLE, Event.SCHEDULED): State.CONNECTING,
    (State.CONNECTING, Event.SEGMENT): State.RECORDING,
    (State.CONNECTING, Event.ENDED): State.BACKOFF,
    (State.CONNECTING, Event.UNSCHEDULED): State.IDLE,
    (State.RECORDING, Event.SILENCE): State.STALLED,
    (State.RECORDING, Event.ENDED): State.BACKOFF,
    (State.RECORDING, Event.UNSCHEDULED): State.IDLE,
    (State.STALLED, Event.PICTURE): State.RECORDING,
    (State.STALLED, Event.ENDED): State.BACKOFF,
    (State.STALLED, Event.UNSCHEDULED): State.IDLE,
    (State.BACKOFF, Event.RETRY): State.CONNECTING,
    (State.BACKOFF, Event.UNSCHEDULED): State.IDLE,
}


@dataclass(frozen=True, slots=True)
class Target:
    """What a recorder needs to know of a camera; `url` may hold a password."""

    election: str
    station: str
    camera: str
    url: str = field(repr=False)
    transport: str = "auto"
    keep_audio: bool = True
    windows: tuple[Window, ...] = ()

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
    last_arrival_ms: int | None = None


class CameraRecorder:
    """Records one camera into its spool until cancelled."""

    def __init__(self, target: Target, spool: Path, ffmpeg: str, clock: Clock, pool: Executor):
        self.target = target
        self.status = Status(State.IDLE, int(clock.now_ms()))
        self._root, self._ffmpeg, self._clock, self._pool = spool, ffmpeg, clock, pool
        self._log = log.bind(camera=target.name)
        self._spool: CameraSpool | None = None
        self._session: _Session | None = None
        self._rung = 0
        self.deaf_until_ms = 0.0  # no sound comes although the camera promises it
        self._one_at_a_time = asyncio.Lock()  # the spool is not made for two threads
        self._gap_task: asyncio.Future[None] | None = None

    def _move(self, event: Event) -> None:
        state = TRANSITIONS[self.status.state, event]
        if state is not self.status.state:
            self.status.state, self.status.since_ms = state, int(self._clock.now_ms())

    # -- the life ------------------------------------------------------------------------

    async def run(self, spread_s: float = 0.0) -> None:
        """Record whenever the schedule says so; cancel to stop, which seals what is open."""
        spool = self._spool = await self._open()
        try:
            await self._disk(self._account_for_absence)
            await asyncio.sleep(random.uniform(0, spread_s))
            while (window := await self._until_scheduled()) is not None:
                self._move(Event.SCHEDULED)
                while self._clock.now_ms() < window.end_ms:
                    end = await self._run_once(window)
                    if end is None:
                        break
                    await self._back_off(end, window)
                self._move(Event.UNSCHEDULED)
                await self._disk(self._close_window, window)
            await asyncio.Event().wait()  # nothing more is scheduled
        except asyncio.CancelledError:
            await asyncio.shield(self._stop())
            raise
        finally:
            spool.close()

    async def _open(self) -> CameraSpool:
        told = ""
        t = self.target
        while True:
            try:
                floor = Numbers.by_clock(self._clock.now_ms())
                spool: CameraSpool = await self._thread(
                    CameraSpool, self._root, t.election, t.station, t.camera, floor
                )
                return spool
            except (SpoolBusy, OSError) as error:
                if str(error) != told:
                    told = str(error)
                    self._log.warning("The spool cannot be used yet; trying again", why=told)
            await asyncio.sleep(1)

    async def _until_scheduled(self) -> Window | None:
        """Wait until shortly before the next window; None when there is none."""
        while True:
            now_ms = self._clock.now_ms()
            window = next((w for w in self.target.windows if w.end_ms > now_ms), None)
            if window is None or window.start_ms - LEAD_MS <= now_ms:
                return window
            await asyncio.sleep(min(30.0, (window.start_ms - LEAD_MS - now_ms) / 1000))

    async def _run_once(self, window: Window) -> SourceEnd | None:
        """Hold one session; None when the window closed. Any failure is an end with a cause."""
        assert self._spool is not None
        try:
            description = await describe(self.target.url, CONNECT_S)
            if description.video == "mjpeg":
                self._log.info("The camera sends MJPEG; it is recorded as H.264")
            source = FfmpegSource(
                self._ffmpeg,
                self.target.url,
                description,
                transport=self.target.transport,
                keep_audio=self.target.keep_audio and self._clock.now_ms() > self.deaf_until_ms,
                clock_ms=self._clock.now_ms,
            )
            self._session = _Session(self, source, self._spool, window)
            return await self._session.hold()
        except DescribeFailed as failed:
            return SourceEnd(failed.cause, failed.detail)
        except Exception as error:  # a fault of ours may cost this camera a session, not its life
            self._log.exception("A session ended by a fault of the recorder")
            return SourceEnd(GapCause.STREAM_BROKEN, f"a fault of the recorder: {error!r}")
        finally:
            self._session = None

    async def _back_off(self, end: SourceEnd, window: Window) -> None:
        status = self.status
        self._move(Event.ENDED)
        if end.cause != status.cause:
            self._log.warning("Not recording", cause=end.cause.value, why=end.detail)
        status.cause, status.detail = end.cause, end.detail
        await self._disk(self._note_gap, end, window)
        pause_s = min(LADDER_S[-1], LADDER_S[self._rung] * random.uniform(0.7, 1.3))
        self._rung = min(self._rung + 1, len(LADDER_S) - 1)
        status.retries += 1
        await asyncio.sleep(pause_s)
        self._move(Event.RETRY)

    def recorded(self, segment_no: int, size: int, healthy_s: float) -> None:
        """Take note of a written segment; `healthy_s` is how long its session has recorded."""
        status = self.status
        if status.state is State.CONNECTING:
            self._move(Event.SEGMENT)
            status.runs += 1
            if status.cause is not None:
                self._log.info("Recording again", after=status.cause.value)
            status.cause = status.detail = None
        if healthy_s > HEALTHY_S:
            self._rung = 0
        status.segment_no = segment_no
        status.bytes += size

    async def _stop(self) -> None:
        """Journal that nobody records now. The session has sealed its recording already."""
        window = _window_at(self.target.windows, self._clock.now_ms())
        if window is not None:
            stopped = SourceEnd(GapCause.RECORDER_STOPPED, "the recorder was stopped")
            await self._disk(self._note_gap, stopped, window)

    def tick(self) -> None:
        """Check the deadlines; the worker calls this about twice a second."""
        if self._session is not None:
            self._session.tick()
        if self._spool is None or self.status.state in (State.IDLE, State.RECORDING, State.STALLED):
            return
        # a window that opens before the first picture opens with a gap
        window = _window_at(self.target.windows, self._clock.now_ms())
        if window is not None and self._spool.open_gap is None and not self._covered(window):
            cause = self.status.cause or GapCause.RECORDER_STOPPED
            end = SourceEnd(cause, self.status.detail or "no picture yet")
            self._gap_task = asyncio.ensure_future(self._disk(self._open_with_gap, end, window))

    def clock_jumped(self, by_ms: float) -> None:
        """End the run: what comes is placed by another clock."""
        if self._session is not None:
            text = f"the recorder's clock was set by {by_ms / 1000:+.1f} s"
            self._session.end(SourceEnd(GapCause.CLOCK_JUMP, text))

    # -- gaps (in a thread) --------------------------------------------------------------

    def _covered(self, window: Window) -> bool:
        assert self._spool is not None
        until = self._spool.covered_until_ms
        return until is not None and until >= window.start_ms

    def _account_for_absence(self) -> None:
        """Make gaps of the scheduled time since anyone last wrote something down."""
        spool = self._spool
        assert spool is not None
        now_ms = int(self._clock.now_ms())
        covered = spool.covered_until_ms
        if spool.last_end_reason in (None, GapCause.RECORDER_CRASHED) and covered is not None:
            cause, detail = GapCause.RECORDER_CRASHED, "the recorder ended without a word"
        else:
            cause = spool.last_end_reason or GapCause.RECORDER_STOPPED
            detail = "the recorder was not running"
        if (gap := spool.open_gap) is not None:
            window = _window_at(self.target.windows, gap.start_ms)
            if window is None or window.end_ms > now_ms:
                return
            spool.end_gap(window.end_ms)
            covered = window.end_ms
        for piece in clip(self.target.windows, covered or 0, now_ms):
            spool.begin_gap(piece.start_ms, cause, detail)
            if _window_at(self.target.windows, now_ms) is None or piece.end_ms < now_ms:
                spool.end_gap(piece.end_ms)

    def _close_window(self, window: Window) -> None:
        """Have a gap from where recordings and gaps end to the window's end."""
        spool = self._spool
        assert spool is not None
        start_ms = max(window.start_ms, spool.covered_until_ms or 0)
        if spool.open_gap is None and start_ms < window.end_ms:
            spool.begin_gap(start_ms, GapCause.NO_DATA, "the picture ended before the window")
        spool.end_gap(window.end_ms)

    def _open_with_gap(self, end: SourceEnd, window: Window) -> None:
        if not self._covered(window):  # the first segment may have come meanwhile
            self._note_gap(end, window)

    def _note_gap(self, end: SourceEnd, window: Window) -> None:
        """Have an open gap with this cause, from where recordings and gaps end."""
        spool = self._spool
        assert spool is not None
        now_ms = int(self._clock.now_ms())
        if now_ms < window.start_ms:
            return
        gap = spool.open_gap
        if gap is not None and gap.cause is end.cause:
            return
        if gap is not None:
            spool.end_gap(now_ms)
        start_ms = max(window.start_ms, spool.covered_until_ms or 0)
        if start_ms < window.end_ms:
            spool.begin_gap(start_ms, end.cause, redact_text(end.detail))

    # -- helpers -------------------------------------------------------------------------

    async def _thread(self, work: Callable[..., Any], *args: Any) -> Any:
        async with self._one_at_a_time:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work, *args)

    async def _disk(self, work: Callable[..., Any], *args: Any) -> None:
        """Do something with the disk that must not end the camera's life when it fails."""
        try:
            await self._thread(work, *args)
        except OSError as error:
            self._log.error("The spool refuses to be written", why=error.strerror)
        except Exception:
            self._log.exception("A fault of the recorder at the spool")

    def status_dict(self) -> dict[str, Any]:
        """Return the camera's entry in `_status/`."""
        return asdict(self.status)


class _Session:
    """One session with a camera: from frames to written segments, with its deadlines."""

    def __init__(self, camera: CameraRecorder, source: Source, spool: CameraSpool, window: Window):
        self._camera, self._source, self._spool, self._window = camera, source, spool, window
        self._clock = camera._clock
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[SourceEnd | None] = loop.create_future()
        self._queue: asyncio.Queue[Cut] = asyncio.Queue()
        self._unwritten = 0
        self._paused = False
        self._cutter: Cutter | None = None
        self._tracks: list[TrackInit] = []
        self._transcoded: tuple[str, ...] = ()
        self._run: Run | None = None
        self._waiting_since = loop.time()  # for the next picture
        self._recording_since: float | None = None
        self._pictures = 0
        self._hearing_since: float | None = None  # where the stream has sound
        self._loop = loop

    async def hold(self) -> SourceEnd | None:
        """Record until something ends it; what is whole is written and sealed on the way out."""
        writer = asyncio.create_task(self._write_all())
        source = asyncio.create_task(self._source.run(self))
        end: SourceEnd | None = SourceEnd(GapCause.RECORDER_STOPPED, "the recorder was stopped")
        try:
            either: set[asyncio.Future[Any]] = {source, self._ended}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            end = self._ended.result() if self._ended.done() else source.result()
            return end
        finally:
            source.cancel()
            closing = asyncio.ensure_future(self._close(source, writer, end))
            try:
                await asyncio.shield(closing)
            except asyncio.CancelledError:  # asked to stop meanwhile: finish all the same
                await closing
                raise

    async def _close(
        self,
        source: asyncio.Task[SourceEnd],
        writer: asyncio.Task[None],
        end: SourceEnd | None,
    ) -> None:
        await asyncio.wait({source})
        if self._cutter is not None:
            self._take(self._cutter.finish())
        drained = asyncio.ensure_future(self._queue.join())
        tasks: set[asyncio.Future[None]] = {writer, drained}
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        drained.cancel()
        writer.cancel()
        await asyncio.wait({writer})
        cause = GapCause.RECORDER_STOPPED if end is None else end.cause
        try:
            await self._camera._thread(self._spool.seal, cause)
        except OSError:
            self._spool.abandon()

    def end(self, end: SourceEnd | None) -> None:
        """End the session; the first reason counts."""
        if not self._ended.done():
            self._ended.set_result(end)

    def tick(self) -> None:
        """Check the deadlines of this session."""
        if self._clock.now_ms() >= self._window.end_ms + TAIL_MS:
            self.end(None)
        if self._paused:
            return
        waited_s = self._loop.time() - self._waiting_since
        if self._pictures == 0:
            if waited_s > FIRST_S:
                text = f"the camera answers but sends no keyframe in {FIRST_S:.0f} s"
                self.end(SourceEnd(GapCause.NO_DATA, text))
        elif waited_s > SILENCE_S:
            self.end(SourceEnd(GapCause.NO_DATA, f"no picture for {SILENCE_S:.0f} s"))
        elif self._hearing_since and self._loop.time() - self._hearing_since > SOUND_S:
            # ffmpeg holds every picture back for a track that does not come
            self._camera.deaf_until_ms = self._clock.now_ms() + DEAF_MS
            text = "the camera promises sound and sends none; recording goes on without it"
            self.end(SourceEnd(GapCause.STREAM_BROKEN, text))
        elif waited_s > STALLED_S and self._camera.status.state is State.RECORDING:
            self._camera._move(Event.SILENCE)

    # -- the sink ------------------------------------------------------------------------

    def on_tracks(self, tracks: Sequence[TrackInit], transcoded: tuple[str, ...]) -> None:
        """Take the codec configuration."""
        self._tracks, self._transcoded = output_tracks(tracks), transcoded
        self._video_id = next(t.id for t in tracks if t.kind == "video")
        self._cutter = Cutter(tracks, self._spool.numbers.target_duration_s)
        if len(self._tracks) > 1:
            self._hearing_since = self._loop.time()

    def on_frame(self, frame: Frame) -> None:
        """Take a frame; cut, and hand what is cut to the writer."""
        assert self._cutter is not None
        if self._ended.done():
            return
        try:
            cuts = self._cutter.push(frame)
        except Broken as broken:
            self.end(SourceEnd(broken.cause, broken.detail))
            return
        if frame.track_id != self._video_id:
            self._hearing_since = self._loop.time()
        else:
            self._waiting_since = self._loop.time()
            self._pictures += 1
            status = self._camera.status
            status.frames += 1
            status.last_arrival_ms = int(frame.arrival_ms)
            if status.state is State.STALLED:
                self._camera._move(Event.PICTURE)
        if cuts:
            self._take(cuts)

    def _take(self, cuts: Sequence[Cut]) -> None:
        for cut in cuts:
            self._unwritten += cut.size
            self._queue.put_nowait(cut)
        if self._unwritten > MAX_UNWRITTEN and not self._paused:
            self._paused = True
            self._source.pause()
            self._camera._log.warning(
                "The spool is slower than the camera", waiting=self._unwritten
            )

    # -- the writer ----------------------------------------------------------------------

    async def _write_all(self) -> None:
        while True:
            cut = await self._queue.get()
            try:
                await self._camera._thread(partial(self._write, cut))
            except Exception as error:
                if isinstance(error, OSError):
                    text = f"the spool cannot be written: {error.strerror}"
                    self.end(SourceEnd(GapCause.DISK_FULL, text))
                else:
                    self._camera._log.exception("A fault of the recorder while writing")
                    text = f"a fault of the recorder: {error!r}"
                    self.end(SourceEnd(GapCause.STREAM_BROKEN, text))
                self._spool.abandon()
                return
            self._unwritten -= cut.size
            self._queue.task_done()
            if self._paused and self._unwritten < MAX_UNWRITTEN // 2:
                self._paused, self._waiting_since = False, self._loop.time()
                self._source.resume()

    def _write(self, cut: Cut) -> None:
        assert self._cutter is not None and self._cutter.run_start_ms is not None
        if self._run is None:
            self._run = Run(
                self._cutter.run_start_ms,
                write_init(self._tracks),
                tuple(
                    Track(t.id, t.kind, t.codec, t.timescale, t.width, t.height)
                    for t in self._tracks
                ),
                self._cutter.target_duration_s,
                self._transcoded,
            )
        end_ms = self._run.run_start_ms + (cut.tfdt_90k + cut.duration_90k) // 90
        if end_ms <= self._window.start_ms:
            return  # the schedule has not begun
        data = write_segment(self._spool.next_segment_no, cut.runs)
        segment = self._spool.append(
            self._run,
            data,
            tfdt_90k=cut.tfdt_90k,
            duration_90k=cut.duration_90k,
            starts_with_key=cut.starts_with_key,
            arrival_ms=cut.arrival_ms,
            camera_ms=cut.camera_ms,
            clock=clock_state(),
        )
        self._loop.call_soon_threadsafe(self._written, segment.segment_no, segment.length)

    def _written(self, segment_no: int, size: int) -> None:
        now = self._loop.time()
        if self._recording_since is None:
            self._recording_since = now
        self._camera.recorded(segment_no, size, now - self._recording_since)


def _window_at(windows: Sequence[Window], ms: float) -> Window | None:
    return next((w for w in windows if w.start_ms <= ms < w.end_ms), None)
