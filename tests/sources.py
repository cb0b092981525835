"""A sink that keeps everything, and both sources beside each other at one camera."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from recorder.ffmpeg import FfmpegSource
from recorder.native import NativeSource, why_not
from recorder.rtsp.connection import Resolver
from recorder.rtsp.describe import connect
from recorder.source import PICTURE_ID, SOUND_ID, Frame
from storage.fmp4 import TrackInit
from tests.waiting import until


@dataclass
class Taken:
    """A sink that keeps everything."""

    tracks: list[list[TrackInit]] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)

    def on_tracks(self, tracks: Sequence[TrackInit], transcoded: tuple[str, ...]) -> None:
        assert transcoded == ()
        self.tracks.append(list(tracks))

    def on_frame(self, frame: Frame) -> None:
        self.frames.append(frame)

    def of(self, track: int) -> list[bytes]:
        return [bytes(f.data) for f in self.frames if f.track_id == track]


async def compare(url: str, ffmpeg: str, transport: str, sound: bool, pictures: int = 90) -> None:
    """Read a camera by both sources and compare what they make of it."""
    native, other = Taken(), Taken()
    connection, offer = await connect(url, Resolver())
    assert why_not(offer) is None
    by_ffmpeg = FfmpegSource(ffmpeg, offer.address.url, offer.description, transport=transport)
    running = [
        asyncio.ensure_future(source.run(taken))
        for source, taken in (
            (NativeSource(connection, offer, transport=transport), native),
            (by_ffmpeg, other),
        )
    ]

    def is_enough(taken: Taken) -> bool:
        return len(taken.of(PICTURE_ID)) > pictures and len(taken.tracks[-1]) == 1 + sound

    await until(lambda: (is_enough(native) and is_enough(other)) or any(r.done() for r in running))
    assert not any(r.done() for r in running), [r.result() for r in running if r.done()]
    for source in running:
        source.cancel()
    await asyncio.wait(running)
    assert not any(f.lost or f.damaged or f.continues or f.restarted for f in native.frames)
    shown = _common(native, other, PICTURE_ID)
    assert len(shown) > pictures // 2
    assert all(mine.data == theirs.data and mine.key == theirs.key for mine, theirs in shown)
    assert _steps([mine for mine, _ in shown]) == _steps([theirs for _, theirs in shown])
    apart = [m.camera_ms - t.camera_ms for m, t in shown if m.camera_ms and t.camera_ms]
    assert apart and max(map(abs, apart)) < 20, "the camera's clock"
    tracks = [[(t.codec, t.width, t.height) for t in each.tracks[-1]] for each in (native, other)]
    assert tracks[0] == tracks[1]
    if sound:
        heard = _common(native, other, SOUND_ID)
        assert heard and all(mine.data == theirs.data for mine, theirs in heard)


def _common(native: Taken, other: Taken, track: int) -> list[tuple[Frame, Frame]]:
    """Return the frames of a track that both have, from the second of the other's on."""
    mine, theirs = ([f for f in t.frames if f.track_id == track] for t in (native, other))
    begin = next(n for n, f in enumerate(mine) if f.data == theirs[1].data)
    return list(zip(mine[begin:], theirs[1:], strict=False))


def _steps(frames: list[Frame]) -> list[int]:
    return [after.pts - before.pts for before, after in pairwise(frames)]
