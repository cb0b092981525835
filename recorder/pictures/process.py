"""The picture process: the latest picture of every camera of a spool as two JPEGs, again and again.

A recorder knows nothing of it. It reads the spool as everyone does, decodes one keyframe alone per
camera and interval, and writes `thumb.jpg` and `picture.jpg` beside the camera's recordings. When
a bitstream kills the decoder, the process is started again, finds in its journal which camera it
was, and leaves that one out for a while: not for long, as whoever kills the process by hand spoils
no camera, and longer with each further death in a row.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from base.durable import replace_file
from base.lock import wait_for_lock
from config.limits import SpoolLimits
from recorder.pictures.decode import decode
from recorder.pictures.keyframe import newest_keyframe, still
from storage.media.jpeg import with_time
from storage.records import FormatError, Record
from storage.spool.disk import check_spool
from storage.spool.status import SpoolStatus
from storage.spool.status_records import PICTURES, PicturesStatus

JOURNAL = "pictures.notes"
TELL_S = 2.0
LOOK_S = 2.0  # for a spool, and while no camera is recorded
DECODE_S = 10  # of CPU, as the machine may be busy: a decoder that takes more hangs
QUARANTINE_S, LONGEST_S = 10, 600
NICE = 10

log = structlog.get_logger()


@dataclass(slots=True)
class _Camera:
    """What was made of a camera; `segment_no` is that of the last keyframe looked at."""

    segment_no: int = -1
    made: float = field(default_factory=time.time)  # or since when it waits for its first
    failing: bool = False


@dataclass(slots=True)
class _JournalFile(Record):
    """`_status/pictures.notes` (docs/formats.md)."""

    decoding: str | None = None
    left_out: dict[str, float] = field(default_factory=dict)
    deaths: dict[str, int] = field(default_factory=dict)


class CrashJournal:
    """What must be known when this process was killed: which camera was being decoded.

    A small file that is written in place: what the kernel has survives a process.
    """

    def __init__(self, path: Path):
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        said = _JournalFile()
        with contextlib.suppress(FormatError):
            said = _JournalFile.parse(os.pread(self._fd, 1 << 20, 0).rstrip(b"\0"))
        self.quarantined, self._crash_counts = said.left_out, said.deaths
        self._killed_by = said.decoding

    def decoding(self, name: str | None) -> None:
        """Note which camera is decoded now, if any."""
        data = _JournalFile(name, self.quarantined, self._crash_counts).to_json()
        os.pwrite(self._fd, data, 0)
        os.ftruncate(self._fd, len(data))

    def decoded(self, name: str) -> None:
        """A camera's picture was decoded: what came before counts no longer."""
        self._crash_counts.pop(name, None)

    def quarantine(self, now_s: float) -> tuple[str, float] | None:
        """Quarantine the camera whose picture killed the process before this, if one did.

        Returns it, and for how many seconds.
        """
        if (name := self._killed_by) is None:
            return None
        before = min(self._crash_counts.get(name, 0), 30)
        self._crash_counts[name] = before + 1
        pause_s = min(QUARANTINE_S * 2**before, LONGEST_S)
        self.quarantined[name] = now_s + pause_s
        self.decoding(None)
        return name, pause_s

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)


