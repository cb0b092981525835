"""What a web process knows: the configuration, a reader per camera, catalogue and archive."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import structlog
from aiohttp import web

from base.clock import Clock, now_ms
from base.i18n.gettext import gettext
from config.model import Camera, Config, Station
from storage.archive.port import Archive
from storage.catalogue.cameras import Name
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.database import CatalogueError
from storage.spool.reader import SpoolReader
from storage.spool.status import SpoolStatus
from streaming.http.negotiation import language_of
from streaming.stations.directory import Directory

ASK_S = 5.0  # a catalogue that does not answer in this time is away
KEPT_SEGMENTS = 1_000_000  # index lines in memory, about 0.4 kB each, before the oldest are dropped
TRIM_S = 2.0
FRESH_S, STALE_S = 1.5, 4.0  # status files are looked at this often; older is waited for

T = TypeVar("T")
log = structlog.get_logger()
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class AppContext:
    """Readers, made when they are first asked for; the catalogue may come and go."""

    config: Config
    catalogue: Catalogue | None
    archives: Sequence[Archive]
    clock: Clock = now_ms
    away: str | None = None  # why the catalogue cannot be asked
    stations: dict[str, Station] = field(init=False)
    places: Directory = field(init=False)
    status: SpoolStatus = field(init=False)
    _looked: float = float("-inf")
    _looking: asyncio.Task[None] | None = None
    _views: dict[tuple[str, str], SpoolReader] = field(default_factory=dict)
    _trimmed: float = 0.0

    def __post_init__(self) -> None:
        self.stations = {s.id: s for s in self.config.stations}
        self.places = Directory(self.config)
        self.status = SpoolStatus(self.config.spool, self.clock)

    async def fresh(self) -> None:
        """Have what the status files say, a second or so old; thousands of cameras take some
        milliseconds, in which others are answered with what was known before."""
        age_s = time.monotonic() - self._looked
        if age_s < FRESH_S:
            return
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        if age_s >= STALE_S:
            await asyncio.shield(self._looking)

    async def _look(self) -> None:
        for _ in self.look():
            await asyncio.sleep(0)

    def look(self) -> Iterator[None]:
        """Look at the status files and count what is live, in small steps."""
        yield from self.status.refresh()
        yield from self.places.count(self.status.states)
        self._looked = time.monotonic()

    def station(self, request: web.Request) -> Station:
        """Return the station that a request names; raises 404 for one that is not configured."""
        station = self.stations.get(request.match_info["station"])
        if station is None:
            raise web.HTTPNotFound(text=gettext("There is no such station.", language_of(request)))
        return station

    def camera(self, request: web.Request) -> tuple[Name, SpoolReader]:
        """Return the camera that a request names; raises 404 for one that is not configured."""
        station, camera = self.station_and_camera(request)
        return self.name(station, camera.id), self.view(station.id, camera.id)

    def station_and_camera(self, request: web.Request) -> tuple[Station, Camera]:
        """Return what a request names; raises 404 for what is not configured."""
        station = self.station(request)
        for camera in station.cameras:
            if camera.id == request.match_info["camera"]:
                return station, camera
        text = gettext(
            "Station %(station)s has no such camera.", language_of(request), station=station.id
        )
        raise web.HTTPNotFound(text=text)

    def name(self, station: Station, camera: str) -> Name:
        """Return what the catalogue calls a camera."""
        return self.config.election.id, station.id, camera

    def view(self, station: str, camera: str) -> SpoolReader:
        """Return the reader of a camera, brought up to date."""
        key = (station, camera)
        view = self._views.pop(key, None) or SpoolReader(self.config.spool, station, camera)
        self._views[key] = view  # the last one asked for is the last one in the dict
        view.refresh()
        if time.monotonic() - self._trimmed > TRIM_S:
            self._trim()
        return view

    def _trim(self) -> None:
        self._trimmed = time.monotonic()
        loaded = {key: view.loaded for key, view in self._views.items()}
        total = sum(loaded.values())
        for key, count in loaded.items():
            if total <= KEPT_SEGMENTS:
                break
            self._views[key].trim()
            total -= count

    def state(self, station: Station, camera: Camera) -> str:
        """Return what a camera's recorder does now; `unknown` where none is alive."""
        return self.status.states.get(f"{station.id}/{camera.id}", "unknown")

    async def ask(self, question: Callable[[Catalogue], Awaitable[T]]) -> T | None:
        """Ask the catalogue, None without one; raises CatalogueError when it does not answer."""
        if self.catalogue is None:
            if self.away:
                raise CatalogueError(self.away)
            return None
        try:
            answer = await asyncio.wait_for(question(self.catalogue), ASK_S)
        except Exception as error:  # a database has many ways to say no
            why = str(error) or type(error).__name__
            if self.away is None:
                log.error("The catalogue does not answer; live and rewind go on", why=why)
            self.away = why
            raise CatalogueError(why) from None
        if self.away is not None:
            log.info("The catalogue answers again")
            self.away = None
        return answer


CONTEXT = web.AppKey("views", AppContext)


def current_ms(request: web.Request) -> int:
    """Return the time by the application's clock, in UTC milliseconds."""
    return request.app[CONTEXT].clock()


def parse_time(request: web.Request, name: str) -> int | None:
    """Return a query parameter as UTC ms: an integer, or RFC 3339 with a zone; raises 400."""
    text = request.query.get(name)
    if text is None:
        return None
    try:
        if text.isdigit() and len(text) <= 15:
            return int(text)
        at = datetime.fromisoformat(text.replace(" ", "+"))  # a plus that was not encoded
        if at.tzinfo is None:
            raise ValueError
        return (at - EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        raise web.HTTPBadRequest(
            text=gettext(
                "'%(name)s' is not a time: write 2026-11-29T09:40:00Z or milliseconds of UTC.",
                language_of(request),
                name=name,
            )
        ) from None
