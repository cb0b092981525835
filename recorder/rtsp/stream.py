"""The bytes of one RTSP connection: messages and interleaved packets (RFC 2326, 10.12).

Bytes are read into one buffer and handed on as views of it. Cameras end lines with LF alone, send
blank lines or stray bytes in between, and requests of their own. What is neither a message nor a
packet is skipped and counted, byte by byte, until something begins that is one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from recorder.rtsp.messages import (
    METHODS,
    ProtocolError,
    Request,
    Response,
    measure_message,
    parse_message,
)

CAPACITY = 96 * 1024  # bytes; the longest packet fits, and as much again as one read brings
ROOM = 16 * 1024  # bytes that are always free for the next read
MAX_SKIPPED = 256 * 1024  # bytes in a row that belong to no message

_PREFIX = b"RTSP/"
_DOLLAR = ord("$")
_PACKET_HEAD = 4  # '$', the channel, and the length in two bytes
_RTP_HEAD = 12  # bytes that tell whether this is a packet (RFC 3550, 5.1)
_VERSION = 2  # of RTP and RTCP: the first two bits


class Channel(NamedTuple):
    """Who takes the packets of an interleaved channel.

    `take` gets a packet, valid until it returns, and when it arrived (UTC ms). `is_plausible` gets
    its first 12 bytes, or all of a shorter one, and says whether one can begin so. It is asked
    after stray bytes, a `$` may be one of them, and for what is not of version 2 (RFC 3550, 5.1).
    """

    take: Callable[[memoryview, float], None]
    is_plausible: Callable[[memoryview], bool]


class MessageStream:
    """Takes bytes in pieces of any size, gives whole messages to who takes them.

    Read into `buffer()`, then call `advance`. At most one unfinished message is held. `skipped`
    counts the bytes that belonged to none.
    """

    def __init__(self, on_message: Callable[[Response | Request], None]):
        self.skipped = 0
        self._on_message = on_message
        self._channels: dict[int, Channel] = {}
        self._buffer = bytearray(CAPACITY)
        self._view = memoryview(self._buffer)
        self._end = 0  # of what was read
        self._size = 0  # of the message at the buffer's start, where it is known
        self._searched = 0  # bytes of it in which its head does not end
        self._in_step = True  # a message ended where the next is looked for
        self._skipped_in_a_row = 0
        self._compile_start()

    def expect(self, number: int, channel: Channel) -> None:
        """Take packets of a channel that SETUP agreed on; elsewhere a `$` begins nothing."""
        self._channels[number] = channel
        self._compile_start()

    def _compile_start(self) -> None:
        starts = [_beginning(word) for word in (_PREFIX, *METHODS)]
        if self._channels:
            known = b"|".join(re.escape(bytes([number])) for number in self._channels)
            starts.append(rb"\$(?:" + known + rb"|\Z)")
        self._start = re.compile(b"|".join(starts))

    def buffer(self) -> memoryview:
        """Return where the next bytes go; never empty, of no more use after `advance`."""
        return self._view[self._end :]

    def advance(self, count: int, arrival_ms: float) -> None:
        """Take `count` bytes that were read into the buffer at `arrival_ms` (UTC).

        Raises ProtocolError where this is no RTSP; the stream is then of no more use.
        """
        end = self._end + count
        try:
            at = self._take_all(end, arrival_ms)
        except ProtocolError:
            self._end = 0
            raise
        self._end = end - at
        if at and self._end:
            self._view[: self._end] = self._view[at:end]
        self._make_room()

    def _take_all(self, end: int, arrival_ms: float) -> int:
        """Hand on what is whole; return where what is not begins."""
        at, view, buffer, channels = 0, self._view, self._buffer, self._channels
        while at < end:
            if (
                buffer[at] == _DOLLAR
                and at + _PACKET_HEAD < end
                and (channel := channels.get(buffer[at + 1])) is not None
            ):
                stop = at + _PACKET_HEAD + (buffer[at + 2] << 8 | buffer[at + 3])
                if not self._in_step or buffer[at + _PACKET_HEAD] >> 6 != _VERSION:
                    known = min(at + _PACKET_HEAD + _RTP_HEAD, stop)
                    if known > end:
                        return at
                    if not channel.is_plausible(view[at + _PACKET_HEAD : known]):
                        at = self._skip(at, at + 1)
                        continue
                if stop > end:
                    return at
                self._in_step, self._skipped_in_a_row = True, 0
                channel.take(view[at + _PACKET_HEAD : stop], arrival_ms)
                at = stop
            else:
                before, at = at, self._take_other(at, end)
                if at == before:
                    return at
        return end

    def _take_other(self, at: int, end: int) -> int:
        """Hand on a message, or skip to where something begins; `at` where it is not all here."""
        found = self._start.search(self._buffer, at, end)
        start = found.start() if found else end
        if start > at:
            return self._skip(at, start)
        if self._buffer[at] == _DOLLAR:  # the rest of its head is not here yet
            return at
        if not self._size:
            size = measure_message(self._view[at:end], self._searched)
            if size == 0:  # the end of a request, or by chance
                return self._skip(at, at + len(_PREFIX))
            self._size, self._searched = size or 0, end - at
        if not self._size or at + self._size > end:
            return at
        message = parse_message(bytes(self._view[at : at + self._size]))
        at += self._size
        self._size = self._searched = self._skipped_in_a_row = 0
        self._in_step = True
        self._on_message(message)
        return at

    def _skip(self, at: int, to: int) -> int:
        self._in_step, self._searched = False, 0
        self.skipped += to - at
        self._skipped_in_a_row += to - at
        if self._skipped_in_a_row > MAX_SKIPPED:
            raise ProtocolError(f"more than {MAX_SKIPPED >> 10} kB that are not RTSP")
        return to

    def _make_room(self) -> None:
        """Have the buffer as large as the unfinished message needs it, and no larger."""
        capacity = max(CAPACITY, self._size + ROOM)
        if capacity != len(self._buffer):
            held = self._view[: self._end]
            self._buffer = bytearray(capacity)
            self._view = memoryview(self._buffer)
            self._view[: self._end] = held


def _beginning(word: bytes) -> bytes:
    """Return a pattern of a word, or of as much of it as there is yet."""
    pattern = b""
    for at in reversed(range(len(word))):
        rest = b"(?:%b|\\Z)" % pattern if pattern else b""
        pattern = re.escape(word[at : at + 1]) + rest
    return pattern
