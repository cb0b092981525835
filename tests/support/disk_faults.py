"""Every fault of a spool's disk on a spool of its own, at once, and what an operator sees.

`unshare -Urm python -m tests.support.disk_faults` prints the table of docs/operations.md; it needs
the right to mount. Mounts are real; a disk that is slow, stuck or returns errors stands before
os.write and os.fsync. The bound on what waits and the time until a disk counts as fast again are
smaller here.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import structlog
from structlog.typing import EventDict

import recorder.disk_watch
import recorder.session
from config.limits import Reserve, SpoolLimits
from config.schedule import Window
from kuager.simulator.camera import SimCamera
from kuager.simulator.server import Simulator
from recorder.camera_spec import CameraSpec
from recorder.ffmpeg import find_ffmpeg
from recorder.states import State
from recorder.worker import Worker
from storage.records import GapCause
from storage.spool.disk import disk_space
from tests.support.stack import check_tiling, gaps, recordings
from tests.support.waiting import BOUND_S, until

LASTS_S = 14.0
SIZE_M, RESERVE_M = 24, 8
UNWRITTEN = 500_000
FAST_S = 4.0
FAULTS = {
    "full": "free space falls below the reserve",
    "brim": "no byte is free, and no reserve was set",
    "read-only": "remounted read-only",
    "gone": "unmounted under way",
    "absent": "not mounted yet when the recorder starts",
    "slow": "no write for 4.5 s, then each takes 0.1 s",
    "stuck": "one camera's write hangs",
    "error": "EIO on one file of one camera",
    "well": "none",
}
CAMERAS = ("a", "b")  # of each spool; where one is spoilt it is a


@dataclass
class Suffered:
    """What became of a spool's cameras; times in seconds since the fault began."""

    log: list[str] = field(default_factory=list)
    causes: dict[str, list[str]] = field(default_factory=dict)
    missed_s: dict[str, float] = field(default_factory=dict)
    runs: dict[str, int] = field(default_factory=dict)
    back_s: float | None = None  # after the disk is well; None when it was never away


class Disks:
    """Stands before os.write and os.fsync; a rule holds for a file or all below a directory."""

    def __init__(self) -> None:
        self.rules: dict[str, Callable[[], None]] = {}
        self._write, self._fsync = os.write, os.fsync
        os.write, os.fsync = self.write, self.fsync  # type: ignore[assignment]

    def _obey(self, fd: int) -> None:
        path = str(Path(f"/proc/self/fd/{fd}").readlink())
        for below, rule in list(self.rules.items()):
            if path == below or path.startswith(below + "/"):
                rule()

    def write(self, fd: int, data: bytes) -> int:
        """Write, if the rules let it."""
        self._obey(fd)
        return self._write(fd, data)

    def fsync(self, fd: int) -> None:
        """Flush, if the rules let it."""
        self._obey(fd)
        self._fsync(fd)


def refuse(number: int) -> Callable[[], None]:
    """Return a rule that fails with an error."""

    def rule() -> None:
        raise OSError(number, os.strerror(number))

    return rule


