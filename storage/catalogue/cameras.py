"""The cameras that the catalogue knows, and the numbers by which its tables name them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from config.model import Config
from storage.catalogue.connection import BATCH, Pool
from storage.catalogue.database import Connection
from storage.catalogue.schema import cameras

Name = tuple[str, str, str]  # election, station, camera
KEY = ["election", "station", "camera"]


class Cameras:
    """The cameras of a catalogue. Their numbers are true in one database only, and another may
    take its place at any moment: none is kept from one statement or transaction to the next."""

    def __init__(self, pool: Pool):
        self._pool = pool

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
        insert, c = self._pool.insert(cameras), cameras.c
        taken, text = insert.excluded, sa.Text
        # a row that is as it should be is not written: many machines say the same
        differs = sa.or_(
            taken.number != c.number,
            c.names.is_(None),
            sa.cast(taken.names, text) != sa.cast(c.names, text),
        )
        statement = insert.on_conflict_do_update(
            index_elements=KEY,
            set_={"number": taken.number, "names": taken.names},
            where=differs,
        )
        for n in range(0, len(rows), BATCH):
            async with self._pool.work() as connection:
                await connection.execute(statement, rows[n : n + BATCH])

    async def names(self, election: str) -> list[Name]:
        """Return the cameras that the catalogue knows, sorted."""
        c = cameras.c
        rows = await self._pool.rows(
            sa.select(c.election, c.station, c.camera)
            .where(c.election == election)
            .order_by(c.station, c.camera)
        )
        return [(r["election"], r["station"], r["camera"]) for r in rows]

    def camera_pk(self, name: Name) -> sa.ScalarSelect[int]:
        """Return the number of a camera as a part of a statement; it has none where unknown."""
        return _numbers([name]).with_only_columns(cameras.c.camera_pk).scalar_subquery()

    async def known(self, names: Sequence[Name]) -> dict[Name, int]:
        """Return the numbers that those cameras have now, for a statement that follows at once."""
        return {_name(row): row["camera_pk"] for row in await self._pool.rows(_numbers(names))}

    async def make(self, connection: Connection, names: Collection[Name]) -> dict[Name, int]:
        """Return the numbers of cameras in a transaction; who has none gets one."""
        rows = [dict(zip(KEY, name, strict=True)) for name in sorted(names)]

        async def found() -> dict[Name, int]:
            asked = await connection.execute(_numbers(list(names)))
            return {_name(dict(row)): row["camera_pk"] for row in asked.mappings()}

        known = await found()
        if missing := [row for row in rows if _name(row) not in known]:
            await self._pool.put(connection, cameras, missing, KEY, [])
            known = await found()
        return known


def known_as(names: Sequence[Name]) -> sa.ColumnElement[bool]:
    """Select cameras by their names from `cameras`."""
    c = cameras.c
    them = [
        sa.and_(c.election == election, c.station == station, c.camera == camera)
        for election, station, camera in names
    ]
    return sa.or_(sa.false(), *them)


def _numbers(names: Sequence[Name]) -> sa.Select[Any]:
    c = cameras.c
    return sa.select(c.camera_pk, *(c[key] for key in KEY)).where(known_as(names))


def _name(row: Mapping[str, Any]) -> Name:
    return row["election"], row["station"], row["camera"]
