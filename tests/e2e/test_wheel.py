"""The wheel in an empty environment, away from the sources: it records, shows, and has the demo."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import sysconfig
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from kuager.simulator.camera import SimCamera
from kuager.simulator.server import Simulator
from tests.support.repository import ROOT
from tests.support.s3 import free_port
from tests.support.stack import SMALL
from tests.support.waiting import until

pytestmark = pytest.mark.slow
PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet")
CONFIG = """\
election: {{id: e, name: {{kk: Сайлау, ru: Выборы, en: Election}}, date: 2026-11-29,
  time_zone: UTC, windows: [{{from: 2020-01-01T00:00, to: 2090-01-01T00:00}}]}}
stations: stations.csv
spool: spool
archives: [archive]
pictures: off
web: {{listen: "127.0.0.1:{port}", processes: 1}}
"""


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """Run a program that must succeed; return what it said."""
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the bin/ of an environment with the wheel in it, and of the sources nothing.

    What the wheel needs is taken from this environment, so that no index is asked.
    """
    folder = tmp_path_factory.mktemp("wheel")
    offline = ("--no-index", "--no-deps")
    run(sys.executable, *PIP, "wheel", *offline, "--no-build-isolation", "-w", folder, ROOT)
    (wheel,) = folder.glob("kuager-*.whl")
    run(sys.executable, "-m", "venv", folder / "venv")
    binaries = folder / "venv" / "bin"
    run(binaries / "python", *PIP, "install", *offline, wheel)
    packages = run(
        *(binaries / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
    )
    # a folder that a .pth names is no site folder: the editable install in it is not followed
    beside = sysconfig.get_path("purelib")
    (Path(packages.strip()) / "needed.pth").write_text(f"{beside}\n")
    (binaries / "rclone").symlink_to(Path(sys.executable).with_name("rclone"))
    where = run(binaries / "python", "-c", "import kuager; print(kuager.__file__)", cwd=folder)
    assert where.startswith(str(folder))
    return binaries


@contextlib.asynccontextmanager
async def started(folder: Path, *command: str | Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program in a folder meanwhile; it must end well on Ctrl-C."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *map(str, command), cwd=folder, env=bare, stdout=log, stderr=log
        )
    try:
        yield process
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0, (folder / "log").read_text()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_it_records_a_camera_and_serves_the_site(installed: Path, tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "kuager.yaml").write_text(CONFIG.format(port=port))
    async with Simulator([SimCamera("hall", **SMALL)]) as simulator:
        (tmp_path / "stations.csv").write_text(
            f"station_id,camera_id,url\n117,hall,{simulator.url('hall')}\n"
        )
        run(installed / "kuager", "check", cwd=tmp_path)
        async with (
            started(tmp_path, installed / "kuager", "run"),
            aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http,
        ):

            async def plays() -> bool:
                with contextlib.suppress(aiohttp.ClientConnectionError):
                    async with http.get("/live/117/hall/index.m3u8") as answer:
                        return "#EXTINF" in await answer.text()
                return False

            await until(plays)
            async with http.get("/?lang=ru") as answer:
                page = await answer.text()
                assert answer.status == 200 and "Выборы" in page and 'lang="ru"' in page
            async with http.get("/stations/117?lang=kk") as answer:
                page = await answer.text()
                assert answer.status == 200
            script = re.search(r"/static/[0-9a-f]+/", page)
            assert script is not None
            async with http.get(f"{script[0]}station.mjs") as answer:
                assert answer.status == 200 and b"import " in await answer.read()
    assert "archived" in run(installed / "kuager", "upload", "--until-done", cwd=tmp_path)
    assert recordings(tmp_path / "archive")


def recordings(archive: Path) -> list[Path]:
    """Return the recordings of the camera in an archive."""
    return list(archive.glob("e/117/hall/*/*.mp4"))


async def test_the_demo_runs(installed: Path, tmp_path: Path) -> None:
    async with started(
        tmp_path, installed / "kuager", "demo", "--port", str(free_port()), "--data", "demo"
    ):
        await until(lambda: "6 of 6 cameras play" in (tmp_path / "log").read_text(), 300)
