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

from copies.files.virtual import Bytes, VirtualFile

AT_ONCE = 4 << 20  # bytes that go to a thread at once


@dataclass(frozen=True, slots=True)
class CopyHashes:
    """What one pass over a copy found: `head` is to be given to `VirtualFile` from now on."""

    sha256: str
    crc32: int
    head: bytes


async def hash_copy(file: VirtualFile, progress: Callable[[int], None] | None = None) -> CopyHashes:
    """Read a copy once; `progress` is told how many bytes were read so far.

    Raises Unreadable where a part of it cannot be read now.
    """
    sha, crc, done = hashlib.sha256(), 0, 0

    def hash_(pieces: list[Bytes]) -> None:
        for piece in pieces:
            sha.update(piece)

    def check(pieces: list[Bytes]) -> int:
        value = crc
        for piece in pieces:
            value = zlib.crc32(piece, value)
        return value

    async def take(pieces: list[Bytes], held: int) -> None:
        nonlocal crc, done
        _, crc = await asyncio.gather(
            asyncio.to_thread(hash_, pieces), asyncio.to_thread(check, pieces)
        )
        done += held
        if progress:
            progress(done)

    head = await file.head()
    taking: asyncio.Future[None] | None = None
    waiting, held = list[Bytes](), 0
    async with aclosing(file.read()) as found:
        async for piece in found:
            waiting.append(piece)
            held += len(piece)
            if held >= AT_ONCE:
                if taking:
                    await taking
                taking = asyncio.ensure_future(take(waiting, held))
                waiting, held = [], 0
    if taking:
        await taking
    await take(waiting, held)
    return CopyHashes(sha.hexdigest(), crc, head)
