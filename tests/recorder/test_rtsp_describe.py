"""DESCRIBE with cameras that speak in odd ways, over real sockets; and what is said of others."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import re
import socket
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

from recorder.rtsp.address import Address
from recorder.rtsp.connection import Connection, Resolver
from recorder.rtsp.describe import DescribeFailed, Offer, Patience
from recorder.rtsp.messages import MAX_BODY
from storage.records import Ending, GapCause
from tests.support.rtsp_camera import (
    H264,
    NONCE,
    PCMU,
    REALM,
    Camera,
    Dialogue,
    Request,
    Script,
    challenge,
    described,
    digest_fields,
    proves,
    sdp_of,
    serving,
)
from tests.support.waiting import until

pytestmark = pytest.mark.filterwarnings("ignore:Overriding the .event_loop_policy. fixture")
SDP = sdp_of(H264, PCMU)


@pytest.fixture(params=[asyncio.DefaultEventLoopPolicy, uvloop.EventLoopPolicy])
def event_loop_policy(request: pytest.FixtureRequest) -> asyncio.AbstractEventLoopPolicy:
    """The recorder runs on uvloop, tools and other tests on asyncio's own loop."""
    policy: asyncio.AbstractEventLoopPolicy = request.param()
    return policy


LOGIN = "viewer:s3cret%20word"
SECRET = ("viewer", "s3cret word")


async def ask(camera: Camera, login: str = "", **options: Any) -> Offer:
    """Describe a camera that listens meanwhile."""
    camera.sdp = camera.sdp or SDP
    async with serving(camera):
        return await described(camera.url(login=login), Resolver(), **options)


async def refusal(camera: Camera, login: str = "", **options: Any) -> Ending:
    with pytest.raises(DescribeFailed) as failed:
        await ask(camera, login, **options)
    ending = failed.value.ending
    assert "s3cret" not in f"{ending.detail} {ending.remedy}" and ending.remedy
    return ending


def wants(*lines: str, known: str, nonce: str = NONCE) -> Script:
    """Ask for a login by these challenges, and take it with hashlib's `known` alone."""

    async def script(dialogue: Dialogue, request: Request) -> bool:
        if proves(request, *SECRET, known, nonce):
            return False
        dialogue.answer(request, "401 Unauthorized", *lines)
        return True

    return script


@pytest.mark.parametrize(
    ("lines", "known", "proof"),
    [
        ([challenge("SHA-256", more=", qop=auth")], "sha256", "Digest SHA-256"),
        ([challenge("MD5"), challenge("SHA-256")], "sha256", "Digest SHA-256"),
        ([challenge("SHA-256"), challenge("MD5")], "sha256", "Digest SHA-256"),
        ([challenge("SHA-512-256")], "sha512_256", "Digest SHA-512-256"),
        ([challenge(more=', qop="auth"')], "md5", "Digest MD5"),
        ([challenge(), f'WWW-Authenticate: Basic realm="{REALM}"'], "md5", "Digest MD5"),
        ([challenge().replace(",", "")], "md5", "Digest MD5"),
        ([challenge(more=", stale=TRUE")], "md5", "Digest MD5"),
    ],
)
async def test_the_strongest_proof_that_both_know(lines: list[str], known: str, proof: str) -> None:
    camera = Camera(script=wants(*lines, known=known))
    offer = await ask(camera, LOGIN)
    assert offer.proof == proof and len(camera.connections) == 1
    assert camera.methods() == ["DESCRIBE", "DESCRIBE"]
    assert "authorization" not in camera.requests[0].headers


async def test_basic_only_where_nothing_else_is_offered() -> None:
    async def script(dialogue: Dialogue, request: Request) -> bool:
        if request.headers.get("authorization") == "Basic dmlld2VyOnMzY3JldCB3b3Jk":
            return False
        dialogue.answer(request, "401 Unauthorized", 'WWW-Authenticate: Basic realm="x"')
        return True

    offer = await ask(Camera(script=script), LOGIN)
    assert offer.proof == "Basic" and "readable" in offer.description.remarks[-1]


@pytest.mark.parametrize("status", ["455 Method Not Valid in This State", "400 Bad Request"])
async def test_a_camera_that_wants_to_be_asked_for_options_first(status: str) -> None:
    async def script(dialogue: Dialogue, request: Request) -> bool:
        if out_of_turn := "OPTIONS" not in dialogue.camera.methods():
            dialogue.answer(request, status)
        return out_of_turn

    camera = Camera(script=script)
    await ask(camera)
    assert camera.methods() == ["DESCRIBE", "OPTIONS", "DESCRIBE"]
    assert len(camera.connections) == 1


