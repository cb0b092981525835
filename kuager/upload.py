"""`kuager upload`: archives what waits in the spool, and ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from rich.progress import Progress

from base.lock import try_lock
from config.model import Config
from kuager.terminal import err, say
from storage.archival.replicator import Pauses
from storage.archival.replicators import Replicators
from storage.archival.uploader import Uploader
from storage.archive.factory import open_archive
from storage.catalogue.cameras import Name
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.database import CatalogueError
from storage.fsck.spool import seal_all_abandoned
from storage.spool.disk import check_spool
from storage.spool.reader import SpoolReader
from storage.spool.writer import spool_problem

LOOK_S = 0.2
SHOWN = 20  # of what cannot be archived, one by one


def upload(config: Config, *, until_done: bool) -> int:
    """Archive what waits; returns the exit code: 0 nothing waits any longer, 1 something does.

    With `until_done` it ends only when nothing waits, or when it is interrupted.
    """
    try:
        return asyncio.run(_upload(config, until_done))
    except KeyboardInterrupt:
        err.print("Interrupted: what was not archived still waits in the spool.")
        return 1
    except CatalogueError as error:
        say(f"upload could not run: {error}", err)
    except OSError as error:
        say(f"upload could not run: {error.strerror}", err)
    return 2


async def _upload(config: Config, until_done: bool) -> int:
    if problem := spool_problem(config.spool, config.spool_limits.mount):
        raise OSError(0, problem)
    check_spool(config.spool)  # of a disk that is not mounted nothing waits
    with _alone(config):
        pass  # the uploader takes the lock itself; this only tells at once that another has it
    for name, view in _cameras(config):
        if sealed := await asyncio.to_thread(seal_all_abandoned, view, name):
            say(f"{name[1]}/{name[2]}: what its recorder left was {sealed}.", err)
    async with _uploader(config) as uploader:
        work = asyncio.create_task(uploader.run())
        with Progress(console=err) as bar:
            task = bar.add_task("Archiving", total=None)
            while not work.done():
                await asyncio.wait({work}, timeout=LOOK_S)
                states = [replicator.status for replicator in uploader.replicators.all]
                done = sum(status.archived_total for status in states)
                left = sum(status.backlog_recordings for status in states)
                bar.update(task, completed=done, total=done + left)
                waits = uploader.replicators
                if uploader.discovery.looked and _is_over(waits, until_done):
                    uploader.gaps.archive_ended(unrecorded=True)  # no recording will carry them
                    if _is_over(waits, until_done):
                        break
        failed = work.done()
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
        return _say(uploader) if not failed else 2


def _is_over(waits: Replicators, until_done: bool) -> bool:
    return waits.is_done or (waits.is_idle and not until_done)


def _say(uploader: Uploader) -> int:
    """Print what was archived and what was not, and why; returns the exit code."""
    waits = 0
    for replicator in uploader.replicators.all:
        status = replicator.status
        waits += status.backlog_recordings
        say(
            f"{replicator.name}: {status.archived_total:,} recordings archived "
            f"({status.archived_bytes_total / 1e6:,.1f} MB), {status.backlog_recordings:,} wait"
            + (f": {status.last_error}" if status.last_error else ".")
        )
    for number, (archive, one) in enumerate(uploader.replicators.blocked):
        if number < SHOWN:
            say(f"{archive}: {one.key}: {one.why}", err)
    return 1 if waits else 0


@contextlib.asynccontextmanager
async def _uploader(config: Config) -> AsyncIterator[Uploader]:
    catalogue = await Catalogue.open(config.database_url)
    archives = [open_archive(a) for a in config.archives]
    try:
        yield Uploader(config, catalogue, archives, pauses=Pauses(drain_s=0.0))
    finally:
        for archive in archives:
            await archive.close()
        await catalogue.close()


def _alone(config: Config) -> contextlib.AbstractContextManager[object]:
    """Return the lock of the spool's uploader; raises OSError while another has it."""
    if lock := try_lock(config.spool / "_status" / "uploader.lock"):
        return lock
    text = "an uploader works on this spool: it archives what waits (kuager_archive_backlog_…)"
    raise OSError(0, text)


def _cameras(config: Config) -> list[tuple[Name, SpoolReader]]:
    """Return the cameras of the spool."""
    found = []
    for path in sorted(config.spool.glob("[a-z0-9]*/*/camera.json")):
        name = (config.election.id, path.parent.parent.name, path.parent.name)
        view = SpoolReader(config.spool, name[1], name[2])
        view.refresh()
        found.append((name, view))
    return found
