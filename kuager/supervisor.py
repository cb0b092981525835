"""The supervisor of `kuager run`: one process for each role.

It holds no camera, no connection and no file that anyone waits for. A process that dies is started
again; when the supervisor itself dies, its processes notice (their standard input ends) and finish
as on SIGTERM, so that nothing is recorded twice. However often and by whomever they are asked to
end, they seal once; the supervisor alone may end them before that. It alone reads the
configuration, too, and hands it to them (kuager/reload.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

import structlog

from base.backoff import Backoff
from base.clock import now_ms
from base.durable import replace_file
from config.file_models import Listen
from config.model import Config
from config.roles import processes
from kuager import VERSION
from kuager.extras import ExtraMissing, check_extras
from kuager.notify import notify
from kuager.reload import Reloading, frame, lock_spool, write_outcome
from storage.spool.disk import is_mounted
from storage.spool.status_records import (
    SUPERVISOR,
    ProcessStatus,
    ReloadStatus,
    SupervisorStatus,
)
from streaming.http.ports import PortInUse, check_port

STATUS_S = 2.0
STOP_S = 30.0  # for sealing and flushing everything, then the hard way
RESTART_S = (0.0, 1.0, 2.0, 5.0)
HEALTHY_S = 60.0
# -P: else a config.py of somebody else in the folder where Kuager is started would be ours
KUAGER = (sys.executable, "-P", "-m", "kuager")
WITHOUT_DATABASE = ("recorder", "pictures")  # roles that do without

log = structlog.get_logger()


@dataclass(slots=True)
class _Child:
    name: str
    arguments: list[str]
    restarting: asyncio.Task[None] | None = None
    process: asyncio.subprocess.Process | None = None
    backoff: Backoff = field(default_factory=lambda: Backoff(RESTART_S))
    started: float = field(default=0.0)
    starts: int = 0

    @property
    def is_running(self) -> bool:
        """Whether there is a process now."""
        return self.process is not None and self.process.returncode is None

    def hand(self, configuration: bytes) -> None:
        """Hand over a configuration; one that is not running gets it when it starts."""
        if self.is_running and self.process and self.process.stdin:
            self.process.stdin.write(configuration)


def _processes(config: Config) -> dict[str, list[str]]:
    """Return the arguments of each process that a configuration asks for, by its name."""
    path = str(config.path)
    return {
        name: [*("run", "--config", path, "--role", role, "--share", f"{n}/{of}", "--supervised")]
        for name, (role, n, of) in processes(config).items()
    }


def why_not(old: Config, new: Config, role: str = "all") -> list[str]:
    """Return why processes of a role could not run by a configuration that is right: what is not
    installed, ports of other programs, another database that does not answer. What runs now would
    end, and not come back. Not to be called in an event loop's thread.

    A process alone is not asked for ports: another of the same roles may have taken them over.
    """
    found, ours = list[str](), _addresses(old)
    try:
        check_extras(new, role)
    except ExtraMissing as missing:
        found.append(str(missing))
    asked = _addresses(new) if role == "all" else {}
    for setting, where in asked.items():
        try:
            if not any(where.meets(other) for other in ours.values()):
                check_port(*where, setting)
        except PortInUse as taken:
            found.append(str(taken))
    if new.database_url != old.database_url and role not in WITHOUT_DATABASE:
        from storage.catalogue.database import CatalogueError, describe_database  # 30 MB

        try:
            asyncio.run(describe_database(new.database_url))
        except CatalogueError as refused:
            found.append(f"the database: {refused}")
    return found


def _addresses(config: Config) -> dict[str, Listen]:
    """Return the addresses that web processes listen on, by the settings that name them."""
    web = config.web
    return {
        "web.listen": Listen(web.host, web.port),
        "web.operators": Listen(web.operators_host, web.operators_port),
    }


class Supervisor:
    """Starts the roles' processes, restarts each that ends, stops them all."""

    def __init__(self, config: Config, python: Sequence[str] = KUAGER):
        self._python = python
        self._reloading = Reloading(config, self._take, self._report, why_not=why_not)
        self._handed = frame(config)
        self._children: dict[str, _Child] = {}
        self._group = asyncio.TaskGroup()
        self._lock: BinaryIO | None = None  # who has it says in the spool what runs
        self._has_waited = False
        self._outcome: ReloadStatus | None = None  # of the newest reload

    def reload(self) -> None:
        """Have the files read anew, and taken over where they are right."""
        self._reloading.ask()

    async def run(self) -> None:
        """Run until cancelled; then every process has ended when this returns.

        Raises OSError where the spool cannot be written.
        """
        try:
            self._take_spool()
            async with self._group:
                self._begin(self._reloading.config)
                self._group.create_task(self._reloading.run())
                self._group.create_task(self._write_status())
                self._group.create_task(self._tell_alive())
        finally:
            notify("STOPPING=1")
            await asyncio.shield(self._stop_all())
            if self._lock is not None:
                self._lock.close()

    def _take_spool(self) -> None:
        """Take the lock by which `kuager reload` finds us, once the spool's disk is mounted: below
        it nothing is written, and nobody would look there. While another `kuager run` has it, that
        one is found, and what it says stays. Raises OSError."""
        config = self._reloading.config
        if self._lock is not None or not is_mounted(config.spool_limits.mount):
            return
        self._lock = lock_spool(config.spool)
        if self._lock is not None and self._outcome is not None:
            write_outcome(config.spool, self._outcome)
        elif self._lock is None and not self._has_waited:
            self._has_waited = True
            text = "Another `kuager run` has this spool: `kuager reload` reaches that one alone"
            log.warning(text)

    def _report(self, outcome: ReloadStatus) -> None:
        """Tell `kuager reload`, where it is to find us, how one ended."""
        self._outcome = outcome
        if self._lock is not None:
            write_outcome(self._reloading.config.spool, outcome)

    def _begin(self, config: Config) -> None:
        for name, arguments in _processes(config).items():
            if name not in self._children:
                child = self._children[name] = _Child(name, arguments)
                child.restarting = self._group.create_task(self._restart(child))

    def _take(self, config: Config) -> None:
        """Hand a configuration to all processes; begin and end those that it asks for or not."""
        self._handed = frame(config)
        gone = [self._children.pop(n) for n in self._children.keys() - _processes(config).keys()]
        for child in gone:
            assert child.restarting is not None
            child.restarting.cancel()
        for child in self._children.values():
            child.hand(self._handed)
        self._begin(config)
        self._group.create_task(self._stop(gone))

    async def _write_status(self) -> None:
        """Write what runs to `_status/supervisor.json`; a disk that refuses is told by others.
        The service manager is told once all processes have been started."""
        ready = False
        while True:
            if not ready and all(child.is_running for child in self._children.values()):
                ready = True
                notify("READY=1")
            told = SupervisorStatus(
                pid=os.getpid(),
                version=VERSION,
                written_ms=now_ms(),
                processes={
                    name: ProcessStatus(child.is_running, child.starts)
                    for name, child in self._children.items()
                },
            )
            path = self._reloading.config.spool / "_status" / SUPERVISOR
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._take_spool)
                if self._lock is not None:
                    await asyncio.to_thread(replace_file, path, told.to_json())
            await asyncio.sleep(STATUS_S)

    async def _tell_alive(self) -> None:
        """Tell the service manager that this process goes on, also while the disk hangs."""
        while True:
            notify("WATCHDOG=1")
            await asyncio.sleep(STATUS_S)

    async def _restart(self, child: _Child) -> None:
        loop = asyncio.get_running_loop()
        while True:
            child.started = loop.time()
            try:
                code: int | str = await self._life(child)
            except OSError as error:  # no process or no memory to be had, or Python is away
                code = f"it cannot be started: {error.strerror}"
            if loop.time() - child.started > HEALTHY_S:
                child.backoff.succeeded()
            pause_s = child.backoff.failed()
            log.error(
                "A process ended and is started again", process=child.name, code=code, in_s=pause_s
            )
            await asyncio.sleep(pause_s)

    async def _life(self, child: _Child) -> int:
        """Start a process and wait for its end; returns its exit code, raises OSError."""
        starting = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                *self._python,
                *child.arguments,
                # brings the configuration; its end tells the child that the supervisor is gone
                stdin=asyncio.subprocess.PIPE,
                start_new_session=True,  # Ctrl-C goes to the supervisor alone, which asks them
            )
        )
        try:
            child.process = await asyncio.shield(starting)
        except asyncio.CancelledError:
            with contextlib.suppress(OSError):
                child.process = await starting  # so that `_stop` knows of it
            raise
        child.starts += 1
        child.hand(self._handed)
        return await child.process.wait()

    async def _stop_all(self) -> None:
        """Stop all; who hands cameras over to other machines first, while they are recorded."""
        node = [child for child in self._children.values() if child.name.startswith("node-")]
        await self._stop(node)
        await self._stop(self._children.values())

    async def _stop(self, children: Iterable[_Child]) -> None:
        running = [c for c in children if c.is_running]
        for child in running:
            assert child.process is not None
            child.process.terminate()
        waits = [asyncio.ensure_future(c.process.wait()) for c in running if c.process]
        if waits:
            await asyncio.wait(waits, timeout=STOP_S)
        for child in running:
            assert child.process is not None
            if child.is_running:
                log.error("A process did not stop in time and is killed", process=child.name)
                child.process.kill()

    def kill(self) -> None:
        """End everything at once: the second signal."""
        for child in self._children.values():
            if child.process and child.is_running:
                child.process.kill()
