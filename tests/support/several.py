"""Several machines in the test's process: each with a spool, its pages, and its inner address."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp
from aiohttp import web
from pydantic import SecretStr

from base.clock import Clock, now_ms
from config.model import Config, Node
from storage.archive.port import Archive
from storage.catalogue.catalogue import Catalogue
from storage.spool.disk import claim_spool
from storage.spool.lease_file import SHARDS, shard_of
from storage.spool.node_map import MachineEntry, NodeMap, ShardEntry, write_node_map
from streaming.app import create_app, machines_runner, make_runner
from streaming.context import CONTEXT
from tests.support.s3 import free_port


@dataclass
class Machine:
    """A machine, with a client of its pages (`session`) and one of its inner address (`inner`)."""

    name: str
    config: Config
    base: str = field(init=False)  # of its pages
    app: web.Application = field(init=False)
    session: aiohttp.ClientSession = field(init=False)
    inner: aiohttp.ClientSession = field(init=False)

    @property
    def spool(self) -> Path:
        """Where it records."""
        return self.config.spool

    @property
    def id(self) -> str:
        """What it is told by."""
        return claim_spool(self.spool)

    @property
    def entry(self) -> MachineEntry:
        """How others know it."""
        assert self.config.node is not None
        return MachineEntry(self.id, self.name, self.config.node.address, True)


@dataclass
class Several:
    """All machines, and what each is told of the others."""

    machines: dict[str, Machine]
    shards: list[ShardEntry] = field(
        default_factory=lambda: [ShardEntry(0, None, None) for _ in range(SHARDS)]
    )
    away: set[str] = field(default_factory=set)
    given_up: set[str] = field(default_factory=set)
    passed_s: float = 0.0  # of which machines believe that it has passed, and it has not

    def __getitem__(self, name: str) -> Machine:
        return self.machines[name]

    def owns(
        self, holder: str, camera: str, epoch: int, before: str | None = None, both: bool = False
    ) -> None:
        """Have a machine hold a camera, and say so to all."""
        old = self.machines[before].id if before else None
        self.shards[shard_of(camera)] = ShardEntry(epoch, self.machines[holder].id, old, both)
        self.tell()

    def tell(self) -> None:
        """Say to all how it stands."""
        entries = tuple(
            replace(
                machine.entry,
                alive=name not in self.away,
                given_up=name in self.given_up,
            )
            for name, machine in self.machines.items()
        )
        for name, machine in self.machines.items():
            found = NodeMap(1, now_ms(), machine.id, name, None, entries, tuple(self.shards))
            write_node_map(machine.spool, found)
            if (known := machine.app[CONTEXT].machines) is not None:
                known.forget()


@asynccontextmanager
async def several(
    config: Config,
    names: Sequence[str],
    catalogue: Catalogue | None = None,
    archives: Sequence[Archive] = (),
    clock: Clock = now_ms,
    password: SecretStr | None = None,
) -> AsyncIterator[Several]:
    """Serve machines with the stations of a configuration."""
    found = Several({})

    def elapsed_s() -> float:
        return time.monotonic() + found.passed_s

    async with AsyncExitStack() as stack:
        for name in names:
            node = Node(name=name, host="127.0.0.1", port=free_port(), password=password)
            spool = config.path.parent / f"spool-{name}"
            machine = Machine(name, config.model_copy(update={"spool": spool, "node": node}))
            claim_spool(spool)
            found.machines[name] = machine
            machine.app = create_app(
                machine.config, catalogue, archives, clock, elapsed_s=elapsed_s
            )
            port = free_port()
            machine.base = f"http://127.0.0.1:{port}"
            machine.session = await stack.enter_async_context(
                _serving(make_runner(machine.app), port)
            )
            inner = machines_runner(machine.app, 1)
            machine.inner = await stack.enter_async_context(_serving(inner, node.port))
        found.tell()
        yield found


@asynccontextmanager
async def _serving(runner: web.AppRunner, port: int) -> AsyncIterator[aiohttp.ClientSession]:
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        async with aiohttp.ClientSession(
            f"http://127.0.0.1:{port}", headers={"Accept-Language": "en"}
        ) as session:
            yield session
    finally:
        await runner.cleanup()
