"""Sending what has a length and an entity tag: whole or a range, as slowly as the client likes.

RFC 9110: conditions (13), ranges (14). What is sent is private and never compressed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from email.utils import formatdate
from typing import Protocol

import structlog
from aiohttp import web

from copies.sources import Unreadable
from streaming.ranges import wanted_part

log = structlog.get_logger()


class Sendable(Protocol):
    """Bytes that can be read from anywhere; `etag` is strong and has its quotes."""

    @property
    def content_type(self) -> str:
        """Media type."""

    @property
    def resumable(self) -> bool:
        """Whether a range of it can be had."""

    @property
    def length(self) -> int:
        """Bytes in all."""

    @property
    def etag(self) -> str:
        """Entity tag."""

    @property
    def last_modified_ms(self) -> int:
        """UTC of the last change."""

    def read(
        self, start: int = 0, stop: int | None = None
    ) -> AsyncGenerator[bytes | memoryview, None]:
        """Yield the bytes [start, stop)."""


async def send(request: web.Request, file: Sendable, filename: str) -> web.StreamResponse:
    """Answer GET or HEAD with a file to be kept under an ASCII name.

    A client that goes stops the reading; bytes that cannot be had end the connection, so that no
    client takes a part for the whole.
    """
    headers = {
        "ETag": file.etag,
        "Last-Modified": formatdate(file.last_modified_ms // 1000, usegmt=True),
        "Cache-Control": "private, no-transform",
        "Content-Disposition": f'attachment; filename="{filename}"',
        "Content-Type": file.content_type,
    }
    status, wanted = wanted_part(request, headers, file.length, file.resumable)
    if status == 304:
        return web.Response(status=304, headers=headers)
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = len(wanted)
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    try:
        async with aclosing(file.read(wanted.start, wanted.stop)) as pieces:
            async for piece in pieces:
                await response.write(piece)
        await response.write_eof()
    except ConnectionError:
        pass  # the client has gone, and may resume
    except Unreadable as error:
        log.error("A copy could not be sent to its end", file=filename, why=str(error))
        if request.transport is not None:
            request.transport.abort()
    return response
