"""The parser: what cameras send, in any pieces; any bytes at all leave it bounded and unhurt."""

from __future__ import annotations

import itertools
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.rtsp.messages import (
    MAX_BODY,
    MAX_HEAD,
    MAX_SKIPPED,
    Packet,
    Parser,
    ProtocolError,
    Response,
)

OK = b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 3\r\n\r\nv=0"


def parse(*pieces: bytes, channels: tuple[int, ...] = ()) -> tuple[list[Response | Packet], int]:
    parser = Parser()
    parser.expect(channels)
    return [m for piece in pieces for m in parser.feed(piece)], parser.skipped


@pytest.mark.parametrize(
    ("data", "skipped"),
    [
        (OK, 0),
        (OK.replace(b"\r\n", b"\n"), 0),
        (b"\r\n\r\n" + OK, 4),
        (b"\0\xff$R R" + OK, 6),
        (b"RTSP/ RTSP/1.0 20 \n" + OK, 19),
        (b"OPTIONS * RTSP/1.0\r\nCSeq: 9\r\n\r\n" + OK, 31),  # a camera may ask, too
        (OK.replace(b"CSeq: 1", b"junk\r\n: x\r\nCSeq:\r\n 1"), 0),
    ],
)
def test_an_answer_is_found_whatever_is_before_it(data: bytes, skipped: int) -> None:
    (answer,), counted = parse(data)
    assert isinstance(answer, Response)
    assert (answer.status, answer.reason, answer.body) == (200, "OK", b"v=0")
    assert (answer.get("cseq") or "").strip() == "1" and counted == skipped


def test_headers_that_repeat_and_go_on() -> None:
    head = b"RTSP/1.0 401\r\nWWW-Authenticate: a\r\nwww-authenticate:b,\r\n\tc\r\n\r\n"
    (answer,), _ = parse(head)
    assert isinstance(answer, Response)
    assert answer.all("www-authenticate") == ["a", "b, c"] and answer.get("x") is None
    assert answer.reason == "" and answer.body == b""


def test_packets_only_of_agreed_channels() -> None:
    packet = b"$\x02\0\4abcd"
    assert parse(packet + OK)[1] == len(packet)
    found, skipped = parse(b"$" + packet + b"$\x05\0\1" + OK + packet, channels=(2, 3))
    assert [type(m) for m in found] == [Packet, Response, Packet] and skipped == 5
    assert found[0] == Packet(2, b"abcd")


@pytest.mark.parametrize(
    "data",
    [
        b"RTSP/1.0 200 OK\r\n" + b"a: b\r\n" * MAX_HEAD,
        b"RTSP/" + b"1" * (MAX_HEAD + 1),
        b"RTSP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 1),
        b"<html>" * MAX_SKIPPED,
        b"RTSP/x\n" * MAX_SKIPPED,
    ],
)
def test_what_no_camera_sends_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse(data)


PIECES = st.lists(
    st.one_of(
        st.sampled_from(
            [OK, OK.replace(b"\r\n", b"\n"), b"$\x01\0\3RTS", b"$", b"R", b"RTSP/", b"\n"]
        ),
        st.sampled_from([b"RTSP/1.0 404 No\r\n\r\n", b"DESCRIBE x RTSP/1.0\r\nA: b\r\n\r\n"]),
        st.binary(max_size=40),
    ),
    max_size=12,
).map(b"".join)


@settings(deadline=None)
@given(data=PIECES, cuts=st.lists(st.integers(0, 600), max_size=20))
def test_any_split_gives_the_same_messages(data: bytes, cuts: list[int]) -> None:
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[a:b] for a, b in itertools.pairwise(edges)]
    whole = parse(data, channels=(0, 1))
    assert parse(*pieces, channels=(0, 1)) == whole
    assert parse(*(data[n : n + 1] for n in range(len(data))), channels=(0, 1)) == whole


@settings(deadline=None, max_examples=50)
@given(
    starts=st.sampled_from([b"", b"RTSP/1.0 200 OK\r\n", b"RTSP/", b"$\0\xff\xff", OK[:-3]]),
    block=st.binary(min_size=1, max_size=200),
)
def test_memory_is_bounded_whatever_comes(starts: bytes, block: bytes) -> None:
    parser = Parser()
    parser.expect((0, 1))
    tracemalloc.start()
    try:
        chunk = (block * (65536 // len(block) + 1))[:65536]
        for n in range(16):
            for _ in parser.feed(starts + chunk if n == 0 else chunk):
                pass
        held = tracemalloc.get_traced_memory()[0]
    except ProtocolError:
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held < 4 * (MAX_BODY + MAX_HEAD)
