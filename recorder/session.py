"""One session with a camera: from frames to written segments, with its deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from config.schedule import Window
from recorder import disk
from recorder.clock import clock_state
from recorder.cutting import Broken, Cut, Cutter, output_tracks
from recorder.source import Frame, Source, SourceEnd
from recorder.states import Event, State
from storage.fmp4 import TrackInit, write_init, write_segment
from storage.index import GapCause, Segment, Track
from storage.spool import CameraSpool, Run

if TYPE_CHECKING:
    from recorder.camera import CameraRecorder

FIRST_S = 15.0  # then for the first picture: a keyframe, for which some cameras take long
STALLED_S = 2.0  # without a picture: said so
SILENCE_S = 5.0  # without a picture: the session is ended
SOUND_S = 10.0  # without sound where it was promised
TAIL_MS = 500  # go on this long after it closed: what was taken last is still on its way
MAX_UNWRITTEN = 64 * 1024 * 1024  # bytes of a camera that may wait for a slow disk


class Session:
    """One session with a camera: from frames to written segments, with its deadlines."""

    def __init__(self, camera: CameraRecorder, source: Source, spool: CameraSpool, window: Window):
        self._camera, self._source, self._spool, self._window = camera, source, spool, window
        self._clock, self._disk = camera.clock, camera.disk
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[SourceEnd | None] = loop.create_future()
        self._queue: asyncio.Queue[Cut] = asyncio.Queue()
        self._unwritten = 0
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
        self._disk.waiting -= self._unwritten  # what the disk refused
        self._unwritten = 0
        cause = GapCause.RECORDER_STOPPED if end is None else end.cause
        try:
            await self._camera.thread(self._spool.seal, cause)
        except OSError as error:
            self._spool.abandon((await self._disk.why(error)).cause)
            self._camera.refused("A recording could not be sealed, and will be later", error)

    def end(self, end: SourceEnd | None) -> bool:
        """End the session; the first reason counts, and only that is True."""
        first = not self._ended.done()
        if first:
            self._ended.set_result(end)
        return first

    def tick(self) -> None:
        """Check the deadlines of this session."""
        if self._clock.now_ms() >= self._window.end_ms + TAIL_MS:
            self.end(None)
        waited_s = self._loop.time() - self._waiting_since
        if self._pictures == 0:
            if waited_s > FIRST_S:
                text = f"the camera answers but sends no keyframe in {FIRST_S:.0f} s"
                self.end(SourceEnd(GapCause.NO_DATA, text))
        elif waited_s > SILENCE_S:
            self.end(SourceEnd(GapCause.NO_DATA, f"no picture for {SILENCE_S:.0f} s"))
        elif self._hearing_since and self._loop.time() - self._hearing_since > SOUND_S:
            # ffmpeg holds every picture back for a track that does not come
            self._camera.approach.leave_out_sound(self._clock.now_ms())
            text = "the camera promises sound and sends none; recording goes on without it"
            self.end(SourceEnd(GapCause.STREAM_BROKEN, text))
        elif waited_s > STALLED_S and self._camera.status.state is State.RECORDING:
            self._camera.move(Event.SILENCE)

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
                self._camera.move(Event.PICTURE)
        if cuts:
            self._take(cuts)

    def _take(self, cuts: Sequence[Cut]) -> None:
        for cut in cuts:
            self._unwritten += cut.size
            self._disk.waiting += cut.size
            self._queue.put_nowait(cut)
        if self._unwritten > MAX_UNWRITTEN or self._disk.waiting > disk.MAX_WAITING:
            # what waits is written all the same, however long it takes; then it goes on
            text = f"the disk is too slow: {disk.human(self._unwritten)} of this camera wait for it"
            end = SourceEnd(GapCause.DISK_FAILED, text)
            if self.end(end):
                self._camera.tell(end)

    # -- the writer ----------------------------------------------------------------------

    async def _write_all(self) -> None:
        while True:
            cut = await self._queue.get()
            try:
                segment: Segment | None = await self._camera.thread(self._write, cut)
            except Exception as error:
                if isinstance(error, OSError):
                    refusal = await self._disk.why(error)
                    end = SourceEnd(refusal.cause, refusal.detail)
                else:
                    self._camera.log.exception("A fault of the recorder while writing")
                    text = f"a fault of the recorder: {error!r}"
                    end = SourceEnd(GapCause.STREAM_BROKEN, text)
                self.end(end)
                self._spool.abandon(end.cause)
                return
            self._unwritten -= cut.size
            self._disk.waiting -= cut.size
            self._queue.task_done()
            if segment is not None:
                now = self._loop.time()
                self._recording_since = self._recording_since or now
                healthy_s = now - self._recording_since
                self._camera.recorded(segment.segment_no, segment.length, healthy_s)

    def _write(self, cut: Cut) -> Segment | None:
        """Write a segment, in a thread; None where the schedule has not begun."""
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
            return None
        data = write_segment(self._spool.next_segment_no, cut.runs)
        return self._spool.append(
            self._run,
            data,
            tfdt_90k=cut.tfdt_90k,
            duration_90k=cut.duration_90k,
            starts_with_key=cut.starts_with_key,
            arrival_ms=cut.arrival_ms,
            camera_ms=cut.camera_ms,
            clock=clock_state(),
        )
