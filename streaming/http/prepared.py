"""Answers that are given again: what is asked most, past middlewares, router and handlers.

A handler whose answer is the same for everyone offers it (`Offer`). What the application sends for
the offer is kept, so that headers are said in one place, and a connection (see `answering`) writes
it to whoever asks for the same, as long as the offer lasts. A request that may be answered in
another way, because of a range, a date, an old HTTP or a parameter, goes to the application.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import NamedTuple

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpVersion11, RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from storage.recording_source import HashedRange
from streaming.http.clients import Clients
from streaming.http.scheduler import FairQueue

PIECE = 64 << 10  # bytes of a range of a file that are in memory for one client
MOST_BYTES = 64 << 20  # of answers, in all
ENTRY_BYTES = 3000  # that an answer takes beside its body
UNUSUAL = (  # the application answers these
    *(hdrs.RANGE, hdrs.IF_MATCH, hdrs.IF_MODIFIED_SINCE, hdrs.IF_UNMODIFIED_SINCE, hdrs.EXPECT),
)
OF_ONE_ANSWER = {"Date", "Connection"}
_TAG = re.compile(r'"[0-9a-f-]+"')

Counter = Callable[[float], None]  # is told the seconds that an answer took


@dataclass(frozen=True, slots=True)
class Offer:
    """An answer that does not depend on who asks, nor in which words.

    `etag` is strong and has its quotes; `lasts` tells whether the answer would be the same now.
    """

    etag: str
    body: bytes | HashedRange
    lasts: Callable[[], bool]


OFFER = web.RequestKey("offer", Offer)


class Answer(NamedTuple):
    """What is written: a head up to its date, a body, and what counts it."""

    head: bytes
    body: bytes | HashedRange
    counter: Counter


Head = tuple[bytes, Counter]


@dataclass(slots=True)
class _Entry:
    offer: Offer
    heads: dict[int, Head]  # by status: 200 and 304


@dataclass(slots=True)
class PreparedAnswers:
    """The answers of one process, by address.

    `counter` returns what counts the answers of a route with a status.
    """

    clients: Clients
    queue: FairQueue
    counter: Callable[[str, int], Counter]
    most_bytes: int = MOST_BYTES
    _entries: OrderedDict[str, _Entry] = field(default_factory=OrderedDict)
    _bytes: int = 0
    _date_s: int = 0
    _date: bytes = b""

    async def keep(self, request: web.Request, response: web.StreamResponse) -> None:
        """Keep what is sent for an offer; to be the last that looks at a response."""
        offer, headers = request.get(OFFER), response.headers
        if offer is None or request.method != "GET" or response.status not in (200, 304):
            return
        if request.raw_path != request.path or "Vary" in headers or "Transfer-Encoding" in headers:
            return
        lines = [f"HTTP/1.1 {response.status} {response.reason}"]
        lines += [f"{name}: {text}" for name, text in headers.items() if name not in OF_ONE_ANSWER]
        resource = request.match_info.route.resource
        counter = self.counter(resource.canonical if resource else "none", response.status)
        head = "\r\n".join([*lines, "Date: "]).encode()
        before = self._forget(request.path)
        same = before is not None and before.offer.etag == offer.etag
        heads = before.heads if before is not None and same else {}
        self._entries[request.path] = _Entry(offer, heads | {response.status: (head, counter)})
        self._bytes += _size(offer)
        while self._bytes > self.most_bytes:
            self._forget(next(iter(self._entries)))

    def find(self, message: RawRequestMessage, payload: StreamReader) -> Answer | None:
        """Return the answer to a request; None where the application has to give it."""
        entry = self._entries.get(message.path)
        if (
            entry is None
            or message.method != "GET"
            or message.version != HttpVersion11
            or message.should_close
            or message.upgrade
            or payload is not EMPTY_PAYLOAD
        ):
            return None
        headers, status = message.headers, 200
        if (tag := headers.get(hdrs.IF_NONE_MATCH)) is not None:
            if tag == entry.offer.etag:
                status = 304
            elif not _TAG.fullmatch(tag):
                return None
        for name in UNUSUAL:
            if name in headers:
                return None
        found = entry.heads.get(status)
        if found is None or not entry.offer.lasts():
            return None
        self._entries.move_to_end(message.path)
        head, counter = found
        return Answer(head, b"" if status == 304 else entry.offer.body, counter)

    def date(self) -> bytes:
        """Return the date of an answer (RFC 9110, 6.6.1) and the end of its head."""
        if (now_s := int(time.time())) != self._date_s:
            self._date_s, self._date = now_s, formatdate(now_s, usegmt=True).encode() + b"\r\n\r\n"
        return self._date

    def _forget(self, path: str) -> _Entry | None:
        entry = self._entries.pop(path, None)
        if entry is not None:
            self._bytes -= _size(entry.offer)
        return entry


def _size(offer: Offer) -> int:
    return ENTRY_BYTES + (len(offer.body) if isinstance(offer.body, bytes) else 0)


@dataclass(slots=True)
class Rest:
    """What is left of a range of a file whose beginning was written."""

    body: HashedRange
    at: int
    begun_s: float
    counter: Counter

    async def send(self, writer: AbstractStreamWriter) -> bool:
        """Write it as the client takes it; False where its bytes cannot be had."""
        try:
            for at in range(self.at, self.body.length, PIECE):
                data = self.body.piece_in_spool(at, min(PIECE, self.body.length - at))
                if data is None:
                    return False
                await writer.write(data)
        finally:
            self.counter(time.perf_counter() - self.begun_s)
        return True


class Sent(web.StreamResponse):
    """An answer that was written already."""

    _eof_sent = True

    @property
    def keep_alive(self) -> bool:
        """The connection stays open: others go to the application."""
        return True


PREPARED = web.AppKey("prepared", PreparedAnswers)
