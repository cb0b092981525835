"""The native source over loopback: dialogues as cameras hold them, and how sessions end."""

from __future__ import annotations

import asyncio
import errno
import itertools
import re
import socket
import ssl
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.native import FIRST_PACKETS, FIRST_S, NativeSource, why_not
from recorder.rtsp.aac import AacFrames
from recorder.rtsp.address import Address
from recorder.rtsp.client import RtspSession, _channels
from recorder.rtsp.connection import Resolver
from recorder.rtsp.describe import Offer, connect
from recorder.rtsp.description import choose_tracks
from recorder.rtsp.nal_units import H264Pictures
from recorder.rtsp.packets import is_plausible_rtcp
from recorder.rtsp.rtp import RtpReceiver
from recorder.rtsp.sdp import parse_sdp
from recorder.rtsp.stream import Channel, MessageStream
from recorder.rtsp.udp import UdpPair
from recorder.source import Frame
from storage.records import Ending, GapCause
from tests.support.packets import EPOCH_MS, SPS, SSRC, rtp, sample
from tests.support.playing import AAC, KEY, OTHER, PICTURES, SDP, SOUND, film, plays, wrapped
from tests.support.programs import self_signed
from tests.support.rtsp_camera import (
    G722,
    H264,
    PCMU,
    Camera,
    Dialogue,
    Request,
    Script,
    challenge,
    proves,
    sdp_of,
    serving,
    usual,
)
from tests.support.sources import Taken
from tests.support.waiting import until


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
    return len(taken.of(1)) >= 4 and len(taken.of(2)) >= 4


async def test_pictures_and_sound_over_the_connection_of_the_description() -> None:
    camera = Camera(script=plays(film()))
    taken, _, source = await taken_from(camera, all_came)
    assert taken.of(1) == PICTURES and taken.of(2) == SOUND
    assert [t.kind for t in taken.tracks[0]] == ["video"] and taken.tracks[0][0].width > 0
    assert [f.pts for f in taken.frames if f.track_id == 1] == [0, 3600, 7200, 10800]
    assert [f.camera_ms for f in taken.frames if f.track_id == 1][1:] == [
        pytest.approx(EPOCH_MS + n * 40, abs=1) for n in (1, 2, 3)
    ]
    assert camera.methods() == ["DESCRIBE", "SETUP", "SETUP", "PLAY", "TEARDOWN"]
    assert len(camera.connections) == 1 and source.packets[0].lost == 0
    assert camera.requests[-1].headers["session"] == "12345678"


async def test_sound_is_announced_with_a_keyframe_once_it_came() -> None:
    again = b"".join(film()[at:] for at in (0,))
    later = wrapped(0, rtp(500, SPS, stamp=20_000)) + wrapped(
        0, rtp(501, KEY, stamp=20_000, kind=224)
    )
    camera = Camera(script=plays(again + later))
    taken, _, _ = await taken_from(camera, lambda taken: len(taken.tracks) == 2)
    assert [t.kind for t in taken.tracks[1]] == ["video", "audio"]
    assert taken.tracks[1][1].timescale == 48_000


def answers(method: str, *headers: str, status: str = "200 OK", times: int = 99) -> Script:
    """Return a script that answers a method with these headers."""
    left = [times]

    async def script(dialogue: Dialogue, request: Request) -> bool:
        if request.method != method or not left[0]:
            return False
        left[0] -= 1
        track = request.uri.rsplit("track", 1)[-1]
        dialogue.answer(request, status, *(h.replace("N", track) for h in headers))
        return True

    return script


