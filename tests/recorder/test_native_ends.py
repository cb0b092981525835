"""How sessions of the native source end, and what is said of it."""

from __future__ import annotations

import asyncio
import errno
import struct

import pytest

from recorder.native import FIRST_PACKETS, FIRST_S, NativeSource
from recorder.rtsp.connection import Resolver
from recorder.rtsp.describe import connect
from recorder.source import Frame
from storage.records import GapCause
from tests.support.packets import PPS, SPS, SSRC, fragments, rtp, slice_nal
from tests.support.playing import OTHER, PICTURES, SDP, answers, film, plays, wrapped
from tests.support.rtsp_camera import Camera, Dialogue, Request, Script, serving
from tests.support.sources import Taken, all_came, taken_from
from tests.support.waiting import until

ANSWER, CONTINUE = b"RTSP/1.0 200 OK\r\n\r\n", b"RTSP/1.0 100 Continue\r\n\r\n"


ASKED = b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n"


def bye(ssrc: int = SSRC) -> bytes:
    return wrapped(1, struct.pack(">BBHI", 0x81, 203, 1, ssrc))


@pytest.mark.parametrize(
    ("script", "cause", "words"),
    [
        (answers("SETUP", status="461 Unsupported Transport"), GapCause.STREAM_BROKEN, "UDP (461)"),
        (answers("SETUP", status="404 Not Found"), GapCause.NO_SUCH_STREAM, "404"),
        (answers("SETUP", status="453 Not Enough Bandwidth"), GapCause.STREAM_BROKEN, "busy"),
        (answers("PLAY", status="455 Method Not Valid"), GapCause.STREAM_BROKEN, "455 to PLAY"),
        (answers("PLAY", status="401 Unauthorized"), GapCause.REFUSED_PASSWORD, "401"),
        (plays(film() + bye()), GapCause.CLOSED_BY_CAMERA, "says that its stream ends"),
        (plays(film() + bytes(300_000)), GapCause.STREAM_BROKEN, "not RTSP"),
        (plays(film() + ANSWER * 1_001), GapCause.STREAM_BROKEN, "more than 1,000 answers"),
        (plays(film() + CONTINUE * 1_001), GapCause.STREAM_BROKEN, "more than 1,000 answers"),
        (plays(film() + ASKED * 1_001), GapCause.STREAM_BROKEN, "more than 1,000 requests"),
    ],
)
async def test_what_a_camera_ends_it_with(script: Script, cause: GapCause, words: str) -> None:
    _, end, _ = await taken_from(Camera(script=script))
    assert end is not None and end.cause is cause and words in end.detail


@pytest.mark.parametrize(
    ("packets", "came", "words"),
    [
        ([rtp(n, b"x", kind=100 + n % 2) for n in range(FIRST_PACKETS)], 50, "of 50, 50 are not"),
        # numbers that mean nothing: some make a picture
        ([rtp(n * 7_919, OTHER, kind=96 | 0x80) for n in range(60)], 59, "of 59, 56 are not"),
        # H.265 under the name of H.264
        ([rtp(n, b"\x02\1%d" % n, kind=96 | 0x80) for n in range(60)], 60, "of 60, 0 are not"),
        # one picture, and what is said in no way that is known here
        (
            [rtp(n, b"\x1dx" if n else OTHER, kind=96 | 0x80) for n in range(60)],
            60,
            "0 are not of its video, 59 cannot be read",
        ),
    ],
)
async def test_packets_that_make_no_picture(packets: list[bytes], came: int, words: str) -> None:
    """They are not waited for as long as a camera that begins late."""
    camera = Camera(script=plays(b"".join(wrapped(0, p) for p in packets)), sdp=SDP)
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        await until(lambda: source.packets[0].came >= came, every=0.005)

    async with serving(camera):
        connection, offer = await connect(camera.url(), Resolver())
        source = NativeSource(connection, offer, sleep=sleep)
        end = await source.run(Taken())
    assert end.cause is GapCause.STREAM_BROKEN and words in end.detail
    assert waited == [FIRST_S]


async def test_a_picture_that_takes_long_is_waited_for() -> None:
    """A large keyframe on a slow link; what comes is a picture, as far as it is here."""
    parts = fragments("h264", slice_nal("h264", bytes(range(1, 250)) * 40, key=True), 100)
    packets = [rtp(n, part) for n, part in enumerate([SPS, PPS, *parts[:-1]])]
    end = wrapped(0, rtp(len(packets), parts[-1], kind=224)) + bye()
    looked: list[float] = []
    asked: list[Dialogue] = []

    async def script(dialogue: Dialogue, request: Request) -> bool:
        asked.append(dialogue)
        return await plays(b"".join(wrapped(0, p) for p in packets))(dialogue, request)

    async def sleep(seconds: float) -> None:
        await until(lambda: source.packets[0].came >= len(packets), every=0.005)
        if seconds == FIRST_S:
            looked.append(seconds)
            if len(looked) == 2:
                asked[-1].send(end)
                await until(lambda: bool(taken.frames), every=0.005)

    camera, taken = Camera(script=script, sdp=SDP), Taken()
    async with serving(camera):
        connection, offer = await connect(camera.url(), Resolver())
        source = NativeSource(connection, offer, sleep=sleep)
        ended = await source.run(taken)
    assert ended.cause is GapCause.CLOSED_BY_CAMERA and looked == [FIRST_S] * 2
    assert [f.key for f in taken.pictures()] == [True]


