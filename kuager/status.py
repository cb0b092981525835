"""`kuager status`: what is wrong now, from the status files and the database alone.

It needs no web process and no supervisor: whoever is away is what it tells of.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict

from base.clock import Clock, now_ms
from config.model import Config
from config.roles import processes
from config.schedule import windows
from kuager import VERSION
from kuager.check import ADVICE, show
from kuager.preflight import Finding, clock_warnings, look_at_database
from storage.spool.disk import check_spool, is_mounted, refusal_of, seconds_left
from storage.spool.lease_file import Holdings
from storage.spool.node_map import NodeMap, read_node_map
from storage.spool.status import STATUS_OLD_MS, SpoolStatus
from storage.spool.status_records import (
    CameraStatus,
    OrdersStatus,
    SupervisorStatus,
    UploaderStatus,
)
from streaming.ops.http_counts import is_silent

SILENT_S = 15.0  # without a picture a camera is not recorded: a segment, and two tellings of it
LOW_S = 60.0  # a second stream follows the first
BEHIND_S = 900.0
STUCK_S = 3600.0
SHOWN = 15  # cameras, one by one


def status(config: Config, as_json: bool) -> int:
    """Print how it stands; returns the exit code: 0 all is well, 1 something is wrong."""
    found = asyncio.run(look(config))
    wrong = sum(finding.wrong is not None for finding in found)
    if as_json:
        json.dump({"ok": not wrong, "findings": [asdict(f) for f in found]}, sys.stdout, indent=1)
        print()
    else:
        for finding in found:
            show(finding)
    return 1 if wrong else 0


async def look(config: Config, clock: Clock = now_ms) -> list[Finding]:
    """Return how it stands, part by part."""
    if (unreadable := _unreadable(config)) is not None:
        return [unreadable]
    status = SpoolStatus(config.spool, clock)
    list(status.refresh())
    return [
        _processes(config, status, clock()),
        *(_nodes(config, clock()) if config.node else ()),
        *_cameras(config, status, clock()),
        *_low_streams(config, status, clock()),
        _spool(config, status),
        await look_at_database(config),
        *_archives(config, status, clock()),
        *(_orders(status, clock()) if config.copies else ()),
        *_clock(status),
    ]


def _unreadable(config: Config) -> Finding | None:
    """Return that nothing can be known here, where the status files may not be read."""
    if not is_mounted(mount := config.spool_limits.mount):
        text = (
            f"no disk is mounted at {mount}: nothing is recorded, and what processes say is there"
        )
        return Finding("spool", text, to_do=("mount it: recording begins by itself",))
    try:
        os.scandir(config.spool / "_status").close()
    except FileNotFoundError:  # nothing ever ran
        pass
    except OSError as error:
        text = f"what processes say cannot be read: {error.filename}: {error.strerror}"
        return Finding("spool", text, to_do=("ask as the user of Kuager: sudo -u kuager …",))
    return None


def _processes(config: Config, status: SpoolStatus, at_ms: int) -> Finding:
    names, supervised = processes(config), status.supervised()
    new = [name for name in names if supervised and name not in supervised]
    away = [
        name
        for name in names
        if name not in new and (status.is_up(name) is False or is_silent(config.spool, name, at_ms))
    ]
    told = status.last(SupervisorStatus)
    version = (told and told.version) or VERSION
    if not any(status.is_up(name) for name in names):
        return Finding("processes", "Kuager does not run", to_do=("systemctl start kuager",))
    if away:
        text = f"not running: {', '.join(away)} (of {len(names)})"
        to_do = "the supervisor starts them again: its log says why they ended"
        return Finding("processes", text, to_do=(to_do,))
    if new:
        text = f"the files ask for {', '.join(new)}, which Kuager was not started with"
        return Finding("processes", text, to_do=("kuager reload: it says what needs a restart",))
    return Finding("processes", seen=(f"all {len(names)} run", f"version {version}"))


def _nodes(config: Config, at_ms: int) -> Iterator[Finding]:
    """Yield how this machine stands among the others, by what its role `node` last said."""
    found = read_node_map(config.spool)
    if found is None or at_ms - found.written_ms > STATUS_OLD_MS:
        text = "nobody says what this machine is to record; it goes on with what it had"
        yield Finding("node", text, to_do=("the log of the process node-0 says why",))
        return
    if found.database is not None:
        text = f"PostgreSQL does not answer, and recording goes on: {found.database}"
        yield Finding("node", text)
        return
    away = [n.name for n in found.nodes if not (n.alive or n.given_up or n.leaving)]
    held = sum(shard.holder == found.spool for shard in found.shards)
    without = sum(not _is_there(found, shard.holder) for shard in found.shards)
    if without:
        part = f"{without} of {len(found.shards)} parts of the cameras"
        to_do = "add a machine, or let those that are there have more ('cameras' of 'node')"
        yield Finding("nodes", f"{part} are recorded by nobody", to_do=(to_do,))
    if away:
        to_do = "bring it back; if its disk is lost: kuager nodes give-up"
        yield Finding("nodes", f"away: {', '.join(away)}", to_do=(to_do,))
    if not (without or away):
        alive = sum(node.alive for node in found.nodes)
        yield Finding("nodes", seen=(f"{alive} are there", f"{held} parts are this one's"))


def _is_there(found: NodeMap, spool: str | None) -> bool:
    node = found.machine(spool)
    return node is not None and node.alive


def _cameras(config: Config, status: SpoolStatus, at_ms: int) -> Iterator[Finding]:
    """Yield how many cameras are recorded, then those that should be and are not."""
    known: defaultdict[str, CameraStatus] = defaultdict(CameraStatus)
    for alive, cameras in status.cameras():
        for name, one in cameras.items():
            if alive or name not in known:
                known[name] = one if alive else CameraStatus(recorded_ms=one.recorded_ms)
    holdings = Holdings(config.spool, config.node is not None)
    since = {  # when the window began of each camera that is scheduled now
        name: window.start_ms
        for station in config.stations
        for camera in station.cameras
        if holdings.has(name := f"{station.id}/{camera.id}")
        for window in windows(config.election, station, camera)
        if window.start_ms <= at_ms < window.end_ms
    }
    late = [name for name in since if at_ms - (known[name].recorded_ms or 0) > SILENT_S * 1000]
    silent = [name for name in late if at_ms - since[name] > SILENT_S * 1000]
    recorded = f"{len(since) - len(late)} of {len(since)} that are scheduled now"
    if not silent:
        begin = (f"{len(late)} begin",) if late else ()
        yield Finding("cameras", seen=(f"{recorded} are recorded", *begin))
        return
    more = f"; {SHOWN} of the others follow" if len(silent) > SHOWN else ""
    yield Finding("cameras", f"only {recorded} are recorded{more}")
    for name in silent[:SHOWN]:
        yield _camera(name, known[name], at_ms)


def _low_streams(config: Config, status: SpoolStatus, at_ms: int) -> Iterator[Finding]:
    """Yield how many second streams are recorded of cameras that are; nothing where there are
    none."""
    known: defaultdict[str, CameraStatus] = defaultdict(CameraStatus)
    for alive, low in status.cameras(low=True):
        known |= low if alive else {}
    due = [
        name
        for station in config.stations
        for camera in station.cameras
        if camera.low_url and status.states.get(name := f"{station.id}/{camera.id}") == "recording"
    ]
    silent = [name for name in due if at_ms - (known[name].recorded_ms or 0) > LOW_S * 1000]
    recorded = f"{len(due) - len(silent)} of {len(due)} whose camera is recorded"
    if silent:
        why = known[silent[0]].detail or "no recorder tells of it"
        yield Finding("second streams", f"only {recorded}; {silent[0]}: {why}")
    elif due:
        yield Finding("second streams", seen=(f"{recorded} are recorded",))


def _camera(name: str, told: CameraStatus, at_ms: int) -> Finding:
    last_ms, cause = told.recorded_ms, told.cause
    since = f"for {_span((at_ms - last_ms) / 1000)}" if last_ms else "yet"
    why = told.detail or cause or "no recorder tells of it"
    return Finding(
        f"camera {name}",
        f"not recorded {since}: {why}" + (f" ({cause})" if cause else ""),
        to_do=(ADVICE[cause],) if cause in ADVICE else (),
    )


def _spool(config: Config, status: SpoolStatus) -> Finding:
    if status.nothing:
        return Finding("spool", f"nothing was ever recorded in {config.spool}")
    try:
        found = check_spool(config.spool)
    except OSError as error:
        return Finding("spool", refusal_of(error).detail)
    reserve = config.spool_limits.reserve.of(found.total_bytes)
    free = f"{found.free_bytes / 1e9:,.1f} GB free"
    if found.free_bytes < reserve or not found.files:
        to_do = "make room, or see why the archives do not take recordings"
        return Finding("spool", f"recording pauses: {free}, all of it reserve", to_do=(to_do,))
    recorders = status.recorders().values()
    left_s = seconds_left(found, reserve, sum(r.spool.bytes_per_s for r in recorders))
    lasts = "nothing is written" if left_s is None else f"lasts {_span(left_s)}"
    return Finding("spool", seen=(free, lasts))


def _archives(config: Config, status: SpoolStatus, at_ms: int) -> Iterator[Finding]:
    """Yield what the last uploader said of each archive."""
    told = status.last(UploaderStatus)
    for name in (archive.name for archive in config.archives):
        archive = told.archives.get(name) if told else None
        if archive is None:
            yield Finding(f"archive {name}", "no uploader has told of it yet")
            continue
        oldest_ms = archive.oldest_unarchived_ms
        age_s = 0.0 if oldest_ms is None else (at_ms - oldest_ms) / 1000
        waits = f"waiting: {_count(archive.backlog_recordings, 'recording')}"
        waits += f" ({archive.backlog_bytes / 1e9:,.1f} GB), the oldest for {_span(age_s)}"
        blocked = {reason: n for reason, n in archive.blocked.items() if n}
        if not archive.ok:
            yield Finding(f"archive {name}", f"takes nothing: {archive.last_error}; {waits}")
        elif blocked:
            counted = ", ".join(f"{n} {reason}" for reason, n in blocked.items())
            text = f"cannot be archived now: {counted}; {waits}"
            yield Finding(f"archive {name}", text, to_do=("the log names them and says why",))
        elif age_s > BEHIND_S:
            yield Finding(f"archive {name}", f"is behind; {waits}")
        elif overdue := archive.overdue_recordings:
            text = f"{_count(overdue, 'recording')} past their date cannot be removed"
            yield Finding(f"archive {name}", text, to_do=("the log names them and says why",))
        else:
            yield Finding(f"archive {name}", seen=(waits if oldest_ms else "has everything",))


def _orders(status: SpoolStatus, at_ms: int) -> Iterator[Finding]:
    told = status.last(OrdersStatus)
    if told is None:
        return
    oldest_ms = told.oldest_letter_ms
    if oldest_ms is not None and at_ms - oldest_ms > STUCK_S * 1000:
        age = _span((at_ms - oldest_ms) / 1000)
        text = f"{_count(told.letters_waiting, 'letter')}, the oldest for {age}"
        yield Finding("waiting", text, to_do=("the log says what the mail server answers",))
    if told.failing:
        to_do = "the log says which and why: 'Work on orders fails'"
        text = f"{_count(told.failing, 'kind')} of work on them: it fails"
        if told.failing_work:
            text += f" ({', '.join(told.failing_work)})"
        yield Finding("orders", text, to_do=(to_do,))
    if told.overdue:
        text = f"{told.overdue} should have ended, and what they hold is kept"
        yield Finding("orders", text, to_do=("the log says why: a step `end`",))
    if told.refunds_due:
        text = f"money is owed to {_count(told.refunds_due, 'requester')}"
        yield Finding("orders", text, to_do=("kuager orders list --owed",))


def _clock(status: SpoolStatus) -> list[Finding]:
    wrong = clock_warnings(status)
    return [Finding("clock", text.removeprefix("the clock: ")) for text in wrong] or [
        Finding("clock", seen=("synchronized",))
    ]


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _span(seconds: float) -> str:
    """Return a stretch of time as people say it."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.0f} s"