@pytest.mark.parametrize(
    ("script", "data"),
    [
        (answers("SETUP", "Session: 1"), film()),  # the channels are those asked for
        (answers("SETUP", "Session:  1 ; timeout = 5 ", "Transport: RTP/AVP/TCP;ssrc= 1F"), film()),
        (answers("SETUP", "Session: 1", "Transport: a;interleaved=N7-N8"), film(channels=(7, 17))),
        (answers("SETUP", "Session: 1", 'Transport: interleaved="N0"'), film(channels=(0, 10))),
        (answers("SETUP", "Session: 1", "Transport: a;interleaved=N7-N8"), film()),
        (usual, film(channels=(1, 3))),  # RTP where RTCP belongs
        (usual, film(between=b"\r\n")),
        (usual, film(between=b"$\0\xff")),
        (usual, film(between=b"RTSP/1.0 200 OK\r\nCSeq: 77\r\n\r\n")),
        (usual, film(between=b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n")),
        (usual, film(between=wrapped(9, bytes(40)) + wrapped(1, b"abc"))),
    ],
)
async def test_habits(script: Script, data: bytes) -> None:
    taken, _, source = await taken_from(Camera(script=plays(data, script)), all_came)
    assert taken.of(1) == PICTURES and taken.of(2) == SOUND
    assert [c.lost for c in source.packets] == [0, 0]


async def test_packets_before_the_answer_to_play() -> None:
    taken, _, _ = await taken_from(Camera(script=plays(film(), early=True)), all_came)
    assert taken.of(1) == PICTURES and taken.of(2) == SOUND


async def test_a_challenge_for_every_request() -> None:
    """Each nonce is good once, and nobody says that the one before is stale."""
    count = [0]

    async def script(dialogue: Dialogue, request: Request) -> bool:
        if proves(request, "viewer", "s3cret", "md5", nonce=str(count[0])):
            count[0] += 1
            return False
        dialogue.answer(request, "401 Unauthorized", challenge(nonce=str(count[0])))
        return True

    camera = Camera(script=plays(film(), script))
    taken, _, _ = await taken_from(camera, all_came, login="viewer:s3cret")
    assert taken.of(1) == PICTURES and len(camera.connections) == 1


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1 is deprecated")
async def test_an_encrypted_camera_that_knows_old_versions_only(tmp_path: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.minimum_version = tls.maximum_version = ssl.TLSVersion.TLSv1
    tls.set_ciphers("DEFAULT:@SECLEVEL=0")
    tls.load_cert_chain(*await asyncio.to_thread(self_signed, tmp_path))
    camera = Camera(script=plays(film()), sdp=SDP, tls=tls)
    taken, _, _ = await taken_from(camera, all_came)
    assert taken.of(1) == PICTURES and taken.of(2) == SOUND


async def test_sound_that_is_refused_is_left_out_and_said() -> None:
    async def script(dialogue: Dialogue, request: Request) -> bool:
        if request.method == "SETUP" and request.uri.endswith("track1"):
            dialogue.answer(request, "461 Unsupported Transport")
            return True
        return False

    camera, remarks = Camera(script=plays(film(), script)), list[str]()
    taken, _, _ = await taken_from(camera, lambda t: len(t.of(1)) == 4, remarks=remarks)
    assert taken.of(1) == PICTURES and taken.of(2) == [] and "461" in remarks[0]
    assert "PLAY" in camera.methods()


async def test_sound_that_is_not_wanted_is_not_asked_for() -> None:
    camera = Camera(script=plays(film()), sdp=sdp_of(H264, PCMU))
    taken, _, _ = await taken_from(camera, lambda t: len(t.of(1)) == 4, keep_audio=False)
    assert taken.of(1) == PICTURES
    assert camera.methods().count("SETUP") == 1


@pytest.mark.parametrize("status", ["456 Header Field Not Valid", "457 Invalid Range"])
async def test_a_camera_that_takes_no_range(status: str) -> None:
    async def script(dialogue: Dialogue, request: Request) -> bool:
        if refuses := "range" in request.headers:
            dialogue.answer(request, status)
        return refuses

    taken, _, _ = await taken_from(Camera(script=plays(film(), script)), all_came)
    assert taken.of(1) == PICTURES


async def test_a_camera_that_plays_and_never_answers() -> None:
    async def script(dialogue: Dialogue, request: Request) -> bool:
        if request.uri.endswith("track1"):
            dialogue.send(wrapped(0, rtp(1, b"x")))
        return request.method == "PLAY"

    async with serving(camera := Camera(script=script, sdp=SDP)):
        connection, offer = await connect(camera.url(), Resolver())
        session = RtspSession(connection, offer)
        await session.set_up(0, RtpReceiver(96, 90_000, Nobody()))
        with pytest.raises(TimeoutError):
            await session.play(answer_s=0.01)
        await session.set_up(1, RtpReceiver(97, 48_000, Nobody()))
        await session.play(answer_s=0.01)
        await session.tear_down()


async def test_a_camera_whose_tracks_play_one_by_one() -> None:
    async def script(dialogue: Dialogue, request: Request) -> bool:
        together = request.method == "PLAY" and "track" not in request.uri
        if together:
            dialogue.answer(request, "459 Aggregate Operation Not Allowed")
        elif request.method == "PLAY" and request.uri.endswith("track0"):
            dialogue.answer(request, "200 OK")
            return True
        return together

    camera = Camera(script=plays(film(), script))
    taken, _, _ = await taken_from(camera, all_came)
    assert taken.of(1) == PICTURES and taken.of(2) == SOUND
    played = [r.uri.rpartition("/")[2] for r in camera.requests if r.method == "PLAY"]
    assert played[1:] == ["track0", "track1"]


async def test_lost_packets_are_told_with_the_frame() -> None:
    packets = film().split(b"$\0")
    camera = Camera(script=plays(b"$\0".join([*packets[:4], *packets[5:]])))
    taken, _, source = await taken_from(camera, all_came)
    assert (taken.frames[0].lost, taken.frames[0].damaged) == (1, True)
    assert source.packets[0].lost == 1


async def test_pictures_before_any_parameter_sets_are_not_taken() -> None:
    early = b"".join(wrapped(0, rtp(900 + n, OTHER, stamp=n, kind=224)) for n in range(3))
    camera = Camera(script=plays(early + film()))
    taken, _, source = await taken_from(camera, lambda taken: len(taken.of(1)) >= 4)
    assert taken.of(1) == PICTURES
    assert source.packets[0].restarts == 1


# -- over UDP ------------------------------------------------------------------------------


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
        lambda p, at: taken.append(bytes(p)), lambda p, at: None, {"127.0.0.1"}, lambda: 0.0
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


# -- how sessions end ----------------------------------------------------------------------


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
    ],
)
async def test_what_a_camera_ends_it_with(script: Script, cause: GapCause, words: str) -> None:
    _, end, _ = await taken_from(Camera(script=script))
    assert end is not None and end.cause is cause and words in end.detail


@pytest.mark.parametrize(
    ("packets", "strays", "words"),
    [
        ([rtp(n, b"x", kind=100 + n % 2) for n in range(FIRST_PACKETS)], 50, "of 50, 50 are not"),
        # numbers that mean nothing: some make a picture
        ([rtp(n * 7_919, OTHER, kind=96 | 0x80) for n in range(60)], 56, "of 59, 56 are not"),
    ],
)
async def test_packets_that_make_no_picture(packets: list[bytes], strays: int, words: str) -> None:
    """They are not waited for as long as a camera that begins late."""
    camera = Camera(script=plays(b"".join(wrapped(0, p) for p in packets)), sdp=SDP)
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        await until(lambda: source.packets[0].strays >= strays, every=0.005)

    async with serving(camera):
        connection, offer = await connect(camera.url(), Resolver())
        source = NativeSource(connection, offer, sleep=sleep)
        end = await source.run(Taken())
    assert end.cause is GapCause.STREAM_BROKEN and words in end.detail
    assert waited == [FIRST_S]


async def test_a_camera_that_closes() -> None:
    async def script(dialogue: Dialogue, request: Request) -> bool:
        if request.method == "PLAY":
            dialogue.close()
        return request.method == "PLAY"

    _, end, _ = await taken_from(Camera(script=script))
    assert end is not None and end.cause is GapCause.CLOSED_BY_CAMERA


@pytest.mark.parametrize("number", [errno.ETIMEDOUT, errno.EHOSTUNREACH])
async def test_a_network_that_breaks_is_not_laid_to_the_camera(number: int) -> None:
    camera, taken = Camera(script=plays(film()), sdp=SDP), Taken()
    async with serving(camera):
        connection, offer = await connect(camera.url(), Resolver())
        running = asyncio.ensure_future(NativeSource(connection, offer).run(taken))
        await until(lambda: all_came(taken), every=0.005)
        assert connection._wire is not None
        connection._wire.connection_lost(OSError(number, "as the system says it"))
        end = await running
    assert end.cause is GapCause.UNREACHABLE and "as the system says it" in end.detail


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


async def test_a_camera_that_names_one_channel_for_both_tracks() -> None:
    script = answers("SETUP", "Session: 1", "Transport: RTP/AVP/TCP;interleaved=0-1")
    camera = Camera(script=plays(film(channels=(0, 0)), script))
    taken, _, source = await taken_from(camera, all_came)
    assert taken.of(1) == PICTURES and taken.of(2) == SOUND
    assert [f.camera_ms for f in taken.pictures()][1:] == [
        pytest.approx(EPOCH_MS + n * 40, abs=1) for n in (1, 2, 3)
    ]
    assert [(c.lost, c.strays) for c in source.packets] == [(0, 0), (0, 0)]
    assert not any(f.camera_ms for f in taken.frames if f.track_id == 2)


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


# -- keeping the session -------------------------------------------------------------------


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


class Nobody:
    def push(
        self, payload: memoryview, pts: int, marker: bool, lost: int, arrival_ms: float
    ) -> None: ...

    def restart(self) -> None: ...


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


async def test_a_camera_that_has_forgotten_the_session() -> None:
    script = answers("OPTIONS", status="454 Session Not Found")
    assert (await kept(script, after(50)))[2]


# -- any bytes at all ----------------------------------------------------------------------

CHANGES = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 400), st.binary(max_size=30)),
    max_size=6,
)


