"""The native source over UDP."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Sequence

import pytest
import uvloop

from recorder.native import NativeSource
from recorder.rtsp.client import RtspSession
from recorder.rtsp.connection import Resolver
from recorder.rtsp.describe import connect
from recorder.rtsp.rtp import RtpReceiver
from recorder.rtsp.udp import UdpPair
from recorder.source import Frame
from storage.records import GapCause
from tests.support.playing import PICTURES, SDP, SOUND, film
from tests.support.rtsp_camera import Camera, Dialogue, Request, Script, serving
from tests.support.sources import Nobody, Taken, all_came, taken_from
from tests.support.waiting import BOUND_S, until


def sends_datagrams(packets: Sequence[tuple[int, bytes]], source: str = "") -> Script:
    """Return a script that sends packets of channels by UDP after the answer to PLAY."""
    ports: dict[int, int] = {}

    async def script(dialogue: Dialogue, request: Request) -> bool:
        transport = request.headers.get("transport", "")
        track = request.uri.rsplit("track", 1)[-1]
        if found := re.search(r"client_port=(\d+)-(\d+)", transport):
            ports[2 * int(track)], ports[2 * int(track) + 1] = int(found[1]), int(found[2])
            dialogue.answer(request, "200 OK", f"Transport: {transport}{source}", "Session: 1")
        elif request.method == "SETUP":
            dialogue.answer(request, "461 Unsupported Transport")
        elif request.method == "PLAY":
            dialogue.answer(request, "200 OK")
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                for channel, packet in packets:
                    sender.sendto(packet, ("127.0.0.1", ports[channel]))
        else:
            return False
        return True

    return script


def taken_apart(data: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at + 2 : at + 4], "big")
        found.append((data[at + 1], data[at + 4 : at + 4 + size]))
        at += 4 + size
    return found


@pytest.mark.parametrize("source", ["", ";source=127.0.0.1;server_port=7000-7001"])
async def test_a_camera_that_sends_by_udp_only(source: str) -> None:
    packets = taken_apart(film())
    packets[3], packets[4] = packets[4], packets[3]  # one overtakes another
    camera = Camera(script=sends_datagrams(packets, source))
    taken, _, source_ = await taken_from(camera, all_came)
    assert taken.of(1) == PICTURES and taken.of(2) == SOUND
    assert source_.packets[0].lost == 0 and len(camera.connections) == 1
    assert camera.methods() == ["DESCRIBE", *["SETUP"] * 3, "PLAY", "TEARDOWN"]


async def test_a_camera_that_sends_by_udp_whatever_it_is_asked_for() -> None:
    """It answers with ports to a request for TCP, and would send nothing over it."""
    by_udp = sends_datagrams(taken_apart(film()))

    async def script(dialogue: Dialogue, request: Request) -> bool:
        if "interleaved" in request.headers.get("transport", ""):
            way = "Transport: RTP/AVP;unicast;client_port=5000-5001;server_port=6000-6001"
            dialogue.answer(request, "200 OK", way, "Session: 1")
            return True
        return await by_udp(dialogue, request)

    taken, _, _ = await taken_from(Camera(script=script), all_came)
    assert taken.of(1) == PICTURES and taken.of(2) == SOUND


async def test_datagrams_of_others_are_not_taken() -> None:
    taken, pair = [], UdpPair("127.0.0.1")
    await pair.receive(
        lambda p, at: taken.append(bytes(p)),
        lambda p, at: None,
        {"127.0.0.1"},
        lambda: 0.0,
        lambda error: None,
    )
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as camera,
    ):
        stranger.bind(("127.0.0.2", 0))
        for sender, data in ((stranger, b"stranger"), (camera, b"camera")):
            sender.sendto(data, ("127.0.0.1", pair.port))
        await until(lambda: taken, every=0.005)
    pair.close()
    assert taken == [b"camera"]


async def test_reports_by_udp_go_to_the_port_that_the_camera_names() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.setblocking(False)
        port = server.getsockname()[1]
        camera = Camera(script=sends_datagrams([], f";server_port={port - 1}-{port}"), sdp=SDP)
        async with serving(camera):
            connection, offer = await connect(camera.url(), Resolver())
            session = RtspSession(connection, offer)
            await session.set_up_udp(0, RtpReceiver(96, 90_000, Nobody()))
            reporting = asyncio.ensure_future(session.report())
            packet = await asyncio.get_running_loop().sock_recv(server, 100)
            reporting.cancel()
            await asyncio.wait({reporting})
            await session.tear_down()
    assert packet[:2] == b"\x80\xc9"


async def test_a_fault_of_ours_ends_the_session() -> None:
    """An event loop says what went wrong with a datagram, and would go on with the next one."""

    class Broken(Taken):
        def on_frame(self, frame: Frame) -> None:
            super().on_frame(frame)
            if len(self.frames) == 1:
                raise RuntimeError("no room")

    camera, taken = Camera(script=sends_datagrams(taken_apart(film())), sdp=SDP), Broken()
    said: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: said.append(context))
    async with serving(camera):
        connection, offer = await connect(camera.url(), Resolver())
        end = await asyncio.wait_for(NativeSource(connection, offer).run(taken), BOUND_S)
    assert end.cause is GapCause.STREAM_BROKEN and "fault of the recorder" in end.detail
    assert "no room" in end.detail and len(taken.pictures()) == 1
    assert [str(one["exception"]) for one in said] == ["no room"], "it is told once, with its place"


async def test_ports_that_we_cannot_have_are_not_laid_to_the_camera() -> None:
    camera = Camera(script=sends_datagrams([]), sdp=SDP)
    async with serving(camera):
        connection, offer = await connect(camera.url(), Resolver())
        assert connection._wire is not None
        connection._wire.hosts = "192.0.2.1", "127.0.0.1"  # which is no address of this machine
        end = await NativeSource(connection, offer).run(Taken())
    assert end.cause is GapCause.STREAM_BROKEN and "UDP ports" in end.detail


def test_ports_that_are_left_at_any_moment_are_free() -> None:
    """Of a session that is cancelled, sockets would go on taking packets until we end."""

    async def leave(turns: int) -> None:
        pair = UdpPair("127.0.0.1")
        receiving = asyncio.ensure_future(
            pair.receive(nobody, nobody, {"127.0.0.1"}, lambda: 0.0, lambda error: None)
        )
        for _ in range(turns):
            await asyncio.sleep(0)
        receiving.cancel()
        await asyncio.wait({receiving})
        pair.close()
        for _ in range(20):  # a transport closes in the turns that follow
            await asyncio.sleep(0)
        assert is_free(pair.port) and is_free(pair.port + 1), turns

    def nobody(packet: memoryview, arrival_ms: float) -> None: ...

    def is_free(port: int) -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
            try:
                own.bind(("127.0.0.1", port))
            except OSError:
                return False
            return True

    for turns in range(8):
        uvloop.run(leave(turns))
