"""One session with a camera: from frames to written segments, with its deadlines."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from recorder.camera_state import MOST_BYTES_S, CameraState, fault
from recorder.disk_watch import MAX_WAITING, human
from recorder.gap_accounting import note_gap
from recorder.segmenter import Discontinuity, SegmentDraft, Segmenter
from recorder.source import PICTURE_ID, Frame, Source
from recorder.states import Event, State
from recorder.tracks import output_tracks
from storage.media.fmp4 import TrackInit, write_init, write_segment
from storage.records import Ending, GapCause, Segment, Track
from storage.spool.writer import CameraSpool, Run, TimeLine

FIRST_S = 20.0  # for the first picture; some cameras begin long after PLAY
SETS_S = 60.0  # for parameter sets where packets come; they come with a keyframe at the latest
STALLED_S = 2.0  # without a picture, or three times what the camera usually takes: said so
SILENCE_S = 16.0  # without a picture: the session is ended. A still scene may send none for long
SOUND_S = 10.0  # without sound where it was promised: said so
KEY_WITHIN_S = 3.0  # after the recorder's clock was set, a new run begins all the same
TAIL_MS = 500  # go on this long after it closed: what was taken last is still on its way
MOST_FRAMES = 2_000  # pictures and frames of sound in a second; no camera sends so many
MOST_PACKETS = 50_000  # of any kind, in a second: others wait while they are looked at
MAX_UNWRITTEN = 64 * 1024 * 1024  # bytes of a camera that may wait for a slow disk


@dataclass(slots=True)
class _RunDraft:
    """What a session writes as one run."""

    segmenter: Segmenter
    tracks: list[TrackInit]
    transcoded: tuple[str, ...]
    written: Run | None = None  # what the spool knows of it, once it begins there


class Session:
    """One session with a camera: from frames to written segments, with its deadlines."""

    def __init__(
        self,
        camera: CameraState,
        source: Source,
        spool: CameraSpool,
        sound_promised: bool = False,
        needs_key: bool = True,
        line: TimeLine | None = None,
    ):
        """`needs_key` is False for a camera that sends no keyframes: what comes is recorded.
        `line` is the time line of the first stream, where this is a second one."""
        self.saw_key, self._needs_key = False, needs_key
        self._camera, self._source, self._spool = camera, source, spool
        self._clock, self._disk = camera.clock, camera.disk
        self._sound_promised, self._line = sound_promised, line
        self._source_tracks: Sequence[TrackInit] = ()
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[Ending | None] = loop.create_future()
        # what is to be written, and why one run ended and the next begins
        self._queue: asyncio.Queue[tuple[_RunDraft, SegmentDraft | Ending]] = asyncio.Queue()
        self._unwritten = 0
        self._run: _RunDraft | None = None
        self._clock_set: tuple[Ending, float, float] | None = None  # by how much, until when
        self._changed: Ending | None = None  # the tracks, with the next frame
        self._usual_s = 0.0  # between pictures, at most, lately
        self._waiting_since = loop.time()  # for the next picture
        self._recording_since: float | None = None
        self._pictures = 0
        self._counted = [0, 0, 0, 0]  # packets: received, lost, late, doubled
        self._came, self._came_at = 0, loop.time()  # packets of any kind by the last look
        self._heard_at = loop.time()
        self._second, self._frames = loop.time(), 0  # since when they are counted, for a second
        self._loop = loop

    async def run(self) -> Ending | None:
        """Record until something ends it; what is whole is written and sealed on the way out."""
        writer = asyncio.create_task(self._write_all())
        source = asyncio.create_task(self._source.run(self))
        end: Ending | None = Ending(GapCause.RECORDER_STOPPED, "the recorder was stopped")
        try:
            either: set[asyncio.Future[Any]] = {source, self._ended}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            end = self._ended.result() if self._ended.done() else source.result()
            return end
        except Exception as error:
            end = fault(error)
            raise
        finally:
            source.cancel()
            closing = asyncio.ensure_future(self._close(source, writer, end))
            try:
                await asyncio.shield(closing)
            except asyncio.CancelledError:  # asked to stop meanwhile: finish all the same
                await closing
                raise

    async def _close(
        self, source: asyncio.Task[Ending], writer: asyncio.Task[None], end: Ending | None
    ) -> None:
        await asyncio.wait({source})
        self._count_packets()
        if self._run is not None:
            try:
                self._take(self._run, self._run.segmenter.finish(self._clock.now_ms()))
            except Exception as error:  # a fault of ours: what is written is sealed all the same
                self._camera.tell_fault(error)
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
            await self._camera.in_thread(self._spool.seal, cause)
        except OSError as error:
            self._spool.abandon((await self._disk.why(error)).cause)
            self._camera.tell_refusal("A recording could not be sealed, and will be later", error)

    def end(self, why: Ending | None) -> bool:
        """End the session; the first reason counts, and only that is True."""
        first = not self._ended.done()
        if first:
            self._ended.set_result(why)
        return first

    def tick(self) -> None:
        """Check the deadlines of this session."""
        if self._clock.now_ms() >= self._camera.window.end_ms + TAIL_MS:
            self.end(None)
        now = self._loop.time()
        waited_s = now - self._waiting_since
        if self._pictures == 0:
            self._wait_for_first(waited_s)
        elif waited_s > SILENCE_S:
            self.end(Ending(GapCause.NO_DATA, f"no picture for {SILENCE_S:.0f} s"))
        elif (
            waited_s > max(STALLED_S, 3 * self._usual_s)
            and self._camera.status.state is State.RECORDING
        ):
            self._camera.move(Event.SILENCE)
        self._count_packets()
        self._check_packets(now)
        if self._sound_promised and self._pictures:
            self._camera.tell_sound(now - self._heard_at < SOUND_S)

    def _wait_for_first(self, waited_s: float) -> None:
        """A camera that says nothing of its codec sends what no picture is until it does."""
        comes = any(counts.received for counts in self._source.packets[:1])
        if comes and waited_s > SETS_S:
            text = f"packets come, but nothing in {SETS_S:.0f} s that says how to decode them"
            self.end(Ending(GapCause.STREAM_BROKEN, text))
        elif not comes and waited_s > FIRST_S:
            text = f"the camera answers but sends no picture in {FIRST_S:.0f} s"
            self.end(Ending(GapCause.NO_DATA, text))

    def _count_packets(self) -> None:
        """Add to the camera's status what came and went since the last time."""
        status, before = self._camera.status, self._counted
        total = [0, 0, 0, 0]
        for counts in self._source.packets:
            found = counts.received, counts.lost, counts.late, counts.doubled
            total = [a + b for a, b in zip(total, found, strict=True)]
        status.packets += total[0] - before[0]
        status.packets_lost += total[1] - before[1]
        status.packets_late += total[2] - before[2]
        status.packets_doubled += total[3] - before[3]
        self._counted = total

    def _check_packets(self, now: float) -> None:
        """End the session of a camera that floods; frames are counted as they come."""
        came, passed_s = sum(counts.came for counts in self._source.packets), now - self._came_at
        if came - self._came > MOST_PACKETS * max(1.0, passed_s):
            text = f"it sends more than {MOST_PACKETS:,} packets in a second"
            self.end(Ending(GapCause.STREAM_BROKEN, text))
        self._came, self._came_at = came, now

    # -- the sink ------------------------------------------------------------------------

    def on_tracks(self, tracks: Sequence[TrackInit], transcoded: tuple[str, ...]) -> None:
        """Take the codec configuration; a run that has pictures of another ends here."""
        run, now = self._run, output_tracks(tracks)
        if run is not None and run.segmenter.set_tracks(tracks):
            run.tracks = now
        elif run is not None:
            had, has = [t.kind for t in run.tracks], [t.kind for t in now]
            text = "the camera changed its picture: size or encoder"
            if had != has:
                text = "sound came" if len(has) > len(had) else "the sound ended"
            self._changed = Ending(GapCause.PARAMETERS_CHANGED, text)
        else:
            target_s, last_ms = self._spool.numbers.target_duration_s, self._spool.last_end_ms
            segmenter = Segmenter(
                tracks,
                target_s,
                self._needs_key,
                -math.inf if last_ms is None else last_ms,
                self._line and self._line.run_start_ms,
            )
            self._run = _RunDraft(segmenter, now, transcoded)
        self._source_tracks = tracks

    def _begin_anew(self, why: Ending, at_ms: float, needs_key: bool = False) -> None:
        """End the run, and begin one with what arrives at `at_ms`; the session goes on."""
        before = self._run
        assert before is not None
        before.segmenter.next_has_come()
        self._take(before, before.segmenter.finish(at_ms))
        self._queue.put_nowait((before, why))
        ended, tracks = before.segmenter, self._source_tracks
        same_clock = why.cause is not GapCause.CLOCK_JUMP
        end_ms = ended.end_ms if same_clock else -math.inf
        origin_ms = self._line and self._line.run_start_ms
        segmenter = Segmenter(tracks, ended.target_duration_s, needs_key, end_ms, origin_ms)
        self._run = _RunDraft(segmenter, output_tracks(tracks), before.transcoded)

    def clock_was_set(self, why: Ending, by_ms: float) -> None:
        """Begin a new run, placed by the clock as it is now, with the next keyframe.

        What comes until then belongs to the run before, and is placed by the clock as it was.
        """
        if self._run is not None and not self._ended.done():
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
        """Take a frame, and hand the segments that it finishes to the writer.

        A fault of ours ends the session: a source goes on after it, or says what is not so.
        """
        if self._ended.done():
            return
        try:
            if not self._is_too_much(len(frame.data)):
                self._take_frame(frame)
        except Exception as error:
            self._camera.tell_fault(error)
            self.end(fault(error))

    def _is_too_much(self, size: int) -> bool:
        """Count a frame; end the session where so many come that other cameras would wait, or so
        many bytes that the disk of all would be one camera's."""
        now = self._loop.time()
        if now - self._second >= 1:
            self._second, self._frames = now, 0
        self._frames += 1
        if self._frames > MOST_FRAMES:
            text = f"it sends more than {MOST_FRAMES:,} pictures and frames of sound in a second"
            self.end(Ending(GapCause.STREAM_BROKEN, text))
            return True
        if not self._camera.take_bytes(size, now):
            text = f"it sends more than {MOST_BYTES_S * 8 // 1_000_000} Mbit/s, as no camera does"
            self.end(Ending(GapCause.STREAM_BROKEN, text, "lower the bit rate in the camera"))
            return True
        return False

    def _take_frame(self, frame: Frame) -> None:
        assert self._run is not None
        if self._changed is not None:  # by this picture, a keyframe
            why, self._changed = self._changed, None
            if not self._camera.take_run(self._loop.time()):
                text = "it changes its picture again and again, as no camera does"
                self.end(Ending(GapCause.STREAM_BROKEN, text, "set one size in the camera"))
                return
            self._begin_anew(why, frame.arrival_ms, needs_key=True)
        if self._clock_set is not None:
            frame = self._by_the_old_clock(frame)
        try:
            drafts = self._run.segmenter.push(frame)
        except Discontinuity as broken:
            if broken.ending.cause is GapCause.STREAM_BROKEN:
                self.end(broken.ending)
                return
            self._begin_anew(broken.ending, frame.arrival_ms)
            drafts = self._run.segmenter.push(frame)
        now = self._loop.time()
        if frame.track_id != PICTURE_ID:
            self._heard_at = now
        elif not frame.continues:
            self._usual_s = max(0.9 * self._usual_s, min(SILENCE_S, now - self._waiting_since))
            self._waiting_since = now
            self._pictures += 1
            self.saw_key = self.saw_key or frame.key
            status = self._camera.status
            status.frames += 1
            if status.state is State.STALLED:
                self._camera.move(Event.PICTURE)
        if drafts:
            self._take(self._run, drafts)

    def _take(self, run: _RunDraft, drafts: Sequence[SegmentDraft]) -> None:
        for draft in drafts:
            self._unwritten += draft.size
            self._disk.waiting += draft.size
            self._queue.put_nowait((run, draft))
        if self._unwritten > MAX_UNWRITTEN or self._disk.waiting > MAX_WAITING:
            # what waits is written all the same, however long it takes; then it goes on
            text = f"the disk is too slow: {human(self._unwritten)} of this camera wait for it"
            why = Ending(GapCause.DISK_FAILED, text)
            if self.end(why):
                self._camera.tell_ending(why)

    # -- the writer ----------------------------------------------------------------------

    async def _write_all(self) -> None:
        while True:
            run, draft = await self._queue.get()
            try:
                if isinstance(draft, Ending):
                    await self._camera.in_thread(self._end_run, draft)
                    self._queue.task_done()
                    continue
                segment = await self._camera.in_thread(self._write, run, draft)
            except Exception as error:
                if isinstance(error, OSError):
                    why = await self._disk.why(error)
                else:
                    self._camera.tell_fault(error, "A fault of the recorder while writing")
                    why = fault(error)
                self.end(why)
                self._spool.abandon(why.cause)
                return
            self._unwritten -= draft.size
            self._disk.waiting -= draft.size
            self._queue.task_done()
            if segment is not None:
                now = self._loop.time()
                self._recording_since = self._recording_since or now
                healthy_s = now - self._recording_since
                self._camera.recorded(segment, healthy_s)

    def _end_run(self, why: Ending) -> None:
        """Seal what is written of a run, in a thread; the next one is coming."""
        self._spool.seal(why.cause)
        self._camera.tell_new_run(why)
        note_gap(self._spool, why, self._camera.window, self._clock)

    def _write(self, run: _RunDraft, draft: SegmentDraft) -> Segment | None:
        """Write a segment, in a thread; None where the schedule has not begun."""
        assert run.segmenter.run_start_ms is not None
        if run.written is None:
            run.written = Run(
                run.segmenter.run_start_ms,
                write_init(run.tracks),
                tuple(
                    Track(t.id, t.kind, t.codec, t.timescale, t.width, t.height) for t in run.tracks
                ),
                run.segmenter.target_duration_s,
                run.transcoded,
                self._line.run_no if self._line else 0,
            )
        end_ms = run.written.run_start_ms + (draft.tfdt_90k + draft.duration_90k) // 90
        if end_ms <= self._camera.window.start_ms:
            return None
        data = write_segment(self._spool.next_segment_no, draft.runs)
        return self._spool.append(run.written, data, draft, self._clock.state())