class Pictures:
    """Makes the pictures of a spool until cancelled; the only one of its spool."""

    def __init__(
        self,
        names: Sequence[str],
        spool: Path,
        interval_s: int,
        limits: SpoolLimits = SpoolLimits(),  # noqa: B008
    ):
        """`names` are "station/camera" of the configuration."""
        self._names, self._spool, self._interval_s = names, spool, interval_s
        self._limits, self._status = limits, SpoolStatus(spool)
        self._cameras: dict[str, _Camera] = {}
        self._made = self._failures = 0
        self._refused: str | None = None

    async def run(self) -> None:
        """Make pictures, round after round, spread evenly over each interval."""
        os.nice(NICE)
        lock = await wait_for_lock(self._spool / "_status" / "pictures.lock", LOOK_S)
        journal = CrashJournal(self._spool / "_status" / JOURNAL)
        try:
            if quarantined := journal.quarantine(time.time()):
                log.error(
                    "A picture ended the process that decoded it; its camera gets none for a while",
                    camera=quarantined[0],
                    seconds=quarantined[1],
                )
            log.info("Pictures are made", every_s=self._interval_s)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._make_for_ever(journal))
                tasks.create_task(self._tell_for_ever(journal))
        finally:
            with contextlib.suppress(OSError):  # a disk that went needs no journal
                journal.decoding(None)
            journal.close()
            lock.close()

    async def _make_for_ever(self, journal: CrashJournal) -> None:
        loop = asyncio.get_running_loop()
        while True:
            begun, cameras = loop.time(), self._due(journal)
            for n, name in enumerate(cameras):
                at = begun + n * self._interval_s / len(cameras)
                await asyncio.sleep(max(0.0, at - loop.time()))
                self._make(journal, name)
            await asyncio.sleep(max(LOOK_S, begun + self._interval_s - loop.time()))

    def _due(self, journal: CrashJournal) -> list[str]:
        """Return the cameras that are recorded, while the disk has room and is not slow."""
        list(self._status.refresh())
        for name, until in list(journal.quarantined.items()):
            if until < time.time() or until > time.time() + LONGEST_S:
                del journal.quarantined[name]
        live = {n for n in self._names if self._status.states.get(n) == "recording"}
        self._cameras = {n: c for n, c in self._cameras.items() if n in live}
        due = [n for n in self._names if n in live and n not in journal.quarantined]
        for name in due:
            self._cameras.setdefault(name, _Camera())
        return due if self._disk_is_ok() else []

    def _disk_is_ok(self) -> bool:
        """Tell whether the disk can take pictures without harm to recordings; says changes."""
        refused = None
        recorders = self._status.recorders().values()
        try:
            room = check_spool(self._spool)
            if room.free_bytes < 2 * self._limits.reserve.of(room.total_bytes) or not room.files:
                refused = "its disk is nearly full"
        except OSError as error:
            refused = error.strerror or str(error)
        if any(one.spool.cause or one.spool.slow_s for one in recorders):
            refused = "its disk refuses recordings or is slow"
        if refused != self._refused:
            if refused:
                log.warning("No pictures are written to the spool", why=refused)
            else:
                log.info("Pictures are written to the spool again")
        self._refused = refused
        return refused is None

    def _make(self, journal: CrashJournal, name: str) -> None:
        """Make both pictures of a camera, if it has a keyframe that was not seen before."""
        camera, directory = self._cameras[name], self._spool / name
        try:
            found = newest_keyframe(directory)
            if found is None or found.segment.segment_no == camera.segment_no:
                return
            camera.segment_no = found.segment.segment_no
            data = still(found)
            journal.decoding(name)
            signal.setitimer(signal.ITIMER_PROF, DECODE_S)  # nobody handles it: it ends us
            try:
                thumb, picture = self._decode(data)
                journal.decoded(name)
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
                journal.decoding(None)
            shown_ms = found.segment.start_ms
            replace_file(directory / "picture.jpg", with_time(picture, shown_ms))
            replace_file(directory / "thumb.jpg", with_time(thumb, shown_ms))
        except Exception as error:  # whatever it is, other cameras have their pictures
            self._failures += 1
            if not camera.failing:
                camera.failing = True
                is_known = isinstance(error, OSError | ValueError)
                why = str(error) if is_known else f"a fault of the picture process: {error!r}"
                log.warning("No picture can be made of a camera", camera=name, why=why)
            return
        self._made += 1
        camera.made = time.time()
        if camera.failing:
            camera.failing = False
            log.info("Pictures are made of a camera again", camera=name)

    def _decode(self, still: bytes) -> tuple[bytes, bytes]:
        return decode(still)

    async def _tell_for_ever(self, journal: CrashJournal) -> None:
        path = self._spool / "_status" / PICTURES
        while True:
            oldest = min((c.made for c in self._cameras.values()), default=None)
            told = PicturesStatus(
                pid=os.getpid(),
                written_ms=int(time.time() * 1000),
                oldest_ms=None if oldest is None else int(oldest * 1000),
                made_total=self._made,
                failures_total=self._failures,
                cpu_seconds_total=time.process_time(),
                left_out=sorted(journal.quarantined),
            )
            with contextlib.suppress(OSError):
                replace_file(path, told.to_json())
            await asyncio.sleep(TELL_S)
