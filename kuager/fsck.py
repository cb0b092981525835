"""`kuager fsck`: what spool, catalogue and archives say of each other, in a table."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from pathlib import Path
from typing import BinaryIO

import orjson
from rich.progress import Progress, TextColumn
from rich.table import Table

from base.durable import replace_file
from base.lock import try_lock
from config.model import Config
from kuager.terminal import err, out, say
from storage.archive.factory import open_archive
from storage.archive.port import ArchiveError
from storage.catalogue.archive_ids import identify
from storage.catalogue.cameras import Name
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.database import CatalogueError
from storage.fsck.camera import Finding
from storage.fsck.check import Fsck, Position

SAVE_S = 2.0
SHOWN = 20  # findings one by one; the table counts all
NOT_IN_ARCHIVES = (
    "The catalogue lacked rows. Recordings, gaps, removals and the holds of operators come back "
    "from archives; orders, payments and the audit log do not. If it was lost, restore the copy of "
    "the database first (docs/install.md, Restore)."
)


def fsck(config: Config, *, repair: bool, deep: bool, from_start: bool, cameras: list[str]) -> int:
    """Compare everything; returns the exit code. `cameras` as station/camera, none for all."""
    try:
        return asyncio.run(_fsck(config, repair, deep, from_start, cameras))
    except KeyboardInterrupt:
        without = "without --from-start " if from_start else ""
        goes_on = f": {without}the same command goes on there" if deep and not cameras else ""
        say(f"Interrupted, and the rest was not looked at{goes_on}.", err)
        return 2
    except (ArchiveError, CatalogueError) as error:
        say(f"fsck could not go on: {error}", err)
        return 2
    except OSError as error:
        say(f"fsck could not go on: {error.filename or ''} {error.strerror}", err)
        return 2


async def _fsck(
    config: Config, repair: bool, deep: bool, from_start: bool, cameras: list[str]
) -> int:
    # of a deep look at everything alone: one at some cameras neither goes on with it nor ends it
    state = config.spool / "_status" / "fsck.json" if deep and not cameras else None
    election = config.election.id
    after, wrong_before = _read_state(state, election) if state and not from_start else (None, 0)
    lock = _lock(config.spool) if repair else None
    if repair and lock is None:
        err.print("Another kuager fsck --repair works on this spool: wait until it has ended.")
        return 2
    catalogue = await Catalogue.open(config.database_url)
    archives = [open_archive(a) for a in config.archives]
    try:
        if repair:
            await catalogue.cameras.sync(config)
        for archive in archives:
            await identify(archive, catalogue.archive_ids)
        fsck = Fsck(config, catalogue, archives, repair=repair, deep=deep, after=after)
        names = [n for n in await fsck.cameras() if not cameras or "/".join(n[1:]) in cameras]
        if unknown := set(cameras) - {"/".join(n[1:]) for n in names}:
            say(f"nobody knows of {', '.join(sorted(unknown))}", err)
            return 2
        if after:
            out.print(f"Going on after {after[0]}/{after[1]}, recording {after[3][0]}.")
            names = [n for n in names if n[1:] >= after[:2]]
        # before anything is removed, also at a single camera: only an archive may know a hold
        holds = await fsck.holds() if repair or not cameras else []
        for finding in holds:
            say(_line(finding), err)
        begun = await _look(fsck, names, state, wrong_before)
        findings = [*fsck.findings, *holds]
    finally:
        for archive in archives:
            await archive.close()
        await catalogue.close()
        if lock is not None:
            lock.close()
    if state is not None:
        state.unlink(missing_ok=True)
    _print(findings, bool(fsck.spool.waits), None if fsck.spool_id else config.spool)
    for name, waits in fsck.spool.waits.items():
        say(
            f"{waits.recordings:,} recordings ({waits.bytes / 1e6:,.1f} MB) wait in the spool for "
            f"the archive {name}: keep this disk until `kuager upload` or the uploader has "
            "archived them."
        )
    read = f", {fsck.bytes_read / 1e9:.1f} GB read and hashed" if deep else ""
    took = f"{time.monotonic() - begun:.0f} s"
    out.print(f"{len(names)} cameras, {fsck.recordings:,} recordings{read}, {took}.")
    left = _left(findings)
    if wrong_before:
        out.print(f"{wrong_before} findings were shown before the interruption.")
    if any((f.where, f.kind) == ("catalogue", "missing") for f in findings):
        out.print(NOT_IN_ARCHIVES)
    if findings and not repair:
        out.print("kuager fsck --repair puts right what can be.")
    return 1 if left or wrong_before else 0


def _lock(spool: Path) -> BinaryIO | None:
    """Return the lock of who repairs; None while another has it. Two would do all of it twice."""
    (spool / "_status").mkdir(parents=True, exist_ok=True)
    return try_lock(spool / "_status" / "fsck.lock")


async def _look(fsck: Fsck, names: list[Name], state: Path | None, wrong_before: int) -> float:
    """Look at cameras, and show what is found as it is found; return when that began."""
    begun = saved = time.monotonic()
    shown = 0
    with Progress(
        *Progress.get_default_columns(), TextColumn("{task.fields[more]}"), console=err
    ) as bar:
        task = bar.add_task("Comparing", total=len(names), more="")
        for name in names:
            looking = asyncio.create_task(fsck.check(name))
            while True:
                await asyncio.wait({looking}, timeout=0.5)
                position, found = fsck.position, fsck.findings
                for finding in found[shown:SHOWN]:
                    bar.console.print(_line(finding), markup=False, highlight=False)
                shown = len(found)
                if looking.done():
                    break
                more = f"{fsck.recordings:,} recordings"
                if fsck.deep:
                    more += f", {fsck.bytes_read / 1e9:.1f} GB"
                if state is not None and time.monotonic() - saved > SAVE_S:
                    saved = time.monotonic()
                    wrong, election = wrong_before + _left(found), fsck.config.election.id
                    _write_state(state, position, wrong, election)
                bar.update(task, more=more)
            looking.result()
            bar.advance(task)
    return begun


def _left(findings: list[Finding]) -> int:
    """Return how much was found and not put right."""
    return sum(not finding.done for finding in findings)


def _line(f: Finding) -> str:
    done = f": {f.done}" if f.done else ""
    return f"{f.camera} {f.which}: {f.where}: {f.kind}: {f.what}{done}"


def _print(findings: list[Finding], waits: bool, no_spool: Path | None) -> None:
    if no_spool is not None:
        say(f"No spool can be read at {no_spool}: what it alone has may be left out.", err)
    if not findings and no_spool is not None:
        out.print("Catalogue and archives agree.")
        return
    if not findings:
        but = ", but for what waits in the spool" if waits else ""
        out.print(f"Spool, catalogue and archives agree{but}.")
        return
    table = Table(title="Found", title_justify="left")
    for column in ("where", "what", "", "how many", "put right", "one of them"):
        table.add_column(column, justify="right" if column in ("how many", "put right") else "left")
    kinds = Counter((f.where, f.kind, f.what) for f in findings)
    for (where, kind, what), count in sorted(kinds.items()):
        same = [f for f in findings if (f.where, f.kind, f.what) == (where, kind, what)]
        done = sum(bool(f.done) for f in same)
        table.add_row(where, kind, what, str(count), str(done), f"{same[0].camera} {same[0].which}")
    out.print(table)


def _read_state(path: Path, election: str) -> tuple[Position | None, int]:
    """Return where a deep look at an election was interrupted, and how much it had found."""
    try:
        state = orjson.loads(path.read_bytes())
        if state.get("election", election) != election:
            return None, 0
        station, camera, archive, (seq, start_ms) = state["position"]
        position = str(station), str(camera), int(archive), (int(seq), int(start_ms))
        return position, int(state["wrong"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None, 0


def _write_state(path: Path, position: Position | None, wrong: int, election: str) -> None:
    if position is not None:
        told = {"election": election, "position": position, "wrong": wrong}
        with contextlib.suppress(OSError):  # a spool that cannot be written is no reason to stop
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, orjson.dumps(told))
