"""A quote: what exists of what was asked for, what is missing and why, and what it costs.

It is frozen: what is ordered is exactly what was quoted, at that price.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from base.clock import now_ms
from base.i18n.gettext import N_
from config.copies import Copies
from config.model import Config, Station
from copies.footage.find import CameraFootage, find
from copies.orders.events import Refused
from copies.orders.prices import covered_ms, price
from copies.states import State
from storage.archive.port import Archive
from storage.catalogue.catalogue import Catalogue

SHORTEST_MS = 5_000  # whole segments, of 2 s or so, are given for the stretch that is billed


@dataclass(frozen=True, slots=True)
class QuoteRequest:
    """What somebody wants: cameras of a station and a stretch of UTC."""

    station: Station
    cameras: tuple[str, ...]
    from_ms: int
    to_ms: int


def ask(
    config: Config,
    settings: Copies,
    station: str,
    cameras: Sequence[str],
    from_ms: int,
    to_ms: int,
    now_ms: int,
) -> QuoteRequest:
    """Return what can be quoted; raises Refused with what is wrong with it."""
    found = next((s for s in config.stations if s.id == station), None)
    if found is None:
        raise Refused(N_("there is no such station"))
    known = [c.id for c in found.cameras]
    if any(camera not in known for camera in cameras):
        raise Refused(N_("the station has no such camera"))
    if not cameras:
        raise Refused(N_("choose at least one camera"))
    if to_ms <= from_ms:
        raise Refused(N_("'to' is not after 'from'"))
    if from_ms < 0:
        raise Refused(N_("nothing is recorded of that time"))
    if to_ms - from_ms > settings.longest * 1000:
        hours = f"{settings.longest / 3600:g}"
        raise Refused(N_("the stretch is longer than %(hours)s hours: ask in parts"), hours=hours)
    if from_ms >= now_ms:
        raise Refused(N_("nothing is recorded yet of that time"))
    if to_ms - from_ms < SHORTEST_MS:
        seconds = SHORTEST_MS // 1000
        raise Refused(N_("the stretch is shorter than %(seconds)s seconds"), seconds=seconds)
    # in the station's order, each once
    return QuoteRequest(found, tuple(c for c in known if c in cameras), from_ms, to_ms)


async def quote(
    config: Config,
    settings: Copies,
    catalogue: Catalogue,
    archives: Sequence[Archive],
    asked: QuoteRequest,
    language: str,
    free_ms: int | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the row of a quote and the plans of its files, as `Orders.create` takes them.

    The end is no later than what is settled of all cameras: what is being recorded now is not
    sold yet. `free_ms` is what is left of the free allowance of who asks. Raises Refused,
    CatalogueError, Unreadable.
    """
    station, begun_ms, to_ms = asked.station, now_ms(), asked.to_ms

    async def look(camera: str) -> CameraFootage:
        name = (config.election.id, station.id, camera)
        return await find(
            *(catalogue, archives, config.spool, name, asked.from_ms, to_ms),
            zone=station.time_zone,
        )

    while True:
        found = [await look(camera) for camera in asked.cameras]
        settled_ms = min(f.settled_until_ms for f in found)
        if settled_ms >= to_ms:
            break
        to_ms = settled_ms
        if to_ms - asked.from_ms < SHORTEST_MS:
            raise Refused(N_("this is being recorded now: it can be ordered in a minute"))
    titles = {c.id: c.title.model_dump() for c in station.cameras}
    cameras: list[dict[str, Any]] = []
    plans: list[dict[str, Any]] = []
    for camera, footage in zip(asked.cameras, found, strict=True):
        first = len(plans) + 1
        plans += [{"plan": f.to_dict(), "length": f.length} for f in footage.files]
        cameras.append(
            {
                "id": camera,
                "title": titles[camera],
                "exists_ms": covered_ms(
                    ((f.start_ms, f.end_ms) for f in footage.files), asked.from_ms, to_ms
                ),
                "bytes": sum(f.length for f in footage.files),
                "files": [
                    {
                        "no": n,
                        "name": f.file_name,
                        "start_ms": f.start_ms,
                        "end_ms": f.end_ms,
                        "length": f.length,
                        "etag": f.etag,
                    }
                    for n, f in enumerate(footage.files, first)
                ],
                "gaps": [
                    {"start_ms": g.start_ms, "end_ms": g.end_ms, "cause": g.cause}
                    for g in footage.gaps
                ],
                "removed": [asdict(missing) for missing in footage.removed],
                "unscheduled": footage.unscheduled,
            }
        )
    bill = price(settings, [(c["id"], c["exists_ms"]) for c in cameras], free_ms)
    row = {
        "election": config.election.id,
        "station": station.id,
        "from_ms": asked.from_ms,
        "to_ms": to_ms,
        "state": State.QUOTED,
        "language": language,
        "quote": {
            "station": {
                "number": station.number,
                "name": station.name.model_dump(),
                "address": station.address.model_dump(),
                "time_zone": station.time_zone,
            },
            "asked_to_ms": asked.to_ms,
            "cameras": cameras,
            "price": bill.to_dict(),
            "download_for_s": settings.download_for,
        },
        "currency": bill.currency,
        "total": bill.total,
        "created_ms": begun_ms,
        "until_ms": begun_ms + settings.quote_for * 1000,
    }
    return row, plans
