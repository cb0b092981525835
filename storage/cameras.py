"""The cameras that the catalogue knows, and the numbers by which its tables name them."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from config.model import Config
from storage.pool import Pool
from storage.schema import cameras

Name = tuple[str, str, str]  # election, station, camera
KEY = ["election", "station", "camera"]


class Cameras:
    """The cameras of a catalogue; their numbers are kept, as none ever changes."""

    def __init__(self, pool: Pool):
        self._pool = pool
        self._pks: dict[Name, int] = {}

    async def sync(self, config: Config) -> None:
        """Take over the stations and cameras of the configuration; none is ever removed."""
        rows = [
            {
                "election": config.election.id,
                "station": station.id,
                "camera": camera.id,
                "number": station.number,
                "names": {
                    "name": station.name.model_dump(),
                    "region": station.region.model_dump(),
                    "district": station.district.model_dump(),
                    "address": station.address.model_dump(),
                    "title": camera.title.model_dump(),
                },
            }
            for station in config.stations
            for camera in station.cameras
        ]
        await self._pool.upsert(cameras, rows, KEY, ["number", "names"])

    async def names(self, election: str) -> list[Name]:
        """Return the cameras that the catalogue knows, sorted."""
        c = cameras.c
        rows = await self._pool.rows(
            sa.select(c.election, c.station, c.camera)
            .where(c.election == election)
            .order_by(c.station, c.camera)
        )
        return [(r["election"], r["station"], r["camera"]) for r in rows]

    async def known(self, names: Sequence[Name]) -> dict[Name, int]:
        """Return the numbers of those cameras that have one; one statement for all."""
        if missing := [name for name in names if name not in self._pks]:
            c = cameras.c
            asked = sa.select(c.camera_pk, c.election, c.station, c.camera).where(
                c.election.in_({name[0] for name in missing}),
                c.station.in_({name[1] for name in missing}),
            )
            for row in await self._pool.rows(asked):
                self._pks[row["election"], row["station"], row["camera"]] = row["camera_pk"]
        return {name: self._pks[name] for name in names if name in self._pks}

    async def pk(self, name: Name) -> int:
        """Return the number of a camera, which gets one if it has none."""
        if not (found := await self.known([name])):
            row = dict(zip(KEY, name, strict=True))
            await self._pool.upsert(cameras, [row], KEY, [])
            found = await self.known([name])
        return found[name]
