"""`kuager run` as operators start it, and what it says and leaves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import m3u8

from kuager.simulator.camera import SimCamera
from kuager.simulator.server import Simulator
from tests.support.s3 import BUCKET, KEY, SECRET, free_port, rclone
from tests.support.waiting import BOUND_S, until


@dataclass
class Running:
    """A running Kuager and what is around it."""

    folder: Path
    base: str
    operators: str
    begin_ms: int
    simulator: Simulator
    process: asyncio.subprocess.Process
    log: Path

    @property
    def spool(self) -> Path:
        return self.folder / "spool"

    def processes(self) -> dict[str, int]:
        """Return the pids of our processes by role and number, and of every ffmpeg."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):  # no longer pattern: processes end meanwhile
            with contextlib.suppress(OSError):
                words = (path / "cmdline").read_bytes().decode().split("\0")
                pid = int(path.name)
                if str(self.folder) in " ".join(words) and "--role" in words:
                    role = words[words.index("--role") + 1]
                    found[f"{role} {words[words.index('--share') + 1]}"] = pid
        return found

    def ffmpegs(self, parent: int) -> list[int]:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return [int(c) for c in children]


@contextlib.asynccontextmanager
async def kuager(
    folder: Path,
    cameras: list[SimCamera],
    ffmpeg: str,
    *,
    until_s: int = 2_000_000_000,
    archive: str = "",
    source: str = "auto",
) -> AsyncIterator[Running]:
    """Start rclone, the simulator and `kuager run`; stop all at the end. The window ends
    `until_s` seconds from now; `archive` is more of the archive's settings, `source` what reads
    the cameras."""
    port, s3 = free_port(), free_port()
    begin = int(time.time())
    with rclone(folder / "s3", s3):
        async with Simulator(cameras, ffmpeg=ffmpeg) as simulator:
            stations = "".join(
                f'      - {{id: {c.name}, url: "{simulator.url(c.name)}"}}\n' for c in cameras
            )
            (folder / "stations.yaml").write_text("stations:\n  - id: s\n    cameras:\n" + stations)
            opens, closes = [
                time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))
                for at in (begin, begin + until_s)
            ]
            (folder / "kuager.yaml").write_text(
                "election: {id: e, name: E, date: 2026-11-29, time_zone: UTC,"
                f" windows: [{{from: {opens}, to: {closes}}}]}}\n"
                f"stations: stations.yaml\nspool: spool\nworkers: 2\nsource: {source}\n"
                f"archives:\n- url: s3://{BUCKET}\n  endpoint: http://127.0.0.1:{s3}\n"
                f"  region: us-east-1\n  access_key_id: {KEY}\n"
                f"  secret_access_key: ${{TEST_SECRET}}\n{archive}"
                f'web: {{listen: "127.0.0.1:{port}", processes: 2}}\n'
            )
            log = folder / "kuager.log"
            process = await start(folder, log)
            base, operators = (f"http://127.0.0.1:{n}" for n in (port, port + 1))
            running = Running(folder, base, operators, begin * 1000, simulator, process, log)
            try:
                yield running
            finally:
                if running.process.returncode is None:
                    running.process.terminate()
                    assert await asyncio.wait_for(running.process.wait(), BOUND_S) == 0
                await until(lambda: not running.processes(), why="processes remain")


async def start(folder: Path, log: Path) -> asyncio.subprocess.Process:
    with log.open("ab") as file:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "kuager", "run", "--config", str(folder / "kuager.yaml")),
            env=os.environ | {"TEST_SECRET": SECRET},
            stderr=file,
            stdin=asyncio.subprocess.DEVNULL,
        )


async def playing(running: Running, names: list[str], seconds: float = BOUND_S) -> None:
    """Wait until each camera's playlist is served and has segments of now."""
    async with aiohttp.ClientSession() as session:
        waiting = set(names)
        begun = time.monotonic()
        while waiting:
            assert time.monotonic() - begun < seconds, running.log.read_text()[-3000:]
            for name in list(waiting):
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(f"{running.base}/live/s/{name}/index.m3u8") as answer:
                        if answer.status == 200:
                            last = m3u8.loads(await answer.text()).segments[-1]
                            at = last.current_program_date_time.timestamp()
                            if time.time() - at < 8:
                                waiting.discard(name)
            await asyncio.sleep(0.2)
