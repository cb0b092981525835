"""Catalogues in SQLite whose tables are not made by every migration anew for each test."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from sqlalchemy import make_url

from storage.catalogue.catalogue import Catalogue

# another database has another id and another key
ANOTHER = """\
UPDATE catalogue
SET id = lower(hex(randomblob(16))), usage_key = randomblob(length(usage_key))"""
made: list[bytes] = []  # the file as the migrations leave it, once a test of this process needs it


async def open_catalogue(url: str) -> Catalogue:
    """Open a catalogue; a new SQLite file begins as a copy of what the migrations made.

    They take 50 ms of CPU, as much as many a test.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if not made:
            with tempfile.TemporaryDirectory() as folder:
                await (await Catalogue.open(f"sqlite:///{folder}/k.db")).close()
                _keep(Path(folder))
        _begin(Path(parsed.database or ""))
    return await Catalogue.open(url)


def _keep(folder: Path) -> None:
    assert [path.name for path in folder.iterdir()] == ["k.db"]  # all of it is in one file
    made.append((folder / "k.db").read_bytes())


def _begin(path: Path) -> None:
    if not path.exists():
        path.write_bytes(made[0])
        with closing(sqlite3.connect(path)) as database, database:
            database.execute(ANOTHER)
