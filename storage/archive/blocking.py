"""What the archives share: threads for calls that block, and reading what is to be stored."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import BinaryIO, ParamSpec, TypeVar

from storage.archive.port import UnreadableSource

P = ParamSpec("P")
T = TypeVar("T")
THREADS = 8
CHUNK = 1 << 18


class Threads:
    """A few threads for calls that block."""

    def __init__(self, count: int = THREADS) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="archive")

    async def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        call = partial(work, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)

    async def close(self) -> None:
        """Release the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class Source:
    """What is to be stored, as a file that raises UnreadableSource where it cannot be read."""

    def __init__(self, file: BinaryIO, name: object):
        self._file, self._name = file, name
        self.seek, self.tell = file.seek, file.tell
        self.length = file.seek(0, io.SEEK_END)  # in bytes
        file.seek(0)

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes."""
        try:
            return self._file.read(size)
        except OSError as error:
            raise _unreadable(self._name, error) from None


@contextlib.contextmanager
def opened(source: bytes | Path) -> Iterator[Source]:
    """Open what is to be stored, to be read from its beginning."""
    file: BinaryIO
    try:
        file = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
    except OSError as error:
        raise _unreadable(source, error) from None
    with file:
        yield Source(file, source)


def _unreadable(name: object, error: OSError) -> UnreadableSource:
    return UnreadableSource(f"{name} cannot be read: {error.strerror}")
