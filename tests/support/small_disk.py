"""A real disk of a few hundred kilobytes, for what happens when it is full."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.programs import missing


@contextlib.contextmanager
def small_disk(size: str) -> Iterator[Path]:
    """Have a tmpfs of a size; another's mount namespace holds it."""
    script = f"mount -t tmpfs -o size={size},mode=777 none /mnt && echo && cat"
    holder = subprocess.Popen(
        ["unshare", "-Urm", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin is not None and holder.stdout is not None
    try:
        if holder.stdout.readline() != b"\n":
            missing("a mount namespace is needed (unshare -Urm): allow user namespaces")
        yield Path("/proc", str(holder.pid), "root", "mnt")
    finally:
        holder.stdin.close()
        holder.stdout.close()
        holder.wait()


def fill_up(disk: Path) -> None:
    """Leave no byte free."""
    with contextlib.suppress(OSError), (disk / "ballast").open("wb", buffering=0) as ballast:
        while True:
            ballast.write(bytes(512))
