"""Several machines on this one: cameras, PostgreSQL, an S3 server, nginx and Kuager, all real.

Each machine is a process tree with a spool of its own on an address of its own, 127.0.0.x. What a
machine has to PostgreSQL goes through a pipe of its own, which can be cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import aiohttp
from pgserver._commands import POSTGRES_BIN_PATH

from benchmarks.bench_record import descendants
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.database import CatalogueError
from storage.catalogue.leases import View
from storage.spool.lease_file import shard_of
from tests.support.edge import Edge
from tests.support.postgres_server import USER, Server
from tests.support.s3 import BUCKET, KEY, SECRET, free_port, rclone

FILM = {"width": 320, "height": 180, "fps": 10, "bitrate": 150_000, "film_s": 20}
STANDING_BY = {"wal_level": "replica", "max_wal_senders": "4", "hot_standby": "on"}
Mode = Literal["pass", "hang", "refuse"]


class Pipe:
    """Connections to one server, which can be held or refused."""

    def __init__(self, target: int):
        self.port, self.target, self.mode = free_port(), target, "pass"
        self._open: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._may_pass = asyncio.Event()
        self._may_pass.set()

    mode: Mode

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def stop(self) -> None:
        """End all."""
        if self._server is not None:
            self._server.close()
        self.cut("refuse")

    def cut(self, mode: Mode) -> None:
        """`hang`: nothing comes through, and nobody is told; `refuse`: all is closed."""
        self.mode = mode
        if mode == "pass":
            self._may_pass.set()
        else:
            self._may_pass.clear()
        if mode == "refuse":
            for task in self._open:
                task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            if self.mode != "refuse":
                await self._may_pass.wait()
                there, to = await asyncio.open_connection("127.0.0.1", self.target)
                await asyncio.gather(self._copy(reader, to), self._copy(there, writer))
        writer.transport.abort()
        self._open.discard(task)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            await self._may_pass.wait()
            writer.write(data)
            await writer.drain()
        writer.close()
        raise ConnectionResetError


class Machine:
    """A process tree with a spool."""

    def __init__(self, folder: Path, name: str, host: str, pipe: Pipe):
        self.folder, self.name, self.host, self.pipe = folder, name, host, pipe
        self.web, self.inner = free_port(), free_port()
        self.process: asyncio.subprocess.Process | None = None

    @property
    def base(self) -> str:
        """Where its pages are."""
        return f"http://{self.host}:{self.web}"

    async def start(self) -> None:
        """Start it."""
        with (self.folder / "kuager.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "kuager", "run", "--config"),
                str(self.folder / "kuager.yaml"),
                env=os.environ | {"TEST_SECRET": SECRET},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def pids(self) -> list[int]:
        """Return all its processes."""
        return descendants(self.process.pid) if self.process else []

    def kill(self) -> None:
        """Let the machine die: all at once, without a word."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    async def stop(self) -> None:
        """End it in good order."""
        if self.process is not None and self.process.returncode is None:
            self.process.terminate()
            await self.process.wait()


