"""Holds of operators in the archives, so that none is lost with a database.

A hold is an object of each archive, and its end another beside it. What a catalogue lacks, and has
not ended there, is entered again. Nothing that an archive says ends a hold: whoever can write there
could have all of them end. Those of orders are not there; they end with orders, which only the
database knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Annotated

import orjson
import structlog
from pydantic import Field

from base.outage import Outage
from storage.archival.replicators import Replicators
from storage.archive.port import Archive, ArchiveError
from storage.catalogue.catalogue import Catalogue
from storage.records import (
    LATEST_MS,
    FormatError,
    Record,
    TimeMs,
    is_id,
    printable,
    sha256_of,
)

HOLDS = "_kuager/holds"  # of each election below it
HOLD_FORMAT, END_FORMAT = "hold/1", "hold-end/1"
TOLD, ENDED = ".json", ".ended.json"
MOST_BYTES = 16 << 10  # of an object
# a moment as operators may write it: in UTC, from the year 1 to 9999
Moment = Annotated[int, Field(strict=True, gt=-62_135_596_800_001, lt=LATEST_MS)]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class HoldRecord(Record):
    """What an archive is told of a hold (docs/formats.md); None stands for all there is."""

    kuager: str
    election: str
    reason: str
    created_ms: TimeMs
    station: str | None
    camera: str | None
    from_ms: Moment | None
    to_ms: Moment | None
    until_ms: Moment | None

    @property
    def key(self) -> str:
        """What its objects begin with: the same for the same hold in whichever database."""
        kept = orjson.dumps((self.station, self.camera, self.from_ms, self.to_ms, self.until_ms))
        return f"{HOLDS}/{self.election}/{self.created_ms}-{sha256_of(kept)[:16]}"


@dataclass(frozen=True, slots=True)
class HoldEnd(Record):
    """That a hold was released; `reason` says by whom."""

    kuager: str
    released_ms: TimeMs
    reason: str


@dataclass(frozen=True, slots=True)
class Compared:
    """How catalogue and archive differ: objects that the archive lacks, by their keys, holds that
    the catalogue lacks, and objects of which nobody knows what they keep, with why."""

    untold: Mapping[str, bytes]
    unknown: tuple[HoldRecord, ...]
    unreadable: Mapping[str, str]


async def compare(catalogue: Catalogue, archive: Archive, election: str) -> Compared:
    """Compare the holds of an election; raises ArchiveError and CatalogueError."""
    there = {e.key: e async for e in archive.entries(f"{HOLDS}/{election}/")}
    known, wanted = set[str](), dict[str, bytes]()
    for row in await catalogue.holds.of_operators(election):
        hold = HoldRecord.of(asdict(row) | {"kuager": HOLD_FORMAT})
        known.add(hold.key)
        wanted[hold.key + TOLD] = hold.to_json()
        if row.released_ms is not None:
            end = HoldEnd(END_FORMAT, row.released_ms, row.reason)
            wanted[hold.key + ENDED] = end.to_json()
    unknown, unreadable = list[HoldRecord](), dict[str, str]()
    for key, entry in sorted(there.items()):
        name = key.removesuffix(TOLD)
        if not key.endswith(ENDED) and name not in known and name + ENDED not in there:
            try:
                if entry.size > MOST_BYTES:
                    raise FormatError("longer than a hold")
                unknown.append(_read(await archive.get(key, bucket=entry.bucket), key))
            except FormatError as error:
                unreadable[key] = str(error)
    untold = {key: data for key, data in wanted.items() if key not in there}
    return Compared(untold, tuple(unknown), unreadable)


async def settle(catalogue: Catalogue, archive: Archive, found: Compared) -> None:
    """Tell the archive, and enter in the catalogue, what each lacks; may be done twice. Raises
    ArchiveError and CatalogueError."""
    for hold in found.unknown:
        if await catalogue.holds.enter(hold.to_dict()):
            log.warning(
                "A hold that the catalogue lacked is entered from an archive",
                archive=archive.name,
                hold=hold.key,
            )
    for key, data in found.untold.items():
        await archive.put(key, data, sha256_of(data))


def _read(data: bytes, key: str) -> HoldRecord:
    """Return a hold of an archive; raises FormatError."""
    hold = HoldRecord.parse(data)
    if hold.kuager != HOLD_FORMAT or hold.key + TOLD != key:
        raise FormatError("another hold than its name says, or of a newer Kuager")
    if not all(name is None or is_id(name) for name in (hold.station, hold.camera)):
        raise FormatError("of what cannot be a station or a camera")
    return replace(hold, reason=printable(hold.reason))


class ArchivedHolds:
    """Keeps the holds of a catalogue and of its archives the same."""

    def __init__(self, election: str, catalogue: Catalogue, replicators: Replicators):
        self._election, self._catalogue, self._replicators = election, catalogue, replicators
        self._told: dict[str, object] = {}  # by archive: the holds at which both were the same
        self._outage = Outage(
            "An archive cannot be told of holds: with the database they would be lost",
            "Archives know all holds",
        )

    async def look(self) -> None:
        """Settle what differs, where anything may since the last look; raises CatalogueError."""
        away = ""
        for replicator in self._replicators.all:
            rows = await self._catalogue.holds.of_operators(self._election)
            now = [(row.hold_no, row.created_ms, row.released_ms) for row in rows]
            in_use = rows or replicator.archive.archive.expected_id is not None
            if in_use and self._told.get(replicator.name) != now:
                try:
                    await replicator.archive.identify()
                    await self.settle(replicator.archive.archive)
                    self._told[replicator.name] = now
                except ArchiveError as error:
                    away = f"{replicator.name}: {error}"
        if away:
            self._outage.begin(away)
        else:
            self._outage.end()

    async def settle(self, archive: Archive) -> None:
        """Settle what differs in one archive; raises CatalogueError, and ArchiveError also where
        it is not known what a hold keeps, after all others were settled."""
        found = await compare(self._catalogue, archive, self._election)
        await settle(self._catalogue, archive, found)
        for key, why in found.unreadable.items():
            raise ArchiveError(f"{key} cannot be read: {why}")
