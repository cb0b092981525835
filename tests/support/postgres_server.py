"""A PostgreSQL of our own on a loopback port, to be killed, frozen, filled or loaded.

The server comes from the pgserver wheel. It refuses root, so as root it runs as another user, and
on a small disk of its own (a tmpfs that only it sees) as another user of a namespace.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from pgserver import utils
from pgserver._commands import POSTGRES_BIN_PATH

from tests.support.s3 import free_port

USER = "pgserver"  # what the wheel calls it too
START_S = 120.0


@pytest.fixture
def server_folder() -> Iterator[Path]:
    """A folder that the server's user may enter: of one below `tmp_path` a pytest that begins
    meanwhile would close what is above it."""
    with tempfile.TemporaryDirectory(prefix="kuager-pg-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


class Server:
    """One server with its data in a folder; `disk_mb` gives it a disk of that size there."""

    def __init__(self, folder: Path, settings: dict[str, str] | None = None, disk_mb: int = 0):
        self.folder, self.settings = folder, settings or {}
        self._disk_mb, self._process = disk_mb, None
        self.port = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        self._user: str | None = None
        if os.geteuid() == 0 and not disk_mb:
            self._user = USER
            utils.ensure_user_exists(USER)
            utils.ensure_prefix_permissions(POSTGRES_BIN_PATH)
            utils.ensure_prefix_permissions(folder)
            shutil.chown(folder, USER, USER)

    _process: subprocess.Popen[bytes] | None

    def url(self, database: str = "postgres") -> str:
        """Address of a database, as the configuration has it."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start and wait until it answers."""
        data = self.folder / "data"
        initdb = [str(POSTGRES_BIN_PATH / "initdb"), "-D", str(data), "-U", "postgres", "-A"]
        initdb += ["trust", "--no-sync", "-E", "UTF8", "--locale=C", "--wal-segsize=1"]
        serve = [str(POSTGRES_BIN_PATH / "postgres"), "-D", str(data), "-p", str(self.port)]
        serve += ["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        for name, value in self.settings.items():
            serve += ["-c", f"{name}={value}"]
        script = f"test -e {data}/PG_VERSION || {shlex.join(initdb)} || exit; exec "
        script += shlex.join(serve)
        command = ["sh", "-c", script]
        if self._disk_mb:
            mount = f"mount -t tmpfs -o size={self._disk_mb}m,mode=777 disk {self.folder} && exec "
            inner = ["unshare", "-U", "--map-user=1000", "--map-group=1000", *command]
            command = ["unshare", "-Urm", "sh", "-c", mount + shlex.join(inner)]
        with Path(f"{self.folder}.log").open("ab") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                user=self._user,
                group=self._user,
                cwd="/",
                start_new_session=True,
            )
        deadline = time.monotonic() + START_S
        ready = [str(POSTGRES_BIN_PATH / "pg_isready"), "-h", "127.0.0.1", "-p", str(self.port)]
        while subprocess.run([*ready, "-q"], check=False).returncode != 0:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(Path(f"{self.folder}.log").read_text()[-2000:])
            time.sleep(0.05)

    def stop(self) -> None:
        """End it in good order, if it runs."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """End it as a loss of power would: kill -9 of everything."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Let nothing of it go on, with its connections open."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):  # its backends come and go
                process.suspend()

    def thaw(self) -> None:
        """Let everything go on."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                process.resume()

    @contextmanager
    def full(self) -> Iterator[None]:
        """Leave no room on its disk while the block runs."""
        filler = Path(f"/proc/{self._postmaster()}/root{self.folder}/filler")
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(65536)):
                pass
        try:
            yield
        finally:
            filler.unlink()

    def _postmaster(self) -> int:
        assert self._process is not None
        return self._process.pid

    def processes(self) -> list[psutil.Process]:
        """Return the processes that run, the first first."""
        if self._process is None or self._process.poll() is not None:
            return []
        first = psutil.Process(self._process.pid)
        return [first, *first.children(recursive=True)]

    def _end(self, number: int) -> None:
        for process in self.processes()[: 1 if number == signal.SIGINT else None]:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        if self._process is not None:
            self._process.wait(START_S)
            self._process = None