async def test_a_stale_nonce_is_answered_once_more() -> None:
    async def script(dialogue: Dialogue, request: Request) -> bool:
        used = digest_fields(request.headers.get("authorization", "")).get("nonce")
        if used == "new":
            return False
        stale = "" if used is None else ", stale=true"
        nonce = "old" if used is None else "new"
        dialogue.answer(request, "401 Unauthorized", challenge(nonce=nonce, more=stale))
        return True

    camera = Camera(script=script)
    await ask(camera, LOGIN)
    assert len(camera.requests) == 3

    async def stale_for_ever(dialogue: Dialogue, request: Request) -> bool:
        dialogue.answer(request, "401 Unauthorized", challenge(more=", stale=true"))
        return True

    camera = Camera(script=stale_for_ever)
    assert (await refusal(camera, LOGIN)).cause is GapCause.REFUSED_PASSWORD
    assert len(camera.requests) == 3


@pytest.mark.parametrize("says_so", [True, False])
async def test_closed_after_the_challenge(says_so: bool) -> None:
    proved = wants(challenge(), known="md5")

    async def script(dialogue: Dialogue, request: Request) -> bool:
        asked = await proved(dialogue, request)
        if asked:
            if says_so:
                await dialogue.writer.drain()
            dialogue.close()
        return asked

    camera = Camera(script=script)
    await ask(camera, LOGIN)
    assert len(camera.connections) == 2 and camera.methods() == ["DESCRIBE", "DESCRIBE"]


async def test_a_wrong_password_is_tried_once() -> None:
    camera = Camera(script=wants(challenge(), known="md5"))
    failed = await refusal(camera, "viewer:wrong")
    assert failed.cause is GapCause.REFUSED_PASSWORD and "refuses user name" in failed.detail
    assert len(camera.requests) == 2


@pytest.mark.parametrize(
    ("lines", "login", "words"),
    [
        ([challenge()], "", "none is configured"),
        ([challenge("SHA-3")], LOGIN, "not known here (401): Digest SHA-3"),
        ([], LOGIN, "not known here (401): none named"),
    ],
)
async def test_what_else_401_means(lines: list[str], login: str, words: str) -> None:
    failed = await refusal(Camera(script=wants(*lines, known="md5")), login)
    assert failed.cause is GapCause.REFUSED_PASSWORD and words in failed.detail


@pytest.mark.parametrize("before", [b"\r\n", b"\n\n", b"\0\x80junk", b"OPTIONS * RTSP/1.0\r\n\r\n"])
@pytest.mark.parametrize("end", ["\r\n", "\n"])
async def test_odd_bytes_and_line_ends(before: bytes, end: str) -> None:
    async def script(dialogue: Dialogue, request: Request) -> bool:
        dialogue.send(before)
        dialogue.end = end
        base = f"Content-Base: {request.uri}/"
        dialogue.answer(request, "200 OK", base, body=dialogue.camera.sdp)
        return True

    offer = await ask(Camera(script=script))
    assert (offer.description.video, offer.description.audio) == ("h264", "pcmu")
    assert [uri.rsplit("/", 2)[1:] for uri in offer.track_uris] == [
        ["stream", "track0"],
        ["stream", "track1"],
    ]


def sends_to(where: Callable[[Dialogue, Request], str | None]) -> Script:
    async def script(dialogue: Dialogue, request: Request) -> bool:
        location = where(dialogue, request)
        if location is not None:
            dialogue.answer(request, "302 Moved", f"Location: {location}")
        return location is not None

    return script


async def test_redirects_are_followed_without_the_login_to_others() -> None:
    final = Camera(sdp=SDP, script=wants(challenge(), known="md5"))
    first = Camera(script=sends_to(lambda d, r: final.url("there")))
    async with serving(final, first):
        offer = await described(first.url(login=LOGIN), Resolver())
        assert offer.address.uri == final.url("there")
        assert "viewer:s3cret%20word@" in offer.address.url  # for ffmpeg: the same host
        to_other = Camera(
            script=sends_to(lambda d, r: final.url("x").replace("127.0.0.1", "localhost"))
        )
        final.requests.clear()
        failed = await refusal(to_other, LOGIN)
        assert failed.cause is GapCause.REFUSED_PASSWORD and "sends on to" in failed.detail
        assert all("authorization" not in request.headers for request in final.requests)


async def test_redirects_end() -> None:
    camera = Camera(script=sends_to(lambda d, r: r.uri + "x"))
    failed = await refusal(camera)
    assert "from address to address" in failed.detail and len(camera.requests) == 6
    for nowhere in ("", "http://127.0.0.1/"):
        failed = await refusal(Camera(script=sends_to(lambda d, r, to=nowhere: to)))  # type: ignore[misc]
        assert failed.cause is GapCause.STREAM_BROKEN and "302" in failed.detail


async def test_the_user_agent_that_is_configured() -> None:
    camera = Camera()
    await ask(camera, user_agent="VMS/3.1 (only this one)")
    assert camera.requests[0].headers["user-agent"] == "VMS/3.1 (only this one)"


