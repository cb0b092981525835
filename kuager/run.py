"""`kuager run`: the roles, each in a process of its own or under a supervisor (supervisor.py).

Each role imports what it needs when it starts: all of it together takes 50 MB a process.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

import structlog
import uvloop

from config.model import Config
from kuager import VERSION, signals
from kuager.extras import check_extras
from kuager.reload import Configs, Frames, Reloading
from kuager.supervisor import Supervisor, why_not
from recorder.ffmpeg import find_ffmpeg
from storage.spool.disk import is_mounted
from storage.spool.status_records import ORDERS, UPLOADER
from storage.spool.waiting import saying_that_it_waits
from storage.spool.writer import spool_problem
from streaming.http.ports import PortInUse, check_port

if TYPE_CHECKING:
    from storage.archive.port import Archive
    from storage.catalogue.catalogue import Catalogue
    from storage.recording_source import Store

FILES_BESIDE, FILES_A_CAMERA = 64, 8  # descriptors of a recorder process, with sound by UDP

log = structlog.get_logger()


async def _recorder(configs: Configs, share: int, shares: int) -> None:
    from recorder.camera_spec import CameraSpec, camera_specs
    from recorder.worker import Worker, finish_others
    from storage.spool.lease_file import LeaseWatch

    config, leases = configs.now, LeaseWatch(configs.now.spool)
    if config.node:
        await leases.first()

    def specs() -> list[CameraSpec]:
        cameras = camera_specs(configs.now, share, shares, leases.now if config.node else None)
        check_file_limit(resource.getrlimit(resource.RLIMIT_NOFILE)[0], len(cameras))
        return cameras

    cameras, ffmpeg = specs(), find_ffmpeg(config.ffmpeg)
    if config.node:
        mine = camera_specs(config, share, shares)
        await asyncio.to_thread(finish_others, mine, cameras, config.spool)
    worker = Worker(cameras, config.spool, ffmpeg, share, config.spool_limits)
    changing = asyncio.Lock()

    async def follow(newer: Callable[[], Awaitable[object]]) -> None:
        while True:
            await newer()
            async with changing:
                await worker.change(specs())

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(worker.run())
        tasks.create_task(follow(configs.newer))
        if config.node:
            tasks.create_task(follow(leases.newer))


async def _node(configs: Configs) -> None:
    from storage.cluster.agent import NodeAgent
    from storage.cluster.machines import Machines
    from storage.cluster.peer_status import PeerStatus
    from storage.cluster.peers import Peers

    node, spool = configs.now.node, configs.now.spool
    peers = Peers(password=node.password if node else None)
    agent = NodeAgent(configs.now, VERSION)
    status = PeerStatus(spool, Machines(spool), peers)

    async def follow() -> None:
        while True:
            agent.change(await configs.newer())

    beside = [asyncio.create_task(follow()), asyncio.create_task(status.run())]
    try:
        await agent.run()
    finally:
        for task in beside:
            task.cancel()
        await asyncio.wait(beside)
        await peers.close()


@contextlib.asynccontextmanager
async def _stores(config: Config, said: str) -> AsyncIterator[tuple[Catalogue, list[Archive]]]:
    """Have the catalogue, waited for, and the archives meanwhile; `said` is the status file."""
    from storage.archive.factory import open_archive
    from storage.catalogue.catalogue import Catalogue

    async with saying_that_it_waits(config.spool, said) as tell:
        catalogue = await Catalogue.open_patiently(
            config.database_url, lambda error: tell(str(error), error.fault)
        )
    archives = [open_archive(a) for a in config.archives]
    try:
        yield catalogue, archives
    finally:
        for archive in archives:
            await archive.close()
        await catalogue.close()


@contextlib.asynccontextmanager
async def _other_spools(config: Config) -> AsyncIterator[list[Store]]:
    """Have what other machines have, where there are others."""
    from storage.cluster.machines import Machines
    from storage.cluster.other_spools import OtherSpools
    from storage.cluster.peers import Peers

    peers = Peers(password=config.node.password if config.node else None)
    try:
        yield [OtherSpools(Machines(config.spool), peers)] if config.node else []
    finally:
        await peers.close()


async def _uploader(config: Config) -> None:
    from storage.archival.uploader import Uploader

    async with _stores(config, UPLOADER) as stores:
        await Uploader(config, *stores).run()


async def _orders(config: Config) -> None:
    from copies.orders.worker import OrderWorker

    if config.copies is None:
        raise OSError("copies are off: there is no 'copies' section in the configuration")
    async with _stores(config, ORDERS) as (catalogue, archives), _other_spools(config) as others:
        await OrderWorker(config, catalogue, archives, others=others).run()


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
                except Exception:  # a fault of ours takes no page away
                    log.exception("The pages go on by the configuration before")
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
        "node": lambda: _node(configs),
        "recorder": lambda: _recorder(configs, *share),
        "uploader": lambda: _anew(_uploader, configs),
        "orders": lambda: _anew(_orders, configs),
        "pictures": lambda: _anew(_pictures, configs),
        "web": lambda: _web(configs, f"web-{share[0]}"),
    }
    reloading = Reloading(config, configs.put, why_not=partial(why_not, role=role))

    async def alone() -> None:
        following = asyncio.create_task(reloading.run())
        try:
            await starts[role]()
        finally:
            following.cancel()

    def on_input(data: bytes) -> None:
        assert frames is not None
        for newer in frames.feed(data):
            configs.put(newer)

    if frames is None:
        return _run_until_signal(alone, reload=reloading.ask, hard=True)
    return _run_until_signal(starts[role], on_input=on_input)


def run_all(config: Config, supervised: bool) -> int:
    """Run every role under a supervisor; returns the exit code."""
    check_extras(config)
    check_port(config.web.host, config.web.port)
    find_ffmpeg(config.ffmpeg)
    # of a disk that is not mounted recorders say so, and wait for it
    if is_mounted(config.spool_limits.mount) and (wrong := spool_problem(config.spool)):
        raise OSError(wrong)
    supervisor = Supervisor(config)
    return _run_until_signal(
        supervisor.run,
        reload=supervisor.reload,
        kill=supervisor.kill,
        on_input=(lambda _: None) if supervised else None,
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
    on_input: Callable[[bytes], None] | None = None,
    hard: bool = False,
) -> int:
    """`on_input` takes what comes over standard input, whose end is ours then."""
    _raise_file_limit()

    def end_hard() -> None:
        log.error("Asked again: ending at once, without sealing what is being recorded")
        kill()
        logging.shutdown()  # which has lines written that wait
        os._exit(1)

    async def main() -> None:
        task = asyncio.ensure_future(start())
        asked = signals.StopRequests(task.cancel, end_hard if hard else None)
        signals.on_stop(asked.again, reload)
        if on_input is not None:
            signals.on_parent_gone(asked.again, on_input)
        try:
            await task
        except asyncio.CancelledError:
            if not asked.already:
                raise

    uvloop.run(main())
    return 0