class Spool:
    """A spool on a small file system of its own, with its recorder and its fault."""

    def __init__(self, root: Path, fault: str, disks: Disks):
        self.fault, self.path, self._disk = fault, root / fault, root / f"disk-{fault}"
        self._disks = disks
        self._well = threading.Event()
        for path in (self.path, self._disk):
            path.mkdir()
        mount("-t", "tmpfs", "-o", f"size={SIZE_M}m", "none", str(self._disk))
        if fault != "absent":
            mount("--bind", str(self._disk), str(self.path))

    def worker(self, simulator: Simulator, ffmpeg: str, begin_ms: int) -> Worker:
        """Return a recorder of the spool's cameras."""
        windows = (Window(begin_ms, begin_ms + 86_400_000),)
        specs = [
            CameraSpec("e", self.fault, n, simulator.url(f"{self.fault}-{n}"), windows=windows)
            for n in CAMERAS
        ]
        reserve = 0 if self.fault == "brim" else RESERVE_M * 1_000_000
        limits = SpoolLimits((), Reserve(reserve, None), self.path)
        return Worker(specs, self.path, ffmpeg, limits=limits)

    def spoil(self) -> None:
        """Begin the fault."""
        rules, path = self._disks.rules, str(self.path)
        if self.fault in ("full", "brim"):
            leave = RESERVE_M * 1_000_000 - 200_000 if self.fault == "full" else 0
            with (self.path / "ballast").open("wb") as ballast, contextlib.suppress(OSError):
                while (more := disk_space(self.path).free_bytes - leave) > 0:
                    ballast.write(bytes(min(more, 1 << 20)))
                    ballast.flush()
        elif self.fault == "read-only":
            # as the kernel does it after an error: what is open for writing refuses, too
            mount("--bind", path, path)
            mount("-o", "remount,bind,ro", path)
            rules[path] = refuse(errno.EROFS)
        elif self.fault == "gone":
            subprocess.run(["umount", "-l", path], check=True)
        elif self.fault == "slow":
            first = time.monotonic() + 4.5
            rules[path] = lambda: time.sleep(max(0.1, first - time.monotonic()))
        elif self.fault == "stuck":
            rules[f"{path}/stuck/a"] = lambda: void(self._well.wait(60))
        elif self.fault == "error":
            newest = recordings(self.path, "a", "error")[-1].path
            rules[str(newest)] = refuse(errno.EIO)

    def mend(self) -> None:
        """End the fault."""
        if self.fault != "error":  # that file stays bad
            for below in [b for b in self._disks.rules if Path(b).is_relative_to(self.path)]:
                del self._disks.rules[below]
        self._well.set()
        if self.fault in ("full", "brim"):
            (self.path / "ballast").unlink()
        elif self.fault == "read-only":
            subprocess.run(["umount", str(self.path)], check=True)
        elif self.fault in ("gone", "absent"):
            assert not list(self.path.iterdir()), "something was made where the spool had been"
            mount("--bind", str(self._disk), str(self.path))

    def check(self, begin_ms: int, ffmpeg: str) -> None:
        """Nothing that was finished is lost or altered, and time is covered without a hole."""
        for name in CAMERAS:
            check_tiling(self.path, name, begin_ms, self.fault)
            for r in recordings(self.path, name, self.fault):
                data = r.path.read_bytes()
                assert r.index.seal and hashlib.sha256(data).hexdigest() == r.index.seal.sha256
                assert name != "a" or r.timed_errors_ms(ffmpeg)  # decodes


def mount(*arguments: str) -> None:
    """Mount, or raise CalledProcessError."""
    subprocess.run(["mount", *arguments], check=True)


def void(_: object) -> None:
    """Return nothing, whatever there was."""


class Log:
    """Keeps what operators would read, by spool, with the time since the faults began."""

    def __init__(self, root: Path) -> None:
        self._root = str(root)
        self.lines: dict[str, list[str]] = {}
        self.begun = time.monotonic()

    def __call__(self, _: object, method: str, event: EventDict) -> EventDict:
        at_s = time.monotonic() - self.begun
        event = {k: v for k, v in event.items() if k not in ("exc_info", "file")}
        spool = Path(str(event.pop("spool", ""))).name
        camera = str(event.get("camera", ""))
        words = [f"{event.pop('event')}", *(f"{k}={v}" for k, v in event.items())]
        words = [word.replace(self._root, "/mnt") for word in words]
        name = spool or camera.partition("/")[0]
        self.lines.setdefault(name, []).append(f"{at_s:.0f} s: {', '.join(words)}")
        raise structlog.DropEvent