async def test_another_stream_beside_ours_ends_nothing() -> None:
    """However much it sends: what was for a session before, that nobody ended, may be larger."""
    packets: list[bytes] = []
    for n in range(FIRST_PACKETS):
        for k, part in enumerate(fragments("h264", OTHER, len(OTHER) // 2)):
            packets.append(rtp(2 * n + k, part, stamp=n, kind=96 | k << 7))
        packets += [rtp(6 * n + k, OTHER, stamp=n, ssrc=SSRC + 1) for k in range(6)]
    asked: list[Dialogue] = []

    async def script(dialogue: Dialogue, request: Request) -> bool:
        asked.append(dialogue)
        return await plays(b"".join(wrapped(0, p) for p in packets))(dialogue, request)

    async def sleep(seconds: float) -> None:
        if seconds == FIRST_S:
            await until(lambda: source.packets[0].came >= len(packets), every=0.005)
            asked[-1].send(bye())

    camera = Camera(script=script, sdp=SDP)
    async with serving(camera):
        connection, offer = await connect(camera.url(), Resolver())
        source = NativeSource(connection, offer, sleep=sleep)
        ended = await source.run(Taken())
    counts = source.packets[0]
    assert counts.strays > 2 * counts.received and counts.restarts == 2
    assert ended.cause is GapCause.CLOSED_BY_CAMERA


async def test_a_camera_that_closes() -> None:
    async def script(dialogue: Dialogue, request: Request) -> bool:
        if request.method == "PLAY":
            dialogue.close()
        return request.method == "PLAY"

    _, end, _ = await taken_from(Camera(script=script))
    assert end is not None and end.cause is GapCause.CLOSED_BY_CAMERA


@pytest.mark.parametrize(
    ("number", "cause"),
    [
        (errno.ETIMEDOUT, GapCause.UNREACHABLE),
        (errno.EHOSTUNREACH, GapCause.UNREACHABLE),
        (errno.ENOBUFS, GapCause.STREAM_BROKEN),
    ],
)
async def test_what_the_camera_did_not_do_is_not_laid_to_it(number: int, cause: GapCause) -> None:
    camera, taken = Camera(script=plays(film()), sdp=SDP), Taken()
    async with serving(camera):
        connection, offer = await connect(camera.url(), Resolver())
        running = asyncio.ensure_future(NativeSource(connection, offer).run(taken))
        await until(lambda: all_came(taken), every=0.005)
        assert connection._wire is not None
        connection._wire.connection_lost(OSError(number, "as the system says it"))
        end = await running
    assert end.cause is cause and "as the system says it" in end.detail


async def test_a_fault_of_ours_is_not_laid_to_the_camera() -> None:
    class Broken(Taken):
        def on_frame(self, frame: Frame) -> None:
            raise RuntimeError("no room")

    camera = Camera(script=plays(film()), sdp=SDP)
    said: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: said.append(context))
    async with serving(camera):
        connection, offer = await connect(camera.url(), Resolver())
        end = await NativeSource(connection, offer).run(Broken())
    assert end.cause is GapCause.STREAM_BROKEN and "no room" in end.detail


async def test_a_camera_that_says_bye_of_a_stream_that_goes_on() -> None:
    """Each picture has its BYE; it ends when none comes any more."""
    packets = film().split(b"$\0")
    data = (bye() + b"$\0").join(packets) + bye()
    taken, end, _ = await taken_from(Camera(script=plays(data)))
    assert taken.of(1) == PICTURES and end is not None
    assert "says that its stream ends" in end.detail


@pytest.mark.parametrize("answers_first", [True, False])
async def test_a_camera_that_ends_where_sound_is_asked_for(answers_first: bool) -> None:
    async def script(dialogue: Dialogue, request: Request) -> bool:
        if request.method == "SETUP" and request.uri.endswith("track1"):
            if answers_first:
                dialogue.send("HTTP/1.1 500 Oh\r\n\r\n" * 20_000)
            dialogue.close()
            return True
        return False

    _, end, source = await taken_from(Camera(script=plays(film(), script)))
    assert end is not None and source.sound_broke_it
    _, _, source = await taken_from(Camera(script=answers("PLAY", status="500 No")))
    assert not source.sound_broke_it