async def test_a_camera_that_wakes_up_is_waited_for() -> None:
    told: list[str] = []
    woken = asyncio.Event()

    async def script(dialogue: Dialogue, request: Request) -> bool:
        await woken.wait()
        return False

    def waking(text: str) -> None:
        told.append(text)
        woken.set()

    await ask(Camera(script=script), patience=Patience(waking_s=0.1), on_waking=waking)
    assert len(told) == 1 and "may be waking up" in told[0]


async def says(dialogue: Dialogue, data: bytes) -> None:
    dialogue.send(data)
    await dialogue.writer.drain()
    dialogue.close()


@pytest.mark.parametrize(
    ("answer", "cause", "words"),
    [
        (b"RTSP/1.0 403 No\r\n\r\n", GapCause.REFUSED_PASSWORD, "forbids"),
        (b"RTSP/1.0 404 No\r\n\r\n", GapCause.NO_SUCH_STREAM, "no such stream (404)"),
        (b"RTSP/1.0 453 No\r\n\r\n", GapCause.STREAM_BROKEN, "takes no more viewers now (453)"),
        (b"RTSP/1.0 503 No\r\n\r\n", GapCause.STREAM_BROKEN, "takes no more viewers now (503)"),
        (b"RTSP/1.0 400 No\r\n\r\n", GapCause.STREAM_BROKEN, "answers 400 to DESCRIBE"),
        (b"RTSP/1.0 551 No\r\n\r\n", GapCause.STREAM_BROKEN, "answers 551 to DESCRIBE"),
        (b"RTSP/1.0 200 OK\r\n\r\n", GapCause.NO_SUCH_STREAM, "no video"),
        (b"HTTP/1.0 400 Bad\r\n\r\n", GapCause.STREAM_BROKEN, "does not speak RTSP"),
        (b"RTSP/1.0 200 OK\r\nContent-Length: 9999999\r\n\r\n", GapCause.STREAM_BROKEN, "longer"),
        (b"x" * 2 * MAX_BODY, GapCause.STREAM_BROKEN, "does not speak RTSP"),
        (b"", GapCause.CLOSED_BY_CAMERA, "closed the connection without an answer"),
        (b"RTSP/1.0 200", GapCause.CLOSED_BY_CAMERA, "closed the connection without an answer"),
    ],
)
async def test_what_is_said_of_answers(answer: bytes, cause: GapCause, words: str) -> None:
    async def script(dialogue: Dialogue, request: Request) -> bool:
        await says(dialogue, answer)
        return True

    failed = await refusal(Camera(script=script), LOGIN)
    assert failed.cause is cause and words in failed.detail and "127.0.0.1:" in failed.detail
    assert "power" not in failed.remedy
    assert "no more viewers" not in words or failed.remedy.startswith("close other viewers")


async def test_no_answer_at_all_is_not_called_unreachable() -> None:
    async def script(dialogue: Dialogue, request: Request) -> bool:
        return True

    failed = await refusal(Camera(script=script), patience=Patience(answer_s=0.1))
    assert failed.cause is GapCause.NO_DATA and "did not answer in 0.1 s" in failed.detail


@pytest.mark.slow
async def test_what_is_said_where_there_is_no_connection() -> None:
    with socket.socket() as bound:  # and does not listen
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        with pytest.raises(DescribeFailed) as failed:
            await described(f"rtsp://u:s3cret@127.0.0.1:{port}/", Resolver())
    assert failed.value.ending.cause is GapCause.UNREACHABLE
    assert failed.value.ending.detail == f"127.0.0.1:{port} refuses the connection"
    assert "power" not in failed.value.ending.remedy
    with pytest.raises(DescribeFailed) as failed:
        await described("rtsp://camera.invalid/", Resolver())
    assert failed.value.ending.detail.startswith("camera.invalid is not found")
    camera = Camera(sdp=SDP)
    async with serving(camera):
        with pytest.raises(DescribeFailed) as failed:
            url = camera.url().replace("rtsp:", "rtsps:")
            await described(url, Resolver(), patience=Patience(connect_s=2))
    assert failed.value.ending.cause is GapCause.UNREACHABLE


async def test_files_that_this_process_lacks_are_not_the_cameras_fault() -> None:
    def look_up(host: str) -> list[str]:
        raise OSError(errno.EMFILE, "Too many open files")

    with pytest.raises(DescribeFailed) as failed:
        await described("rtsp://camera.example/", Resolver(look_up))
    assert failed.value.ending.cause is not GapCause.UNREACHABLE
    assert "this process has as many files open as it may" in failed.value.ending.detail
    assert "power" not in failed.value.ending.remedy


