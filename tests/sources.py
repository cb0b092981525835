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

    def pictures(self) -> list[Frame]:
        return [f for f in self.frames if f.track_id == PICTURE_ID]

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
    mine, theirs = native.pictures(), other.pictures()
    begin = next((n for n, f in enumerate(mine) if nals(f) == nals(theirs[1])), 0)
    shown = list(zip(mine[begin:], theirs[1:], strict=False))  # the first one's time is a guess
    assert len(shown) > pictures // 2
    assert [(nals(m), m.key) for m, _ in shown] == [(nals(t), t.key) for _, t in shown]
    assert _steps([m for m, _ in shown]) == _steps([t for _, t in shown])
    apart = [m.camera_ms - t.camera_ms for m, t in shown if m.camera_ms and t.camera_ms]
    assert apart and max(map(abs, apart)) < 20, "the camera's clock"
    tracks = [[(t.codec, t.width, t.height) for t in each.tracks[-1]] for each in (native, other)]
    assert tracks[0] == tracks[1]
    heard = set(native.of(SOUND_ID))  # all stillness is alike
    assert heard.issuperset(other.of(SOUND_ID)) and bool(heard) is sound


def nals(frame: Frame) -> list[bytes]:
    """Return the NAL units of a picture without the zeros that ffmpeg leaves after some."""
    data, at, found = bytes(frame.data), 0, []
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        found.append(data[at + 4 : at + 4 + size].rstrip(b"\0"))
        at += 4 + size
    return found


def _steps(frames: list[Frame]) -> list[int]:
    return [after.pts - before.pts for before, after in pairwise(frames)]
