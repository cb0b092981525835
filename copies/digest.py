"""One pass over a copy: its SHA-256 and CRC-32, and its head to be kept for the next time.

Nothing is kept in between: a pass that was killed is begun again.
"""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass

from copies.virtual import Bytes, VirtualFile

AT_ONCE = 4 << 20  # bytes that go to a thread at once


@dataclass(frozen=True, slots=True)
class Digest:
    """What one pass over a copy found: `head` is to be given to `VirtualFile` from now on."""

    sha256: str
    crc32: int
    head: bytes


async def digest(file: VirtualFile, progress: Callable[[int], None] | None = None) -> Digest:
    """Read a copy once; `progress` is told how many bytes were read so far.

    Raises Unreadable where a part of it cannot be read now.
    """
    sha, crc, done = hashlib.sha256(), 0, 0

    def take(pieces: list[Bytes]) -> int:
        value = crc
        for piece in pieces:
            sha.update(piece)
            value = zlib.crc32(piece, value)
        return value

    head = await file.head()
    async with aclosing(file.read()) as found:
        waiting, held = list[Bytes](), 0
        async for piece in found:
            waiting.append(piece)
            held += len(piece)
            if held >= AT_ONCE or done + held == file.length:
                crc = await asyncio.to_thread(take, waiting)
                done += held
                waiting, held = [], 0
                if progress:
                    progress(done)
    return Digest(sha.hexdigest(), crc, head)
