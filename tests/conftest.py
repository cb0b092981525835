"""Fixtures that several tests share, and a guard against processes that tests leave behind."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import pytest
from hypothesis import settings
from playwright.async_api import expect
from xdist.scheduler import LoadScopeScheduling

from recorder.ffmpeg import find_ffmpeg
from tests.support.loop import Loop
from tests.support.programs import need
from tests.support.waiting import BOUND_S

# No deadline for an example: a machine may be busy with other work. The suite tries the same
# examples every time, so that a change is judged by what it changes; `make fuzz` looks for others.
settings.register_profile("kuager", deadline=None, derandomize=True)
settings.register_profile("fuzz", deadline=None, max_examples=1_000)
settings.load_profile("kuager")
# The same for what a page is to show.
expect.set_options(timeout=BOUND_S * 1000)


# Tests that look at times, with cameras and browsers, are in lanes: of each lane one test after
# another, in this order, and what is hurt most by others when the other lanes have ended. All other
# tests are spread over what is left, and leave the cores to the lanes.
LANES = {
    "test_recording": "sources",
    "test_drift": "sources",  # takes long and does little
    "test_recording_faults": "faults",
    "test_time_faults": "faults",
    "test_simulator_faults": "faults",
    "test_foreign_cameras": "programs",
    "test_native_camera": "programs",
    "test_host_clock": "programs",
    "test_disk": "programs",
    "test_simulator": "programs",
    "test_system": "programs",
    "test_native_hls": "pages",
    "test_sync": "pages",
    "test_player": "pages",
    "test_station_page": "pages",
    "test_site": "pages",
    "test_ordering": "pages",
    "test_copy_bytes": "pages",
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let those that look at times go first: before the others, and before all else if root."""
    root, lane = os.geteuid() == 0, item.path.stem in LANES
    if "PYTEST_XDIST_WORKER" in os.environ and (root or not lane):
        os.setpriority(os.PRIO_PROCESS, 0, (-10 if lane else 0) if root else 10)


# Files whose tests share what takes seconds to make: one worker makes it, not each of them.
SHARING = {"test_house"}


class Lanes(LoadScopeScheduling):  # type: ignore[misc]
    """Tests by lane, in the order in which they were collected."""

    def _split_scope(self, nodeid: str) -> str:
        file = Path(nodeid.partition("::")[0]).stem
        return LANES.get(file, file if file in SHARING else nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Lanes:
    """Have pytest-xdist keep to the lanes (its own --dist loadgroup finds no group in pytest 9)."""
    config.option.loadscopereorder = False
    return Lanes(config, log)


# Fixtures that start another program, or cameras: what asks for one of them takes its time.
SLOW = {"stripe", "chromium", "suffered", "upstream", "postgres", "postgres_url"}


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Look for no garbage in what is collected, now and later: it stays to the end."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is slow by what it needs, and begin with the lanes."""
    for item in items:
        if SLOW.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)
    first = [*LANES, *SHARING]
    order = [*first, *{item.path.stem: None for item in items if item.path.stem not in first}]
    items.sort(key=lambda item: order.index(item.path.stem))


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run tests in the event loop that Kuager's processes have."""
    return {"uvloop": Loop}


@pytest.fixture(scope="session")
def ffmpeg() -> str:
    """The ffmpeg that Kuager would use."""
    return find_ffmpeg(None)


@pytest.fixture(scope="session", params=["system", "wheel"])
def each_ffmpeg(request: pytest.FixtureRequest) -> str:
    """The system's ffmpeg, then the wheel's."""
    if request.param == "wheel":
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    return need("ffmpeg", "apt-get install ffmpeg")


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if shutil.which(name):
            return need(name, "")
    return need("chromium", "apt-get install chromium")


@pytest.fixture(autouse=True)
def no_processes_left() -> Iterator[None]:
    """Fail a test that leaves a child process behind."""
    before = _children()
    yield
    for _ in range(50):
        left = {pid: name for pid, name in _children().items() if pid not in before}
        if not left:
            return
        time.sleep(0.1)
    pytest.fail(f"processes left behind: {left}")


def _children() -> dict[int, str]:
    """Return our direct and indirect children that are not zombies, by pid."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # no child: the usual case, and all of /proc need not be read
        return {}
    parents: dict[int, tuple[int, str]] = {}
    for path in Path("/proc").glob("[0-9]*"):  # no longer pattern: what ends meanwhile is no error
        try:
            head, _, rest = (path / "stat").read_text().rpartition(")")
        except OSError:
            continue
        fields = rest.split()
        if fields[0] != "Z":
            parents[int(path.name)] = (int(fields[1]), head.partition("(")[2])
    found: dict[int, str] = {}
    for pid, (_, name) in parents.items():
        at = pid
        while at in parents:
            at = parents[at][0]
            if at == os.getpid():
                found[pid] = name
                break
    return found
