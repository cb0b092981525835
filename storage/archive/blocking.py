"""What the archives share: threads for calls that block, and opening what is to be stored."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import BinaryIO, ParamSpec, TypeVar

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


@contextlib.contextmanager
def opened(source: bytes | Path) -> Iterator[BinaryIO]:
    """Open what is to be stored, to be read from its beginning."""
    with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
        yield file