async def test_names_that_nobody_answers_for_hold_up_no_other() -> None:
    """The event loop's own look-ups share a handful of threads."""
    answered = asyncio.Event()
    loop = asyncio.get_running_loop()
    asked: list[str] = []

    def look_up(host: str) -> list[str]:
        asked.append(host)
        if host != "good.example":
            asyncio.run_coroutine_threadsafe(answered.wait(), loop).result()
        return ["127.0.0.1"]

    camera = Camera(sdp=SDP)
    resolver = Resolver(look_up=look_up)
    async with serving(camera):
        lost = [asyncio.create_task(resolver(f"lost{n}.example")) for n in range(16)]
        await asyncio.sleep(0)
        await described(camera.url().replace("127.0.0.1", "good.example"), resolver)
        await until(lambda: len(asked) == 17)  # each in a thread of its own
        answered.set()
        assert await asyncio.gather(*lost) == [["127.0.0.1"]] * 16
        await described(camera.url(), resolver)
        assert len(asked) == 17  # a number is not looked up
    resolver.close()


async def test_a_second_request_uses_the_login_and_counts_on() -> None:
    """As SETUP and PLAY will: one connection, one nonce, and a new nonce where the old is over."""
    nonces = ["one"]

    async def script(dialogue: Dialogue, request: Request) -> bool:
        if proves(request, *SECRET, "md5", nonces[-1]):
            return False
        line = challenge(nonce=nonces[-1], more=", qop=auth")
        dialogue.answer(request, "401 Unauthorized", line)
        return True

    camera = Camera(sdp=SDP, script=script)
    async with serving(camera):
        address = Address.parse(camera.url(login=LOGIN))
        connection = Connection(address, Resolver())
        await connection.open(5)
        for method in ("DESCRIBE", "OPTIONS"):
            assert (await connection.request(method, address.uri, {}, 5)).status == 200
        nonces.append("two")
        assert (await connection.request("OPTIONS", address.uri, {}, 5)).status == 200
        await connection.close()
    counts = [digest_fields(r.headers.get("authorization", "")).get("nc") for r in camera.requests]
    assert counts == [None, "00000001", "00000002", "00000003", "00000001"]
    assert len(camera.connections) == 1


async def test_words_of_a_camera_are_fit_to_be_shown_and_stored() -> None:
    """They go into gaps, and so into databases, pages and terminals."""
    odd = "\x00\x1b[2J\u202e"
    video = f"m=video 0 RTP/AVP 96\r\na=rtpmap:96 {odd}H2{'6' * 5000}/90000"
    ending = await refusal(Camera(sdp=sdp_of(video)))
    assert ending.detail.isprintable() and "H26666" in ending.detail and len(ending.detail) < 500

    async def script(dialogue: Dialogue, request: Request) -> bool:
        named = f'WWW-Authenticate: Digest realm="r", nonce="n", algorithm="{odd}"'
        dialogue.answer(request, "401 Unauthorized", named)
        return True

    ending = await refusal(Camera(script=script), LOGIN)
    assert ending.detail.isprintable() and "Digest" in ending.detail


@pytest.mark.parametrize("name", ["Камера 1".encode(), "摄像机".encode("gbk"), b"cam\xe9ra"])
async def test_what_a_camera_says_goes_back_to_it_byte_for_byte(name: bytes) -> None:
    """Its realm, which the password is proved with, and its addresses; whatever its alphabet."""

    def md5(*parts: bytes) -> bytes:
        return hashlib.md5(b":".join(parts)).hexdigest().encode()

    def proved(head: bytes) -> bool:
        given = dict(re.findall(rb'(\w+)="([^"]*)"', head))
        secret = md5(b"viewer", name, b"s3cret word")
        wanted = md5(secret, NONCE.encode(), md5(b"DESCRIBE", given.get(b"uri", b"")))
        return given.get(b"realm") == name and given.get(b"response") == wanted

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(EOFError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if proved(head):
                    body = SDP.encode().replace(b"control:track", b"control:" + name + b"/track")
                    base = b"Content-Base: rtsp://127.0.0.1/" + name + b"/\r\n"
                    size = b"Content-Length: %d\r\n\r\n" % len(body)
                    writer.write(b"RTSP/1.0 200 OK\r\n" + base + size + body)
                else:
                    asks = b'WWW-Authenticate: Digest realm="%b", nonce="%b"\r\n\r\n'
                    writer.write(b"RTSP/1.0 401 No\r\n" + asks % (name, NONCE.encode()))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    offer = await described(f"rtsp://{LOGIN}@127.0.0.1:{port}/stream", Resolver())
    uris = [uri.encode("utf-8", "surrogateescape") for uri in (offer.uri, *offer.track_uris)]
    assert uris[0] == b"rtsp://127.0.0.1/" + name + b"/"
    assert uris[1] == uris[0] + name + b"/track0"
    server.close()
    await server.wait_closed()
