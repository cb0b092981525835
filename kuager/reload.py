"""Taking over a changed configuration while everything goes on (SIGHUP, `kuager reload`).

Files that somebody is editing are read by one process alone, which validates them whole, compares
them with what runs, and takes all of it or nothing. A supervisor hands its processes what it took
over their standard input: frames of a length (8 bytes, big endian) and a pickled Config. So no
process reads files, at its start neither, and all of them run by one configuration.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import structlog

from base.clock import now_ms
from base.durable import replace_file
from base.lock import is_locked, try_lock
from config.load import load, spool_of
from config.model import Config
from config.problems import ConfigError
from storage.records import FormatError
from storage.spool.status_records import RELOAD, ReloadStatus

# What a change of would end recordings: the next start takes it over.
FIXED = {
    "spool": "spool",
    "spool_limits": "spool_mount, spool_reserve or spool_warn",
    "workers": "workers",
    "ffmpeg": "ffmpeg",
    "node": "node",
}
NAMES = {"database_url": "database", "pictures_s": "pictures", "rewind_s": "rewind"}
SHOWN = 20  # cameras in a line of the log
LENGTH = 8  # bytes
LOCK = "_status/supervisor.lock"  # in the spool
WAIT_S, LOOK_S = 120.0, 0.1  # for the answer to `kuager reload`
NOTHING_DIFFERS = (
    "Nothing differs from what runs. (What ${NAME} stands for is read from the environment at a "
    "start alone.)"
)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Difference:
    """What one configuration has otherwise than another; cameras as "station/camera"."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]  # cameras, and cameras of changed stations
    settings: tuple[str, ...]
    fixed: tuple[str, ...]  # settings that a restart alone can change

    @classmethod
    def of(cls, old: Config, new: Config) -> Difference:
        """Compare two configurations."""
        before, after = _cameras(old), _cameras(new)
        both = before.keys() & after.keys()
        others = sorted(
            name
            for name in Config.model_fields.keys() - {"stations", "path", "warnings"}
            if getattr(old, name) != getattr(new, name)
        )
        fixed = [FIXED[name] for name in others if name in FIXED]
        if old.election.id != new.election.id:
            fixed.append("election.id")
        added = tuple(name for name in after if name not in before)
        removed = tuple(name for name in before if name not in after)
        changed = tuple(name for name in after if name in both and before[name] != after[name])
        if not (added or removed or changed) and old.stations != new.stations:
            others.append("stations")  # their order, that of cameras, or a station without any
        settings = tuple(NAMES.get(name, name) for name in others)
        return cls(added, removed, changed, settings, tuple(fixed))

    def lines(self) -> Iterator[str]:
        """Yield what differs, a line for each kind; none where nothing does."""
        for what, names in (
            ("Cameras added", self.added),
            ("Cameras removed", self.removed),
            ("Cameras changed", self.changed),
            ("Settings changed", self.settings),
        ):
            if names:
                more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
                yield f"{what} ({len(names)}): {', '.join(names[:SHOWN])}{more}"


def _cameras(config: Config) -> dict[str, tuple[object, object]]:
    return {
        f"{station.id}/{camera.id}": (station.model_copy(update={"cameras": ()}), camera)
        for station in config.stations
        for camera in station.cameras
    }


def read_outcome(spool: Path) -> ReloadStatus | None:
    """Return how the newest reload ended; None where no supervisor has told anything."""
    try:
        return ReloadStatus.parse((spool / "_status" / RELOAD).read_bytes())
    except (OSError, FormatError):
        return None


def write_outcome(spool: Path, outcome: ReloadStatus) -> None:
    """Write it for `kuager reload`; a disk that refuses is told by the recorders."""
    try:
        replace_file(spool / "_status" / RELOAD, outcome.to_json())
    except OSError as error:
        log.warning("The outcome of a reload cannot be written", why=error.strerror)


