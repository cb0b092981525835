"""What a process says of itself while it waits for the database at its start."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from base.clock import now_ms
from base.durable import replace_file
from storage.spool.status import SpoolStatus
from storage.spool.status_records import UPLOADER, OrdersStatus, UploaderStatus

SAY_S = 2.0


@contextlib.asynccontextmanager
async def saying_that_it_waits(spool: Path, name: str) -> AsyncIterator[Callable[[str, str], None]]:
    """Replace the uploader's status file, or that of orders, meanwhile: what the process before
    said last, with the time of now. One that is old would say that the process is gone.

    Gives what takes why the database cannot be opened, and of which kind that is.
    """
    status = SpoolStatus(spool)
    list(status.refresh())
    said: UploaderStatus | OrdersStatus
    if name == UPLOADER:
        said = status.last(UploaderStatus) or UploaderStatus(written_ms=0)
    else:
        said = status.last(OrdersStatus) or OrdersStatus(written_ms=0)
    said.pid = os.getpid()

    def tell(why: str, fault: str) -> None:
        if isinstance(said, UploaderStatus):
            said.catalogue_ok, said.catalogue_error, said.catalogue_fault = False, why, fault

    async def say() -> None:
        while True:
            await asyncio.sleep(SAY_S)
            said.written_ms = now_ms()
            with contextlib.suppress(OSError):  # which recorders tell
                replace_file(spool / "_status" / name, said.to_json())

    saying = asyncio.create_task(say())
    try:
        yield tell
    finally:
        saying.cancel()
        await asyncio.wait({saying})
