"""What becomes of several machines when something dies: `python -m benchmarks.nodes_table dead`.

Each part prints a row of the table of docs/scaling.md, and exits with 1 where something was wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

from benchmarks.installation import Installation, Machine, promote, standby_of
from benchmarks.nodes_watch import Account, Watchers, folder_of, lost, spread
from storage.catalogue.leases import LEASE_MS
from tests.support.site_stack import opened, plays, shown_ms

SETTLED_MS = 90_000  # a recording, and its way to the catalogue
# what is killed, and how often of all times
WEIGHTS = {"process": 6, "machine": 2, "database": 1, "s3": 1, "nginx": 1, "stop": 1}
Part = Callable[[Installation, Watchers, argparse.Namespace], Awaitable[list[str]]]


def now_ms() -> int:
    return int(time.time() * 1000)


def row(what: str, *cells: object) -> None:
    """Print a row."""
    print(f"| {what} | {' | '.join(map(str, cells))} |", flush=True)


async def settle(watchers: Watchers) -> dict[tuple[str, int], str]:
    """Wait until what was recorded is known and archived; return what had been seen of it."""
    seen = dict(watchers.seen)
    await asyncio.sleep(SETTLED_MS / 1000)
    return seen


def faults(account: Account, watchers: Watchers, lost_: list[str]) -> list[str]:
    """Return what must not be."""
    holes = {s: found for s, found in account.holes.items() if found}
    wrong = [*watchers.wrong, *lost_[:10]]
    if again_ms := account.again():
        wrong.append(f"{again_ms} ms are recorded twice under one epoch")
    if holes:
        station, found = next(iter(holes.items()))
        wrong.append(
            f"{len(holes)} cameras have time that is neither recorded nor missing: "
            f"{station} {[b - a for a, b in found]}"
        )
    return wrong


@contextlib.asynccontextmanager
async def in_chromium(
    site: Installation, machine: Machine
) -> AsyncIterator[Callable[[int], Awaitable[str]]]:
    """Watch a camera that a machine records, through the edge; gives who tells whether the player
    went on by itself after a moment."""
    assert site.edge is not None
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        yield lambda _: asyncio.sleep(0, "not there")
        return
    (station, *_) = await site.stations_of(machine)
    url = f"{site.edge.base}/stations/{station}"
    async with opened(chromium, url, ignore_https_errors=True) as (page, errors):
        await plays(page, "c", "it does not begin")

        async def went_on(after_ms: int) -> str:
            await plays(page, "c", "it does not go on")
            behind_s = time.time() - await shown_ms(page) / 1000
            assert await shown_ms(page) > after_ms + 20_000 and not errors, errors
            return f"it went on by itself; {behind_s:.0f} s behind what happens"

        yield went_on


async def dead(site: Installation, watchers: Watchers, options: argparse.Namespace) -> list[str]:
    """kill -9 of all of a machine; then it comes back."""
    held = {name: n for name, n in (await site.holders()).items() if name}
    orphans = await site.stations_of(site.machines[0])
    async with in_chromium(site, site.machines[0]) as went_on:
        killed_ms = now_ms()
        site.machines[0].kill()
        await asyncio.sleep(60)
        await site.all_recorded()
        row("Chromium, which watched one of its cameras", await went_on(killed_ms))
    pauses = watchers.pauses(killed_ms / 1000)
    await settle(watchers)
    account = await Account.of(site, site.begin_ms + 60_000, now_ms() - SETTLED_MS)
    again = [
        min(start - killed_ms for _, start, _ in account.recorded[station] if start > killed_ms)
        for station in orphans
    ]
    gaps = [
        (end - start) / 1000
        for found in account.missing.values()
        for start, end, _ in found
        if end > killed_ms
    ]
    row(
        f"a machine of {len(site.machines)} dies ({held})",
        f"its {len(orphans)} cameras are recorded again after "
        f"{spread(ms / 1000 for ms in again)}; missing until it comes back: {spread(gaps)}; "
        f"viewers: {spread(pauses)}",
    )
    back_ms = now_ms()
    await site.machines[0].start()
    balanced_s = await site.balanced(len(site.machines))
    seen = await settle(watchers)
    account = await Account.of(site, site.begin_ms + 60_000, now_ms() - SETTLED_MS)
    after = [g for found in account.missing.values() for g in found if g[0] > back_ms]
    missing = [
        (end - start) / 1000
        for found in account.missing.values()
        for start, end, _ in found
        if start < back_ms and end > killed_ms - 10_000
    ]
    causes = Counter(
        w for found in account.missing.values() for a, _, w in found if a > killed_ms - 10_000
    )
    row(
        "it comes back",
        f"balanced after {balanced_s:.0f} s, gaps by it: {len(after)}; missing in "
        f"truth: {spread(missing)}; causes {dict(causes)}; twice {account.doubly() / 1000:.0f} s",
    )
    return faults(account, watchers, await lost(site, seen))


async def database(
    site: Installation, watchers: Watchers, options: argparse.Namespace
) -> list[str]:
    """PostgreSQL stopped for some minutes, then failed over to a standby."""
    before = await _epochs(site)
    begun_ms = now_ms()
    site.postgres.kill()
    await asyncio.sleep(options.seconds)
    recorded = await site.recorded()
    await asyncio.to_thread(site.postgres.start)
    await asyncio.sleep(30)
    moved = sum(a != b for a, b in zip(before, await _epochs(site), strict=True))
    row(
        f"PostgreSQL away for {options.seconds} s",
        f"recorded meanwhile: {recorded} of "
        f"{len(site.names)}; taken over by mistake: {moved}; viewers: "
        f"{spread(watchers.pauses(begun_ms / 1000))}",
    )
    standby = await asyncio.to_thread(standby_of, site.postgres, site.folder / "standby")
    try:
        await asyncio.sleep(5)
        site.postgres.kill()
        for pipe in site.pipes:
            pipe.cut("refuse")
            pipe.target = standby.port
        await asyncio.sleep(3)
        await asyncio.to_thread(promote, standby)
        for pipe in site.pipes:
            pipe.cut("pass")
        await asyncio.sleep(60)
        again = sum(a != b for a, b in zip(before, await _epochs(site), strict=True))
        row("failed over to a standby", f"taken over by mistake: {again - moved}")
        seen = await settle(watchers)
        account = await Account.of(site, site.begin_ms + 60_000, now_ms() - SETTLED_MS)
        wrong = faults(account, watchers, await lost(site, seen))
        if again:
            wrong.append(f"{again} shards changed hands")
        return wrong + [f"a gap of {ms} ms" for ms in account.gaps()[:5]]
    finally:
        standby.kill()


async def _epochs(site: Installation) -> list[tuple[str | None, int]]:
    return [(s.holder, s.epoch) for s in (await site.view()).shards]


async def cut(site: Installation, watchers: Watchers, options: argparse.Namespace) -> list[str]:
    """One machine cut off from PostgreSQL alone."""
    begun_ms = now_ms()
    site.pipes[0].cut("hang")
    await asyncio.sleep(options.seconds)
    site.pipes[0].cut("pass")
    await asyncio.sleep(30)
    seen = await settle(watchers)
    account = await Account.of(site, site.begin_ms + 60_000, now_ms() - SETTLED_MS)
    gaps = [ms / 1000 for ms in account.gaps()]
    row(
        f"one machine cut off from PostgreSQL for {options.seconds} s",
        f"recorded twice: {account.doubly() / 1000:.0f} s of all cameras; missing: {spread(gaps)};"
        f" viewers: {spread(watchers.pauses(begun_ms / 1000))}",
    )
    wrong = faults(account, watchers, await lost(site, seen))
    if options.seconds * 1000 > 2 * LEASE_MS and not account.doubly():
        wrong.append("nothing was recorded twice")
    return wrong


async def kills(site: Installation, watchers: Watchers, options: argparse.Namespace) -> list[str]:
    """Random kills of processes, machines, PostgreSQL, S3 and nginx."""
    choose, counts = random.Random(options.seed), Counter[str]()
    for _ in range(options.rounds):
        await asyncio.sleep(choose.uniform(0.5, 2 * options.every))
        machine = choose.choice(site.machines)
        (what,) = choose.choices([*WEIGHTS], [*WEIGHTS.values()])
        counts[what] += 1
        away_s = choose.uniform(0, 20)
        if what == "process":
            if pids := machine.pids()[1:]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(choose.choice(pids), signal.SIGKILL)
        elif what == "machine":
            machine.kill()
            await asyncio.sleep(away_s)
            await machine.start()
        elif what == "stop":
            await machine.stop()
            await machine.start()
        elif what == "s3":
            await asyncio.to_thread(site.stop_s3)
            await asyncio.sleep(away_s)
            await asyncio.to_thread(site.start_s3)
        elif what == "nginx":
            assert site.edge is not None
            await site.edge.kill()
            await asyncio.sleep(away_s / 4)
            await site.edge.start()
        else:
            site.postgres.kill()
            await asyncio.sleep(away_s)
            await asyncio.to_thread(site.postgres.start)
    await site.all_recorded()
    await site.balanced(len(site.machines))
    seen = await settle(watchers)
    account = await Account.of(site, site.begin_ms + 60_000, now_ms() - SETTLED_MS)
    gone = await lost(site, seen)
    row(
        f"{options.rounds} kills ({dict(counts)})",
        f"seen by players: {len(seen)} segments,"
        f" of which no archive has {len(gone)}; missing {sum(account.gaps()) / 1000:.0f} s and"
        f" twice {account.doubly() / 1000:.0f} s of {len(site.names)} cameras",
    )
    return faults(account, watchers, gone)


async def rolling(site: Installation, watchers: Watchers, options: argparse.Namespace) -> list[str]:
    """Each machine is stopped and started, one after the other."""
    begun_ms = now_ms()
    for machine in site.machines:
        await machine.stop()
        await machine.start()
        await site.all_recorded()
        await asyncio.sleep(10)
    await site.balanced(len(site.machines))
    seen = await settle(watchers)
    account = await Account.of(site, site.begin_ms + 60_000, now_ms() - SETTLED_MS)
    gaps = [
        (end - start) / 1000
        for found in account.missing.values()
        for start, end, _ in found
        if end > begun_ms
    ]
    row(
        "each machine stopped and started",
        f"gaps: {len(gaps)}, {spread(gaps)}; viewers: "
        f"{spread(watchers.pauses(begun_ms / 1000))}; twice {account.doubly() / 1000:.0f} s",
    )
    wrong = faults(account, watchers, await lost(site, seen))
    return wrong + [f"a gap of {gap:.1f} s" for gap in gaps if gap > 5]


PARTS: dict[str, Part] = {
    "dead": dead,
    "database": database,
    "cut": cut,
    "kills": kills,
    "rolling": rolling,
}


async def measure(options: argparse.Namespace) -> list[str]:
    """Do one part; returns what was wrong."""
    folder = folder_of("nodes")
    site = Installation(folder, options.machines, options.cameras)
    try:
        async with site.running():
            assert site.edge is not None
            await site.balanced(options.machines)
            await site.all_recorded()
            async with site.edge.serving() as session:
                watchers = Watchers(session, options.cameras)
                async with watchers.watching():
                    await asyncio.sleep(70)  # a recording of each camera
                    return await PARTS[options.part](site, watchers, options)
    finally:
        if options.keep:
            print(f"kept: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--machines", type=int, default=3)
    parser.add_argument("--cameras", type=int, default=60)
    parser.add_argument("--seconds", type=int, default=60, help="how long it is away")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--every", type=float, default=30.0, help="seconds between two kills")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="leave its folder")
    wrong = asyncio.run(measure(parser.parse_args()))
    for text in wrong:
        print(f"WRONG: {text}", flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
