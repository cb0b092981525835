"""Fixtures that several tests share, and a guard against processes that tests leave behind."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import imageio_ffmpeg
import pytest

from recorder.ffmpeg import find_ffmpeg

CI = os.environ.get("KUAGER_CI") == "1"


# What runs side by side, each lane one test after another: five minutes of drift, tests that look
# at times with several cameras, what is kept, and all others.
LANES = {
    "test_archive": "kept",
    "test_bad_bucket": "kept",
    "test_crashes": "kept",
    "test_copy_bytes": "cameras",
    "test_disk": "cameras",
    "test_drift": "drift",
    "test_fsck": "kept",
    "test_foreign_cameras": "cameras",
    "test_postgres_faults": "kept",
    "test_native": "cameras",
    "test_ordering": "cameras",
    "test_player": "cameras",
    "test_recording": "cameras",
    "test_simulator": "cameras",
    "test_simulator_faults": "cameras",
    "test_site": "cameras",
    "test_sync": "cameras",
    "test_system": "cameras",
    "test_uploader": "kept",
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Leave the cores to those that look at times, where lanes run side by side."""
    lane = LANES.get(item.path.stem, "others")
    if "PYTEST_XDIST_WORKER" in os.environ and lane in ("kept", "others") and os.nice(0) == 0:
        os.nice(10)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put every test into its lane (pytest-xdist, --dist loadgroup)."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(LANES.get(item.path.stem, "others")))


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


def need(program: str, how: str) -> str:
    """Return the path of a program; without it the test is skipped, in CI it fails."""
    found = shutil.which(program)
    if found is None:
        missing(f"{program} is missing: {how}")
    assert found is not None
    return found


def missing(text: str) -> None:
    """Skip for something missing; in CI that is a failure."""
    if CI:
        pytest.fail(text)
    pytest.skip(text)


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
    parents: dict[int, tuple[int, str]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, rest = path.read_text().rpartition(")")
        except OSError:
            continue
        fields = rest.split()
        if fields[0] != "Z":
            parents[int(path.parent.name)] = (int(fields[1]), head.partition("(")[2])
    found: dict[int, str] = {}
    for pid, (_, name) in parents.items():
        at = pid
        while at in parents:
            at = parents[at][0]
            if at == os.getpid():
                found[pid] = name
                break
    return found
