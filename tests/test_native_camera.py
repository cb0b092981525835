"""Both sources beside each other at one simulated camera: the same frames at the same times."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from kuager.simulator import SimCamera, Simulator
from recorder.ffmpeg import FfmpegSource
from recorder.native import NativeSource, why_not
from recorder.rtsp.connection import Resolver
from recorder.rtsp.describe import connect
from recorder.source import PICTURE_ID, SOUND_ID, Frame
from tests.test_native_source import Taken
from tests.waiting import until

PICTURES = 90


def of(frames: list[Frame], track: int) -> list[Frame]:
    return [f for f in frames if f.track_id == track]


def common(native: list[Frame], by_ffmpeg: list[Frame]) -> list[tuple[Frame, Frame]]:
    """Return the frames that both have, from the second of ffmpeg's on."""
    places = {bytes(f.data): n for n, f in enumerate(native)}
    begin = places[bytes(by_ffmpeg[1].data)]
    return list(zip(native[begin:], by_ffmpeg[1:], strict=False))


def steps(frames: list[Frame]) -> list[int]:
    return [after.pts - before.pts for before, after in pairwise(frames)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("codec", "audio", "bframes", "transport"),
    [("h264", "aac", 0, "tcp"), ("h264", None, 2, "udp"), ("h265", None, 0, "tcp")],
)
async def test_frames_are_those_of_ffmpeg(
    codec: str, audio: str | None, bframes: int, transport: str, ffmpeg: str
) -> None:
    camera = SimCamera(
        "a", width=320, height=180, gop_s=1, codec=codec, audio=audio, bframes=bframes
    )
    one, other = Taken(), Taken()
    async with Simulator([camera], ffmpeg=ffmpeg) as simulator:
        connection, offer = await connect(simulator.url("a"), Resolver())
        assert why_not(offer) is None
        sources = [
            asyncio.ensure_future(NativeSource(connection, offer, transport=transport).run(one)),
            asyncio.ensure_future(
                FfmpegSource(ffmpeg, offer.address.url, offer.description).run(other)
            ),
        ]
        await until(
            lambda: (
                min(len(of(t.frames, PICTURE_ID)) for t in (one, other)) > PICTURES
                and all(audio is None or len(t.tracks[-1]) == 2 for t in (one, other))
            )
        )
        for source in sources:
            source.cancel()
        await asyncio.wait(sources)
    assert not any(f.lost or f.damaged or f.continues or f.restarted for f in one.frames)
    pictures = common(of(one.frames, PICTURE_ID), of(other.frames, PICTURE_ID))
    assert len(pictures) > PICTURES // 2
    assert all(m.data == t.data and m.key == t.key for m, t in pictures)
    assert steps([m for m, _ in pictures]) == steps([t for _, t in pictures])
    apart = [m.camera_ms - t.camera_ms for m, t in pictures if m.camera_ms and t.camera_ms]
    assert apart and max(map(abs, apart)) < 20, "the camera's clock"
    tracks = [[(t.codec, t.width, t.height) for t in taken.tracks[-1]] for taken in (one, other)]
    assert tracks[0] == tracks[1]
    if audio:
        sound = common(of(one.frames, SOUND_ID), of(other.frames, SOUND_ID))
        assert sound and all(m.data == t.data for m, t in sound)
        assert set(steps([m for m, _ in sound])) == {1024}
