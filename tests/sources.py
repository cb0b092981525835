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
from storage.media.fmp4 import TrackInit
from tests.waiting import until

FEW = 20  # pictures at the beginning


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
    # some servers begin with what they had in hand, and count on from elsewhere
    assert not any(f.lost or f.damaged or f.continues or f.restarted for f in native.frames[FEW:])
    mine, theirs = whole(native)[2 * FEW :], whole(other)
    begin = next(n for n, (_, found) in enumerate(theirs) if found == mine[0][1])
    both = list(zip(mine, theirs[begin:], strict=False))
    assert len(both) > pictures // 2
    assert [(m[1], m[0].key) for m, _ in both] == [(t[1], t[0].key) for _, t in both]
    shown = [(m[0], t[0]) for m, t in both]
    steps = zip(_steps([m for m, _ in shown]), _steps([t for _, t in shown]), strict=True)
    # ffmpeg counts sender reports in microseconds, and so rounds a tick here and there
    assert all(abs(one - another) <= 1 for one, another in steps)
    apart = [m.camera_ms - t.camera_ms for m, t in shown if m.camera_ms and t.camera_ms]
    assert apart and max(map(abs, apart)) < 20, "the camera's clock"
    tracks = [[(t.codec, t.width, t.height) for t in each.tracks[-1]] for each in (native, other)]
    assert tracks[0] == tracks[1]
    heard = set(native.of(SOUND_ID))  # all stillness is alike
    has = [data in heard for data in other.of(SOUND_ID)]
    if sound:  # one began and ended before the other
        first, last = has.index(True), len(has) - has[::-1].index(True)
        assert all(has[first:last]) and last - first > pictures // 2


def whole(taken: Taken) -> list[tuple[Frame, list[bytes]]]:
    """Return pictures with their NAL units; what ffmpeg made several frames of is one."""
    found: list[tuple[Frame, list[bytes]]] = []
    for frame in taken.pictures():
        if frame.continues and found:
            found[-1][1].extend(nals(frame))
        else:
            found.append((frame, nals(frame)))
    return found[:-1]


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