@given(CHANGES, st.integers(1, 3_000))
def test_a_stream_with_bytes_changed_removed_and_put_in(
    changes: list[tuple[float, int, bytes]], read: int
) -> None:
    """Whatever is broken, packets after it are taken again, and samples can be read."""
    broken = bytearray(film(8))
    for place, removed, put_in in changes:
        at = int(place * len(broken))
        broken[at : at + removed] = put_in
    frames: list[Frame] = []
    pictures, sound = H264Pictures(frames.append), AacFrames(frames.append, {"config": "1188"})
    stream = MessageStream(lambda response: None)
    receivers = RtpReceiver(96, 90_000, pictures), RtpReceiver(97, 48_000, sound)
    for n, receiver in enumerate(receivers):
        stream.expect(2 * n, Channel(receiver.push, receiver.is_plausible))
        stream.expect(2 * n + 1, Channel(receiver.push_rtcp, is_plausible_rtcp))
    whole = film(40)[len(film(8)) :]
    data = bytes(broken) + bytes(70_000) + whole  # what a broken length may swallow, then more
    for at in range(0, len(data), read):
        piece = data[at : at + read]
        room = stream.buffer()
        room[: len(piece)] = piece
        stream.advance(len(piece), 0.0)
    for frame in frames:
        data, at = bytes(frame.data), 0
        while frame.track_id == 1 and at < len(data):
            at += 4 + int.from_bytes(data[at : at + 4], "big")
        assert at in (0, len(data))
    assert [bytes(f.data) for f in frames if f.track_id == 1][-20:] == [sample(OTHER)] * 20
    assert [bytes(f.data) for f in frames if f.track_id == 2][-1] == b"sound 39"


