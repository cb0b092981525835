"""`kuager nodes`: the machines of an installation, and who records what."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from rich import box
from rich.table import Table

from config.model import Config
from kuager.terminal import err, format_utc, out, say
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.database import CatalogueError
from storage.catalogue.leases import LEASE_MS, Node, View
from storage.spool.lease_file import shard_of

DONE = {
    "drain": "{} hands its cameras over and takes none, until `kuager nodes resume`.",
    "resume": "{} takes part again.",
    "give-up": "Nobody waits for {} any more. It takes part again if it comes back.",
}

FEWEST = 6  # characters of the id of a spool

Alone = tuple[int | None, int | None]  # recordings and bytes; None where they were not counted
UNCOUNTED: Alone = (None, None)
T = TypeVar("T")


def show(config: Config, as_json: bool) -> int:
    """Print all machines; returns the exit code."""

    async def work(catalogue: Catalogue) -> int:
        view = await catalogue.nodes.view()
        away = [spool for spool in view.nodes if not view.is_alive(spool)]
        alone, uncounted = dict[str, Alone](), ""
        try:
            alone.update(await catalogue.nodes.unarchived(away))
        except CatalogueError as error:  # of a country's rows it may take too long
            alone, uncounted = dict.fromkeys(away, UNCOUNTED), str(error)
        cameras = Counter(
            shard_of(f"{station.id}/{camera.id}")
            for station in config.stations
            for camera in station.cameras
        )
        rows = [
            _facts(view, node, cameras, alone.get(node.spool, (0, 0)))
            for node in sorted(view.nodes.values(), key=lambda node: (node.name, node.spool))
        ]
        without = sum(cameras[s.shard] for s in view.shards if not view.is_alive(s.holder))
        if as_json:
            data = {"nodes": rows, "cameras": cameras.total(), "cameras_without_node": without}
            json.dump(data, sys.stdout, indent=1)
            print()
        elif rows:
            out.print(_table(rows))
        else:
            say("No machine has joined yet: one does that starts with 'node' in its kuager.yaml.")
        if uncounted:
            say(f"What machines that are away have alone was not counted: {uncounted}", err)
        if without and not as_json:
            say(f"{without} of {cameras.total()} cameras are recorded by no machine.")
        return 1 if without or any(row["state"] == "away" for row in rows) else 0

    return _with(config, work)


def change(config: Config, what: str, name: str) -> None:
    """Drain, resume or give up a machine; raises LookupError, in words, where that cannot be."""

    async def work(catalogue: Catalogue) -> None:
        view = await catalogue.nodes.view()
        node = _named(view, name, what)
        if what == "give-up":
            if not await catalogue.nodes.give_up(node.spool):
                raise LookupError(f"{node.name} is there: only a machine that is away is given up")
        else:
            await catalogue.nodes.drain(node.spool, what == "drain")
        say(DONE[what].format(node.name))

    _with(config, work)


def _named(view: View, name: str, what: str) -> Node:
    """Return the machine of a name, else of a spool's id. Of several it is the one that is alive,
    to be given up the one that is away: a machine with a new disk is another one."""
    nodes = view.nodes.values()
    found = [n for n in nodes if n.name == name]
    if not found and len(name) >= FEWEST:  # less of an id may be the mistyped name of a machine
        found = [n for n in nodes if n.spool.startswith(name)]
    if len(found) > 1:
        alive = [n for n in found if view.is_alive(n.spool)]
        away = [n for n in found if n not in alive and n.given_up_ms is None]
        found = (away if what == "give-up" else alive) or found
    if not found:
        there = ", ".join(sorted({n.name for n in view.nodes.values()})) or "none"
        raise LookupError(f"no machine '{name}'; there are: {there}")
    if len(found) > 1:
        spools = ", ".join(sorted(n.spool for n in found))
        raise LookupError(f"several machines are '{name}'; write the id of the spool: {spools}")
    return found[0]


def _facts(view: View, node: Node, cameras: Counter[int], alone: Alone) -> dict[str, Any]:
    held = [s for s in view.shards if s.holder == node.spool]
    alive = view.is_alive(node.spool)
    return {
        "name": node.name,
        "spool": node.spool,
        "state": _state(node, alive),
        "address": node.address,
        "version": node.version,
        "shards": len(held) if alive else 0,
        "cameras": sum(cameras[s.shard] for s in held) if alive else 0,
        "most_cameras": node.most,
        "handing_over": sum(s.before == node.spool and s.handover is not None for s in view.shards),
        "seen_ms": max(0, node.until_ms - LEASE_MS) or None,
        "recordings_only_here": alone[0],
        "bytes_only_here": alone[1],
    }


def _state(node: Node, alive: bool) -> str:
    if not alive:
        if node.given_up_ms is not None:
            return "given up"
        return "stopped" if node.until_ms == 0 else "away"
    if node.leaving:
        return "stopping"
    return "drained" if node.drained else "up"


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=box.SIMPLE)
    for column in ("node", "state", "cameras", "shards", "address", "version", "remark"):
        table.add_column(column, overflow="fold")
    for row in rows:
        remarks = []
        if row["state"] in ("away", "given up"):
            remarks.append(f"last seen {format_utc(row['seen_ms'], 'never')}")
        if row["recordings_only_here"]:
            size = f"{row['bytes_only_here'] / 1e9:,.1f} GB"
            remarks.append(f"it alone has {row['recordings_only_here']:,} recordings ({size})")
        if row["handing_over"]:
            remarks.append(f"hands over {row['handing_over']} shards")
        most = "" if row["most_cameras"] is None else f" of {row['most_cameras']:,}"
        table.add_row(
            row["name"],
            row["state"],
            f"{row['cameras']:,}{most}",
            str(row["shards"]),
            row["address"],
            row["version"],
            "; ".join(remarks),
        )
    return table


def _with(config: Config, work: Callable[[Catalogue], Awaitable[T]]) -> T:
    if not config.database_url.startswith("postgresql:"):
        raise LookupError("there are several machines only where 'database' is a PostgreSQL")

    async def run() -> T:
        catalogue = await Catalogue.open(config.database_url)
        try:
            return await work(catalogue)
        finally:
            await catalogue.close()

    return asyncio.run(run())