class Reloading:
    """Reads the files anew each time it is asked to, and gives what is right to `take`."""

    def __init__(
        self,
        config: Config,
        take: Callable[[Config], None],
        report: Callable[[ReloadStatus], None] = lambda _: None,
        *,
        read: Callable[[Path], Config] = load,
        why_not: Callable[[Config, Config], Sequence[str]] = lambda old, new: (),
    ):
        """`report` takes, in a thread, how each reload ended, and at the start that there was none.
        `why_not` says why what `read` gives cannot be run by in place of what is, though it is
        right."""
        self.config, self._take, self._report = config, take, report
        self._read, self._why_not = read, why_not
        self._asked = asyncio.Event()
        self._number = 0

    def ask(self) -> None:
        """Have the files read; asked again meanwhile, they are read once more."""
        self._asked.set()

    async def run(self) -> None:
        """Reload whenever asked, for ever."""
        await self._tell(True, ())
        while True:
            await self._asked.wait()
            self._asked.clear()
            self._number += 1
            try:
                taken, lines = await self._reload()
            except Exception as error:  # a fault of ours ends nothing that runs
                log.exception("A fault of Kuager: nothing was taken over")
                taken, lines = False, (f"a fault of Kuager, see its log: {type(error).__name__}",)
            await self._tell(taken, lines)

    async def _tell(self, taken: bool, lines: tuple[str, ...]) -> None:
        told = ReloadStatus(
            pid=os.getpid(),
            written_ms=now_ms(),
            path=str(self.config.path),
            number=self._number,
            taken=taken,
            lines=lines,
        )
        await asyncio.to_thread(self._report, told)

    async def _reload(self) -> tuple[bool, tuple[str, ...]]:
        try:
            new = await asyncio.to_thread(self._read, self.config.path)
        except ConfigError as error:
            wrong = tuple(str(problem) for problem in error.problems if not problem.warning)
            for text in wrong:
                log.error("The configuration is wrong", what=text)
            log.error("Nothing was taken over: all goes on as it was", wrong=len(wrong))
            return False, wrong
        difference = Difference.of(self.config, new)
        if difference.fixed:
            text = f"only a restart can change {', '.join(difference.fixed)}"
            log.error("Nothing was taken over: all goes on as it was", why=text)
            return False, (text,)
        if wrong := tuple(await asyncio.to_thread(self._why_not, self.config, new)):
            log.error("Nothing was taken over: all goes on as it was", why=wrong)
            return False, wrong
        lines = tuple(difference.lines())
        if lines:
            self._take(new)
            self.config = new
        log.info("The configuration was taken over", changes=lines or "none")
        return True, lines


# -- over standard input -------------------------------------------------------------------


def frame(config: Config) -> bytes:
    """Return a configuration as it is handed over."""
    data = pickle.dumps(config, pickle.HIGHEST_PROTOCOL)
    return len(data).to_bytes(LENGTH, "big") + data


class Frames:
    """Takes bytes as they come and returns the configurations that are whole."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> list[Config]:
        """Take bytes; return what is whole now."""
        self._bytes += data
        found = []
        while len(self._bytes) >= LENGTH:
            end = LENGTH + int.from_bytes(self._bytes[:LENGTH], "big")
            if len(self._bytes) < end:
                break
            found.append(pickle.loads(self._bytes[LENGTH:end]))
            del self._bytes[:end]
        return found


class Configs:
    """The configuration of a process: what it is now, and that there is a newer one."""

    def __init__(self, config: Config):
        self.now = config
        self._newer = asyncio.Event()

    def put(self, config: Config) -> None:
        """Have a newer one."""
        self.now = config
        self._newer.set()

    async def newer(self) -> Config:
        """Wait for one that is newer than what `now` was before; the newest counts."""
        await self._newer.wait()
        self._newer.clear()
        return self.now


def receive(fd: int = 0) -> tuple[Config, Frames] | None:
    """Wait for the first configuration that the supervisor hands over; None where it is gone.

    The second is what came after it.
    """
    frames = Frames()
    while data := os.read(fd, 1 << 20):
        if found := frames.feed(data):
            return found[-1], frames
    return None


# -- the command ---------------------------------------------------------------------------


def reload(path: Path) -> int:
    """Ask the `kuager run` that has the spool of this file to read it, and print what it says.

    Returns 0 where all was taken over, 1 where nothing was. Raises OSError where nobody runs, or by
    another file alone, and ConfigError where the file does not even tell the spool.
    """
    spool = spool_of(path)
    before = read_outcome(spool)
    if before is None or not before.pid or not is_at_work(spool):
        raise ProcessLookupError(
            f"no `kuager run` is at work with the spool {spool}: start it, or say with --config"
            " by which file it runs"
        )
    if before.path and not _is_same(Path(before.path), path):
        raise OSError(
            f"what runs with the spool {spool} goes by {before.path}, and reads no other file:"
            " change that one, or restart Kuager by this one"
        )
    pid = before.pid
    try:
        os.kill(pid, signal.SIGHUP)
    except PermissionError:
        text = f"the running Kuager, process {pid}, belongs to another user: reload as that user"
        raise PermissionError(text) from None
    for _ in range(int(WAIT_S / LOOK_S)):
        time.sleep(LOOK_S)
        after = read_outcome(spool)
        if after is not None and after.number > before.number:
            print(*after.lines, sep="\n", end="\n" if after.lines else "")
            if not after.taken:
                print("Nothing was taken over: all goes on as it was.")
                return 1
            print("Taken over." if after.lines else NOTHING_DIFFERS)
            return 0
        if not is_at_work(spool):
            raise ProcessLookupError(f"process {pid} has ended meanwhile")
    raise TimeoutError(f"process {pid} has not answered for {WAIT_S:.0f} s: its log says why")


def _is_same(one: Path, other: Path) -> bool:
    """Tell whether two names are of one file; one that is gone is no other."""
    try:
        return one.samefile(other)
    except OSError:
        return False


def lock_spool(spool: Path) -> BinaryIO | None:
    """Return the lock of a running supervisor, which ends with it; None while another has it.

    Raises OSError where the spool cannot be written.
    """
    path = spool / LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    return try_lock(path)


def is_at_work(spool: Path) -> bool:
    """Tell whether a supervisor has this spool: a number of a process may be another's by now."""
    return is_locked(spool / LOCK)
