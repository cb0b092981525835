"""`kuager nodes`, as an operator types it, and what `kuager status` says of several machines."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from typer.testing import CliRunner

from base.clock import now_ms
from config.load import load
from config.model import Config, Node
from kuager.cli import app
from kuager.nodes import _named
from kuager.status import look
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.database import CatalogueError
from storage.catalogue.leases import LEASE_MS, Own, View, decide
from storage.catalogue.leases import Node as Row
from storage.catalogue.nodes import Nodes
from storage.spool.lease_file import SHARDS, Lease, Leases, write_leases
from storage.spool.node_map import MachineEntry, NodeMap, ShardEntry, write_node_map
from tests.support.config_files import KUAGER, write
from tests.support.set_clock import set_clock

pytest_plugins = ["tests.support.postgres"]
A, B = "a" * 32, "b" * 32


def types(config: Path, *words: str) -> tuple[int, str]:
    """Return exit code and all that was printed."""
    done = CliRunner().invoke(app, ["nodes", *words, "--config", str(config)])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, " ".join(done.output.split())


def joined(url: str, *rows: Row, rounds: int = 8) -> None:
    """Have machines join, and take what is theirs."""

    async def run() -> None:
        catalogue, all_ = await Catalogue.open(url), frozenset(range(SHARDS))
        catalogue.nodes = Nodes(catalogue.pool, hang_ms=600_000)  # this machine may be busy
        own, random = Own([0] * SHARDS, all_, all_, settled=True), Random(1)

        def decided(view: View) -> Any:
            return decide(view, own, random)

        for _ in range(rounds):
            for row in rows:
                await catalogue.nodes.round(row, decided)
        await catalogue.close()

    asyncio.run(run())


async def stand_still(url: str) -> None:
    """Have the clock of a database stand: nobody is dead because this machine is busy."""
    async with set_clock(url, now_ms()):
        pass


def test_a_name_is_never_taken_for_the_id_of_another_machines_spool() -> None:
    """Ids are hexadecimal, and so may names be: `drain c1` would drain whose id begins so."""
    c1, c7 = Row("a0" * 16, "c1", ""), Row("c1" * 16, "c7", "", until_ms=LEASE_MS)
    view = View("", 1, {node.spool: node for node in (c1, c7)}, ())
    assert view.is_alive(c7.spool) and _named(view, "c1", "drain") is c1
    assert _named(view, "c1c1c1", "drain") is c7
    for mistyped in ("c", "c1c", ""):
        with pytest.raises(LookupError, match="there are: c1, c7"):
            _named(view, mistyped, "drain")


def test_whose_disk_is_lost_is_given_up_by_the_name_that_its_machine_still_has() -> None:
    """With a new disk a machine is another one under the old name, and alive: `give-up` said that
    it is there, and what the old disk alone had was waited for."""
    new = Row(B, "n3", "", until_ms=LEASE_MS)
    lost, earlier = Row(A, "n3", ""), Row("c" * 32, "n3", "", given_up_ms=1)
    view = View("", 1, {node.spool: node for node in (earlier, lost, new)}, ())
    assert _named(view, "n3", "give-up") is lost
    assert _named(view, "n3", "drain") is _named(view, "n3", "resume") is new


@pytest.mark.slow
def test_machines_are_listed_drained_and_given_up(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = f'database: "{postgres_url}"\n'
    path = write(tmp_path, kuager_yaml=KUAGER + settings)
    asyncio.run(stand_still(postgres_url))
    assert types(path, "list") == (
        1,
        "No machine has joined yet: one does that starts with 'node' in its kuager.yaml. 2 of 2"
        " cameras are recorded by no machine.",
    )
    a, b = Row(A, "n1", "10.0.0.1:8090", version="1"), Row(B, "n2", "10.0.0.2:8090", most=400)
    joined(postgres_url, a, b)
    code, text = types(path, "list")
    assert code == 0 and "n1 up" in text and "of 400" in text
    code, text = types(path, "list", "--json")
    facts = {row["name"]: row for row in json.loads(text)["nodes"]}
    assert code == 0 and facts["n1"]["shards"] + facts["n2"]["shards"] == SHARDS
    assert sum(row["cameras"] for row in facts.values()) == json.loads(text)["cameras"] == 2
    assert types(path, "drain", "n1")[0] == 0
    joined(postgres_url, a, b)
    code, text = types(path, "list")
    assert "n1 drained 0" in text
    assert types(path, "resume", A[:8])[0] == 0
    joined(postgres_url, a, b)
    assert "n1 up" in types(path, "list")[1]
    code, text = types(path, "give-up", "n2")
    assert code == 2 and "n2 is there" in text
    code, text = types(path, "drain", "n9")
    assert code == 2 and "no machine 'n9'; there are: n1, n2" in text

    async def away() -> None:
        catalogue = await Catalogue.open(postgres_url)
        await catalogue.nodes.leave(b)
        await catalogue.close()

    asyncio.run(away())
    assert "n2 stopped" in types(path, "list")[1]
    assert types(path, "give-up", "n2")[0] == 0
    assert "n2 given up" in types(path, "list")[1]

    async def slow(_: Nodes, spools: object) -> Any:
        raise CatalogueError("no answer within 5 s")

    with monkeypatch.context() as patch:
        patch.setattr(Nodes, "unarchived", slow)
        code, text = types(path, "list")
        assert code != 2 and "n2 given up" in text and "was not counted: no answer" in text
        code, text = types(path, "list", "--json")
        assert code != 2 and '"recordings_only_here": null' in text
    other = Row("c" * 32, "n1", "10.0.0.3:8090")
    joined(postgres_url, a, other)
    code, text = types(path, "drain", "n1")
    assert code == 2 and "several machines are 'n1'" in text


def test_one_machine_has_no_others(tmp_path: Path) -> None:
    code, text = types(write(tmp_path), "list")
    assert code == 2 and "PostgreSQL" in text


# -- status ------------------------------------------------------------------------------------


def found(config: Config, name: str) -> tuple[str | None, tuple[str, ...]]:
    findings = [f for f in asyncio.run(look(config)) if f.name == name]
    return (findings[0].wrong, findings[0].seen) if findings else (None, ())


@pytest.fixture
def config(tmp_path: Path) -> Config:
    config = load(write(tmp_path), {})
    node = Node(name="n1", host="10.0.0.1", port=8090)
    (config.spool / "_status").mkdir(parents=True)
    return config.model_copy(update={"node": node})


def said(config: Config, *, holder: str | None = A, alive: bool = True, **more: Any) -> None:
    nodes = (
        MachineEntry(A, "n1", "10.0.0.1:8090", True),
        MachineEntry(B, "n2", "10.0.0.2:8090", alive, more.pop("left", False)),
    )
    shards = tuple(ShardEntry(1, holder, None) for _ in range(SHARDS))
    database = more.pop("database", None)
    at_ms = more.pop("at_ms", now_ms())
    write_node_map(config.spool, NodeMap(1, at_ms, A, "n1", database, nodes, shards))


def test_status_says_how_this_machine_stands_among_others(config: Config) -> None:
    wrong, _ = found(config, "node")
    assert wrong and "nobody says what this machine is to record" in wrong
    said(config)
    assert found(config, "nodes") == (None, ("2 are there", "512 parts are this one's"))
    said(config, alive=False)
    assert found(config, "nodes")[0] == "away: n2"
    said(config, alive=False, left=True)  # it was stopped
    assert found(config, "nodes")[0] is None
    said(config, holder=B, alive=False)
    assert found(config, "nodes")[0] == "512 of 512 parts of the cameras are recorded by nobody"
    said(config, database="connection refused")
    assert "recording goes on: connection refused" in (found(config, "node")[0] or "")
    said(config, at_ms=now_ms() - 60_000)
    assert found(config, "node")[0] is not None


def test_status_looks_for_the_cameras_of_this_machine_alone(config: Config) -> None:
    said(config)
    wide = config.election.model_copy(
        update={
            "windows": (
                config.election.windows[0].model_copy(
                    update={
                        "start": config.election.windows[0].start.replace(year=2020),
                        "end": config.election.windows[0].end.replace(year=2090),
                    }
                ),
            )
        }
    )
    config = config.model_copy(update={"election": wide})
    write_leases(config.spool, Leases(now_ms()), durable=False)
    assert found(config, "cameras") == (None, ("0 of 0 that are scheduled now are recorded",))
    every = tuple(Lease(n, 1, 1) for n in range(SHARDS))
    write_leases(config.spool, Leases(now_ms(), every), durable=False)
    assert found(config, "cameras")[0] == "only 0 of 2 that are scheduled now are recorded"
