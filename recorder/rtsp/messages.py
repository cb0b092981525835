"""RTSP answers, and requests of cameras (RFC 2326, 4 to 7), read leniently: cameras end lines with
LF alone."""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_HEAD = 32 * 1024  # bytes of status line and headers
MAX_BODY = 256 * 1024  # bytes of a description
MAX_REQUEST = 2_048  # bytes of the head of a request, which by chance may be none

# no two parts that take the same bytes side by side: all ways to share many would be tried
_STATUS_LINE = re.compile(rb"RTSP/\d+\.\d+[ \t]+(\d{3})(?!\d)([^\r\n]*)\r?\n")
# what some cameras ask of us, to see that somebody is there; they leave who does not answer
METHODS = (b"OPTIONS", b"GET_PARAMETER", b"SET_PARAMETER")
_REQUEST_LINE = re.compile(rb"(%b)[^\w\r\n][^\r\n]*RTSP/1\.\d[ \t]*\r?\n" % b"|".join(METHODS))
_LINE_END = re.compile(rb"\n")
_HEAD_END = re.compile(rb"\n\r?\n")


class ProtocolError(ValueError):
    """The other side does not speak RTSP, or sends more than any camera has reason to."""


class _Message:
    """What has headers; their names are in lower case, in the order in which they came."""

    __slots__ = ()
    headers: tuple[tuple[str, str], ...]

    def all(self, name: str) -> list[str]:
        """Return the values of all headers of this name (in lower case)."""
        return [value for known, value in self.headers if known == name]

    def get(self, name: str) -> str | None:
        """Return the first value of a header, None without one."""
        return next(iter(self.all(name)), None)


@dataclass(frozen=True, slots=True)
class Response(_Message):
    """An answer."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class Request(_Message):
    """What a camera asks of us."""

    method: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def answer(self) -> bytes:
        """That we are here, and nothing else: what a camera needs to go on."""
        lines = ["RTSP/1.0 200 OK", f"CSeq: {self.get('cseq') or ''}"]
        if (session := self.get("session")) is not None:
            lines.append(f"Session: {session}")
        return bytes_of("".join(f"{line}\r\n" for line in [*lines, ""]))


def text_of(data: bytes) -> str:
    """Return what a camera says as text. Realms and addresses go back to it, and are proved, with
    the bytes that it gave; `bytes_of` returns those."""
    return data.decode("utf-8", "surrogateescape")


def bytes_of(text: str) -> bytes:
    """Return the bytes that a camera is to get."""
    return text.encode("utf-8", "surrogateescape")


def measure_message(data: memoryview, searched: int) -> int | None:
    """Return the size of the message that `data` begins with; None: not known yet, 0: it is none.

    In the first `searched` bytes its head does not end. Raises ProtocolError for one that is too
    long.
    """
    longest = MAX_HEAD if data[0] == ord("R") else MAX_REQUEST
    known = _STATUS_LINE.match(data, 0, longest) or _REQUEST_LINE.match(data, 0, longest)
    if known is None and _LINE_END.search(data, 0, longest):
        return 0
    end = _HEAD_END.search(data, max(0, searched - 2), longest)
    if end is not None:
        return end.end() + _body_size(bytes(data[: end.end()]))
    if len(data) > longest == MAX_REQUEST:
        return 0
    if len(data) > longest:
        raise ProtocolError(f"the head of an answer is longer than {MAX_HEAD >> 10} kB")
    return None


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
    for line in text_of(head).split("\n")[1:]:
        if line[:1] in (" ", "\t") and found and line.strip():
            name, value = found[-1]
            found[-1] = name, f"{value} {line.strip()}"
        elif ":" in line:
            name, _, value = line.partition(":")
            found.append((name.strip().lower(), value.strip()))
    return found


def parse_message(raw: bytes) -> Response | Request:
    """Read a whole message, as it was measured."""
    end, status, request = _HEAD_END.search(raw), _STATUS_LINE.match(raw), _REQUEST_LINE.match(raw)
    assert end is not None  # it was measured
    headers, body = tuple(_headers(raw[: end.end()])), raw[end.end() :]
    if request is not None:
        return Request(text_of(request[1]), headers, body)
    assert status is not None
    return Response(int(status[1]), text_of(status[2]).strip(), headers, body)
