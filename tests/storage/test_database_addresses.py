"""Addresses of databases as operators write them: each is used, or refused in words."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from config.load import load
from config.problems import ConfigError
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.database import CatalogueError, describe_database
from storage.catalogue.faults import DatabaseFault, fault_of
from tests.support.config_files import KUAGER, write
from tests.support.postgres_server import Server
from tests.support.waiting import until

pytest_plugins = ["tests.support.postgres", "tests.support.postgres_server"]


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://u:pass-of-u@127.0.0.1:1/d?sslmode=require",
        "postgresql://u:pass-of-u@127.0.0.1:1/d?sslmode=disable&application_name=kuager",
        "postgresql://127.0.0.1:1/d?user=u&password=pass-of-u",
        "postgresql://u:pass-of-u@127.0.0.1:1/d?sslmode=nonsense",
        "postgresql://u:pass-of-u@127.0.0.1:1/d?sslrootcert=/no/such/pass-of-u",
        "postgresql://u:pass-of-u@127.0.0.1:1/d?port=many",
        "postgresql:///d?host=/no/such/directory",
        "postgresql://u:pass-of-u@/d?host=/no/such/directory",
        "postgresql://u:pass-of-u@no-such-host.invalid/d",
    ],
)
async def test_what_cannot_be_used_is_refused_without_its_password(
    tmp_path: Path, address: str
) -> None:
    config = load(write(tmp_path, kuager_yaml=f"{KUAGER}database: '{address}'\n"), {})
    for ask in (describe_database, Catalogue.open):
        with pytest.raises(CatalogueError) as refused:
            await ask(config.database_url)
        said = str(refused.value)
        assert "Errno" not in said and "keyword" not in said and "SQLAlchemy" not in said, said
        assert "pass-of-u" not in said or "sslrootcert" in address


@pytest.mark.parametrize(
    ("address", "fault"),
    [
        ("postgresql://u:pass-of-u@127.0.0.1:1/d", "unreachable"),
        ("postgresql://u:pass-of-u@no-such-host.invalid/d", "unreachable"),
        ("postgresql:///d?host=/no/such/directory", "unreachable"),
        ("sqlite:////dev/full/k.db", "missing"),
    ],
)
async def test_why_it_cannot_be_opened_is_of_a_kind(address: str, fault: str) -> None:
    heard: list[CatalogueError] = []
    opening = asyncio.create_task(Catalogue.open_patiently(address, heard.append))
    await until(lambda: heard)
    opening.cancel()
    assert heard[0].fault == fault


async def test_what_a_database_refuses_is_of_a_kind(postgres_url: str, tmp_path: Path) -> None:
    for url in (postgres_url, f"sqlite:///{tmp_path}/k.db"):
        catalogue = await Catalogue.open(url)
        for statement, fault in (
            ("SELECT * FROM of_another_kuager", DatabaseFault.MISSING),
            ("SELECT nonsense(1)", DatabaseFault.OTHER),
        ):
            with pytest.raises(CatalogueError) as refused:
                await catalogue.pool.rows(sa.text(statement))  # type: ignore[arg-type]
            assert refused.value.fault is fault
        await catalogue.close()
    wrong = make_url(postgres_url).set(database="no_such_database")
    with pytest.raises(CatalogueError) as refused:
        await Catalogue.open(wrong.render_as_string(hide_password=False))
    assert refused.value.fault is DatabaseFault.MISSING


@pytest.mark.parametrize(
    ("code", "fault"),
    [("57014", "slow"), ("53100", "disk"), ("53300", "slow"), ("28P01", "credentials"),
     ("42501", "credentials"), ("25006", "disk"), ("57P03", "unreachable"), ("22012", "other")],
)  # fmt: skip
def test_codes_of_postgresql_are_of_a_kind(code: str, fault: str) -> None:
    class Refused(Exception):
        sqlstate = code

    assert fault_of(sa.exc.DBAPIError("statement", {}, Refused())) == fault
    assert fault_of(TimeoutError()) == "slow" and fault_of(OSError(104, "cut")) == "unreachable"


def test_names_that_no_disk_takes(tmp_path: Path) -> None:
    long = "a" * 300
    for setting in (
        f"database: sqlite:///{long}\n",
        f"spool_mount: {long}\n",
        f"credentials: '{'a/' * 3000}'\n",
        "database: 'sqlite:///k.db?mode=ro'\n",
    ):
        with pytest.raises(ConfigError):
            load(write(tmp_path, kuager_yaml=KUAGER + setting), {})
    for name in ("archives: [archive]", "spool: spool"):
        text = KUAGER.replace(name, name.replace("archive]", f"{long}]").replace(" spool", long))
        with pytest.raises(ConfigError):
            load(write(tmp_path, kuager_yaml=text.replace("spool:a", "spool: a")), {})


async def test_where_a_file_cannot_be_made_is_found_out_before(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to("/no/such/disk")
    for name, said in (
        ("no/k.db", "make it"),
        ("file/k.db", "is no directory"),
        ("file", "not a database"),
        ("link", "leads nowhere"),
        ("link/k.db", "leads nowhere"),
    ):
        with pytest.raises(CatalogueError, match=said):
            await describe_database(f"sqlite:///{tmp_path}/{name}")
        with pytest.raises(CatalogueError):
            await Catalogue.open(f"sqlite:///{tmp_path}/{name}")
    assert (tmp_path / "file").read_text() == "x"  # it may be somebody's
    assert "made at the first start" in await describe_database(f"sqlite:///{tmp_path}/k.db")


@pytest.mark.slow
async def test_what_libpq_knows_is_known(postgres_url: str) -> None:
    more = "&sslmode=disable&application_name=kuager-test"
    catalogue = await Catalogue.open(postgres_url + more)
    async with catalogue.pool.work() as connection:
        shown = await connection.exec_driver_sql("SHOW application_name")
        assert shown.scalar() == "kuager-test"
    assert "with its tables" in await describe_database(postgres_url + more)
    with pytest.raises(CatalogueError, match="nonsense"):
        await describe_database(f"{postgres_url}&nonsense=1")
    async with catalogue.pool.work() as connection:
        name = (await connection.exec_driver_sql("SELECT current_database()")).scalar()
        statement = f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'
        await connection.exec_driver_sql(statement)
    with pytest.raises(CatalogueError, match="read-only"):
        await describe_database(postgres_url)
    await catalogue.close()


@pytest.mark.slow
async def test_a_server_without_tls_is_refused_where_tls_is_asked_for(server_folder: Path) -> None:
    """By its address: libpq, too, has no TLS on a socket, whatever `sslmode` says."""
    server = Server(server_folder / "pg")
    await asyncio.to_thread(server.start)
    try:
        with pytest.raises(CatalogueError, match="SSL"):
            await describe_database(f"{server.url()}?sslmode=require")
        assert "answers" in await describe_database(f"{server.url()}?sslmode=prefer")
    finally:
        await asyncio.to_thread(server.stop)
