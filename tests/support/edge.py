"""nginx with the files of deploy/nginx, with ports, a certificate and folders of a test."""

from __future__ import annotations

import asyncio
import re
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from tests.support.programs import need, self_signed
from tests.support.repository import ROOT
from tests.support.s3 import free_port
from tests.support.waiting import until

DEPLOY = ROOT / "deploy"


class Edge:
    """One edge."""

    def __init__(self, folder: Path, nodes: list[int], main: str = "public.conf"):
        """`nodes` are ports of machines; `main` is the file that includes the others."""
        folder.mkdir()
        self.folder, self.shelf, self.port = folder, free_port(), free_port()
        nginx = need("nginx", "apt-get install nginx-light", path="/usr/sbin:/usr/bin")
        certificate, key = self_signed(folder)
        for name in ("edge.conf", "public-locations.conf", main):
            text = (DEPLOY / "nginx" / name).read_text()
            text = re.sub(r"listen \[::\]:.*\n", "", text)
            text = re.sub(r"    server (10\.0\.0\.\d+|n\d):8080 .*\n", "", text)
            servers = "".join(
                f"    server 127.0.0.1:{port} max_fails=2 fail_timeout=5s;\n" for port in nodes
            )
            text = text.replace(
                "upstream kuager_nodes {\n    hash $kuager_camera consistent;\n",
                f"upstream kuager_nodes {{\n    hash $kuager_camera consistent;\n{servers}",
            )
            for old, new in {
                "/etc/nginx/kuager/": f"{folder}/",
                "127.0.0.1:8089": f"127.0.0.1:{self.shelf}",
                "listen 80;": f"listen 127.0.0.1:{free_port()};",
                "listen 443 ssl": f"listen 127.0.0.1:{self.port} ssl",
                "/etc/ssl/certs/live.example.kz.pem": certificate,
                "/etc/ssl/private/live.example.kz.key": key,
                "/var/cache/": f"{folder}/",
                "max_size=200g min_free=4g": "max_size=200m",
                " min_free=256m": "",  # whatever room the disk of a test has
            }.items():
                text = text.replace(old, new)
            (folder / name).write_text(text)
        scratch = "".join(
            f"{kind}_temp_path {folder / kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (folder / "nginx.conf").write_text(
            f"daemon off; master_process off; pid {folder / 'pid'};\n"
            f"error_log {folder / 'error.log'}; events {{ worker_connections 16384; }}\n"
            f"http {{ {scratch} access_log off; include {folder / main}; }}\n"
        )
        self.base = f"https://127.0.0.1:{self.port}"
        self.process: asyncio.subprocess.Process | None = None
        self.command = [nginx, "-e", str(folder / "start.log"), "-c", str(folder / "nginx.conf")]

    def check(self) -> None:
        """Have nginx say that it is well."""
        done = subprocess.run([*self.command, "-t"], capture_output=True, text=True)
        assert done.returncode == 0 and "successful" in done.stderr, done.stderr

    async def start(self) -> None:
        """Run it; returns when it listens."""
        self.process = await asyncio.create_subprocess_exec(*self.command)

        async def listens() -> bool:
            try:
                (await asyncio.open_connection("127.0.0.1", self.port))[1].close()
            except OSError:
                return False
            return True

        await until(listens)

    def trust(self) -> ssl.SSLContext:
        """Return what believes its certificate."""
        found = ssl.create_default_context(cafile=str(self.folder / "pem"))
        found.check_hostname = False
        return found

    async def at_once(self, path: str, first: str, count: int) -> list[int]:
        """Ask for a path at one moment by so many connections, by each of which `first` was asked
        for before, so that they are open; return the statuses."""
        trust, open_ones = self.trust(), []
        for _ in range(count):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=trust)
            writer.write(f"HEAD {first} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            await reader.readuntil(b"\r\n\r\n")
            open_ones.append((reader, writer))
        for _, writer in open_ones:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        found = [int((await reader.readline()).split()[1]) for reader, _ in open_ones]
        for _, writer in open_ones:
            writer.close()
        return found

    async def kill(self) -> None:
        """Let it die."""
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[aiohttp.ClientSession]:
        """Run it while the block runs."""
        self.check()
        await self.start()
        connector = aiohttp.TCPConnector(ssl=self.trust())
        try:
            async with aiohttp.ClientSession(self.base, connector=connector) as session:

                async def is_there() -> bool:
                    try:
                        async with session.get("/healthz") as answer:
                            return answer.status == 200
                    except aiohttp.ClientError:
                        return False

                await until(is_there)
                yield session
        finally:
            await self.kill()
