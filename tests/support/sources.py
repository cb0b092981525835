"""Sinks, what a scripted camera gives to one, and both sources beside each other at one camera."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import Match, SequenceMatcher
from itertools import pairwise
from typing import NamedTuple

from recorder.ffmpeg import FfmpegSource
from recorder.native import NativeSource, why_not
from recorder.rtsp.connection import Resolver
from recorder.rtsp.describe import connect
from recorder.source import PICTURE_ID, SOUND_ID, Frame
from storage.media.fmp4 import TrackInit
from storage.records import Ending
from tests.support.playing import SDP
from tests.support.rtsp_camera import Camera, serving
from tests.support.waiting import until

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


class Same(NamedTuple):
    """What both sources made of a camera, and how long each took to its first picture (s)."""

    pictures: int
    sound: int
    native_s: float
    ffmpeg_s: float


async def compare(url: str, ffmpeg: str, transport: str, sound: bool, steady: bool = True) -> Same:
    """Read a camera by both sources and compare what they make of it.

    A camera that is not `steady` leaves something out when somebody joins, or on a busy machine:
    what both had is compared. GStreamer's ends in an assertion when two join at once.
    """
    native, other, pictures = Taken(), Taken(), 90
    connection, offer = await connect(url, Resolver())
    assert why_not(offer) is None
    by_ffmpeg = FfmpegSource(ffmpeg, offer.address.url, offer.description, transport=transport)

    def is_enough(taken: Taken) -> bool:
        shown = taken.pictures()
        has_clock = any(picture.camera_ms for picture in shown)
        return len(shown) > pictures and has_clock and len(taken.tracks[-1]) == 1 + sound

    def have_enough() -> bool:
        """One may be behind the other: what both had by now counts."""
        if not (is_enough(native) and is_enough(other)):
            return False
        both, heard = _both(native, other)[1], _heard(native, other)
        has_clock = any(m.camera_ms and t.camera_ms for m, t in both)
        heard_enough = max(heard, key=lambda block: block.size).size > pictures // 2
        return len(both) > pictures // 2 and has_clock and (heard_enough or not sound)

    running = [asyncio.ensure_future(by_ffmpeg.run(other))]
    ffmpeg_s = await until(lambda: other.frames or running[0].done())
    by_us = NativeSource(connection, offer, transport=transport)
    running.append(asyncio.ensure_future(by_us.run(native)))
    native_s = await until(lambda: native.frames or any(r.done() for r in running))
    await until(
        lambda: have_enough() or any(r.done() for r in running),
        every=0.3,
        why=f"{url}: too few pictures or tracks",
    )
    assert not any(r.done() for r in running), [r.result() for r in running if r.done()]
    for one in running:
        one.cancel()
    await asyncio.wait(running)
    found, both = _both(native, other)
    assert len(both) > pictures // 2
    assert [m.key for m, _ in both] == [t.key for _, t in both]
    steps = zip(_steps([m for m, _ in both]), _steps([t for _, t in both]), strict=True)
    # with a sender report ffmpeg moves a track by some microseconds; a tick is 11
    assert all(abs(m - t) <= 9 for m, t in steps)
    heard, theirs_heard = native.of(SOUND_ID), other.of(SOUND_ID)
    same = max(_heard(native, other), key=lambda block: block.size)
    assert same.size > pictures // 2 or not sound
    tracks = [[(t.codec, t.width, t.height) for t in each.tracks[-1]] for each in (native, other)]
    assert tracks[0] == tracks[1]
    if steady:  # nothing is left out, and both have one clock
        assert not any(
            f.lost or f.damaged or f.continues or f.restarted for f in native.frames[FEW:]
        )
        assert len(found) <= 2  # one, and one of nothing at the end
        apart = [m.camera_ms - t.camera_ms for m, t in both if m.camera_ms and t.camera_ms]
        assert apart and max(map(abs, apart)) < 20, "the camera's clock"
        ends = same.a + same.size == len(heard) or same.b + same.size == len(theirs_heard)
        assert (same.a <= FEW and ends) or not sound
    return Same(len(both), same.size if sound else 0, native_s, ffmpeg_s)


def _both(native: Taken, other: Taken) -> tuple[list[Match], list[tuple[Frame, Frame]]]:
    """Return where the pictures of both sources are the same, and those."""
    # some servers begin with what they had in hand, and count on from elsewhere
    mine, theirs = whole(native)[2 * FEW :], whole(other)
    found = blocks([b"".join(n) for _, n in mine], [b"".join(n) for _, n in theirs])
    return found, [(mine[b.a + n][0], theirs[b.b + n][0]) for b in found for n in range(b.size)]


def _heard(native: Taken, other: Taken) -> list[Match]:
    """Return where their sound is the same."""
    return blocks(native.of(SOUND_ID), other.of(SOUND_ID))


def blocks(mine: Sequence[bytes], theirs: Sequence[bytes]) -> list[Match]:
    """Return where two lists are the same, in order; the last is of nothing."""
    numbers: dict[bytes, int] = {}
    one, another = (
        [numbers.setdefault(data, len(numbers)) for data in each] for each in (mine, theirs)
    )
    return SequenceMatcher(None, one, another, autojunk=False).get_matching_blocks()


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
    """Return the NAL units of a picture."""
    return split_nals(bytes(frame.data))


def split_nals(data: bytes) -> list[bytes]:
    """Return the NAL units of a sample without the zeros that ffmpeg leaves after some."""
    at, found = 0, []
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        found.append(data[at + 4 : at + 4 + size].rstrip(b"\0"))
        at += 4 + size
    return found


def _steps(frames: list[Frame]) -> list[int]:
    return [after.pts - before.pts for before, after in pairwise(frames)]


async def taken_from(
    camera: Camera,
    until_it: Callable[[Taken], bool] | None = None,
    login: str = "",
    keep_audio: bool = True,
    remarks: list[str] | None = None,
) -> tuple[Taken, Ending | None, NativeSource]:
    """Play until a condition, or until the session ends by itself."""
    camera.sdp = camera.sdp or SDP
    sink = Taken()
    async with serving(camera):
        connection, offer = await connect(camera.url(login=login), Resolver())
        assert why_not(offer, keep_audio) is None
        on_remark = (lambda text: None) if remarks is None else remarks.append
        source = NativeSource(connection, offer, keep_audio=keep_audio, on_remark=on_remark)
        running = asyncio.ensure_future(source.run(sink))
        wanted = until_it or (lambda taken: False)
        await until(lambda: wanted(sink) or running.done(), every=0.005)
        end = running.result() if running.done() else None
        running.cancel()
        await asyncio.wait({running})
        await until(lambda: camera.open == 0, why="the connection is left open")
    return sink, end, source


def all_came(taken: Taken) -> bool:
    """Say whether all that `tests.support.playing.film` has came."""
    return len(taken.of(1)) >= 4 and len(taken.of(2)) >= 4


class Nobody:
    """Takes payloads and keeps none."""

    def push(
        self, payload: memoryview, pts: int, marker: bool, lost: int, arrival_ms: float
    ) -> None: ...

    def restart(self) -> None: ...
