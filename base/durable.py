"""Writing files so that a reader, a crash and a loss of power find them whole."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path


def write_all(fd: int, data: bytes) -> None:
    """Write all of it; raises OSError when the disk refuses, perhaps after a part."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def replace_file(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Replace a file as a whole: readers see the old bytes or the new, never a part.

    With `durable` it also survives a loss of power.
    """
    temporary = path.with_name(path.name + ".new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        write_all(fd, data)
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)
    temporary.replace(path)
    if durable:
        fsync_directory(path.parent)


def make_directory(path: Path, *, parents: bool = False) -> None:
    """Have a directory whose name survives a loss of power; with `parents`, as theirs do."""
    new = [directory for directory in (path, *path.parents) if not directory.exists()]
    path.mkdir(parents=parents, exist_ok=True)
    for made in new:
        fsync_directory(made.parent)


def fsync_directory(path: Path) -> None:
    """Have the names in a directory survive a loss of power."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def nearest(path: Path) -> Path:
    """Return the nearest of a path and its parents that is there, be it a link that leads nowhere;
    what may not be looked at, or has a name that no disk takes, is not."""
    return next((each for each in (path, *path.parents) if os.path.lexists(each)), Path("/"))


@cache
def boot_id() -> str:
    """Return what the kernel drew at random when this machine started; "" where it does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