@given(st.text(max_size=60) | st.from_regex(r"1?[ ;]*(timeout|interleaved)[ =]*[0-9-]{0,12}"))
def test_any_header(text: str) -> None:
    assert all(0 <= number < 256 for number in _channels(text, 2))
    assert len(set(_channels(text, 2))) == 2


# -- what is left to ffmpeg ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("media", "words"),
    [
        (["m=video 0 RTP/AVP 26"], "mjpeg"),
        ([H264.replace("packetization-mode=1", "packetization-mode=2")], "interleaved"),
        ([H264.replace("90000", "48000")], "48000"),
        ([H264.replace("RTP/AVP", "RTP/SAVP")], "encrypted video"),
        ([H264, AAC.replace("RTP/AVP", "RTP/SAVPF")], "encrypted sound"),
        (["m=video 0 RTP/AVP 96\na=rtpmap:96 H265/90000\na=fmtp:96 sprop-max-don-diff=1"], "order"),
        ([H264, PCMU], "PCMU"),
        ([H264, PCMU + "\na=rtpmap:0 PCMU/16000"], "16000"),
        ([H264, PCMU + "\na=rtpmap:0 PCMU/8000/2"], "2 channels"),
        ([H264, G722], "G722"),
        ([H264, AAC.replace("MPEG4-GENERIC", "MP4A-LATM")], "LATM"),
        ([H264, AAC.replace("1188", "1180")], "AAC"),
    ],
)
def test_what_is_not_understood_here(media: list[str], words: str) -> None:
    description = choose_tracks(parse_sdp(sdp_of(*media)))
    offer = Offer(Address("rtsp://x/"), description)
    encodes = "PCMU" not in words
    assert words in (why_not(offer, encodes=lambda: encodes) or "")
    if description.audio is not None:
        assert why_not(offer, keep_audio=False) is None


def test_g711_is_understood_where_it_can_be_encoded() -> None:
    offer = Offer(Address("rtsp://x/"), choose_tracks(parse_sdp(sdp_of(H264, PCMU))))
    assert why_not(offer, encodes=lambda: True) is None
