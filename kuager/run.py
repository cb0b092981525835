"""`kuager run`: a supervisor of one process per role, and the roles themselves.

The supervisor holds no camera, no connection and no file that anyone waits for. A process that
dies is started again; when the supervisor itself dies, its processes notice (their standard
input ends) and finish as on SIGTERM, so that nothing is recorded twice. However often and by
whomever they are asked to end, they seal once; the supervisor alone may end them before that.
It alone reads the configuration, too, and hands it to them (kuager/reload.py).

Each role imports what it needs when it starts: all of it together takes 50 MB a process.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import resource
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import orjson
import structlog
import uvloop

from base.backoff import Backoff
from base.clock import now_ms
from base.durable import replace_file
from config.model import Config
from config.roles import processes
from kuager import VERSION, signals
from kuager.extras import check_extras
from kuager.notify import notify
from kuager.reload import Configs, Frames, Reloading, frame, lock_spool
from recorder.ffmpeg import find_ffmpeg
from storage.spool.status import SUPERVISOR
from storage.spool.writer import spool_problem
from streaming.http.ports import PortInUse, check_port

STATUS_FORMAT = "supervisor/1"
STATUS_S = 2.0
STOP_S = 30.0  # for sealing and flushing everything, then the hard way
RESTART_S = (0.0, 1.0, 2.0, 5.0)
HEALTHY_S = 60.0
FILES_BESIDE, FILES_A_CAMERA = 64, 6  # descriptors of a recorder process

log = structlog.get_logger()


@dataclass(slots=True)
class _Child:
    name: str
    arguments: list[str]
    keeper: asyncio.Task[None] | None = None
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


class Supervisor:
    """Starts the roles' processes, restarts each that ends, stops them all."""

    def __init__(self, config: Config, python: Sequence[str] = (sys.executable, "-m", "kuager")):
        self._python = python
        self._reloading = Reloading(config, self._take, lambda told: told.write(config.spool))
        self._handed = frame(config)
        self._children: dict[str, _Child] = {}
        self._group = asyncio.TaskGroup()

    def reload(self) -> None:
        """Have the files read anew, and taken over where they are right."""
        self._reloading.ask()

    async def run(self) -> None:
        """Run until cancelled; then every process has ended when this returns."""
        try:
            async with self._group:
                self._begin(self._reloading.config)
                self._group.create_task(self._reloading.run())
                self._group.create_task(self._tell_for_ever())
        finally:
            notify("STOPPING=1")
            await asyncio.shield(self._stop(self._children.values()))

    def _begin(self, config: Config) -> None:
        for name, arguments in _processes(config).items():
            if name not in self._children:
                child = self._children[name] = _Child(name, arguments)
                child.keeper = self._group.create_task(self._keep(child))

    def _take(self, config: Config) -> None:
        """Hand a configuration to all processes; begin and end those that it asks for or not."""
        self._handed = frame(config)
        gone = [self._children.pop(n) for n in self._children.keys() - _processes(config).keys()]
        for child in gone:
            assert child.keeper is not None
            child.keeper.cancel()
        for child in self._children.values():
            child.hand(self._handed)
        self._begin(config)
        self._group.create_task(self._stop(gone))

    async def _tell_for_ever(self) -> None:
        """Write what runs to `_status/supervisor.json`; a disk that refuses is told by others.
        The service manager is told once all processes have been started."""
        ready = False
        while True:
            if not ready and all(child.is_running for child in self._children.values()):
                ready = True
                notify("READY=1")
            record = {
                "kuager": STATUS_FORMAT,
                "pid": os.getpid(),
                "version": VERSION,
                "written_ms": now_ms(),
                "processes": {
                    name: {"up": child.is_running, "starts": child.starts}
                    for name, child in self._children.items()
                },
            }
            path = self._reloading.config.spool / "_status" / SUPERVISOR
            with contextlib.suppress(OSError):
                await asyncio.to_thread(replace_file, path, orjson.dumps(record))
            await asyncio.sleep(STATUS_S)

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


async def _recorder(configs: Configs, share: int, shares: int) -> None:
    from recorder.camera_spec import camera_specs
    from recorder.worker import Worker

    config = configs.now
    cameras = camera_specs(config, share, shares)
    check_file_limit(resource.getrlimit(resource.RLIMIT_NOFILE)[0], len(cameras))
    ffmpeg = find_ffmpeg(config.ffmpeg)
    worker = Worker(cameras, config.spool, ffmpeg, share, config.spool_limits)

    async def follow() -> None:
        while True:
            cameras = camera_specs(await configs.newer(), share, shares)
            check_file_limit(resource.getrlimit(resource.RLIMIT_NOFILE)[0], len(cameras))
            await worker.change(cameras)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(worker.run())
        tasks.create_task(follow())


async def _uploader(config: Config) -> None:
    from storage.archival.uploader import Uploader
    from storage.archive.factory import open_archive
    from storage.catalogue.catalogue import Catalogue

    catalogue = await Catalogue.open_patiently(config.database_url)
    archives = [open_archive(a) for a in config.archives]
    try:
        await Uploader(config, catalogue, archives).run()
    finally:
        for archive in archives:
            await archive.close()
        await catalogue.close()


