"""What deploy/ and docs/install.md have for a real machine: proxy, systemd, backup."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from pgserver._commands import POSTGRES_BIN_PATH

from base.clock import now_ms
from config.load import load
from config.model import Config
from kuager.notify import notify
from kuager.supervisor import Supervisor
from storage.catalogue.catalogue import Catalogue
from storage.records import parse_index
from streaming.app import create_app, make_runner
from tests.support.config_files import KUAGER, read, write
from tests.support.postgres_server import Server
from tests.support.programs import need, self_signed
from tests.support.repository import ROOT
from tests.support.s3 import free_port
from tests.support.spools import fill
from tests.support.waiting import BOUND_S, until

Proxied = tuple[list[str], dict[str, int]]
PROGRAMS = ("createdb", "dropdb", "pg_dump", "pg_restore")
DAY = 1_764_385_200_000  # 2025-11-29
pytest_plugins = ["tests.support.postgres_server"]

INSTALL = (ROOT / "docs/install.md").read_text()
DEPLOY = ROOT / "deploy"


# -- nginx -------------------------------------------------------------------------------------


@pytest.fixture
def proxied(tmp_path: Path) -> Proxied:
    """deploy/nginx.conf, with ports, a certificate and folders of this test, of which nginx says
    that it is well: how nginx is started with it, and its ports."""
    nginx = need("nginx", "apt-get install nginx-light", path="/usr/sbin:/usr/bin:/usr/local/sbin")
    certificate, key = self_signed(tmp_path)
    ports = {"80": free_port(), "443": free_port(), "8080": free_port()}
    text = (DEPLOY / "nginx.conf").read_text()
    text = re.sub(r"listen \[::\]:.*\n", "", text)
    text = text.replace("listen 80;", f"listen 127.0.0.1:{ports['80']};")
    text = text.replace("listen 443 ssl", f"listen 127.0.0.1:{ports['443']} ssl")
    text = text.replace("127.0.0.1:8080", f"127.0.0.1:{ports['8080']}")
    text = text.replace("/etc/ssl/certs/live.example.kz.pem", certificate)
    text = text.replace("/etc/ssl/private/live.example.kz.key", key)
    text = text.replace("/var/cache/nginx-kuager", str(tmp_path / "cache"))
    (tmp_path / "site.conf").write_text(text)
    scratch = "".join(
        f"{kind}_temp_path {tmp_path / kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    conf = tmp_path / "nginx.conf"
    conf.write_text(
        f"daemon off; master_process off; pid {tmp_path / 'pid'};\n"
        f"error_log {tmp_path / 'error.log'}; events {{}}\n"
        f"http {{ {scratch} include {tmp_path / 'site.conf'}; }}\n"
    )
    command = [nginx, "-e", str(tmp_path / "start.log"), "-c", str(conf)]
    done = subprocess.run([*command, "-t"], capture_output=True, text=True)
    assert done.returncode == 0 and "successful" in done.stderr, done.stderr
    return command, ports


@pytest.fixture
async def upstream(tmp_path: Path, proxied: Proxied) -> AsyncIterator[list[web.Request]]:
    """Kuager behind it; gives the requests that it was asked."""
    web_settings = "web: {public_url: 'https://localhost', trusted_proxies: [127.0.0.1]}\n"
    config: Config = read(tmp_path, kuager_yaml=KUAGER + web_settings)
    fill(config.spool, "s1", "c1", start_ms=now_ms() - 300_000).close()
    asked: list[web.Request] = []
    app = create_app(config, None, [])

    async def note(request: web.Request, _: web.StreamResponse) -> None:
        asked.append(request)

    app.on_response_prepare.append(note)
    runner = make_runner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", proxied[1]["8080"]).start()
    yield asked
    await runner.cleanup()


@pytest.mark.slow
async def test_nginx_takes_its_file_and_passes_on(
    tmp_path: Path, proxied: Proxied, upstream: list[web.Request]
) -> None:
    command, ports = proxied
    running = await asyncio.create_subprocess_exec(*command)
    trust = ssl.create_default_context(cafile=str(tmp_path / "pem"))
    trust.check_hostname = False
    base = f"https://127.0.0.1:{ports['443']}"
    try:
        async with aiohttp.ClientSession() as session:

            async def is_there() -> bool:
                try:
                    async with session.get(f"{base}/healthz", ssl=trust) as answer:
                        return answer.status == 200
                except aiohttp.ClientError:
                    return False

            await until(is_there)
            plain = f"http://127.0.0.1:{ports['80']}/stations/s1"
            async with session.get(plain, allow_redirects=False) as answer:
                assert answer.status == 308
                assert answer.headers["Location"] == "https://127.0.0.1/stations/s1"
            forged = {"X-Forwarded-For": "203.0.113.7"}
            async with session.get(f"{base}/stations/s1", headers=forged, ssl=trust) as answer:
                assert (
                    answer.status == 200
                    and "max-age" in answer.headers["Strict-Transport-Security"]
                )
            assert upstream[-1].headers["X-Forwarded-For"] == "127.0.0.1"
            async with session.get(f"{base}/live/s1/c1/index.m3u8", ssl=trust) as answer:
                playlist = await answer.text()
            segment = next(line for line in playlist.splitlines() if line.endswith(".m4s"))
            address = f"{base}/live/s1/c1/{segment.rpartition('/')[2]}"
            before, whole = len(upstream), b""
            for headers, status in (({}, 200), ({}, 200), ({"Range": "bytes=10-19"}, 206)):
                async with session.get(address, headers=headers, ssl=trust) as answer:
                    data = await answer.read()
                    assert answer.status == status
                    whole = whole or data
            assert data == whole[10:20]
            assert len(upstream) == before + 1  # Kuager was asked once
            async with session.get(f"{base}/metrics", ssl=trust) as answer:
                assert answer.status == 404
    finally:
        running.terminate()
        await running.wait()


# -- systemd -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_systemd_is_told(tmp_path: Path, kind: str) -> None:
    name = str(tmp_path / "notify") if kind == "path" else f"@{tmp_path}/notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.settimeout(BOUND_S)
        listener.bind(name.replace("@", "\0", 1))
        notify("READY=1", {"NOTIFY_SOCKET": name})
        assert listener.recv(100) == b"READY=1"
    notify("READY=1", {"NOTIFY_SOCKET": name})  # nobody listens: nothing
    notify("READY=1", {"NOTIFY_SOCKET": "vsock:2:1"})
    notify("READY=1", {})


@pytest.mark.slow
async def test_a_supervisor_is_ready_once_all_its_processes_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load(write(tmp_path), {})
    (config.spool / "_status").mkdir(parents=True)
    stays = [sys.executable, "-c", "import sys; sys.stdin.buffer.read()"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        told: list[bytes] = []

        def heard(what: bytes) -> bool:
            with contextlib.suppress(BlockingIOError):
                told.append(listener.recv(100))
            return what in told

        running = asyncio.create_task(Supervisor(config, stays).run())
        await until(lambda: heard(b"READY=1"))
        status = config.spool / "_status/supervisor.json"
        await until(status.exists)  # it is written after that
        await until(lambda: '"web-1":{"up":true,"starts":1}' in status.read_text())
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await until(lambda: heard(b"STOPPING=1"))
    assert [what for what in told if what != b"WATCHDOG=1"] == [b"READY=1", b"STOPPING=1"]
    assert b"WATCHDOG=1" in told


# -- backup ------------------------------------------------------------------------------------


def documented(begins: str) -> str:
    """Return a command of docs/install.md as a shell takes it, without sudo and comment."""
    found = re.findall(rf"(?m)^sudo -u \S+ ({begins}.*)$", INSTALL)
    commands = {str(line).partition("  #")[0].rstrip() for line in found}
    assert len(commands) == 1, begins
    return commands.pop()


def shell(command: str, replaced: dict[str, str]) -> None:
    for old, new in replaced.items():
        assert old in command
        command = command.replace(old, new)
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


async def reasons(url: str) -> list[str]:
    catalogue = await Catalogue.open(url)
    found = [str(row.reason) for row in await catalogue.holds.of("e")]
    await catalogue.close()
    return found


async def work_on(url: str, folder: Path, reason: str, start_ms: int) -> None:
    """Set a hold, and enter recordings of a day, which PostgreSQL keeps in tables of its own."""
    fill(folder / reason, start_ms=start_ms).close()
    indexes = [parse_index(p.read_bytes()) for p in (folder / reason).glob("s/c/*/*.jsonl")]
    catalogue = await Catalogue.open(url)
    await catalogue.holds.add("e", reason, start_ms)
    await catalogue.writer.put_recordings([index for index in indexes if index.seal])
    await catalogue.close()


def test_the_backup_of_sqlite_is_restored(tmp_path: Path) -> None:
    url, copy = f"sqlite:///{tmp_path}/k.db", tmp_path / "copy.db"
    asyncio.run(work_on(url, tmp_path, "kept", DAY))
    here = {"/var/lib/kuager/kuager.db": f"{tmp_path}/k.db"}
    shell(documented("python3 -c"), here | {"/backup/kuager-$(date +%F).db": str(copy)})
    # SQLite writes into no file that is there: the name of each night is another
    shell(documented("python3 -c"), here | {"/backup": str(tmp_path), "$(date +%F)": "tomorrow"})
    asyncio.run(work_on(url, tmp_path, "lost", DAY + 86_400_000))
    assert asyncio.run(reasons(url)) == ["kept", "lost"]
    for path in tmp_path.glob("k.db*"):
        path.unlink()
    copy.rename(tmp_path / "k.db")
    assert asyncio.run(reasons(url)) == ["kept"]


@pytest.mark.slow
def test_the_backup_of_postgresql_is_restored(tmp_path: Path, server_folder: Path) -> None:
    server = Server(server_folder / "pg")
    server.start()
    try:
        url, anew = server.url("kuager"), f" --maintenance-db={server.url()} "
        program = {name: str(POSTGRES_BIN_PATH / name) for name in PROGRAMS}
        create = {"createdb ": program["createdb"] + anew, "=kuager": "=postgres"}
        shell(documented("createdb"), create)
        asyncio.run(work_on(url, tmp_path, "kept", DAY))
        copy = tmp_path / "kuager.dump"
        dump = {"pg_dump": program["pg_dump"], " kuager ": f" {url} "}
        shell(documented("pg_dump"), dump | {"/backup/kuager-$(date +%F).dump": str(copy)})
        asyncio.run(work_on(url, tmp_path, "lost", DAY + 86_400_000))
        shell(documented("dropdb"), {"dropdb ": program["dropdb"] + anew})
        shell(documented("createdb"), create)
        restore = {"pg_restore": program["pg_restore"], "=kuager": f"={url}"}
        shell(documented("pg_restore"), restore | {"/backup/kuager-2026-11-29.dump": str(copy)})
        assert asyncio.run(reasons(url)) == ["kept"]
        asyncio.run(work_on(url, tmp_path, "after", DAY + 86_400_000))
        assert asyncio.run(reasons(url)) == ["kept", "after"]
    finally:
        server.stop()


def test_the_policy_of_the_bucket_is_json() -> None:
    (policy,) = re.findall(r"```json\n(.*?)```", INSTALL, re.DOTALL)
    assert json.loads(policy)["Statement"]
