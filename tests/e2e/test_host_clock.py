"""A real `kuager run` on a machine whose clock is wrong: a preloaded library adds to it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import struct
import subprocess
from pathlib import Path

import aiohttp
import pytest

from kuager.simulator.camera import SimCamera
from tests.support.programs import missing
from tests.support.running import Running, kuager, playing
from tests.support.s3 import BUCKET
from tests.support.stack import SMALL, check_tiling, gaps, recordings
from tests.support.waiting import until

pytestmark = pytest.mark.slow
DAY = 86_400_000
CAMERAS = [SimCamera("a", **SMALL)]
SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static const volatile int64_t *ahead_ms;

__attribute__((constructor)) static void look(void) {
    const char *path = getenv("TEST_CLOCK");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        void *found = mmap(NULL, 8, PROT_READ, MAP_SHARED, fd, 0);
        if (found != MAP_FAILED) ahead_ms = found;
    }
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, at);
    if (ahead_ms && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        at->tv_sec += *ahead_ms / 1000;
    }
    return result;
}

time_t time(time_t *out) {
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    if (out) *out = at.tv_sec;
    return at.tv_sec;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    struct timespec found;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &found);
    at->tv_sec = found.tv_sec;
    at->tv_usec = found.tv_nsec / 1000;
    return 0;
}
"""


class HostClock:
    """The clock of the processes that are started while this is in their environment."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        compiler = shutil.which("cc")
        if compiler is None:
            missing("a C compiler is missing: apt-get install gcc")
        assert compiler is not None
        (folder / "clock.c").write_text(SOURCE)
        library, self._path = folder / "clock.so", folder / "clock"
        command = [compiler, "-shared", "-fPIC", "-o", str(library), f"{folder}/clock.c", "-ldl"]
        subprocess.run(command, check=True)
        self.set(0)
        monkeypatch.setenv("LD_PRELOAD", str(library))
        monkeypatch.setenv("TEST_CLOCK", str(self._path))

    def set(self, ahead_ms: int) -> None:
        """Have the clock be ahead by whole seconds."""
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT)
        os.pwrite(fd, struct.pack("q", ahead_ms), 0)
        os.close(fd)


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HostClock:
    return HostClock(tmp_path, monkeypatch)


def segments(running: Running) -> int:
    return sum(len(r.index.segments) for r in recordings(running.spool, "a"))


async def goes_on(running: Running, count: int = 4) -> None:
    before = segments(running)
    await until(lambda: segments(running) >= before + count)


async def ready_says(running: Running, words: str) -> bool:
    with contextlib.suppress(aiohttp.ClientConnectionError):  # of several processes one listens
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{running.operators}/readyz") as answer,
        ):
            return answer.status == 200 and words in await answer.text()
    return False


async def test_a_clock_that_is_a_day_ahead_for_a_while(
    tmp_path: Path, clock: HostClock, ffmpeg: str
) -> None:
    """Recording goes on, by the time that has passed; no gap, nothing in the future."""
    async with kuager(tmp_path, CAMERAS, ffmpeg, until_s=6 * 3600) as running:
        await playing(running, ["a"])
        runs = len({r.index.header.run_no for r in recordings(running.spool, "a")})
        clock.set(DAY)
        await until(lambda: "was set and is not believed" in running.log.read_text())
        await until(lambda: ready_says(running, "off by +1.0 days"))
        await goes_on(running)
        clock.set(0)
        await until(lambda: "is believed again" in running.log.read_text())
        await goes_on(running)
        found = recordings(running.spool, "a")
        assert len({r.index.header.run_no for r in found}) == runs
        assert max(r.index.end_ms for r in found) < running.begin_ms + DAY / 2
    check_tiling(running.spool, "a", running.begin_ms)
    assert all((g.end_ms or 0) < running.begin_ms + DAY / 2 for g in gaps(running.spool, "a"))


async def test_a_machine_that_starts_three_days_ahead(
    tmp_path: Path, clock: HostClock, ffmpeg: str
) -> None:
    """By its clock the window is over; when it is set right, recording begins at once."""
    clock.set(3 * DAY)
    async with kuager(tmp_path, CAMERAS, ffmpeg, until_s=6 * 3600) as running:
        await until(lambda: gaps(running.spool, "a"))
        clock.set(0)
        await playing(running, ["a"])
        await goes_on(running)
    check_tiling(running.spool, "a", running.begin_ms)
    assert all((g.end_ms or 0) < running.begin_ms + DAY / 2 for g in gaps(running.spool, "a"))


async def test_an_uploader_that_starts_400_days_ahead(
    tmp_path: Path, clock: HostClock, ffmpeg: str
) -> None:
    """Nothing is removed, from the archive or the spool, and the log says what is wrong."""
    bucket = tmp_path / "s3" / BUCKET
    keep = "  keep: 365d\nrewind: 1h\n"
    async with kuager(tmp_path, CAMERAS, ffmpeg, until_s=6 * 3600, archive=keep) as running:
        await playing(running, ["a"])
        await until(lambda: list(bucket.glob("e/s/*/*/*.json")), every=0.5)
        before = {*bucket.glob("e/s/*/*/*.mp4"), *running.spool.glob("s/*/*/*.mp4")}
        uploader = running.processes()["uploader 0/1"]
        clock.set(400 * DAY)
        os.kill(uploader, signal.SIGKILL)
        said = "the clock of this machine is off by +400.0 days against that of archive"
        await until(lambda: said in running.log.read_text())
        await until(lambda: ready_says(running, "off by +400.0 days"))
        await goes_on(running)
        await until(lambda: "off by +400.0 days against the server" in running.log.read_text())
        clock.set(0)
        await until(lambda: len(list(bucket.glob("e/s/*/*/*.json"))) >= 2, every=0.5)
        after = {*bucket.glob("e/s/*/*/*"), *running.spool.glob("s/*/*/*.mp4")}
        assert before <= after
        assert not [p for p in after if p.name.endswith(".removed.json")]
        assert "their time has come" not in running.log.read_text()
    check_tiling(running.spool, "a", running.begin_ms)
