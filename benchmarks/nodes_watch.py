"""Who watches an installation by script, and what must be true of it afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import aiohttp
import m3u8

from base.intervals import length, subtract
from benchmarks.installation import Installation
from config.load import load
from storage.archive.factory import open_archive
from storage.catalogue.catalogue import Catalogue
from storage.records import parse_archive_document, recording_name
from storage.shown import Shown
from storage.spool.numbers import lease_of
from tests.support.s3 import SECRET

Stretch = tuple[int, int]
FRAME_MS = 100  # of the cameras of an installation


class Watchers:
    """Plays every camera through the edge: each segment once, as a player would."""

    def __init__(self, session: aiohttp.ClientSession, cameras: int):
        self._session, self._cameras = session, cameras
        self.seen: dict[tuple[str, int], str] = {}  # station and segment_no -> SHA-256
        self.wrong: list[str] = []
        self.at: dict[str, list[float]] = {f"s{n}": [] for n in range(cameras)}

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Watch meanwhile."""
        tasks = [asyncio.create_task(self._watch(station)) for station in self.at]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _watch(self, station: str) -> None:
        last = 0
        while True:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                base = f"/live/{station}/c"
                async with self._session.get(f"{base}/index.m3u8") as answer:
                    text = await answer.text() if answer.status == 200 else ""
                for segment in m3u8.loads(text).segments if text else ():
                    number = int(segment.uri.split(".")[0])
                    if number <= last:
                        continue
                    async with self._session.get(f"{base}/{segment.uri}") as answer:
                        if answer.status != 200:
                            break
                        data = await answer.read()
                    last = number
                    self.at[station].append(time.time())
                    self.note(station, number, data)
            await asyncio.sleep(1)

    def note(self, station: str, number: int, data: bytes) -> None:
        """Take note of a segment: its bytes never change."""
        digest = hashlib.sha256(data).hexdigest()
        if self.seen.setdefault((station, number), digest) != digest:
            self.wrong.append(f"{station}: segment {number} was other bytes before")

    def pauses(self, since_s: float) -> list[float]:
        """Return the longest time without a new segment of each camera since a moment."""
        found = []
        for times in self.at.values():
            later = [since_s, *(at for at in times if at > since_s), time.time()]
            found.append(max(b - a for a, b in itertools.pairwise(later)))
        return found


class Account:
    """What the catalogue has of all cameras: recordings, second ones, and gaps."""

    def __init__(self) -> None:
        self.recorded: dict[str, list[tuple[int, int, int]]] = {}
        self.missing: dict[str, list[tuple[int, int, str]]] = {}
        self.holes: dict[str, list[Stretch]] = {}

    @classmethod
    async def of(cls, site: Installation, from_ms: int, to_ms: int) -> Account:
        """Read it."""
        account = cls()
        catalogue = await Catalogue.open(site.url)
        try:
            for n in range(len(site.names)):
                name = ("e", f"s{n}", "c")
                rows, gaps = (await catalogue.timelines([name], from_ms, to_ms))[name]
                found = [(lease_of(r.record_seq), r.start_ms, min(r.end_ms, to_ms)) for r in rows]
                shown = Shown(found)
                missing = [
                    (max(g.start_ms, from_ms), min(g.end_ms or to_ms, to_ms), g.cause.value)
                    for g in shown.missing(gaps)
                ]
                told = [*((a, b) for _, a, b in found), *((a, b) for a, b, _ in missing)]
                account.recorded[name[1]] = found
                account.missing[name[1]] = [gap for gap in missing if gap[0] < gap[1]]
                account.holes[name[1]] = [
                    (a, b) for a, b in subtract([(from_ms, to_ms)], told) if b - a > 2
                ]
        finally:
            await catalogue.close()
        return account

    def gaps(self, *, cause: str = "") -> list[int]:
        """Return how long each gap is, in ms; of one cause where that is given."""
        return [
            end - start
            for gaps in self.missing.values()
            for start, end, why in gaps
            if cause in ("", why)
        ]

    def doubly(self) -> int:
        """Return how much was recorded twice, in ms, of all cameras."""
        total = 0
        for found in self.recorded.values():
            total += sum(end - start for _, start, end in found)
            total -= length((start, end) for _, start, end in found)
        return total

    def again(self) -> int:
        """Return how much is recorded twice under one epoch, in ms; less than a frame each time
        is what the ends of runs differ by."""
        total = 0
        for found in self.recorded.values():
            for epoch in {epoch for epoch, _, _ in found}:
                some = sorted((start, end) for of, start, end in found if of == epoch)
                both = (before[1] - after[0] for before, after in itertools.pairwise(some))
                total += sum(ms for ms in both if ms > FRAME_MS)
        return total


async def lost(site: Installation, seen: dict[tuple[str, int], str]) -> list[str]:
    """Return what a player saw and no archive has with its hash, and what archives have twice."""
    config = load(site.machines[0].folder / "kuager.yaml", {"TEST_SECRET": SECRET})
    archive = open_archive(config.archives[0])
    catalogue = await Catalogue.open(site.url)
    known: dict[str, dict[int, str]] = {}
    wrong: list[str] = []
    try:
        for n in range(len(site.names)):
            have = known.setdefault(f"s{n}", {})
            for row in await catalogue.recordings_of(("e", f"s{n}", "c")):
                key = f"e/s{n}/c/{recording_name(row.start_ms, row.record_seq)}.json"
                if row.there:
                    index = parse_archive_document(await archive.get(key))
                    twice = have.keys() & {s.segment_no for s in index.segments}
                    wrong += [f"s{n}: segment {number} is archived twice" for number in twice]
                    have |= {s.segment_no: s.sha256 for s in index.segments}
    finally:
        await catalogue.close()
        await archive.close()
    for (station, number), digest in seen.items():
        if known[station].get(number) != digest:
            wrong.append(f"{station}: segment {number} was seen and is in no archive")
    return wrong


def spread(values: Iterable[float], unit: str = "s") -> str:
    """Return median and worst of some numbers, in words."""
    found = sorted(values)
    if not found:
        return "none"
    return f"median {statistics.median(found):.1f} {unit}, worst {found[-1]:.1f} {unit}"


def folder_of(name: str) -> Path:
    """Return a new folder for what a run leaves."""
    return Path(tempfile.mkdtemp(prefix=f"kuager-{name}-"))
