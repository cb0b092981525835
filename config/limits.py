"""What the spool's disk is watched for: the thresholds, the reserve, and where it is mounted."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import NamedTuple

from config.problems import Wrong

_UNITS = {"M": 10**6, "G": 10**9, "T": 10**12}


class Reserve(NamedTuple):
    """Free space that recording leaves alone: the smaller of the two that are given."""

    bytes: int | None = 10**9
    percent: int | None = 1

    def of(self, total_bytes: int) -> int:
        """Return it in bytes, for a disk of that size."""
        share = None if self.percent is None else total_bytes * self.percent // 100
        return min(n for n in (self.bytes, share, total_bytes) if n is not None)


class SpoolLimits(NamedTuple):
    """`warn_s`: hours left at which a warning is due, in seconds, largest first.

    `mount`: where the spool's disk is mounted; nothing is written while none is.
    """

    warn_s: tuple[int, ...] = (24 * 3600, 6 * 3600, 2 * 3600)
    reserve: Reserve = Reserve()
    mount: Path | None = None


def size(value: object) -> int:
    """Return an amount of bytes as it is written: 500M, 2G or 1T; raises Wrong."""
    found = re.fullmatch(r"([0-9]{1,6})\s*([MGT])B?", str(value).strip())
    if not found:
        raise Wrong("not an amount of bytes", "write it as 500M, 2G or 1T")
    return int(found[1]) * _UNITS[found[2]]


def reserve(value: object) -> Reserve:
    """Return the reserve as it is written: 500M, 2G, 1T or 2%; raises Wrong."""
    text = str(value).strip()
    if found := re.fullmatch(r"([0-9]{1,2})\s*%", text):
        if int(found[1]) <= 50:
            return Reserve(None, int(found[1]))
    elif "%" not in text:
        with contextlib.suppress(Wrong):
            return Reserve(size(text), None)
    raise Wrong("not an amount of disk", "write 500M, 2G, 1T, or 0% to 50% of the disk")
