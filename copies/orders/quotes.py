"""A quote: what exists of what was asked for, what is missing and why, and what it costs.

It is frozen: what is ordered is exactly what was quoted, at that price.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from base.clock import now_ms
from base.i18n.format import format_hours
from base.i18n.gettext import N_
from base.intervals import clip, length
from config.copies import Copies
from config.model import Config, Station
from copies.footage.find import CameraFootage, find
from copies.footage.plan import CopyPlan
from copies.orders.events import Refused
from copies.orders.prices import price
from copies.states import State
from storage.catalogue.catalogue import Catalogue
from storage.recording_source import Store

Json = dict[str, Any]
SHORTEST_MS = 5_000  # whole segments, of 2 s or so, are given for the stretch that is billed


@dataclass(frozen=True, slots=True)
class QuoteRequest:
    """What somebody wants: cameras of a station and a stretch of UTC."""

    station: Station
    cameras: tuple[str, ...]
    from_ms: int
    to_ms: int

    @classmethod
    def of(
        cls,
        config: Config,
        settings: Copies,
        station: str,
        cameras: Sequence[str],
        stretch: tuple[int, int],
        now_ms: int,
    ) -> Self:
        """Return what can be quoted; raises Refused with what is wrong with it."""
        from_ms, to_ms = stretch
        found = next((s for s in config.stations if s.id == station), None)
        if found is None:
            raise Refused(N_("there is no such station"), "station")
        known = [c.id for c in found.cameras]
        if any(camera not in known for camera in cameras):
            raise Refused(N_("the station has no such camera"), "cameras")
        if not cameras:
            raise Refused(N_("choose at least one camera"), "cameras")
        if to_ms <= from_ms:
            raise Refused(N_("the end must be later than the beginning"), "to")
        if from_ms < 0:
            raise Refused(N_("nothing is recorded of that time"), "from")
        if to_ms - from_ms > settings.longest * 1000:
            sentence = N_("the stretch is longer than %(hours)s h: ask in parts")
            raise Refused(sentence, "to", hours=format_hours(settings.longest))
        if from_ms >= now_ms:
            raise Refused(N_("nothing is recorded yet of that time"), "from")
        if to_ms - from_ms < SHORTEST_MS:
            seconds = SHORTEST_MS // 1000
            raise Refused(N_("the stretch is shorter than %(seconds)s s"), "to", seconds=seconds)
        # in the station's order, each once
        return cls(found, tuple(c for c in known if c in cameras), from_ms, to_ms)


async def make_quote(
    config: Config,
    settings: Copies,
    catalogue: Catalogue,
    archives: Sequence[Store],
    request: QuoteRequest,
    language: str,
    free_ms: int | None = None,
) -> tuple[Json, list[Json]]:
    """Return the row of a quote and the plans of its files, as `Orders.create` takes them.

    The end is no later than what is settled of all cameras: what is being recorded now is not
    sold yet. `free_ms` is what is left of the free allowance of who asks. Raises Refused,
    CatalogueError, Unreadable.
    """
    station, begun_ms = request.station, now_ms()
    found, to_ms = await _footage(config, catalogue, archives, request)
    cameras, plans = list[Json](), list[Json]()
    for camera, footage in zip(request.cameras, found, strict=True):
        title = next(c.title for c in station.cameras if c.id == camera)
        described = _describe(footage, request.from_ms, to_ms, len(plans) + 1)
        cameras.append({"id": camera, "title": title.model_dump(), **described})
        plans += [_row(f) for f in footage.files]
    bill = price(settings, [(c["id"], c["exists_ms"]) for c in cameras], free_ms)
    row = {
        "election": config.election.id,
        "station": station.id,
        "from_ms": request.from_ms,
        "to_ms": to_ms,
        "state": State.QUOTED,
        "language": language,
        "quote": {
            "election": config.election.name.model_dump(),
            "station": {
                "number": station.number,
                "name": station.name.model_dump(),
                "address": station.address.model_dump(),
                "time_zone": station.time_zone,
            },
            "asked_to_ms": request.to_ms,
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


async def _footage(
    config: Config, catalogue: Catalogue, archives: Sequence[Store], request: QuoteRequest
) -> tuple[list[CameraFootage], int]:
    """Return what exists of each camera, and the end up to which all of it is settled."""
    station, to_ms = request.station, request.to_ms
    while True:
        found = [
            await find(
                *(catalogue, archives, config.spool),
                *((config.election.id, station.id, camera), request.from_ms, to_ms),
                zone=station.time_zone,
            )
            for camera in request.cameras
        ]
        settled_ms = min(f.settled_until_ms for f in found)
        if settled_ms >= to_ms:
            return found, to_ms
        to_ms = settled_ms
        if to_ms - request.from_ms < SHORTEST_MS:
            sentence = N_("this is being recorded now: it can be ordered in a minute")
            raise Refused(sentence, "to")


def _describe(footage: CameraFootage, from_ms: int, to_ms: int, first_no: int) -> Json:
    """Return what a quote tells of the footage of a camera; its files are numbered from
    `first_no` on."""
    return {
        "exists_ms": length(clip(((f.start_ms, f.end_ms) for f in footage.files), from_ms, to_ms)),
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
            for n, f in enumerate(footage.files, first_no)
        ],
        "gaps": [
            {"start_ms": g.start_ms, "end_ms": g.end_ms, "cause": g.cause} for g in footage.gaps
        ],
        "removed": [asdict(missing) for missing in footage.removed],
        "unscheduled": footage.unscheduled,
    }


def _row(plan: CopyPlan) -> Json:
    """Return the row of a file, as `Orders.create` takes it."""
    recordings = [
        {"record_seq": p.record_seq, "start_ms": p.start_ms, "sha256": p.sha256} for p in plan.parts
    ]
    about = {"camera": plan.camera, "recordings": recordings}
    return {"plan": plan.to_dict(), "length": plan.length} | about
