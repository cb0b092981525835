"""Connections that give prepared answers themselves (see `prepared`).

aiohttp's parser reads a request; where it comes alone and its answer is prepared, that is written
at once, before a task, a request and a response are made for it. All else goes on to the
application, as does what is left of a large answer: its client may take it slowly.
"""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial
from typing import Any

from aiohttp import web
from aiohttp.http import RawRequestMessage
from aiohttp.web_server import Server
from multidict import MultiMapping

from storage.recording_source import HashedRange
from streaming.http.connections import Connection
from streaming.http.prepared import PIECE, Answer, PreparedAnswers, Rest, Sent


class AnsweringConnection(Connection):
    """A connection of a server whose most wanted answers are prepared."""

    __slots__ = ("_application", "_prepared", "_rest")

    def __init__(self, prepared: PreparedAnswers, manager: Server, **settings: Any):
        super().__init__(manager, **settings)
        self._prepared = prepared
        self._rest: Rest | None = None
        self._application, self._request_handler = self._request_handler, self._handle

    def take(self, data: bytes) -> None:
        """Take what has come; a prepared answer is given in its turn."""
        if not self.waits:
            super().take(data)
            return
        waiter, self._waiter = self._waiter, None  # the parent is not woken yet
        try:
            super().take(data)
        finally:
            self._waiter = waiter
        if not self._messages:
            return
        message, payload = asked = self._messages[0]
        if len(self._messages) == 1 and isinstance(message, RawRequestMessage):
            answer = self._prepared.find(message, payload)
            if answer is not None:
                call = partial(self._answer, asked, answer, time.perf_counter())
                self._prepared.queue.call(partial(self._client, message.headers), call)
                return
        self.go_on()

    def _client(self, headers: MultiMapping[str]) -> str:
        return self.who or self._prepared.clients.of(self.address, headers)

    def _answer(self, asked: object, answer: Answer, begun_s: float) -> None:
        """Write an answer, or the beginning of a large one, unless more was asked meanwhile."""
        waiting = self._messages if self.pending else ()
        if self.peer is None or not waiting or waiting[0] is not asked:
            return
        head, body, counter = answer
        date, rest = self._prepared.date(), None
        if isinstance(body, HashedRange):
            first = body.piece_in_spool(0, min(PIECE, body.length))
            if first is None:
                self.go_on()
                return
            if body.length > PIECE:
                rest = Rest(body, PIECE, begun_s, counter)
            body = first
        self.peer.writelines((head, date, body))
        if rest is not None:
            self._rest = rest
            self.go_on()
            return
        self._messages.popleft()
        if self._parser is not None:
            self._parser.message_consumed()
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        counter(time.perf_counter() - begun_s)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        rest, self._rest = self._rest, None
        if rest is None:
            assert self._application is not None
            return await self._application(request)
        with suppress(ConnectionError):  # the client has gone
            if not await rest.send(request.writer):
                self.abort()  # so that no client takes a part for the whole
        return Sent()
