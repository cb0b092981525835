"""What `kuager run` will need beside right files, tried as it will use it, and left as it was."""

from __future__ import annotations

import hashlib
import math
import os
import resource
import tempfile
import uuid
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from base.clock import now_ms
from base.durable import nearest
from base.hostclock import UNSYNCHRONIZED, kernel_clock
from base.intervals import length, subtract
from base.lock import try_lock
from config.model import Archive as Settings
from config.model import Config, Election, PollingHours
from config.schedule import windows
from copies.orders.mail import ServerAway, connect
from copies.payments.port import Online, ProviderUnavailable, open_providers
from kuager.extras import ExtraMissing, check_extras
from kuager.reload import is_at_work
from kuager.run import files_needed
from kuager.terminal import format_utc
from recorder.ffmpeg import FfmpegMissing, find_ffmpeg
from storage.archive.factory import open_archive, proxy_of
from storage.archive.port import Archive, ArchiveError
from storage.catalogue.database import CatalogueError, describe_database
from storage.spool.disk import disk_space
from storage.spool.status import SpoolStatus
from storage.spool.status_records import UploaderStatus
from storage.spool.writer import spool_problem
from streaming.http.assets import assets
from streaming.http.ports import PortInUse, check_port, is_ours

CAMERA_BYTES_S = 250_000  # 2 Mbit/s: what is assumed of a camera
PROXIES = ("http_proxy", "https_proxy", "all_proxy")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: what is wrong with it, or what was seen, and what to do."""

    name: str
    wrong: str | None = None
    seen: tuple[str, ...] = ()
    to_do: tuple[str, ...] = ()


async def look(config: Config) -> list[Finding]:
    """Look at the spool, the database, the archives, and what this machine gives."""
    known = _known_archives(config)
    return [
        _spool(config),
        await look_at_database(config),
        *[await _archive(a, known.get(a.name)) for a in config.archives],
        *_ports(config),
        _files(config),
        _ffmpeg(config),
        _pages(),
        *_extras(config),
        *await _copies(config),
        *_proxies(config),
    ]


def _spool(config: Config) -> Finding:
    name = "spool"
    if problem := spool_problem(config.spool, config.spool_limits.mount):
        return Finding(name, problem)
    found = disk_space(there := nearest(config.spool))
    cameras = sum(len(s.cameras) for s in config.stations)
    reserve = config.spool_limits.reserve.of(found.total_bytes)
    free = f"{found.free_bytes / 1e9:,.1f} GB free of {found.total_bytes / 1e9:,.1f}"
    if found.free_bytes <= reserve or not found.files:
        text = f"{free}; {reserve / 1e9:,.1f} GB are left alone, so nothing would be recorded"
        return Finding(name, text, to_do=("make room, or choose another disk with 'spool'",))
    if why := _refuses_names(there):
        text = f"the disk of {config.spool} takes no locks, or no second name of a file: {why}"
        to_do = "choose another with 'spool', or give it ext4 or XFS: exFAT has no such names"
        return Finding(name, text, to_do=(to_do,))
    hours = (found.free_bytes - reserve) / (cameras * CAMERA_BYTES_S) / 3600 if cameras else 0
    lasts = f"for {hours:,.1f} h of all cameras at 2 Mbit/s each if nothing is archived"
    return Finding(name, seen=(free, lasts))


def _refuses_names(directory: Path) -> str | None:
    """Say why a file system does not do what a spool is marked and owned by: link(2), flock(2)."""
    try:
        with tempfile.TemporaryDirectory(prefix=".kuager-check-", dir=directory) as folder:
            file = Path(folder) / "file"
            if (lock := try_lock(file)) is not None:
                lock.close()
            os.link(file, Path(folder) / "link")
    except OSError as error:
        return error.strerror or str(error)
    return None


def clock_warnings(status: SpoolStatus) -> list[str]:
    """Return what is wrong with the clock, by the kernel and by recorders and uploader."""
    found = status.clock_warnings()
    if not kernel_clock().synchronized:
        found = [f"the clock: {UNSYNCHRONIZED}", *found]
    return list(dict.fromkeys(found))


def schedule_warnings(config: Config, at_ms: int) -> list[str]:
    """Return what is odd of when cameras are recorded, as it is where a date was mistyped."""
    found, election = list[str](), config.election
    if not any(w.start.date() <= election.date <= w.end.date() for w in election.windows):
        found.append(f"no window is on the day of the vote, {election.date}: look at 'windows'")
    elif (polling := election.polling_hours) and (left_s := _unrecorded_s(election, polling)):
        text = f"{left_s / 3600:.1f} h of the polling hours, {polling.start:%H:%M} to"
        text += f" {polling.end:%H:%M} on {election.date}, are in no window: look at both"
        found.append(text)
    ends = [
        window.end_ms
        for station in config.stations
        for camera in station.cameras
        for window in windows(election, station, camera)
    ]
    if ends and max(ends) <= at_ms:
        ended = f"the last window ended {format_utc(max(ends))}"
        found.append(f"nothing is to be recorded any more: {ended}; look at 'windows'")
    return found


def _unrecorded_s(election: Election, polling: PollingHours) -> int:
    """Return how many seconds of the polling hours are in no window."""

    def seconds(local: datetime) -> int:
        return round((local - datetime.min).total_seconds())

    hours = [seconds(datetime.combine(election.date, t)) for t in (polling.start, polling.end)]
    recorded = ((seconds(w.start), seconds(w.end)) for w in election.windows)
    return length(subtract([(hours[0], hours[1])], recorded))


async def look_at_database(config: Config) -> Finding:
    """Say whether the database can be used."""
    try:
        return Finding("database", seen=(await describe_database(config.database_url),))
    except CatalogueError as error:
        to_do = "put right the address, the password or the rights of 'database', or start it"
        return Finding("database", str(error), to_do=(to_do,))


def _known_archives(config: Config) -> dict[str, str | None]:
    """Return the id of each archive that the last uploader knew, by its name."""
    status = SpoolStatus(config.spool)
    list(status.refresh())
    told = status.last(UploaderStatus)
    return {name: a.archive_id for name, a in told.archives.items()} if told else {}


async def _archive(settings: Settings, known_id: str | None) -> Finding:
    name = f"archive {settings.name}"
    directory = settings.directory
    if directory is not None and known_id is None and settings.mount is None:
        there = nearest(directory)
        if not os.access(there, os.F_OK):
            return Finding(name, f"{there} is a link that leads nowhere")
        if there != directory and os.access(there, os.W_OK | os.X_OK):
            return Finding(name, seen=(f"{directory} is made at the first start",))
    seen = list[str]()
    for n, bucket in enumerate(settings.buckets or [None]):
        one = settings
        if bucket is not None:  # each by itself: what was put into the first tells of no other
            url = f"s3://{bucket}/{settings.prefix}".rstrip("/")
            one = settings.model_copy(update={"url": url, "more_buckets": ()})
        archive = open_archive(one)
        archive.expected_id = None if n else known_id  # the marker is in the first
        try:
            await archive.check_id()
            text = await _try(archive, one)
            seen.append(f"{bucket}: {text}" if settings.more_buckets else text)
        except ArchiveError as error:
            return Finding(name, str(error))
        finally:
            await archive.close()
    return Finding(name, seen=tuple(seen))


async def _try(archive: Archive, settings: Settings) -> str:
    """Write, read and remove an object; returns what was done, raises ArchiveError."""
    key, data = f"_kuager/check-{uuid.uuid4().hex}", b"kuager check"
    if settings.lock is not None:
        await archive.check_lock()
        await archive.sha256(key)
        return "answers, object lock is on; nothing was written, as 'lock' would keep it there"
    begun_ms = now_ms()
    put = await archive.put(key, data, hashlib.sha256(data).hexdigest())
    try:
        if await archive.get(key, bucket=put.bucket) != data:
            raise ArchiveError("an object that was written has other bytes when it is read")
    finally:
        try:
            await archive.remove(key, bucket=put.bucket, version_id=put.version_id)
        except ArchiveError as error:
            raise ArchiveError(f"{key} was written, and cannot be removed: {error}") from None
    return f"an object was written, read and removed in {now_ms() - begun_ms} ms"


def _ports(config: Config) -> list[Finding]:
    web, node = config.web, config.node
    wanted = [
        ("port", (web.host, web.port, "web.listen")),
        ("port of operators", (web.operators_host, web.operators_port, "web.operators")),
    ]
    if node is not None:
        wanted.append(("port of other machines", (node.host, node.port, "node.address")))
    spool = config.spool if is_at_work(config.spool) else None
    return [_port(name, where, spool) for name, where in wanted]


def _port(name: str, where: tuple[str, int, str], at_work: Path | None) -> Finding:
    """Try an address; `at_work` is the spool of a Kuager that may have it already."""
    host, port, _ = where
    if at_work is not None and is_ours(host, port, at_work):
        return Finding(name, seen=(f"{port} on {host}: `kuager run` is at work",))
    try:
        check_port(*where)
    except PortInUse as error:
        return Finding(name, str(error))
    return Finding(name, seen=(f"{port} on {host} is free",))


def _files(config: Config) -> Finding:
    streams = sum(1 + (c.low_url is not None) for s in config.stations for c in s.cameras)
    of_each = math.ceil(streams / config.workers)
    needed, (_, hard) = files_needed(of_each), resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        text = f"a process may open {hard}, and a recorder of {of_each} streams needs {needed}"
        to_do = "raise the hard limit (LimitNOFILE in the unit, ulimit -Hn), or 'workers'"
        return Finding("files", text, to_do=(to_do,))
    return Finding("files", seen=(f"{hard} may be open, {needed} are needed",))


def _ffmpeg(config: Config) -> Finding:
    try:
        return Finding("ffmpeg", seen=(find_ffmpeg(config.ffmpeg),))
    except FfmpegMissing as error:
        return Finding("ffmpeg", str(error))


def _pages() -> Finding:
    try:
        return Finding("pages", seen=(f"all {len(assets())} files that they load are there",))
    except OSError as error:
        text = f"{error.filename}: {error.strerror}: without it no web process starts"
        return Finding("pages", text, to_do=("make tools, or install the wheel anew",))


async def _copies(config: Config) -> list[Finding]:
    """Log in to the mail server, and show our keys to the providers of payments."""
    settings, found = config.copies, list[Finding]()
    if settings is not None and settings.mail is not None:
        where = f"{settings.mail.host}:{settings.mail.port}"
        try:
            (await connect(settings.mail)).close()
            found.append(Finding("mail", seen=(f"{where} lets us in",)))
        except ServerAway as error:
            to_do = "put right 'mail': the server, its port and tls, the user or the password"
            found.append(Finding("mail", f"{where}: {error}", to_do=(to_do,)))
    if settings is not None and settings.stripe is not None and not _extras(config):
        for provider in open_providers(settings).values():
            if isinstance(provider, Online):
                found.append(await _provider(provider))
    return found


async def _provider(provider: Online) -> Finding:
    try:
        await provider.check_access()
        return Finding(provider.name, seen=("takes our key",))
    except ProviderUnavailable as error:
        to_do = f"put right the keys of '{provider.name}'"
        return Finding(provider.name, str(error), to_do=(to_do,))
    finally:
        await provider.close_connections()


def _extras(config: Config) -> list[Finding]:
    try:
        check_extras(config)
    except ExtraMissing as error:
        return [Finding("installation", str(error))]
    return []


def _proxies(config: Config) -> list[Finding]:
    """Say which settings of proxies are found, and for what they are used: for buckets alone."""
    found = sorted(name for name in os.environ if name.lower() in PROXIES and os.environ[name])
    if not found:
        return []
    ways = [(archive.name, proxy_of(archive)) for archive in config.archives]
    through = [f"archive {name} is reached through {proxy}" for name, proxy in ways if proxy]
    direct = "all else is reached directly" if through else "no archive is reached through one"
    text = f"{', '.join(found)} {'are' if len(found) > 1 else 'is'} set"
    return [Finding("proxy", seen=(text, *through, direct))]
