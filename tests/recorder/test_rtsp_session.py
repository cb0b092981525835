"""An RTSP session: what keeps it, and what the camera is told meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections import Counter
from collections.abc import Callable
from typing import cast

import pytest
import uvloop

from recorder.rtsp.address import Address
from recorder.rtsp.client import RtspSession
from recorder.rtsp.connection import MAX_UNASKED, Connection, Resolver, _Wire
from recorder.rtsp.describe import Offer, connect
from recorder.rtsp.description import Description
from recorder.rtsp.messages import Response
from recorder.rtsp.nal_units import H264Pictures
from recorder.rtsp.rtp import RtpReceiver
from recorder.rtsp.stream import CAPACITY, Channel
from tests.support.packets import rtp
from tests.support.playing import SDP, answers, film, plays, wrapped
from tests.support.rtsp_camera import Camera, Dialogue, Request, Script, serving, usual
from tests.support.sources import Nobody, Taken
from tests.support.waiting import until


async def test_a_camera_that_is_gone_before_we_look_who_it_is() -> None:
    """A busy one accepts and closes at once; the system then knows no other side any more."""

    class Gone(asyncio.Transport):
        def get_extra_info(self, name: str, default: object = None) -> object:
            return ("127.0.0.1", 40_000) if name == "sockname" else default

    wire = _Wire(lambda: 0.0)
    wire.connection_made(Gone())
    wire.connection_lost(ConnectionResetError())
    assert wire.closed and wire.hosts[0] == "127.0.0.1"


async def test_a_camera_that_asks_all_day_and_never_answers_is_kept() -> None:
    """What it asks is counted between two requests of ours: it is no flood."""

    class Open(asyncio.Transport):
        def get_extra_info(self, name: str, default: object = None) -> object:
            return "127.0.0.1", 554

        def get_write_buffer_size(self) -> int:
            return 0

        def write(self, data: object) -> None:
            pass

    wire, asked = _Wire(lambda: 0.0), b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n"
    wire.connection_made(Open())
    for _ in range(3):
        waits = asyncio.ensure_future(wire.send(b"OPTIONS"))
        await asyncio.sleep(0)
        for _ in range(MAX_UNASKED // 2):
            wire.get_buffer(-1)[: len(asked)] = asked
            wire.buffer_updated(len(asked))
        waits.cancel()
    assert wire.error is None and not wire.closed


async def kept(
    script: Script, enough: Callable[[Camera], bool], closed_at: Counter[str] | None = None
) -> tuple[list[str], list[float], bool]:
    """Return the methods that kept a session, the pauses before them, and whether it ended."""
    camera, pauses = Camera(script=script, sdp=SDP), list[float]()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(0)

    async with serving(camera):
        connection, offer = await connect(camera.url(), Resolver())
        session = RtspSession(connection, offer, sleep, closed_at)
        await session.set_up(0, RtpReceiver(96, 90_000, Nobody()))
        await session.play()
        alive = asyncio.ensure_future(session.keep_alive())
        await until(lambda: enough(camera) or alive.done(), every=0.005)
        ended = alive.done()
        alive.cancel()
        await asyncio.gather(alive, return_exceptions=True)
        await session.tear_down()
    return camera.methods()[3:-1], pauses, ended


def after(count: int) -> Callable[[Camera], bool]:
    return lambda camera: len(camera.requests) >= 3 + count


async def test_a_session_is_kept_by_what_the_camera_announces() -> None:
    methods, pauses, ended = await kept(usual, after(5))
    assert methods[:5] == ["OPTIONS", *["GET_PARAMETER"] * 4] and not ended
    assert set(pauses) == {24.0}, "0.4 of 60 s"


@pytest.mark.parametrize(
    ("refuses", "methods"),
    [
        ((), ["OPTIONS", "GET_PARAMETER"] * 2),
        (("GET_PARAMETER",), ["OPTIONS", "GET_PARAMETER", "OPTIONS", "OPTIONS"]),
        (("OPTIONS",), ["OPTIONS", "GET_PARAMETER", "GET_PARAMETER", "GET_PARAMETER"]),
    ],
)
async def test_a_camera_that_announces_nothing(
    refuses: tuple[str, ...], methods: list[str]
) -> None:
    async def script(dialogue: Dialogue, request: Request) -> bool:
        if request.method not in ("OPTIONS", "GET_PARAMETER"):
            return False
        dialogue.answer(request, "501 No" if request.method in refuses else "200 OK")
        return True

    assert (await kept(script, after(4)))[0][:4] == methods


async def test_a_camera_that_announces_what_it_does_not_answer() -> None:
    """It may be the other method that keeps the session."""
    asked, pauses = list[str](), list[float]()

    class Silent:
        async def request(self, method: str, *args: object) -> Response:
            asked.append(method)
            if method == "GET_PARAMETER":
                raise TimeoutError
            return Response(200, "OK", (("public", "OPTIONS, GET_PARAMETER"),), b"")

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) > 6:
            raise asyncio.CancelledError

    offer = Offer(Address("rtsp://h/"), Description("h264", None))
    session = RtspSession(cast(Connection, Silent()), offer, sleep)
    with pytest.raises(asyncio.CancelledError):
        await session.keep_alive()
    assert asked == ["OPTIONS", "GET_PARAMETER"] * 3
    assert pauses[:4] == [24.0, 24.0, 14.0, 24.0], "the answer was waited for meanwhile"


async def test_a_camera_that_asks_whether_we_are_there_is_answered() -> None:
    """Some ask back at each keepalive, and leave who does not answer."""

    async def script(dialogue: Dialogue, request: Request) -> bool:
        if request.method == "GET_PARAMETER":
            dialogue.answer(request, "200 OK")
            dialogue.send("OPTIONS * RTSP/1.0\r\nCSeq: 77\r\nSession: 12345678\r\n\r\n")
        return request.method == "GET_PARAMETER"

    answers: list[Request] = []

    def enough(camera: Camera) -> bool:
        answers[:] = camera.answers
        return len(answers) > 1

    _, _, ended = await kept(script, enough)
    assert not ended and answers[0].uri == "200"
    assert (answers[0].headers["cseq"], answers[0].headers["session"]) == ("77", "12345678")


@pytest.mark.parametrize("announces", [True, False])
@pytest.mark.parametrize("deadly", ["GET_PARAMETER", "OPTIONS"])
async def test_a_camera_that_closes_at_what_is_to_keep_the_session(
    deadly: str, announces: bool
) -> None:
    async def script(dialogue: Dialogue, request: Request) -> bool:
        if request.method == deadly:
            dialogue.close()
        elif request.method == "OPTIONS" and not announces:
            dialogue.answer(request, "200 OK", "Public: DESCRIBE, SETUP, PLAY")
        return request.method == deadly or (request.method == "OPTIONS" and not announces)

    closed_at = Counter[str]()
    sessions = [await kept(script, after(20), closed_at) for _ in range(5)]
    assert [ended for _, _, ended in sessions] == [True, True, False, True, False]
    assert set(sessions[-1][0]) == {"GET_PARAMETER", "OPTIONS"} - {deadly}


async def test_a_camera_that_closes_at_all_that_is_to_keep_the_session() -> None:
    async def script(dialogue: Dialogue, request: Request) -> bool:
        if is_kept := request.method in ("GET_PARAMETER", "OPTIONS"):
            dialogue.close()
        return is_kept

    closed_at, looks = Counter[str](), itertools.count()
    for _ in range(4):
        assert (await kept(script, after(20), closed_at))[2]
    told = await kept(script, lambda camera: next(looks) > 9, closed_at)
    assert told == ([], [], False)


@pytest.mark.parametrize(
    ("header", "pause_s"),
    [
        ("1;timeout=10", 4.0),
        ("1 ; timeout = 600", 30.0),
        ("1;timeout=1", 1.0),
        ("1;timeout=0", 24.0),
    ],
)
@pytest.mark.parametrize("method", ["SETUP", "PLAY"])
async def test_pauses(header: str, pause_s: float, method: str) -> None:
    _, pauses, _ = await kept(answers(method, f"Session: {header}"), after(1))
    assert pauses[0] == pause_s


async def test_a_camera_hears_what_came_of_its_packets() -> None:
    camera, pauses = Camera(script=plays(film()), sdp=SDP), list[float]()
    taken = Taken()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await until(lambda: taken.frames, every=0.005)
        await asyncio.sleep(0)  # others have their turn

    async with serving(camera):
        connection, offer = await connect(camera.url(), Resolver())
        session = RtspSession(connection, offer, sleep)
        receiver = RtpReceiver(96, 90_000, H264Pictures(taken.on_frame))
        await session.set_up(0, receiver)
        await session.play()
        reporting = asyncio.ensure_future(session.report())
        await until(lambda: len(camera.reports) >= 3, every=0.005)
        reporting.cancel()
        await asyncio.wait({reporting})
        await session.tear_down()
    assert {channel for channel, _ in camera.reports} == {1}
    assert camera.reports[-1][1][:2] == b"\x81\xc9" and set(pauses) == {5.0}


async def test_a_camera_that_has_forgotten_the_session() -> None:
    script = answers("OPTIONS", status="454 Session Not Found")
    assert (await kept(script, after(50)))[2]


def test_who_floods_is_read_in_turn_with_the_others() -> None:
    """uvloop would read its buffer full 32 times, and take all those packets, before any other."""
    data = wrapped(0, rtp(1, bytes(20))) * 200_000
    turns = [0]  # bytes taken in each round of the loop

    def take(packet: memoryview, arrival_ms: float) -> None:
        turns[-1] += len(packet)

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def turn() -> None:
            turns.append(0)
            loop.call_soon(turn)

        with socket.create_server(("127.0.0.1", 0)) as server:
            address = Address.parse(f"rtsp://127.0.0.1:{server.getsockname()[1]}/x")
            connection = Connection(address, Resolver())
            await connection.open(10)
            connection.expect(0, Channel(take, lambda head: True))
            camera, _ = server.accept()
            with camera:
                turn()
                await asyncio.to_thread(camera.sendall, data)
            await connection.ended()
            await connection.close()

    uvloop.run(main())
    assert sum(turns) == 200_000 * 32 and max(turns) <= CAPACITY
