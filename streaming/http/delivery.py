"""Sending what has a length and an entity tag: whole or a range, as slowly as the client likes.

RFC 9110: conditions (13), ranges (14). What is sent is private and never compressed.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from email.utils import formatdate
from typing import Protocol

import structlog
from aiohttp import web

from storage.catalogue.database import CatalogueError
from storage.recording_source import Unreadable
from streaming.http.ranges import wanted_part

LOOK_S = 10.0  # between two looks whether what is sent may still be had

log = structlog.get_logger()


class Sendable(Protocol):
    """Bytes that can be read from anywhere; `etag` is strong and has its quotes."""

    @property
    def content_type(self) -> str:
        """Media type."""

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


async def send(
    request: web.Request,
    file: Sendable,
    filename: str,
    lasts: Callable[[], Awaitable[bool]] | None = None,
    look_s: float = LOOK_S,
) -> web.StreamResponse:
    """Answer GET or HEAD with a file to be kept under an ASCII name.

    A client that goes stops the reading; bytes that cannot be had end the connection, so that no
    client takes a part for the whole. So does what may be had no longer: `lasts` is asked every
    `look_s` seconds; while it raises CatalogueError the sending goes on.
    """
    headers = {
        "ETag": file.etag,
        "Last-Modified": formatdate(file.last_modified_ms // 1000, usegmt=True),
        "Cache-Control": "private, no-transform",
        "Content-Disposition": f'attachment; filename="{filename}"',
        "Content-Type": file.content_type,
    }
    status, wanted = wanted_part(request, headers, file.length)
    if status == 304:
        return web.Response(status=304, headers=headers)
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = len(wanted)
    await response.prepare(request)
    if request.method == "HEAD":
        return response
    try:
        look_at = time.monotonic() + look_s
        async with aclosing(file.read(wanted.start, wanted.stop)) as pieces:
            async for piece in pieces:
                if lasts and time.monotonic() >= look_at:
                    look_at = time.monotonic() + look_s
                    await _refuse_ended(lasts)
                await response.write(piece)
        await response.write_eof()
    except ConnectionError:
        pass  # the client has gone, and may resume
    except (Unreadable, _Ended) as error:
        tell = log.info if isinstance(error, _Ended) else log.error
        tell("A copy could not be sent to its end", file=filename, why=str(error))
        if request.transport is not None:
            request.transport.abort()
    return response


class _Ended(Exception):
    """What is being sent may be had no longer."""


async def _refuse_ended(lasts: Callable[[], Awaitable[bool]]) -> None:
    with contextlib.suppress(CatalogueError):
        if not await lasts():
            raise _Ended("its order has ended meanwhile")