async def suffer(root: Path, ffmpeg: str) -> dict[str, Suffered]:
    """Record on all spools, spoil each, mend it, and tell what happened, by fault."""
    recorder.session.MAX_UNWRITTEN, recorder.disk_watch.FAST_S = UNWRITTEN, FAST_S
    log = Log(root)
    structlog.configure(processors=[log], cache_logger_on_first_use=False)
    found = {fault: Suffered() for fault in FAULTS}
    spools = {fault: Spool(root, fault, disks) for disks in [Disks()] for fault in FAULTS}
    first = SimCamera("well-a", width=480, height=270, bitrate=400_000)
    others = [
        SimCamera(f"{fault}-{n}", shared="well-a")
        for fault in FAULTS
        for n in CAMERAS
        if f"{fault}-{n}" != "well-a"
    ]
    begin_ms = int(time.time() * 1000)
    async with Simulator([first, *others], ffmpeg=ffmpeg) as simulator:
        workers = {f: s.worker(simulator, ffmpeg, begin_ms) for f, s in spools.items()}
        tasks = [asyncio.create_task(w.run()) for w in workers.values()]
        try:
            there = [w for f, w in workers.items() if f != "absent"]
            await until(lambda: all(recording(w) for w in there))
            await asyncio.sleep(3)
            log.lines = {"absent": log.lines.get("absent", [])}
            log.begun = time.monotonic()
            for spool in spools.values():
                spool.spoil()
            await asyncio.sleep(LASTS_S)
            well = time.monotonic()
            for spool in spools.values():
                spool.mend()
            await all_back(found, workers, well)
            # what was slow is fast again; what comes later, while they end, is not told
            await until(lambda: not any(w.disk.status().slow_s for w in workers.values()))
            said = {fault: list(log.lines.get(fault, ())) for fault in FAULTS}
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
    for fault, one in found.items():
        one.log = said[fault]
        spools[fault].check(begin_ms, ffmpeg)
        for name in CAMERAS:
            lost = [
                g
                for g in gaps(spools[fault].path, name, fault)
                if g.cause not in (GapCause.RECORDER_STOPPED, GapCause.CONNECTING)
            ]
            one.causes[name] = [g.cause.value for g in lost]
            one.missed_s[name] = sum((g.end_ms or 0) - g.start_ms for g in lost) / 1000
            runs = {r.index.header.run_no for r in recordings(spools[fault].path, name, fault)}
            one.runs[name] = len(runs)
    return found


def recording(worker: Worker) -> bool:
    """Say whether all cameras of a worker are recorded."""
    return all(c.status.state is State.RECORDING for c in worker.cameras)


async def all_back(found: dict[str, Suffered], workers: dict[str, Worker], well: float) -> None:
    """Wait until each camera has a new segment; say when those came back that were away."""
    away = {f for f, w in workers.items() if not recording(w)}
    before = {f: [c.status.segment_no for c in w.cameras] for f, w in workers.items()}
    waiting = set(workers)
    while waiting:
        for fault in list(waiting):
            now = [c.status.segment_no for c in workers[fault].cameras]
            if recording(workers[fault]) and all(
                n > b for n, b in zip(now, before[fault], strict=True)
            ):
                waiting.discard(fault)
                if fault in away:
                    found[fault].back_s = time.monotonic() - well
        assert time.monotonic() - well < BOUND_S, f"not recording again: {waiting}"
        await asyncio.sleep(0.05)


def table(found: dict[str, Suffered]) -> str:
    """Return the table for people."""
    lines = ["| fault | the log | not recorded | back after |", "|---|---|---|---|"]
    for fault, one in found.items():
        log = "<br>".join(line.replace("|", "/") for line in one.log)
        lost = ", ".join(
            f"{name}: `{'`, `'.join(one.causes[name])}` {one.missed_s[name]:.1f} s"
            if one.causes[name]
            else f"{name}: nothing"
            for name in CAMERAS
        )
        back = "" if one.back_s is None else f"{one.back_s:.1f} s"
        lines.append(f"| {FAULTS[fault]} | {log} | {lost} | {back} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table, or with `json` what the test reads."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        found = asyncio.run(suffer(Path(folder), find_ffmpeg(None)))
        as_json = {fault: asdict(one) for fault, one in found.items()}
        print(json.dumps(as_json) if sys.argv[1:] == ["json"] else table(found))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
