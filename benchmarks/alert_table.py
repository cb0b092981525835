"""Ten faults of a running installation, and how long its alerts take to fire and to clear.

`make alerts` starts simulated cameras, PostgreSQL, `kuager run` and a Prometheus with
deploy/alerts.yaml, spoils one thing after the other, and prints a table.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import aiohttp

from kuager.simulator.camera import SimCamera
from kuager.simulator.server import Simulator
from recorder.ffmpeg import find_ffmpeg
from storage.spool.disk import disk_space
from tests.support.postgres_server import Server
from tests.support.programs import need
from tests.support.s3 import free_port
from tests.support.waiting import until

RULES = Path(__file__).parent.parent / "deploy/alerts.yaml"
CAMERAS = "abcdef"
SPARE_BYTES = 6_000_000_000  # that the spool has above its reserve
FIRES_S, CLEARS_S = 100.0, 100.0
# on a machine for tests nobody may keep the clock
ALWAYS = {"KuagerClockNotSynchronized"}


@dataclass(frozen=True, slots=True)
class Fault:
    """What is spoilt, the alert that tells of it with some of its labels, how, and how healed."""

    words: str
    alert: str
    labels: Mapping[str, str]
    spoil: Callable[[], object]
    heal: Callable[[], object]


class Installation:
    """What runs; `faults` are those that are tried."""

    def __init__(self, folder: Path, simulator: Simulator, database: Server):
        self.folder, self.simulator, self.database = folder, simulator, database
        self.web, self.prometheus = free_port(), free_port()
        self.spool = folder / "spool"

    def write(self) -> list[list[str]]:
        """Write all configuration; return the commands."""
        reserve = (disk_space(self.folder).free_bytes - SPARE_BYTES) // 1_000_000
        cameras = "".join(
            f'      - {{id: {name}, url: "{self.simulator.url(name)}"}}\n' for name in CAMERAS
        )
        (self.folder / "stations.yaml").write_text(f"stations:\n  - id: s\n    cameras:\n{cameras}")
        config = self.folder / "kuager.yaml"
        config.write_text(
            "election: {id: e, name: E, date: 2026-11-29, time_zone: UTC,"
            " windows: [{from: 2020-01-01T00:00, to: 2090-01-01T00:00}]}\n"
            "stations: stations.yaml\nspool: spool\nworkers: 2\narchives: [archive]\n"
            f"spool_reserve: {reserve}M\ndatabase: {self.database.url()}\n"
            f'web: {{listen: "127.0.0.1:{self.web}", processes: 2}}\n'
        )
        asked = self.folder / "prometheus.yaml"
        asked.write_text(
            f"global: {{evaluation_interval: 5s}}\nrule_files: [{RULES}]\n"
            "scrape_configs:\n- {job_name: kuager, scrape_interval: 5s, scrape_timeout: 5s,"
            f' static_configs: [{{targets: ["127.0.0.1:{self.web + 1}"]}}]}}\n'
        )
        prometheus = need("prometheus", "apt-get install prometheus")
        return [
            [sys.executable, "-m", "kuager", "run", "--config", str(config)],
            [
                *(prometheus, f"--config.file={asked}", f"--storage.tsdb.path={self.folder}/tsdb"),
                *(f"--web.listen-address=127.0.0.1:{self.prometheus}", "--log.level=error"),
            ],
        ]

    def pids(self, role: str) -> list[int]:
        """Return the processes of a role, as "web" or "recorder 0"."""
        name, _, share = role.partition(" ")
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError, ValueError):
                words = path.read_bytes().decode().split("\0")
                at = words.index("--role")
                mine = str(self.folder) in " ".join(words) and words[at + 1] == name
                if mine and words[words.index("--share") + 1].startswith(share):
                    found.append(int(path.parent.name))
        assert found, role
        return found

    def send(self, number: signal.Signals, role: str) -> Callable[[], None]:
        """Return what sends a signal to the processes of a role."""

        def sent() -> None:
            for pid in self.pids(role):
                os.kill(pid, number)

        return sent

    def each(self, fault: str, *names: str) -> Callable[[], None]:
        """Return what spoils some cameras, from any thread."""
        soon = asyncio.get_running_loop().call_soon_threadsafe

        def spoil() -> None:
            for name in names:
                soon(self.simulator.fault, name, fault)
                if fault != "silent":
                    soon(self.simulator.fault, name, "drop", 0.1)

        return spoil

    def clear(self, *names: str) -> Callable[[], None]:
        """Return what puts cameras right, from any thread."""
        soon = asyncio.get_running_loop().call_soon_threadsafe

        def heal() -> None:
            for name in names:
                soon(self.simulator.clear, name)

        return heal

    def fill(self) -> None:
        """Leave less than the reserve."""
        size = disk_space(self.spool).free_bytes
        with (self.folder / "filler").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, min(size, SPARE_BYTES + 1_000_000_000))

    def faults(self) -> Iterator[Fault]:
        """Yield what is tried, one after the other."""
        stop, go = signal.SIGSTOP, signal.SIGCONT
        mark, away = self.spool / "spool.json", self.folder / "archive-away"
        archive = self.folder / "archive"
        camera, process = "KuagerCameraSilent", "KuagerProcessMissing"
        yield Fault(
            *("a camera sends nothing", camera, {"camera": "a"}),
            *(self.each("silent", "a"), self.clear("a")),
        )
        yield Fault(
            *("a camera's password was changed", "KuagerWrongPassword", {"camera": "b"}),
            *(self.each("refuse-password", "b"), self.clear("b")),
        )
        three = "cde"
        yield Fault(
            *("half of the cameras send nothing", "KuagerManyCamerasSilent", {}),
            *(self.each("silent", *three), self.clear(*three)),
        )
        for role, name in (("recorder 0", "recorder-0"), ("uploader", "uploader-0")):
            yield Fault(
                *(f"{name} hangs", process, {"process": name}),
                *(self.send(stop, role), self.send(go, role)),
            )
        yield Fault(
            *("no web process answers", "KuagerWebAway", {}),
            *(self.send(stop, "web"), self.send(go, "web")),
        )
        yield Fault(
            *("PostgreSQL is killed", "KuagerDatabaseAway", {}),
            *(self.database.kill, self.database.start),
        )
        yield Fault(
            *("the archive's disk is gone", "KuagerArchiveRefuses", {"cause": "another"}),
            *(lambda: archive.rename(away), lambda: away.rename(archive)),
        )
        yield Fault(
            *("the spool's disk is full", "KuagerSpoolPaused", {"cause": "disk_full"}),
            *(self.fill, (self.folder / "filler").unlink),
        )
        yield Fault(
            *("the spool's disk is gone", "KuagerSpoolPaused", {"cause": "disk_failed"}),
            lambda: mark.rename(self.folder / "mark"),
            lambda: (self.folder / "mark").rename(mark),
        )

    async def firing(self, session: aiohttp.ClientSession) -> list[dict[str, str]]:
        """Return the labels of the alerts that fire now."""
        address = f"http://127.0.0.1:{self.prometheus}/api/v1/alerts"
        try:
            async with session.get(address) as answer:
                said: dict[str, Any] = await answer.json()
        except aiohttp.ClientError:
            return [{"alertname": "Prometheus does not answer yet"}]
        alerts = [a["labels"] for a in said["data"]["alerts"] if a["state"] == "firing"]
        return [labels for labels in alerts if labels["alertname"] not in ALWAYS]


@contextlib.contextmanager
def running(commands: list[list[str]], path: Path) -> Iterator[None]:
    """Run commands while the block runs; what they say goes to a file."""
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(path.open("wb"))
        for command in commands:
            one = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
            stack.callback(one.wait, 60)
            stack.callback(one.terminate)
        yield


async def suffer(folder: Path, first: int) -> list[str]:
    """Try the faults from one on; return the rows of the table."""
    cameras = [SimCamera(name, user="u", password="p") for name in CAMERAS]
    database = Server(folder / "postgres")
    rows = []
    with contextlib.ExitStack() as stack:
        database.start()
        stack.callback(database.stop)
        async with (
            Simulator(cameras, ffmpeg=find_ffmpeg(None)) as simulator,
            aiohttp.ClientSession() as session,
        ):
            here = Installation(folder, simulator, database)
            stack.enter_context(running(here.write(), folder / "log"))

            async def is_well() -> bool:
                return not await here.firing(session)

            await until(lambda: (here.spool / "_status/recorder-1.json").exists())
            await asyncio.sleep(30)
            await until(is_well, CLEARS_S, 0.5)
            for fault in islice(here.faults(), first - 1, None):
                rows.append(await _try(here, session, fault, is_well))
                print(rows[-1], flush=True)
    return rows


async def _try(
    here: Installation, session: aiohttp.ClientSession, fault: Fault, is_well: Callable[[], Any]
) -> str:
    def fits(labels: dict[str, str]) -> bool:
        return labels.items() >= {"alertname": fault.alert, **fault.labels}.items()

    async def fires() -> bool:
        return any(fits(labels) for labels in await here.firing(session))

    async def is_over() -> bool:
        return not await fires()

    begun = time.monotonic()
    await asyncio.to_thread(fault.spoil)
    try:
        await until(fires, FIRES_S, 0.5)
        fired = f"{time.monotonic() - begun:.0f} s"
    except AssertionError:
        fired = "did not fire"
    others = sorted({a["alertname"] for a in await here.firing(session)} - {fault.alert})
    await asyncio.to_thread(fault.heal)
    healed = time.monotonic()
    try:
        await until(is_over, CLEARS_S, 0.5)
        cleared = f"{time.monotonic() - healed:.0f} s"
    except AssertionError:
        cleared = "did not clear"
    with contextlib.suppress(AssertionError):
        await until(is_well, CLEARS_S, 0.5)
    also = f"also {', '.join(others)}" if others else ""
    return f"| {fault.words} | `{fault.alert}` | {fired} | {cleared} | {also} |"


def main() -> None:
    """Print the table, from the fault of a number on (1)."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started is ended
    print("| fault | alert | fired after | cleared after | |\n|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        path.chmod(0o755)  # PostgreSQL runs as another user
        asyncio.run(suffer(path, int(sys.argv[1]) if sys.argv[1:] else 1))


if __name__ == "__main__":
    main()
