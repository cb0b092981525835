"""The bytes of a connection: what cameras send, in any pieces; any bytes leave it bounded."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Callable, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.rtsp.messages import MAX_BODY, MAX_HEAD, ProtocolError, Request, Response
from recorder.rtsp.stream import CAPACITY, MAX_SKIPPED, ROOM, Channel, MessageStream

OK = b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 3\r\n\r\nv=0"


ASKED = b"SET_PARAMETER * RTSP/1.0\r\nCSeq: 4\r\n\r\n"


class Reading:
    """A stream whose packets begin with the bytes `rtp` where they are plausible."""

    def __init__(self, channels: Iterable[int] = ()):
        self.found: list[Response | Request | tuple[int, bytes]] = []
        self.arrivals: list[float] = []
        self.stream = MessageStream(self.found.append)
        for number in channels:
            self.stream.expect(number, Channel(self._taker(number), is_plausible))

    def _taker(self, number: int) -> Callable[[memoryview, float], None]:
        def take(packet: memoryview, arrival_ms: float) -> None:
            self.found.append((number, bytes(packet)))
            self.arrivals.append(arrival_ms)

        return take

    def feed(self, data: bytes, arrival_ms: float = 0.0) -> None:
        """Read as a socket does: as much as there is room for."""
        while data:
            room = self.stream.buffer()
            assert room
            count = min(len(room), len(data))
            room[:count] = data[:count]
            self.stream.advance(count, arrival_ms)
            data = data[count:]


def is_plausible(packet: memoryview) -> bool:
    return bytes(packet[:3]) == b"rtp"


def parse(*pieces: bytes, channels: Iterable[int] = ()) -> tuple[list[object], int]:
    reading = Reading(channels)
    for piece in pieces:
        reading.feed(piece)
    return list(reading.found), reading.stream.skipped


def packet(channel: int, data: bytes) -> bytes:
    return b"$" + bytes([channel]) + len(data).to_bytes(2, "big") + data


@pytest.mark.parametrize(
    ("data", "skipped"),
    [
        (OK, 0),
        (OK.replace(b"\r\n", b"\n"), 0),
        (b"\r\n\r\n" + OK, 4),
        (b"\0\xff$R R" + OK, 6),
        (b"RTSP/ RTSP/1.0 20 \n" + OK, 19),
        (b"OPTIONS * HTTP/1.1\r\nCSeq: 9\r\n\r\n" + OK, 31),
        (b"OPTIONS * RTSP/1.0\r\n" + b"a: b\r\n" * 400 + OK, 20 + 6 * 400),
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


@pytest.mark.parametrize("line", ["OPTIONS * RTSP/1.0\r\n", "GET_PARAMETER rtsp://x/ RTSP/1.0\n"])
def test_what_a_camera_asks_costs_no_packet_and_is_no_answer(line: str) -> None:
    right = packet(0, b"rtp")
    asked = line.encode() + b"CSeq: 9\r\nSession: 5\r\nContent-Length: 2\r\n\r\n$\0"
    found, skipped = parse(right + asked + right + OK, channels=(0,))
    request, answer = found[1], found[3]
    assert isinstance(request, Request) and isinstance(answer, Response) and skipped == 0
    assert (request.method, request.body) == (line.split()[0], b"$\0")
    assert request.answer == b"RTSP/1.0 200 OK\r\nCSeq: 9\r\nSession: 5\r\n\r\n"


def test_packets_only_of_agreed_channels() -> None:
    one = packet(2, b"rtp1")
    assert parse(one + OK)[1] == len(one)
    found, skipped = parse(one + packet(5, b"rtp1") + OK + one + packet(3, b"rtp"), channels=(2, 3))
    assert found[0] == (2, b"rtp1") and found[2:] == [(2, b"rtp1"), (3, b"rtp")] and skipped == 8
    assert isinstance(found[1], Response)


def test_each_packet_has_the_arrival_of_the_read_that_ended_it() -> None:
    reading, data = Reading([0]), packet(0, b"rtp1") + packet(0, b"rtp2")
    reading.feed(data[:9], 10.0)
    reading.feed(data[9:], 20.0)
    assert reading.arrivals == [10.0, 20.0]


@pytest.mark.parametrize("stray", [b"\r\n", b"$", b"$\0", b"$\0\xff\xff junk", b"\0" * 70_000])
def test_stray_bytes_between_packets_cost_no_packet(stray: bytes) -> None:
    """A length among stray bytes is not believed: it would swallow what comes after it."""
    packets = [packet(n % 2, b"rtp" + bytes([n]) * 200) for n in range(6)]
    found, skipped = parse(stray.join(packets), channels=(0, 1))
    assert [packet(*p) for p in found] == packets and skipped == 5 * len(stray)  # type: ignore[misc]


def test_packets_are_looked_at_where_something_is_odd() -> None:
    """In step, what has version 2 is taken as it is; malformed RTCP of 3 bytes is stepped over."""
    odd, version_2, right = packet(1, b"abc"), packet(1, b"\x80"), packet(0, b"rtp")
    taken = [(0, b"rtp"), (1, b"\x80"), (0, b"rtp")]
    assert parse(right + version_2 + right, channels=(0, 1)) == (taken, 0)
    both = [(0, b"rtp")] * 2
    assert parse(right + odd + right, channels=(0, 1)) == (both, len(odd))
    assert parse(right + b"\0" + version_2 + right, channels=(0, 1)) == (both, 1 + len(version_2))


@pytest.mark.parametrize(
    "data",
    [
        b"RTSP/1.0 200 OK\r\n" + b"a: b\r\n" * MAX_HEAD,
        b"RTSP/" + b"1" * (MAX_HEAD + 1),
        b"RTSP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 1),
        b"<html>" * MAX_SKIPPED,
        b"RTSP/x\n" * MAX_SKIPPED,
        b"$\0\0\x0c............" * MAX_SKIPPED,
    ],
)
def test_what_no_camera_sends_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse(b"\0" + data, channels=(0,))


def test_blanks_without_end_are_read_through_once() -> None:
    reading = Reading()
    with pytest.raises(ProtocolError):
        for piece in itertools.chain([b"RTSP/1.0 200"], itertools.repeat(b" " * 64)):
            reading.feed(piece)
    assert not reading.found


def test_the_longest_messages_and_then_no_more_memory() -> None:
    body = bytes(MAX_BODY)
    long = OK.replace(b"Length: 3", b"Length: %d" % MAX_BODY)[:-3] + body
    reading = Reading([0])
    reading.feed(long[:-1])
    assert len(reading.stream._buffer) <= MAX_BODY + MAX_HEAD + ROOM
    reading.feed(long[-1:] + packet(0, b"\x80" * 0xFFFF) * 3)
    assert [getattr(m, "body", m) for m in reading.found] == [body, *[(0, b"\x80" * 0xFFFF)] * 3]
    assert len(reading.stream._buffer) == CAPACITY


PIECES = st.lists(
    st.one_of(
        st.sampled_from([OK, OK.replace(b"\r\n", b"\n"), b"$\x01\0\3RTS", b"$", b"R", b"RTSP/"]),
        st.sampled_from(
            [b"RTSP/1.0 404 No\r\n\r\n", b"DESCRIBE x RTSP/1.0\r\nA: b\r\n\r\n", b"\n", ASKED]
        ),
        st.sampled_from([packet(0, b"rtp" + bytes(20)), packet(1, b"rtp"), packet(7, b"rtp$\0")]),
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
    stream = MessageStream(lambda response: None)
    for number in (0, 1):
        stream.expect(number, Channel(lambda packet, arrival_ms: None, is_plausible))
    chunk = (block * (65536 // len(block) + 1))[:65536]
    tracemalloc.start()
    try:
        for n in range(16):
            data = starts + chunk if n == 0 else chunk
            while data:
                room = stream.buffer()
                count = min(len(room), len(data))
                room[:count] = data[:count]
                room.release()
                stream.advance(count, 0.0)
                data = data[count:]
    except ProtocolError:
        pass
    finally:
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    assert held < 2 * (MAX_BODY + MAX_HEAD)
