"""What a web process knows: the configuration, a reader per camera, catalogue and archive."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from aiohttp import web

from base.clock import Clock, now_ms
from base.i18n.gettext import gettext
from base.outage import Outage
from config.model import LOW, Camera, Config, Station
from config.schedule import windows
from storage.catalogue.cameras import Name
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.database import CatalogueError
from storage.catalogue.faults import DatabaseFault, fault_of
from storage.cluster.machines import Machines
from storage.cluster.other_spools import OtherSpools
from storage.cluster.peers import Peers
from storage.recording_source import Sources, Store
from storage.records import Gap, GapCause
from storage.spool.motion import Motion
from storage.spool.node_map import MachineEntry
from storage.spool.open_files import OpenFiles
from storage.spool.rates import Rates, measure
from storage.spool.reader import Key, SpoolReader
from storage.spool.status import SpoolStatus
from streaming.http.negotiation import language_of
from streaming.stations.directory import Directory
from streaming.stations.messages import why_no_picture

ASK_S = 5.0  # a catalogue that does not answer in this time is away
MOST_SEGMENTS = 1_000_000  # index lines in memory, about 0.4 kB each, before the oldest are dropped
MOST_RATES = 20_000  # streams whose rates are known, about 0.5 kB each
TRIM_S = 2.0
FRESH_S, STALE_S = 1.5, 4.0  # status files are looked at this often; older is waited for

T = TypeVar("T")


@dataclass(slots=True)
class AppContext:
    """Readers, made when they are first asked for; the catalogue may come and go."""

    config: Config
    catalogue: Catalogue | None
    archives: Sequence[Store]
    clock: Clock = now_ms
    elapsed_s: Callable[[], float] = time.monotonic
    files: OpenFiles = field(default_factory=OpenFiles)
    motion: Motion = field(default_factory=Motion)
    stations: dict[str, Station] = field(init=False)
    directory: Directory = field(init=False)
    machines: Machines | None = field(init=False, default=None)  # None where this is the only one
    peers: Peers = field(init=False)
    status: SpoolStatus = field(init=False)
    _outage: Outage = field(init=False)
    # the kind of what the catalogue said last; None while it answers
    catalogue_fault: DatabaseFault | None = field(init=False, default=None)
    _refreshed_s: float = float("-inf")
    _refreshing: asyncio.Task[None] | None = None
    _readers: dict[tuple[str, str], SpoolReader] = field(default_factory=dict)
    _trimmed_s: float = 0.0
    # what each stream takes, and by which recording that is known
    _rates: OrderedDict[tuple[str, str], tuple[Key, Rates | None]] = field(
        default_factory=OrderedDict
    )

    def __post_init__(self) -> None:
        self.stations = {s.id: s for s in self.config.stations}
        self.directory = Directory(self.config)
        node = self.config.node
        password = node.password if node else None
        self.peers = Peers(clock=self.elapsed_s, password=password, utc=self.clock)
        several = node is not None
        self.status = SpoolStatus(self.config.spool, self.clock, with_peers=several)
        if several:
            self.machines = Machines(self.config.spool)
            self.archives = [*self.archives, OtherSpools(self.machines, self.peers)]
        self._outage = Outage(
            "The catalogue does not answer; live and rewind go on", "The catalogue answers again"
        )

    async def fresh(self) -> None:
        """Have what the status files say, a second or so old; thousands of cameras take some
        milliseconds, in which others are answered with what was known before."""
        if not self.is_fresh() and self._refreshing is not None:
            await asyncio.shield(self._refreshing)

    def is_fresh(self) -> bool:
        """Tell whether what the status files say may be told; has them looked at in time."""
        age_s = time.monotonic() - self._refreshed_s
        if age_s >= FRESH_S and (self._refreshing is None or self._refreshing.done()):
            self._refreshing = asyncio.create_task(self._refresh())
        return age_s < STALE_S

    async def _refresh(self) -> None:
        for _ in self.refresh():
            await asyncio.sleep(0)

    def refresh(self) -> Iterator[None]:
        """Look at the status files and count what is live, in small steps."""
        yield from self.status.refresh()
        yield from self.directory.update(self.status.states)
        self._refreshed_s = time.monotonic()

    def station(self, request: web.Request) -> Station:
        """Return the station that a request names; raises 404 for one that is not configured."""
        station = self.stations.get(request.match_info["station"])
        if station is None:
            raise web.HTTPNotFound(text=gettext("There is no such station.", language_of(request)))
        return station

    def camera(self, request: web.Request) -> tuple[Name, SpoolReader]:
        """Return the stream that a request names, a camera's first or its second; raises 404 for
        one that is not configured."""
        station, camera = self.station_and_camera(request, with_low=True)
        return self.name(station, camera), self.reader(station, camera)

    def station_and_camera(
        self, request: web.Request, with_low: bool = False
    ) -> tuple[Station, Camera]:
        """Return what a request names, a second stream only where that is asked for; raises 404
        for what is not configured."""
        station, asked = self.station(request), request.match_info["camera"]
        for camera in station.cameras:
            if camera.id == asked:
                return station, camera
            if with_low and asked == camera.id + LOW and (low := camera.low) is not None:
                return station, low
        text = gettext(
            "Station %(station)s has no such camera.", language_of(request), station=station.id
        )
        raise web.HTTPNotFound(text=text)

    def is_elsewhere(self, station: Station, camera: Camera) -> bool:
        """Tell whether another machine is to record a camera now."""
        return self.machines is not None and self.machines.is_elsewhere(f"{station.id}/{camera.id}")

    def only_on(self, spool: str | None) -> MachineEntry | None:
        """Return the other machine that has a spool; None for this one, and one unknown."""
        return self.machines.machine(spool) if self.machines is not None else None

    @property
    def sources(self) -> Sources:
        """Where the bytes of recordings are."""
        return Sources(self.config.spool, self.archives, self.catalogue, self.files)

    def name(self, station: Station, camera: Camera) -> Name:
        """Return what the catalogue calls a camera."""
        return self.config.election.id, station.id, camera.id

    def reader(self, station: Station, camera: Camera) -> SpoolReader:
        """Return the reader of a camera, brought up to date."""
        key = (station.id, camera.id)
        reader = self._readers.pop(key, None) or SpoolReader(self.config.spool, *key)
        self._readers[key] = reader  # the last one asked for is the last one in the dict
        reader.refresh()
        if time.monotonic() - self._trimmed_s > TRIM_S:
            self._trim()
        return reader

    async def learn_rates(self, station: Station, cameras: Sequence[Camera]) -> None:
        """Have known what the streams of cameras take. A newest whole recording that was not
        measured yet is in a thread: with a station's cameras that takes long."""
        for stream in (stream for camera in cameras for stream in camera.streams):
            newest = self.reader(station, stream).newest_whole()
            known = self._rates.get((station.id, stream.id))
            if newest is None or (known is not None and known[0] == newest[0].key):
                continue
            try:
                rates = await asyncio.to_thread(measure, *newest)
            except (OSError, ValueError):  # it has just left the spool, or is not whole
                rates = known[1] if known is not None else None
            self._rates[station.id, stream.id] = newest[0].key, rates
            self._rates.move_to_end((station.id, stream.id))
            while len(self._rates) > MOST_RATES:
                self._rates.popitem(last=False)

    def rates(self, station: Station, stream: Camera) -> Rates | None:
        """Return what a stream takes, as it was learned; None where nothing was recorded that
        tells it."""
        known = self._rates.get((station.id, stream.id))
        return known[1] if known is not None else None

    def _trim(self) -> None:
        self._trimmed_s = time.monotonic()
        loaded = {key: reader.loaded for key, reader in self._readers.items()}
        total = sum(loaded.values())
        for key, count in loaded.items():
            if total <= MOST_SEGMENTS:
                break
            self._readers[key].trim()
            total -= count

    def why_no_picture(self, station: Station, camera: Camera, lang: str) -> str:
        """Return a sentence that says why a camera has no picture now; empty when it has one."""
        return why_no_picture(
            self.directory.state(station, camera),
            windows(self.config.election, station, camera),
            lambda: self._open_gap(station, camera),
            self.clock(),
            station.time_zone,
            lang,
        )

    def _open_gap(self, station: Station, camera: Camera) -> Gap | None:
        name = f"{station.id}/{camera.id}"
        if not self.is_elsewhere(station, camera):
            return self.reader(station, camera).open_gap()
        since_ms, cause = self.status.missing_elsewhere.get(name, (0, ""))
        return Gap(0, since_ms, None, GapCause(cause)) if cause in set(GapCause) else None

    @property
    def catalogue_outage(self) -> str | None:
        """Why the catalogue cannot be asked; None where it can."""
        return "it is being opened" if self.catalogue is None else self._outage.why

    async def ask(
        self, question: Callable[[Catalogue], Awaitable[T]], within_s: float | None = ASK_S
    ) -> T:
        """Return what the catalogue answers; raises CatalogueError where it is away, or does not
        answer in time. What `question` raises besides is passed on."""
        if self.catalogue is None:
            fault = self.catalogue_fault or DatabaseFault.OTHER
            raise CatalogueError(self.catalogue_outage or "", fault)
        try:
            async with asyncio.timeout(within_s) as limit:
                answer = await question(self.catalogue)
        except (CatalogueError, TimeoutError) as error:
            if isinstance(error, TimeoutError) and not limit.expired():
                raise
            why = str(error) or f"no answer within {within_s} s"
            self._outage.begin(why)
            self.catalogue_fault = fault_of(error)
            raise CatalogueError(why, self.catalogue_fault) from None
        self._outage.end()
        self.catalogue_fault = None
        return answer


CONTEXT = web.AppKey("context", AppContext)


def current_ms(request: web.Request) -> int:
    """Return the time by the application's clock, in UTC milliseconds."""
    return request.app[CONTEXT].clock()