class Installation:
    """All of it, in a folder."""

    def __init__(self, folder: Path, machines: int = 3, cameras: int = 60):
        self.folder = folder
        self.names = [f"cam{n}" for n in range(cameras)]
        self.begin_ms = int(time.time()) * 1000
        self.rtsp, self.s3 = free_port(), free_port()
        self.postgres = Server(folder / "postgres", STANDING_BY)
        self.pipes = [Pipe(self.postgres.port) for _ in range(machines + 1)]
        self.machines = [
            Machine(folder / f"n{n}", f"n{n}", f"127.0.0.{n + 11}", self.pipes[n])
            for n in range(machines)
        ]
        self.edge: Edge | None = None
        self._stack, self._s3 = contextlib.AsyncExitStack(), contextlib.ExitStack()

    @property
    def url(self) -> str:
        """The database, as those who look have it."""
        return f"postgresql://postgres@127.0.0.1:{self.pipes[-1].port}/postgres"

    @contextlib.asynccontextmanager
    async def running(self, *, edge: bool = True) -> AsyncIterator[Installation]:
        """Have all of it run."""
        self.folder.chmod(0o755)
        async with self._stack as stack:
            stack.callback(self.stop_s3)
            self.start_s3()
            await asyncio.to_thread(self.postgres.start)
            stack.callback(self.postgres.kill)
            for pipe in self.pipes:
                await pipe.start()
                stack.push_async_callback(pipe.stop)
            await self._cameras()
            self._write()
            for machine in self.machines:
                await machine.start()
                stack.push_async_callback(machine.stop)
            if edge:
                self.edge = Edge(self.folder / "edge", [m.web for m in self.machines])
                self._name_hosts()
            yield self

    def start_s3(self) -> None:
        """Start the S3 server."""
        self._s3.enter_context(rclone(self.folder / "s3", self.s3))

    def stop_s3(self) -> None:
        """End it."""
        self._s3.close()

    def _name_hosts(self) -> None:
        """Have the edge ask each machine on its own address."""
        assert self.edge is not None
        path = self.edge.folder / "public.conf"
        text = path.read_text()
        for machine in self.machines:
            text = text.replace(f"127.0.0.1:{machine.web} ", f"{machine.host}:{machine.web} ")
        path.write_text(text)

    async def _cameras(self) -> None:
        import json

        cameras = [{"name": self.names[0]} | FILM]
        cameras += [{"name": name, "shared": self.names[0]} for name in self.names[1:]]
        path = self.folder / "simulator.json"
        path.write_text(json.dumps({"cameras": cameras}))
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "kuager.simulator", "--config", str(path)),
            *("--port", str(self.rtsp)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert child.stdout is not None
        await child.stdout.readline()

        async def end() -> None:
            child.terminate()
            await child.wait()

        self._stack.push_async_callback(end)

    def _write(self) -> None:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(self.begin_ms / 1000))
        stations = "stations:\n" + "".join(
            f"  - {{id: s{n}, cameras: [{{id: c, url: 'rtsp://127.0.0.1:{self.rtsp}/{name}'}}]}}\n"
            for n, name in enumerate(self.names)
        )
        for machine in self.machines:
            machine.folder.mkdir(exist_ok=True)
            (machine.folder / "stations.yaml").write_text(stations)
            (machine.folder / "kuager.yaml").write_text(
                "election: {id: e, name: E, date: 2026-11-29, time_zone: UTC,"
                f" windows: [{{from: {moment}, to: 2090-01-01T00:00}}]}}\n"
                "stations: stations.yaml\nspool: spool\nworkers: 1\nrewind: 30m\nsource: native\n"
                f"pictures: 60s\nnode: {{name: {machine.name},"
                f' address: "{machine.host}:{machine.inner}"}}\n'
                f"database: postgresql://postgres@127.0.0.1:{machine.pipe.port}/postgres\n"
                f"archives:\n- url: s3://{BUCKET}\n  endpoint: http://127.0.0.1:{self.s3}\n"
                f"  region: us-east-1\n  access_key_id: {KEY}\n"
                "  secret_access_key: ${TEST_SECRET}\n"
                f'web: {{listen: "{machine.host}:{machine.web}",'
                f' operators: "{machine.host}:{machine.web + 1}", processes: 1,'
                " public_url: 'https://localhost', trusted_proxies: [127.0.0.0/8]}\n"
            )

    # -- looking -----------------------------------------------------------------------------

    async def recorded(self, base: str | None = None) -> int:
        """Return how many cameras are recorded, as one machine says it."""
        async with aiohttp.ClientSession() as session:
            try:
                url = f"{base or self.machines[-1].base}/api/v1/election"
                async with session.get(url) as answer:
                    return int((await answer.json())["cameras_live"])
            except (aiohttp.ClientError, KeyError):
                return 0

    async def all_recorded(self, within_s: float = 180.0) -> float:
        """Wait until every camera is recorded; return how long it took, in seconds."""
        begun = time.monotonic()
        while await self.recorded() < len(self.names):
            if time.monotonic() - begun > within_s:
                raise TimeoutError(f"only {await self.recorded()} cameras are recorded")
            await asyncio.sleep(0.5)
        return time.monotonic() - begun

    async def view(self) -> View:
        """Return who holds what."""
        catalogue = await Catalogue.open(self.url)
        try:
            return await catalogue.nodes.view()
        finally:
            await catalogue.close()

    async def stations_of(self, machine: Machine) -> list[str]:
        """Return the stations whose camera a machine records."""
        view = await self.view()
        names = {spool: node.name for spool, node in view.nodes.items()}
        holders = [names.get(shard.holder or "") for shard in view.shards]
        stations = (f"s{n}" for n in range(len(self.names)))
        return [s for s in stations if holders[shard_of(f"{s}/c")] == machine.name]

    async def holders(self) -> dict[str, int]:
        """Return how many shards each machine holds, by name; with what is on its way as ''."""
        view = await self.view()
        found = {node.name: 0 for node in view.nodes.values() if view.is_alive(node.spool)}
        found[""] = sum(s.handover is not None or s.offered for s in view.shards)
        for s in view.shards:
            if view.is_alive(s.holder):
                found[view.nodes[s.holder or ""].name] += 1
        return found

    async def balanced(self, machines: int, within_s: float = 600.0) -> float:
        """Wait until so many machines have their parts; return how long it took, in seconds."""
        begun = time.monotonic()
        most = -(-512 // machines)
        while True:
            with contextlib.suppress(CatalogueError):
                held = await self.holders()
                moving = held.pop("")
                if len(held) == machines and not moving and max(held.values()) <= most:
                    return time.monotonic() - begun
            if time.monotonic() - begun > within_s:
                raise TimeoutError(f"shards are not balanced: {held}")
            await asyncio.sleep(0.5)


def standby_of(primary: Server, folder: Path) -> Server:
    """Return a server that follows another by streaming replication."""
    server = Server(folder, primary.settings)
    command = [str(POSTGRES_BIN_PATH / "pg_basebackup"), "-R", "-X", "stream", "-c", "fast"]
    command += ["-D", str(folder / "data"), "-h", "127.0.0.1", "-p", str(primary.port)]
    user = USER if os.geteuid() == 0 else None
    subprocess.run([*command, "-U", "postgres"], check=True, user=user, group=user, cwd="/")
    server.start()
    return server


def promote(server: Server) -> None:
    """Have a standby take over."""
    command = [str(POSTGRES_BIN_PATH / "psql"), "-h", "127.0.0.1", "-p", str(server.port)]
    command += ["-U", "postgres", "-c", "SELECT pg_promote()"]
    subprocess.run(command, check=True, capture_output=True)