async def _orders(config: Config) -> None:
    from copies.orders.worker import OrderWorker
    from storage.archive.factory import open_archive
    from storage.catalogue.catalogue import Catalogue

    if config.copies is None:
        raise OSError("copies are off: there is no 'copies' section in the configuration")
    catalogue = await Catalogue.open_patiently(config.database_url)
    archives = [open_archive(a) for a in config.archives]
    try:
        await OrderWorker(config, catalogue, archives).run()
    finally:
        for archive in archives:
            await archive.close()
        await catalogue.close()


async def _pictures(config: Config) -> None:
    from recorder.pictures.process import Pictures

    names = [f"{s.id}/{c.id}" for s in config.stations for c in s.cameras]
    every_s = config.pictures_s or 10
    await Pictures(names, config.spool, every_s, config.spool_limits).run()


async def _web(configs: Configs, process: str) -> None:
    """Serve by one configuration after another; the next one serves before the last one ends."""
    from streaming.app import serving

    async with AsyncExitStack() as last:
        await last.enter_async_context(serving(configs.now, process=process))
        _freeze()
        while True:
            config = await configs.newer()
            async with AsyncExitStack() as next_:
                try:
                    await next_.enter_async_context(serving(config, process=process))
                except PortInUse as error:
                    log.error("The pages go on by the configuration before", why=str(error))
                else:
                    ended = last.pop_all()
                    last.push_async_exit(next_.pop_all())
                    await ended.aclose()
            _freeze()


def _freeze() -> None:
    """Keep the garbage collector from what is there for good: 0.3 s a look at 40,000 cameras."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()


async def _anew(start: Callable[[Config], Awaitable[None]], configs: Configs) -> None:
    """Do something by one configuration after another."""
    while True:
        work = asyncio.ensure_future(start(configs.now))
        newer = asyncio.ensure_future(configs.newer())
        try:
            await asyncio.wait({work, newer}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
        finally:
            for task in (work, newer):
                task.cancel()
            await asyncio.wait({work, newer})


def run_role(config: Config, role: str, share: tuple[int, int], frames: Frames | None) -> int:
    """Run one role in this process until SIGTERM or SIGINT; SIGHUP has the files read anew.

    With `frames` a supervisor hands over what is to be taken over, and its end is ours.
    """
    check_extras(config, role)
    configs = Configs(config)
    starts: dict[str, Callable[[], Awaitable[None]]] = {
        "recorder": lambda: _recorder(configs, *share),
        "uploader": lambda: _anew(_uploader, configs),
        "orders": lambda: _anew(_orders, configs),
        "pictures": lambda: _anew(_pictures, configs),
        "web": lambda: _web(configs, f"web-{share[0]}"),
    }
    reloading = Reloading(config, configs.put)

    async def alone() -> None:
        following = asyncio.create_task(reloading.run())
        try:
            await starts[role]()
        finally:
            following.cancel()

    def heard(data: bytes) -> None:
        assert frames is not None
        for newer in frames.feed(data):
            configs.put(newer)

    if frames is None:
        return _run_until_signal(alone, reload=reloading.ask, hard=True)
    return _run_until_signal(starts[role], heard=heard)


def run_all(config: Config, supervised: bool) -> int:
    """Run every role under a supervisor; returns the exit code."""
    check_extras(config)
    check_port(config.web.host, config.web.port)
    find_ffmpeg(config.ffmpeg)
    if wrong := spool_problem(config.spool):
        raise OSError(wrong)
    supervisor, lock = Supervisor(config), lock_spool(config.spool)
    if lock is None:
        log.warning("Another `kuager run` has this spool: `kuager reload` reaches that one alone")
    return _run_until_signal(
        supervisor.run,
        reload=supervisor.reload,
        kill=supervisor.kill,
        heard=(lambda _: None) if supervised else None,
        hard=True,
    )


def _raise_file_limit() -> None:
    """Raise how many files this process may open as far as it may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):  # a sandbox may forbid it
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def files_needed(cameras: int) -> int:
    """Return how many files a recorder process of so many cameras has open at most."""
    return FILES_BESIDE + FILES_A_CAMERA * cameras


def check_file_limit(files: int, cameras: int) -> None:
    """Say how many cameras fit where a recorder process may open only so many files."""
    fit = max(0, (files - files_needed(0)) // FILES_A_CAMERA)
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
    reload: Callable[[], None] = lambda: None,
    kill: Callable[[], None] = lambda: None,
    heard: Callable[[bytes], None] | None = None,
    hard: bool = False,
) -> int:
    """`heard` takes what comes over standard input, whose end is ours then."""
    _raise_file_limit()

    def end_hard() -> None:
        log.error("Asked again: ending at once, without sealing what is being recorded")
        kill()
        os._exit(1)

    async def main() -> None:
        task = asyncio.ensure_future(start())
        asked = signals.Asked(task.cancel, end_hard if hard else None)
        signals.on_stop(asked.again, reload)
        if heard is not None:
            signals.on_parent_gone(asked.again, heard)
        try:
            await task
        except asyncio.CancelledError:
            if not asked.already:
                raise

    uvloop.run(main())
    return 0
