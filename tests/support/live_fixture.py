"""A camera that plays: real video by ffmpeg, put into a spool in real time by the real writer."""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import ffmpeg

from copies.mp4 import rebase
from recorder.ffmpeg import find_ffmpeg
from storage.media.fmp4 import boxes
from storage.records import ClockState, GapCause, Segment, Track
from storage.spool.numbers import Numbers
from storage.spool.writer import CameraSpool, Run, SegmentInfo
from tests.support.waiting import BOUND_S

SEGMENT_90K = 90_000  # a keyframe a second
LENGTH_S = 60
SIZE = (320, 180)


def fragments(made: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """Cut a fragmented MP4 into its init and its segments of a fragment each."""
    found = list(boxes(made, 0, len(made)))
    moofs = [n for n, box in enumerate(found) if box.type == b"moof"]
    segments = tuple(made[found[n].start : found[n + 1].end] for n in moofs)
    return made[: found[moofs[0]].start], segments


def encoded(picture: Any, encoder: dict[str, object]) -> bytes:
    """Encode a picture of ffmpeg-python as a recorder would have it: a fragment per keyframe."""
    flags = "empty_moov+default_base_moof+frag_keyframe+skip_trailer"
    container = {"f": "mp4", "video_track_timescale": 90_000, "movflags": flags}
    fast = {"preset": "ultrafast", "sc_threshold": 0}
    command = picture.output("pipe:1", **encoder, **fast, **container).compile(
        cmd=[find_ffmpeg(None), "-hide_banner", "-nostdin", "-loglevel", "error"]
    )
    return subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=BOUND_S).stdout


@cache
def clip(colour: str, codec: str = "h264") -> tuple[bytes, tuple[bytes, ...]]:
    """Return an init and its segments of 1 s each, of 25 pictures; `colour` tells runs apart."""
    encoders: dict[str, dict[str, object]] = {
        "h264": {"c:v": "libx264", "bf": 0},
        "h265": {"c:v": "libx265", "tag:v": "hvc1", "x265-params": "log-level=none:bframes=0"},
    }
    picture = (
        ffmpeg.input(f"testsrc=size={SIZE[0]}x{SIZE[1]}:rate=25:duration={LENGTH_S}", f="lavfi")
        .filter("drawbox", w=60, h=60, color=colour, t="fill")
        .filter("format", "yuv420p")
    )
    init, segments = fragments(encoded(picture, encoders[codec] | {"g": 25, "keyint_min": 25}))
    assert len(segments) == LENGTH_S
    return init, segments


class LiveCamera:
    """One camera of station 's'; says in `_status/` what it does, as a recorder would."""

    def __init__(
        self,
        root: Path,
        camera: str,
        codec: str = "h264",
        floor: Numbers = Numbers(),  # noqa: B008
    ):
        """Its numbers are above `floor`."""
        self._root, self._camera, self._codec = root, camera, codec
        self._spool = CameraSpool(root, "e", "s", camera, floor)
        self._run: Run | None = None
        self._segments: tuple[bytes, ...] = ()
        self._next = 0

    @property
    def written(self) -> int:
        """Segments of this run."""
        return self._next

    @property
    def run_start_ms(self) -> int:
        """When this run began."""
        assert self._run is not None
        return self._run.run_start_ms

    def begin(self, begin_ms: int, colour: str = "red") -> None:
        """Begin a run."""
        init, self._segments = clip(colour, self._codec)
        track = Track(1, "video", self._codec, 90_000, *SIZE)
        self._run, self._next = Run(begin_ms, init, (track,), 1), 0

    def append(self) -> Segment:
        """Write the run's next segment; after the clip's last it begins anew, in the same run."""
        assert self._run is not None
        n, self._next = self._next, self._next + 1
        return self._spool.append(
            self._run,
            _later(self._segments[n % LENGTH_S], n // LENGTH_S * LENGTH_S * SEGMENT_90K),
            SegmentInfo(
                tfdt_90k=n * SEGMENT_90K,
                duration_90k=SEGMENT_90K,
                starts_with_key=True,
                arrival_ms=self._run.run_start_ms + n * 1000,
                camera_ms=None,
            ),
            ClockState(True, 1),
        )

    def keep_up(self) -> None:
        """Write all segments that have ended by now, and the status."""
        now_ms = int(time.time() * 1000)
        while self._run and self._run.run_start_ms + (self._next + 1) * 1000 <= now_ms:
            self.append()
        self._say("recording" if self._run else "backoff")

    def leave_out(self, n: int, ms: int) -> None:
        """Have the pictures from the run's segment `n` on come later than they are listed."""
        later = (_later(segment, 90 * ms) for segment in self._segments[n:])
        self._segments = (*self._segments[:n], *later)

    def end(self, cause: GapCause) -> None:
        """End the run with a gap."""
        self._spool.seal(cause)
        self._spool.begin_gap(self._spool.last_end_ms or 0, cause, "")
        self._run = None
        self._say("backoff")

    def close(self) -> None:
        """Stop recording."""
        self._spool.seal(GapCause.RECORDER_STOPPED)
        self._spool.close()

    def _say(self, state: str) -> None:
        folder = self._root / "_status"
        folder.mkdir(exist_ok=True)
        said = {"written_ms": int(time.time() * 1000), "cameras": {}}
        said["cameras"] = {f"s/{self._camera}": {"state": state}}
        path = folder / f"recorder-{self._camera}.json"
        path.with_suffix(".new").write_text(json.dumps(said))
        path.with_suffix(".new").replace(path)


def _later(segment: bytes, by_90k: int) -> bytes:
    """Return a segment whose pictures come later."""
    moof = rebase(segment, {1: -by_90k})
    return moof + segment[len(moof) :]


@contextlib.contextmanager
def live_camera(root: Path, camera: str, codec: str = "h264") -> Iterator[LiveCamera]:
    """A camera whose first 10 s have been recorded already."""
    one = LiveCamera(root, camera, codec)
    clip("red", codec)
    one.begin(int(time.time() * 1000) - 10_000)
    one.keep_up()
    try:
        yield one
    finally:
        one.close()
