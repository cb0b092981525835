"""HTTP as nobody writes it who wants an answer: a right refusal, little work, one line of log."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from config.model import Config
from streaming.app import create_app, make_runner
from streaming.http import connections
from streaming.http.negotiation import MOST_PARAMETERS
from tests.support.archiving import configure
from tests.support.s3 import free_port
from tests.support.selling import COPIES
from tests.support.spools import fill
from tests.support.waiting import BOUND_S

NOW = int(time.time() * 1000)
HOST = b"Host: x\r\n"
END = b"Connection: close\r\n\r\n"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    made = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n" + COPIES, "2h")
    fill(made.spool, start_ms=NOW - 100_000, runs=1, segments=9).close()
    return made


def get(path: bytes, *headers: bytes, method: bytes = b"GET") -> bytes:
    lines = b"".join(header + b"\r\n" for header in headers)
    return method + b" " + path + b" HTTP/1.1\r\n" + HOST + lines + END


def post(path: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    return get(path, *headers, method=b"POST") + body


async def told(config: Config, said: bytes, pauses: bool = False) -> tuple[list[int], bytes]:
    """Return the statuses of all that a server answers, and its bytes, until it hangs up."""
    runner = make_runner(create_app(config, None, ()))
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(BOUND_S):
            try:
                for n in range(0, len(said), 100 if pauses else len(said)):
                    writer.write(said[n : n + (100 if pauses else len(said))])
                    await writer.drain()
                    await asyncio.sleep(0)
                answer = await reader.read()
            except ConnectionError:  # it is closed before all was said
                answer = bytes(reader._buffer)  # type: ignore[attr-defined]
        writer.close()
    finally:
        await runner.cleanup()
    return [int(n) for n in re.findall(rb"HTTP/[01]\.[019] ([0-9]{3}) ", answer)], answer


PAGE, SEGMENT, LIVE = b"/stations/s", b"/live/s/c/2.m4s", b"/live/s/c/index.m3u8"
SEARCH = b"/api/v1/stations?q="
OEMBED = b"/api/v1/oembed?url=http%3A%2F%2Fk%2Fstations%2Fs"
SOCKET = get(
    PAGE, b"Upgrade: websocket", b"Sec-WebSocket-Key: AAAA", b"Sec-WebSocket-Version: 13"
).replace(b"Connection: close", b"Connection: Upgrade")
CASES: dict[str, tuple[bytes, set[int]]] = {
    "many in advance": (get(b"/healthz").replace(END, b"\r\n") * 40 + get(b"/healthz"), {200}),
    "very many in advance": (get(b"/healthz").replace(END, b"\r\n") * 3000, {200, 400}),
    "100 headers": (get(PAGE, *(b"X-%d: y" % n for n in range(100))), {200}),
    "200 headers": (get(PAGE, *(b"X-%d: y" % n for n in range(200))), {400}),
    "20,000 headers": (get(PAGE, *(b"X-%d: y" % n for n in range(20_000))), {400}),
    "30 headers of 8 kB": (get(PAGE, *(b"X-%d: " % n + b"y" * 8000 for n in range(30))), {400}),
    "9 headers of 8 kB": (get(PAGE, *(b"X-%d: " % n + b"y" * 8000 for n in range(9))), {200}),
    "100 kB of a header": (get(PAGE, b"X: " + b"y" * 100_000), {400}),
    "a folded header": (get(PAGE, b"X: y\r\n z"), {200, 400}),
    "two lengths": (post(b"/copies/quotes", b"Content-Length: 1", b"Content-Length: 2"), {400}),
    "length and pieces": (
        post(
            b"/copies/quotes",
            b"Content-Length: 1",
            b"Transfer-Encoding: chunked",
            body=b"0\r\n\r\n",
        ),
        {400},
    ),
    "a length that is none": (post(b"/copies/quotes", b"Content-Length: -1"), {400}),
    "60 kB of a path": (get(b"/stations/" + b"a" * 60_000), {404}),
    "60 kB of percent": (get(b"/stations/" + b"%D1%8F" * 10_000), {404}),
    "60 kB of slashes": (get(b"/" * 60_000), {404}),
    "1 MB of a path": (get(b"/" + b"a" * 1_000_000), {400}),
    "30,000 parameters": (get(PAGE + b"?t=1" + b"&t=1" * 14_000), {400}),
    "of an error page": (get(b"/nothing?" + b"a&" * 30_000), {400}),
    "of the API": (get(SEARCH + b"&x" * 14_000), {400}),
    "of a playlist": (get(LIVE + b"?from=1" + b"&from=1" * 8000), {400}),
    "of an address in a parameter": (get(OEMBED + b"%3Fa" + b"%26a" * 10_000), {404}),
    "one moment": (get(PAGE + b"?t=" + b"9" * 60_000), {400}),
    "letters of letters": (get(SEARCH + b"%E3%8F%92" * 100), {200}),
    "a search of joining marks": (get(SEARCH + b"%CC%81" * 5000), {400}),
    "many ranges": (get(SEGMENT, b"Range: bytes=" + b"0-0," * 1800 + b"1-1"), {200}),
    "a range of digits": (get(SEGMENT, b"Range: bytes=0-" + b"9" * 8000), {200}),
    "many tags": (get(LIVE, b"If-None-Match: " + b'"a",' * 2000), {200}),
    "any tag": (get(LIVE, b"If-None-Match: *"), {304}),
    "a date of digits": (get(SEGMENT, b"If-Modified-Since: " + b"9 " * 4000), {200}),
    "8 kB of X-Forwarded-For": (get(PAGE, b"X-Forwarded-For: " + b"10.0.0.1," * 900), {200}),
    "10 kB of X-Forwarded-For": (get(PAGE, b"X-Forwarded-For: " + b"," * 10_000), {400}),
    "100 lines of it": (get(PAGE, *[b"X-Forwarded-For: 1.1.1.1,2.2.2.2"] * 100), {200}),
    "many languages": (get(PAGE, b"Accept-Language: " + b"ru;q=0.1," * 900), {200}),
    "HEAD of a page": (get(PAGE, method=b"HEAD"), {200}),
    "HEAD of a segment": (get(SEGMENT, method=b"HEAD"), {200}),
    "HEAD of a stretch": (get(LIVE + b"?from=%d" % (NOW - 90_000), method=b"HEAD"), {200}),
    "HEAD of what is not there": (get(b"/stations/x", method=b"HEAD"), {404}),
    "a web socket": (SOCKET.replace(b": Upgrade\r", b": Upgrade, close\r"), {200}),
    "HTTP/2 in plain": (get(PAGE, b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__"), {200}),
    "HTTP/2 at once": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400}),
    "HTTP/0.9": (b"GET /\r\n\r\n", {200}),
    "HTTP/1.0": (b"GET /healthz HTTP/1.0\r\n\r\n", {200}),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(507), {400}),
    "an empty line for ever": (b"\r\n" * 30_000, {400}),
    "CONNECT": (get(b"k:443", method=b"CONNECT"), {400, 404, 405}),
    "a whole address": (get(b"http://evil.example/stations/s"), {200, 404}),
    "of all": (get(b"*", method=b"OPTIONS"), {400, 404, 405}),
    "a method of 8 kB": (get(PAGE, method=b"A" * 8000), {400, 405}),
    "TRACE": (get(PAGE, method=b"TRACE"), {405}),
    "100-continue": (
        post(b"/copies/quotes", b"Expect: 100-continue", b"Content-Length: 1", body=b"a"),
        {100, 404},
    ),
    "another expectation": (get(PAGE, b"Expect: wonders"), {417}),
    "pieces of one byte": (
        post(b"/copies/quotes", b"Transfer-Encoding: chunked", body=b"1\r\na\r\n" * 60_000),
        {400},
    ),
    "a piece of 2^70 bytes": (
        post(b"/copies/quotes", b"Transfer-Encoding: chunked", body=b"4" + b"0" * 17 + b"\r\n"),
        {400},
    ),
    "trailers for ever": (
        post(b"/copies/quotes", b"Transfer-Encoding: chunked", body=b"0\r\n" + b"a: b\r\n" * 9000),
        {400},
    ),
    "a body to what takes none": (get(PAGE, b"Content-Length: 5") + b"abcde", {200}),
    "a zero byte": (get(b"/stations/\0"), {400}),
    "a zero byte, encoded": (get(b"/stations/%00"), {404}),
    "bytes that are no text": (get(b"/stations/%ff%fe"), {404}),
    "half of a pair": (get(b"/stations/%ed%a0%80"), {404}),
    "bytes that are no text, bare": (get(b"/stations/\xff\xd1"), {400, 404}),
    "in a parameter": (get(b"/?q=\xff\xfe\xd1&after=\xff"), {200, 400}),
    "in what is told to other languages": (get(b"/nothing?a=\xff"), {400, 404}),
    "half of a pair in a parameter": (get(b"/?q=%ed%a0%80&lang=ru&region=%ff"), {404}),
    "a zero byte in a parameter": (get(b"/?q=%00&t=%00"), {200}),
    "speech to a web socket that is none": (SOCKET + bytes(300_000), {200, 400}),
    "speech through a tunnel that is none": (
        get(b"k:443", method=b"CONNECT").replace(b"Connection: close\r\n", b"") + bytes(300_000),
        {400, 404, 405},
    ),
    "a Host of words": (get(PAGE).replace(b"Host: x", b"Host: a b/c?d"), {200, 400}),
}


@pytest.mark.parametrize("name", CASES)
async def test_each_has_a_right_answer(config: Config, name: str) -> None:
    said, statuses = CASES[name]
    with capture_logs() as lines:
        found, answer = await told(config, said)
    assert set(found) <= statuses and (found or len(said) > 1 << 16), (found, answer[:300])
    assert [line for line in lines if line["log_level"] != "info"][1:] == []
    assert not [line for line in lines if line["log_level"] == "error"]
    assert b"Traceback" not in answer and len(answer) < 300_000


def test_what_is_read_at_once_is_of_few_pieces() -> None:
    assert connections.MOST_LINES * 8 <= connections.RECEIVED
    assert MOST_PARAMETERS <= 100


async def test_slow_heads_of_many_lines_are_refused_too(config: Config) -> None:
    for said in (
        get(PAGE, *(b"X-%d: y" % n for n in range(200))),
        get(PAGE, *(b"X-%d: " % n + b"y" * 8000 for n in range(15))),
    ):
        assert (await told(config, said, pauses=True))[0] in ([400], [])


async def test_a_body_in_pieces_is_no_head(config: Config) -> None:
    body = b"station=s&from=" + b"x" * (50 << 10)
    said = post(b"/copies/quotes", b"Content-Length: %d" % len(body), body=body)
    assert (await told(config, said, pauses=True))[0] == [404]  # it names no station as a form
    pieces = b"".join(b"%x\r\n%b\r\n" % (1 << 10, b"x" * (1 << 10)) for _ in range(200))
    said = post(b"/copies/quotes", b"Transfer-Encoding: chunked", body=pieces + b"0\r\n\r\n")
    assert (await told(config, said, pauses=True))[0] == [413]
