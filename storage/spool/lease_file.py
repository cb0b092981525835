"""Which shards of the cameras this machine records: `_status/leases.json` (docs/formats.md).

The role `node` writes it; recorders follow it, as all that they follow, through the spool. While it
is not replaced what it said last goes on to be true: recording needs no database.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import structlog

from base.clock import Clock, now_ms
from base.durable import replace_file
from config.model import LOW
from storage.records import Flag, FormatError, GapCause, Number, Record

SHARDS = 512
LEASES, LEASES_FORMAT = "leases.json", "leases/1"
TIME = re.compile(rb'"written_ms":\d+')
FRESH_MS = 10_000  # a file older than this was written by a process that is gone
LOOK_S = 0.5

log = structlog.get_logger()


def shard_of(camera: str) -> int:
    """Return the shard of a camera, by "station/camera"; its second stream is in the same."""
    name = camera.removesuffix(LOW)
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:2], "big") % SHARDS


@dataclass(frozen=True, slots=True)
class Lease(Record):
    """A shard that is recorded under an epoch since `since_ms`; `alone`: by nobody else, `given`:
    until another machine does, which begins to.

    Where its node before was dead, `lost_ms` is when that was last alive, or 0 where there was
    none or it had stopped; then `accounted` is until when recordings and gaps account for each
    camera ("station/camera"), as far as that is known.
    """

    shard: Number
    epoch: Number
    since_ms: Number
    alone: Flag = True
    lost_ms: Number | None = None
    accounted: Mapping[str, Number] = field(default_factory=dict)
    given: Flag = False

    @property
    def is_shared(self) -> bool:
        """Whether two machines record the cameras for a moment."""
        return self.given or not self.alone


@dataclass(frozen=True, slots=True)
class CameraLease:
    """What a lease means for one camera; `missing` is since when nobody recorded it, and why,
    where nobody did until then."""

    epoch: int
    since_ms: int
    alone: bool = True
    missing: tuple[int, GapCause] | None = None

    @classmethod
    def of(cls, lease: Lease, camera: str) -> CameraLease:
        """Return what it means for "station/camera"."""
        missing = None
        if lease.lost_ms is not None:
            since_ms = min(lease.accounted.get(camera, lease.lost_ms), lease.since_ms)
            cause = GapCause.NODE_LOST if lease.lost_ms else GapCause.RECORDER_STOPPED
            missing = since_ms, cause
        return cls(lease.epoch, lease.since_ms, lease.alone, missing)


@dataclass(frozen=True, slots=True)
class Leases(Record):
    """The whole file."""

    written_ms: Number
    leases: tuple[Lease, ...] = ()
    kuager: str = LEASES_FORMAT

    @property
    def by_shard(self) -> dict[int, Lease]:
        """The leases by their shards; one of no shard, of a spoilt digit, is none."""
        return {lease.shard: lease for lease in self.leases if lease.shard < SHARDS}


def read_leases(spool: Path) -> Leases | None:
    """Return what the file says; None where there is none, or nothing to be believed."""
    path = spool / "_status" / LEASES
    try:
        return Leases.parse(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, FormatError) as error:
        log.error("The file of leases cannot be read", file=str(path), why=str(error))
        return None


def write_leases(spool: Path, found: Leases, *, durable: bool) -> None:
    """Replace the file; raises OSError. Where it says the same already, and need not be `durable`
    again, only its time is written: a new file would be lost with the power, and the one that was
    flushed with it."""
    path, data = spool / "_status" / LEASES, found.to_json()
    path.parent.mkdir(parents=True, exist_ok=True)
    if durable or not _renewed(path, data):
        replace_file(path, data, durable=durable)


def _renewed(path: Path, data: bytes) -> bool:
    """Tell whether a file differs from `data` by its time alone, which is written then."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        old = os.pread(fd, len(data) + 1, 0)
        was, now = TIME.search(old), TIME.search(data)
        if was is None or now is None or was.span() != now.span():
            return False
        if TIME.sub(b"", old, 1) != TIME.sub(b"", data, 1):
            return False
        os.pwrite(fd, now[0], now.start())
        return True
    finally:
        os.close(fd)


class LeaseWatch:
    """Follows the file."""

    def __init__(self, spool: Path, look_s: float = LOOK_S, clock: Clock = now_ms):
        self._spool, self._look_s, self._clock = spool, look_s, clock
        self._seen: Any = None
        self._written_ms = 0
        self.now: dict[int, Lease] = {}

    @property
    def is_fresh(self) -> bool:
        """Whether its writer has said lately what the file says."""
        return abs(self._clock() - self._written_ms) <= FRESH_MS

    async def first(self, wait_s: float = 15.0) -> dict[int, Lease]:
        """Return the leases that its writer says to be true now. Where it says nothing for so
        long, as where it is gone, return those of before."""
        tries = max(1, round(wait_s / self._look_s))
        for left in range(tries, 0, -1):
            if self._look() is not None and self.is_fresh:
                break
            if left > 1:
                await asyncio.sleep(self._look_s)
        else:
            log.error(
                "Nobody says which cameras this machine is to record now: those that it recorded "
                "last are recorded",
                shards=len(self.now),
            )
        return self.now

    async def newer(self) -> dict[int, Lease]:
        """Wait until the leases are others, and return them."""
        before = self.now
        while True:
            self._look()
            if self.now != before:
                return self.now
            await asyncio.sleep(self._look_s)

    def look(self) -> dict[int, Lease]:
        """Return the leases as they are now."""
        self._look()
        return self.now

    def _look(self) -> Leases | None:
        """Read the file where it was replaced; what cannot be read changes nothing."""
        try:
            stat = (self._spool / "_status" / LEASES).stat()
        except OSError:
            return None
        if (seen := (stat.st_ino, stat.st_mtime_ns)) == self._seen:
            return None
        self._seen = seen
        if (found := read_leases(self._spool)) is not None:
            self._written_ms, self.now = found.written_ms, found.by_shard
        return found


class Holdings:
    """What is this machine's to look after: all of it, where it is not one of several."""

    def __init__(self, spool: Path, is_shared: bool, clock: Clock = now_ms):
        self._watch = LeaseWatch(spool, clock=clock) if is_shared else None

    def has(self, camera: str) -> bool:
        """Tell whether this machine alone records "station/camera", as far as it knows."""
        return self._has(shard_of(camera))

    def has_duty(self) -> bool:
        """Tell whether it is this machine that does what must not be done twice. Where nobody
        renews its leases another may have the duty by now: then it is not."""
        return self._has(0) and (self._watch is None or self._watch.is_fresh)

    def _has(self, shard: int) -> bool:
        if self._watch is None:
            return True
        lease = self._watch.look().get(shard)
        return lease is not None and lease.alone
