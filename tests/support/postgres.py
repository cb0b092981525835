"""A real PostgreSQL for tests, from the pgserver wheel; one per session, a database per test."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pgserver.postgres_server as pgserver
import pytest

ROOM = 2 * 2**30  # bytes: some workers have a server each
_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Address of a running server, without a database."""
    with tempfile.TemporaryDirectory(prefix="kuager-pg-", dir=_place()) as folder:
        Path(folder).chmod(0o755)  # as root, pgserver runs it as another user
        server = pgserver.get_server(folder, cleanup_mode="stop")
        server.psql("ALTER SYSTEM SET fsync = off; SELECT pg_reload_conf();")
        yield server.get_uri()
        server.cleanup()


def _place() -> Path | None:
    """Return a folder in memory, where there is room: a disk that is busy with other work makes
    statements wait for longer than they may."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and shutil.disk_usage(memory).free > ROOM else None


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new, empty database: SQLite, then PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/catalogue.db"
    return new_database(request.getfixturevalue("postgres"))


@pytest.fixture
def postgres_url(postgres: str) -> str:
    """A new, empty database on PostgreSQL."""
    return new_database(postgres)


def new_database(address: str) -> str:
    """Make a database; returns its address."""
    name = f"kuager_{next(_numbers)}"

    async def create() -> None:
        connection = await asyncpg.connect(address)
        await connection.execute(f"CREATE DATABASE {name}")
        await connection.close()

    asyncio.run(create())
    return address.replace("/postgres?", f"/{name}?")
