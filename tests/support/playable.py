"""Spools whose recordings can be taken apart: real boxes around pictures that are none."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from storage.media.fmp4 import Sample, TrackInit, TrackRun, make_box, write_init, write_segment
from storage.records import ClockState, GapCause, Track
from storage.spool.disk import claim_spool
from storage.spool.numbers import Numbers
from storage.spool.writer import CameraSpool, Run, SegmentInfo

AVCC = make_box(b"avcC", bytes.fromhex("0164001f"))
ESDS = bytes.fromhex("031900000004114015000000000000000000000005021190060102")
SECOND_90K, FPS = 90_000, 25


@dataclass(frozen=True)
class Kind:
    """What a stream is like: bytes of a keyframe and of another picture, and its size in pixels."""

    key: int
    other: int
    width: int
    height: int
    sound: bool = False

    def tracks(self) -> list[TrackInit]:
        """Return the tracks of an H.264 camera, with AAC if it has sound."""
        size = struct.pack(">HH", self.width, self.height)
        entry = make_box(b"avc1", bytes(24), size, bytes(50), AVCC)
        found = [TrackInit(1, "video", "h264", SECOND_90K, entry, self.width, self.height)]
        if self.sound:
            entry = make_box(b"mp4a", bytes(28), make_box(b"esds", bytes(4), ESDS))
            found.append(TrackInit(2, "audio", "aac", 48_000, entry))
        return found


FULL = Kind(20_000, 2_000, 1280, 720, sound=True)
LOW = Kind(2_000, 200, 320, 180)


class PlayableCamera:
    """A stream of station 's' that is written by hand, in segments of two seconds."""

    def __init__(
        self,
        root: Path,
        camera: str,
        begin_ms: int,
        kind: Kind = FULL,
        line: tuple[int, int] | None = None,
        floor: Numbers = Numbers(),  # noqa: B008
    ):
        """`line` is the number and the start of the first stream's run, of a second stream; its own
        numbers are above `floor`."""
        claim_spool(root)
        self.spool = CameraSpool(root, "e", "s", camera, floor)
        self._kind, self._made = kind, kind.tracks()
        self.begin(begin_ms, line)

    def begin(self, begin_ms: int, line: tuple[int, int] | None = None) -> None:
        """Begin a run."""
        made = [Track(t.id, t.kind, t.codec, t.timescale, t.width, t.height) for t in self._made]
        first_run_no, start_ms = line or (0, begin_ms)
        self._run = Run(start_ms, write_init(self._made), tuple(made), 2, (), first_run_no)
        self._tfdt = (begin_ms - start_ms) * 90

    def append(self, count: int = 1, key: bool = True) -> None:
        """Write so many segments, which begin with a keyframe or do not."""
        for _ in range(count):
            sizes = [
                self._kind.key if key else self._kind.other,
                *[self._kind.other] * (2 * FPS - 1),
            ]
            samples = [Sample(3600, size, key and not n, 0) for n, size in enumerate(sizes)]
            pictures = [bytes([n + 1]) * size for n, size in enumerate(sizes)]
            runs = [TrackRun(1, self._tfdt, samples, pictures)]
            if len(self._made) > 1:
                at_48k = self._tfdt * 48 // 90
                runs.append(TrackRun(2, at_48k, [Sample(96_000, 5, True, 0)], [b"sound"]))
            self.spool.append(
                self._run,
                write_segment(self.spool.next_segment_no, runs),
                SegmentInfo(
                    tfdt_90k=self._tfdt,
                    duration_90k=2 * SECOND_90K,
                    starts_with_key=key,
                    arrival_ms=self._run.run_start_ms + self._tfdt // 90,
                    camera_ms=None,
                ),
                ClockState(True, 2),
            )
            self._tfdt += 2 * SECOND_90K

    @property
    def line(self) -> tuple[int, int]:
        """Number and start of the run."""
        return self.spool.numbers.run_no, self._run.run_start_ms

    @property
    def end_ms(self) -> int:
        """The end of the last segment."""
        return self._run.run_start_ms + self._tfdt // 90

    def close(self) -> None:
        """Seal and end."""
        self.spool.seal(GapCause.RECORDER_STOPPED)
        self.spool.close()
