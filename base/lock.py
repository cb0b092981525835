"""Locks on files (flock(2)), which end with the process that has them."""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def try_lock(path: Path) -> BinaryIO | None:
    """Return the open file with its lock; None while another has it.

    Raises OSError where the file cannot be made.
    """
    lock = path.open("wb")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock


def is_locked(path: Path) -> bool:
    """Tell whether anybody has the lock of a file, which need only be readable."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is none, or it is another user's affair
        pass
    return False


async def wait_for_lock(
    path: Path, look_s: float, on_wait: Callable[[], object] = lambda: None
) -> BinaryIO:
    """Return the lock once nobody else has it and its directory is there, looking every `look_s`
    seconds; `on_wait` is called once where another has it. Raises PermissionError where it is
    another user's file, as of a command that root ran: waiting would not end, and say nothing."""
    waits = False
    while True:
        try:
            if lock := try_lock(path):
                return lock
            if not waits:
                waits = True
                on_wait()
        except PermissionError:
            raise
        except OSError:  # nobody made the spool yet, or its disk is away
            pass
        await asyncio.sleep(look_s)
