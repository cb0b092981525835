"""RTSP messages out of a stream of bytes (RFC 2326, 4 to 7 and 10.12), whatever else is in it.

Cameras end lines with LF alone, send blank lines or stray bytes before an answer, and requests of
their own. What is neither an answer nor an interleaved packet is skipped and counted.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

MAX_HEAD = 32 * 1024  # bytes of status line and headers
MAX_BODY = 256 * 1024  # bytes of a description
MAX_SKIPPED = 256 * 1024  # bytes in a row that belong to no message

_PREFIX = b"RTSP/"
_STATUS_LINE = re.compile(rb"RTSP/\d+\.\d+[ \t]+(\d{3})(?!\d)[ \t]*([^\r\n]*)\r?\n")
_HEAD_END = re.compile(rb"\n\r?\n")
_PACKET_HEAD = 4  # '$', the channel, and the length in two bytes


class ProtocolError(ValueError):
    """The other side does not speak RTSP, or sends more than any camera has reason to."""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer; names of headers are in lower case, in the order in which they came."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def all(self, name: str) -> list[str]:
        """Return the values of all headers of this name (in lower case)."""
        return [value for known, value in self.headers if known == name]

    def get(self, name: str) -> str | None:
        """Return the first value of a header, None without one."""
        return next(iter(self.all(name)), None)


@dataclass(frozen=True, slots=True)
class Packet:
    """An RTP or RTCP packet between the answers."""

    channel: int
    data: bytes


class Parser:
    """Takes bytes in pieces of any size and gives whole messages.

    It holds at most one unfinished message; `skipped` counts the bytes that belonged to none.
    """

    def __init__(self) -> None:
        self.skipped = 0
        self._buffer = bytearray()
        self._skipped_in_a_row = 0
        self._searched = 0  # bytes of the buffer in which a head does not end
        self._size: int | None = None  # of the message at the buffer's start, where it is known
        self.expect()

    def expect(self, channels: Collection[int] = ()) -> None:
        """Take packets of these channels, those that SETUP agreed on; none at the beginning.

        Elsewhere a `$` is a stray byte and begins nothing.
        """
        starts = [_PREFIX, *(_PREFIX[:n] + b"\\Z" for n in range(1, len(_PREFIX)))]
        if channels:
            known = b"|".join(re.escape(bytes([channel])) for channel in channels)
            starts.append(rb"\$(?:" + known + rb"|\Z)")
        self._start = re.compile(b"|".join(starts))

    def feed(self, data: bytes) -> Iterator[Response | Packet]:
        """Yield the messages that are whole now.

        Raises ProtocolError where this is no RTSP; the parser is then of no more use.
        """
        self._buffer += data
        while self._skip_to_start():
            if self._size is None:
                self._size = self._measure()
            if self._size is None or self._size > len(self._buffer):
                return
            if self._size == 0:  # the end of a request, or by chance
                self._skip(len(_PREFIX))
                continue
            raw = bytes(self._buffer[: self._size])
            self._drop(self._size)
            self._skipped_in_a_row = 0
            yield Packet(raw[1], raw[_PACKET_HEAD:]) if raw[:1] == b"$" else _response(raw)

    def _skip_to_start(self) -> bool:
        """Drop what belongs to no message; True where one begins then."""
        found = self._start.search(self._buffer)
        if size := found.start() if found else len(self._buffer):
            self._skip(size)
        return found is not None

    def _skip(self, size: int) -> None:
        self._drop(size)
        self.skipped += size
        self._skipped_in_a_row += size
        if self._skipped_in_a_row > MAX_SKIPPED:
            raise ProtocolError(f"more than {MAX_SKIPPED >> 10} kB that are not RTSP")

    def _drop(self, size: int) -> None:
        del self._buffer[:size]
        self._searched, self._size = 0, None

    def _measure(self) -> int | None:
        """Return the size of the message at the start; None: not known yet, 0: it is none."""
        buffer = self._buffer
        if buffer[0] == ord("$"):
            if len(buffer) < _PACKET_HEAD:
                return None
            return _PACKET_HEAD + int.from_bytes(buffer[2:_PACKET_HEAD], "big")
        line_end = buffer.find(b"\n", 0, MAX_HEAD)
        if line_end >= 0 and _STATUS_LINE.match(buffer) is None:
            return 0
        end = _HEAD_END.search(buffer, max(0, self._searched - 2))
        self._searched = len(buffer)
        if (end.end() if end else len(buffer)) > MAX_HEAD:
            raise ProtocolError(f"the head of an answer is longer than {MAX_HEAD >> 10} kB")
        return None if end is None else end.end() + _body_size(bytes(buffer[: end.end()]))


def _body_size(head: bytes) -> int:
    for name, value in _headers(head):
        if name == "content-length" and (digits := re.match(r"\d{1,9}", value)):
            if int(digits[0]) > MAX_BODY:
                raise ProtocolError(f"an answer is longer than {MAX_BODY >> 10} kB")
            return int(digits[0])
    return 0


def _headers(head: bytes) -> list[tuple[str, str]]:
    """Read the header lines; one that begins with a blank goes on with the line before."""
    found: list[tuple[str, str]] = []
    for line in head.decode("latin-1").split("\n")[1:]:
        if line[:1] in (" ", "\t") and found and line.strip():
            name, value = found[-1]
            found[-1] = name, f"{value} {line.strip()}"
        elif ":" in line:
            name, _, value = line.partition(":")
            found.append((name.strip().lower(), value.strip()))
    return found


def _response(raw: bytes) -> Response:
    end, status = _HEAD_END.search(raw), _STATUS_LINE.match(raw)
    assert end is not None and status is not None  # it was measured
    headers = tuple(_headers(raw[: end.end()]))
    reason = status[2].decode("latin-1").strip()
    return Response(int(status[1]), reason, headers, raw[end.end() :])
