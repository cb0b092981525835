"""One session with a camera: from frames to written segments, with its deadlines."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recorder import disk_watch as disk
from recorder.segmenter import Discontinuity, SegmentDraft, Segmenter, output_tracks
from recorder.source import PICTURE_ID, Frame, Source, SourceEnd
from recorder.states import Event, State
from storage.media.fmp4 import TrackInit, write_init, write_segment
from storage.records import GapCause, Segment, Track
from storage.spool.writer import CameraSpool, Run

if TYPE_CHECKING:
    from recorder.camera import CameraRecorder

FIRST_S = 20.0  # for the first picture; some cameras begin long after PLAY
STALLED_S = 2.0  # without a picture, or three times what the camera usually takes: said so
SILENCE_S = 16.0  # without a picture: the session is ended. A still scene may send none for long
SOUND_S = 10.0  # without sound where it was promised: said so
KEY_WITHIN_S = 3.0  # after the recorder's clock was set, a new run begins all the same
TAIL_MS = 500  # go on this long after it closed: what was taken last is still on its way
MAX_UNWRITTEN = 64 * 1024 * 1024  # bytes of a camera that may wait for a slow disk


@dataclass(slots=True)
class _Part:
    """What a session writes as one run."""

    cutter: Segmenter
    tracks: list[TrackInit]
    transcoded: tuple[str, ...]
    run: Run | None = None  # once it is written


class Session:
    """One session with a camera: from frames to written segments, with its deadlines."""

    def __init__(
        self,
        camera: CameraRecorder,
        source: Source,
        spool: CameraSpool,
        sound_promised: bool = False,
    ):
        self._camera, self._source, self._spool = camera, source, spool
        self._clock, self._disk = camera.clock, camera.disk
        self._sound_promised = sound_promised
        self._source_tracks: Sequence[TrackInit] = ()
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[SourceEnd | None] = loop.create_future()
        # what is to be written, and why one part ended and the next begins
        self._queue: asyncio.Queue[tuple[_Part, SegmentDraft | SourceEnd]] = asyncio.Queue()
        self._unwritten = 0
        self._part: _Part | None = None
        self._clock_set: tuple[SourceEnd, float, float] | None = None  # by how much, until when
        self._changed: SourceEnd | None = None  # the tracks, with the next frame
        self._usual_s = 0.0  # between pictures, at most, lately
        self._waiting_since = loop.time()  # for the next picture
        self._recording_since: float | None = None
        self._pictures = 0
        self._heard_at = loop.time()
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
        if self._part is not None:
            self._take(self._part, self._part.cutter.finish(self._clock.now_ms()))
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
        if self._clock.now_ms() >= self._camera.window.end_ms + TAIL_MS:
            self.end(None)
        now = self._loop.time()
        waited_s = now - self._waiting_since
        if self._pictures == 0:
            if waited_s > FIRST_S:
                text = f"the camera answers but sends no picture in {FIRST_S:.0f} s"
                self.end(SourceEnd(GapCause.NO_DATA, text))
        elif waited_s > SILENCE_S:
            self.end(SourceEnd(GapCause.NO_DATA, f"no picture for {SILENCE_S:.0f} s"))
        elif (
            waited_s > max(STALLED_S, 3 * self._usual_s)
            and self._camera.status.state is State.RECORDING
        ):
            self._camera.move(Event.SILENCE)
        if self._sound_promised and self._pictures:
            self._camera.hears(now - self._heard_at < SOUND_S)

    # -- the sink ------------------------------------------------------------------------

    def on_tracks(self, tracks: Sequence[TrackInit], transcoded: tuple[str, ...]) -> None:
        """Take the codec configuration; a run that has begun ends here, and another begins."""
        if self._part is not None and self._part.cutter.begun:
            had = [t.kind for t in self._part.tracks]
            has = [t.kind for t in output_tracks(tracks)]
            text = "the camera changed its picture: size or encoder"
            if had != has:
                text = "sound came" if len(has) > len(had) else "the sound ended"
            self._changed = SourceEnd(GapCause.PARAMETERS_CHANGED, text)
        elif self._part is not None:
            self._part.cutter.set_tracks(tracks)
            self._part.tracks = output_tracks(tracks)
        else:
            target_s, last_ms = self._spool.numbers.target_duration_s, self._spool.last_end_ms
            cutter = Segmenter(
                tracks, target_s, before_ms=-math.inf if last_ms is None else last_ms
            )
            self._part = _Part(cutter, output_tracks(tracks), transcoded)
        self._source_tracks = tracks

    def _begin_anew(self, why: SourceEnd, at_ms: float, needs_key: bool = False) -> None:
        """End the run, and begin one with what arrives at `at_ms`; the session goes on."""
        before = self._part
        assert before is not None
        self._take(before, before.cutter.finish(at_ms))
        self._queue.put_nowait((before, why))
        ended, tracks = before.cutter, self._source_tracks
        same_clock = why.cause is not GapCause.CLOCK_JUMP
        end_ms = ended.end_ms if same_clock else -math.inf
        cutter = Segmenter(tracks, ended.target_duration_s, needs_key, end_ms)
        self._part = _Part(cutter, output_tracks(tracks), before.transcoded)

    def clock_was_set(self, why: SourceEnd, by_ms: float) -> None:
        """Begin a new run, placed by the clock as it is now, with the next keyframe.

        What comes until then belongs to the run before, and is placed by the clock as it was.
        """
        if self._part is not None and not self._ended.done():
            before_ms = self._clock_set[1] if self._clock_set else 0.0
            self._clock_set = why, before_ms + by_ms, self._loop.time() + KEY_WITHIN_S

    def _by_the_old_clock(self, frame: Frame) -> Frame:
        assert self._clock_set is not None
        why, by_ms, until = self._clock_set
        begins = frame.track_id == PICTURE_ID and not frame.continues
        if begins and (frame.key or self._loop.time() > until):
            self._clock_set = None
            self._begin_anew(why, frame.arrival_ms - by_ms)
            return frame
        return frame._replace(arrival_ms=frame.arrival_ms - by_ms)

    def on_frame(self, frame: Frame) -> None:
        """Take a frame; cut, and hand what is cut to the writer."""
        assert self._part is not None
        if self._ended.done():
            return
        if self._changed is not None:  # by this picture, a keyframe
            why, self._changed = self._changed, None
            self._begin_anew(why, frame.arrival_ms, needs_key=True)
        if self._clock_set is not None:
            frame = self._by_the_old_clock(frame)
        try:
            cuts = self._part.cutter.push(frame)
        except Discontinuity as broken:
            why = SourceEnd(broken.cause, broken.detail)
            if broken.cause is GapCause.STREAM_BROKEN:
                self.end(why)
                return
            self._begin_anew(why, frame.arrival_ms)
            cuts = self._part.cutter.push(frame)
        now = self._loop.time()
        if frame.track_id != PICTURE_ID:
            self._heard_at = now
        else:
            self._usual_s = max(0.9 * self._usual_s, min(SILENCE_S, now - self._waiting_since))
            self._waiting_since = now
            self._pictures += 1
            status = self._camera.status
            status.frames += 1
            if status.state is State.STALLED:
                self._camera.move(Event.PICTURE)
        if cuts:
            self._take(self._part, cuts)

    def _take(self, part: _Part, cuts: Sequence[SegmentDraft]) -> None:
        for cut in cuts:
            self._unwritten += cut.size
            self._disk.waiting += cut.size
            self._queue.put_nowait((part, cut))
        if self._unwritten > MAX_UNWRITTEN or self._disk.waiting > disk.MAX_WAITING:
            # what waits is written all the same, however long it takes; then it goes on
            text = f"the disk is too slow: {disk.human(self._unwritten)} of this camera wait for it"
            end = SourceEnd(GapCause.DISK_FAILED, text)
            if self.end(end):
                self._camera.tell(end)

    # -- the writer ----------------------------------------------------------------------

    async def _write_all(self) -> None:
        while True:
            part, cut = await self._queue.get()
            try:
                if isinstance(cut, SourceEnd):
                    await self._camera.thread(self._end_run, part, cut)
                    self._queue.task_done()
                    continue
                segment: Segment | None = await self._camera.thread(self._write, part, cut)
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
                self._camera.recorded(segment, healthy_s)

    def _end_run(self, part: _Part, why: SourceEnd) -> None:
        """Seal what is written of a run, in a thread; the next one is coming."""
        self._spool.seal(why.cause)
        self._camera.run_ended(why)

    def _write(self, part: _Part, cut: SegmentDraft) -> Segment | None:
        """Write a segment, in a thread; None where the schedule has not begun."""
        assert part.cutter.run_start_ms is not None
        if part.run is None:
            part.run = Run(
                part.cutter.run_start_ms,
                write_init(part.tracks),
                tuple(
                    Track(t.id, t.kind, t.codec, t.timescale, t.width, t.height)
                    for t in part.tracks
                ),
                part.cutter.target_duration_s,
                part.transcoded,
            )
        end_ms = part.run.run_start_ms + (cut.tfdt_90k + cut.duration_90k) // 90
        if end_ms <= self._camera.window.start_ms:
            return None
        data = write_segment(self._spool.next_segment_no, cut.runs)
        return self._spool.append(
            part.run,
            data,
            tfdt_90k=cut.tfdt_90k,
            duration_90k=cut.duration_90k,
            starts_with_key=cut.starts_with_key,
            arrival_ms=cut.arrival_ms,
            camera_ms=cut.camera_ms,
            clock=self._clock.state(),
            moved_ms=cut.moved_ms,
            by_arrival=cut.by_arrival,
        )
