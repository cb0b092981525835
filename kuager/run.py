"""`kuager run`: a supervisor of one process per role, and the roles themselves.

The supervisor holds no camera, no connection and no file that anyone waits for. A process that
dies is started again; when the supervisor itself dies, its processes notice (their standard
input ends) and finish as on SIGTERM, so that nothing is recorded twice. However often and by
whomever they are asked to end, they seal once; the supervisor alone may end them before that.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import structlog
import uvloop

from base.backoff import Backoff
from config.model import Config
from copies.desk import Desk
from kuager import signals
from recorder.ffmpeg import find_ffmpeg
from recorder.worker import Worker, targets
from storage.archive import open_archive
from storage.catalogue import Catalogue
from storage.spool import spool_problem
from storage.uploader import Uploader
from streaming.app import check_port, serve
from streaming.language import translate

STOP_S = 30.0  # for sealing and flushing everything, then the hard way
RESTART_S = (0.0, 1.0, 2.0, 5.0)
HEALTHY_S = 60.0
FILES_BESIDE, FILES_A_CAMERA = 64, 6  # descriptors of a recorder process

log = structlog.get_logger()


@dataclass(slots=True)
class _Child:
    name: str
    arguments: list[str]
    process: asyncio.subprocess.Process | None = None
    backoff: Backoff = field(default_factory=lambda: Backoff(RESTART_S))
    started: float = field(default=0.0)


class Supervisor:
    """Starts the roles' processes, restarts each that ends, stops them all."""

    def __init__(self, config: Config, python: Sequence[str] = (sys.executable, "-m", "kuager")):
        self._config, self._python = config, python
        roles = [
            *(("recorder", n, config.workers) for n in range(config.workers)),
            ("uploader", 0, 1),
            *((("orders", 0, 1),) if config.copies else ()),
            *([("pictures", 0, 1)] if config.pictures_s else []),
            *(("web", n, config.web.processes) for n in range(config.web.processes)),
        ]
        self._children = [
            _Child(
                f"{role}-{n}",
                [
                    "run",
                    "--config",
                    str(config.path),
                    "--role",
                    role,
                    "--share",
                    f"{n}/{of}",
                    "--supervised",
                ],
            )
            for role, n, of in roles
        ]
        self._stopping = False

    async def run(self) -> None:
        """Run until cancelled; then every process has ended when this returns."""
        keepers = [asyncio.create_task(self._keep(c)) for c in self._children]
        try:
            await asyncio.gather(*keepers)
        finally:
            self._stopping = True
            for keeper in keepers:
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)
            await asyncio.shield(self._stop())

    async def _keep(self, child: _Child) -> None:
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
                # a pipe nobody writes to: its end tells the child that the supervisor is gone
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
        return await child.process.wait()

    async def _stop(self) -> None:
        running = [c for c in self._children if c.process and c.process.returncode is None]
        for child in running:
            assert child.process is not None
            child.process.terminate()
        waits = [asyncio.ensure_future(c.process.wait()) for c in running if c.process]
        if waits:
            await asyncio.wait(waits, timeout=STOP_S)
        for child in running:
            assert child.process is not None
            if child.process.returncode is None:
                log.error("A process did not stop in time and is killed", process=child.name)
                child.process.kill()

    def kill(self) -> None:
        """End everything at once: the second signal."""
        for child in self._children:
            if child.process and child.process.returncode is None:
                child.process.kill()


async def _recorder(config: Config, share: int, shares: int) -> None:
    cameras = targets(config, share, shares)
    check_file_limit(resource.getrlimit(resource.RLIMIT_NOFILE)[0], len(cameras))
    ffmpeg = find_ffmpeg(config.ffmpeg)
    await Worker(cameras, config.spool, ffmpeg, share, config.spool_limits).run()


async def _uploader(config: Config) -> None:
    catalogue = await Catalogue.open_patiently(config.database_url)
    archives = [open_archive(a) for a in config.archives]
    try:
        await Uploader(config, catalogue, archives).run()
    finally:
        for archive in archives:
            await archive.close()
        await catalogue.close()


async def _orders(config: Config) -> None:
    if config.copies is None:
        raise OSError("copies are off: there is no 'copies' section in the configuration")
    catalogue = await Catalogue.open_patiently(config.database_url)
    archives = [open_archive(a) for a in config.archives]
    try:
        await Desk(config, catalogue, archives, translate).run()
    finally:
        for archive in archives:
            await archive.close()
        await catalogue.close()


async def _pictures(config: Config) -> None:
    from recorder.pictures import Pictures  # with OpenCV, which no other role needs

    names = [f"{s.id}/{c.id}" for s in config.stations for c in s.cameras]
    every_s = config.pictures_s or 10
    await Pictures(names, config.spool, every_s, config.spool_limits).run()


def run_role(config: Config, role: str, share: tuple[int, int], supervised: bool) -> int:
    """Run one role in this process until SIGTERM or SIGINT; supervised, also until the
    supervisor is gone."""
    starts: dict[str, Callable[[], Awaitable[None]]] = {
        "recorder": lambda: _recorder(config, *share),
        "uploader": lambda: _uploader(config),
        "orders": lambda: _orders(config),
        "pictures": lambda: _pictures(config),
        "web": lambda: serve(config),
    }
    return _run_until_signal(starts[role], parent_on_stdin=supervised, hard=not supervised)


def run_all(config: Config, supervised: bool) -> int:
    """Run every role under a supervisor; returns the exit code."""
    check_port(config.web.host, config.web.port)
    find_ffmpeg(config.ffmpeg)
    if wrong := spool_problem(config.spool):
        raise OSError(wrong)
    supervisor = Supervisor(config)
    return _run_until_signal(
        supervisor.run, kill=supervisor.kill, parent_on_stdin=supervised, hard=True
    )


def _raise_file_limit() -> None:
    """Raise how many files this process may open as far as it may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # a sandbox may forbid it
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def check_file_limit(files: int, cameras: int) -> None:
    """Say how many cameras fit where a recorder process may open only so many files."""
    fit = max(0, (files - FILES_BESIDE) // FILES_A_CAMERA)
    if fit < cameras:
        log.error(
            "This process may open too few files for its cameras: raise the hard limit"
            " (LimitNOFILE in the unit, ulimit -Hn) or give it fewer cameras (workers)",
            files=files,
            cameras=cameras,
            cameras_that_fit=fit,
        )


def _run_until_signal(
    start: Callable[[], Awaitable[None]],
    *,
    kill: Callable[[], None] = lambda: None,
    parent_on_stdin: bool,
    hard: bool,
) -> int:
    _raise_file_limit()

    def end_hard() -> None:
        log.error("Asked again: ending at once, without sealing what is being recorded")
        kill()
        os._exit(1)

    async def main() -> None:
        task = asyncio.ensure_future(start())
        asked = signals.Asked(task.cancel, end_hard if hard else None)
        signals.on_stop(asked.again, _no_reload)
        if parent_on_stdin:
            signals.on_parent_gone(asked.again)
        try:
            await task
        except asyncio.CancelledError:
            if not asked.already:
                raise

    uvloop.run(main())
    return 0


def _no_reload() -> None:
    log.warning(
        "SIGHUP changes nothing: the configuration is read at the start only;"
        " to take over a new one, stop and start"
    )
