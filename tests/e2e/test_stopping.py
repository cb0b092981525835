"""Whoever stops Kuager, at whatever moment: no traceback, nothing left, everything sealed.

`python -m tests.e2e.test_stopping 10` stops ten demos at random moments and prints a table.
"""

from __future__ import annotations

import asyncio
import configparser
import contextlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import structlog
import typer

from config.load import load
from kuager.cli import app
from kuager.run import FILES_A_CAMERA, FILES_BESIDE, check_file_limit
from kuager.signals import GRACE_S, StopRequests
from kuager.supervisor import STOP_S, Supervisor
from tests.support.repository import ROOT
from tests.support.s3 import free_port
from tests.support.stack import recordings
from tests.support.waiting import BOUND_S, until

PYTHON = (sys.executable, "-X", "dev", "-m", "kuager")


@dataclass
class Stopped:
    """How a demo ended."""

    moment: str
    code: int
    seconds: float
    left: list[str]
    text: str

    @property
    def clean(self) -> bool:
        return not (self.code or self.left or self.traceback)

    @property
    def traceback(self) -> bool:
        return any(word in self.text for word in ("Traceback", "Warning", "Exception"))


class Demo:
    """A demo in a folder, as `make demo` starts it."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(exist_ok=True)
        self._log = (folder / "demo.log").open("w+b")
        self.process = subprocess.Popen(
            [*PYTHON, "demo", "--data", str(folder), "--port", str(free_port())],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        self._begun = time.monotonic()
        self._seen: dict[int, psutil.Process] = {}

    def __enter__(self) -> Demo:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()
        self._log.close()

    def tree(self) -> list[psutil.Process]:
        """Return the demo and all that it started and that still runs."""
        with contextlib.suppress(psutil.NoSuchProcess):
            top = psutil.Process(self.process.pid)
            for process in (top, *top.children(recursive=True)):
                self._seen.setdefault(process.pid, process)
        return [p for p in self._seen.values() if _runs(p)]

    def wait_until(self, what: Callable[[], object]) -> None:
        while not what():
            assert self.process.poll() is None, self.text()
            assert time.monotonic() - self._begun < BOUND_S, self.text()
            time.sleep(0.01)

    def text(self) -> str:
        return (self.folder / "demo.log").read_text(errors="replace")

    def stop(self, moment: str, signals: Callable[[], None]) -> Stopped:
        """Send signals and wait for the end."""
        self.tree()
        begun = time.monotonic()
        signals()
        while self.process.poll() is None and time.monotonic() - begun < BOUND_S:
            self.tree()
            time.sleep(0.02)
        took = time.monotonic() - begun
        left = [f"{p.pid} {_name(p)}" for p in self.tree() if p.pid != self.process.pid]
        return Stopped(moment, self.process.wait(1), took, left, self.text())


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def _name(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline())[:80]
    return "?"


def is_ours(demo: Demo) -> bool:
    """Whether our first line has run: Python itself does not catch SIGTERM."""
    lines = Path(f"/proc/{demo.process.pid}/status").read_text().splitlines()
    caught = next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt"))
    return bool(caught & 1 << signal.SIGTERM - 1)


def all_playing(demo: Demo) -> bool:
    return "6 of 6 cameras play.  http" in demo.text()


def unsealed(spool: Path) -> list[Path]:
    """Return the recordings of a demo that are not sealed."""
    return [
        r.path
        for camera in spool.glob("s*/*")
        for r in recordings(spool, camera.name, camera.parent.name)
        if r.index.seal is None
    ]


def interrupt(folder: Path, after_s: float | None) -> Stopped:
    """Start a demo, press Ctrl-C so long after its first line, or, with None, when it records."""
    with Demo(folder) as demo:
        demo.wait_until(lambda: is_ours(demo))
        if after_s is None:
            demo.wait_until(lambda: all_playing(demo))
        else:
            begun = time.monotonic()
            demo.wait_until(lambda: time.monotonic() - begun > after_s)
        moment = "recording" if after_s is None else f"after {after_s:.2f} s"
        done = demo.stop(moment, lambda: demo.process.send_signal(signal.SIGINT))
    assert not unsealed(folder / "spool"), done.text
    return done


@pytest.mark.slow
@pytest.mark.parametrize("after_s", [0.0, 0.5, 2.0, 4.0, None])
def test_ctrl_c_of_the_demo_is_clean_at_any_moment(tmp_path: Path, after_s: float | None) -> None:
    done = interrupt(tmp_path / "demo", after_s)
    assert done.clean, done


def test_only_a_later_signal_is_hard_and_only_for_one_process() -> None:
    said: list[str] = []
    at = 100.0
    top = StopRequests(lambda: said.append("stop"), lambda: said.append("hard"), lambda: at)
    child = StopRequests(lambda: said.append("child stops"), None, lambda: at)
    for asked in (top, child):
        assert not asked.already
        asked.again()
        asked.again()  # the same wish, sent to a group
        assert asked.already
    assert said == ["stop", "child stops"]
    at += GRACE_S + 0.1
    child.again()
    assert said == ["stop", "child stops"]
    top.again()
    assert said[2:] == ["hard"]


PROCESS = """
import asyncio, os, sys, uvloop
from kuager import signals

async def main():
    ended = asyncio.Event()
    signals.on_stop(ended.set, lambda: print("hangup", flush=True))
    signals.on_parent_gone(ended.set)
    print("ready", flush=True)
    await ended.wait()

{loop}.run(main())
os.set_blocking(0, True)  # uvloop leaves it so that a read with nothing there says nothing
print("closed", flush=True)
for line in sys.stdin:
    print(line, end="", flush=True)
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_signals_are_heard_in_a_loop_and_do_nothing_after_it(loop: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROCESS.format(loop=loop)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin and process.stdout
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        assert process.stdout.readline() == "hangup\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "closed\n"
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            process.send_signal(number)
        process.stdin.write("standard input is still ours\n")
        process.stdin.flush()
        assert process.stdout.readline() == "standard input is still ours\n"
        process.stdin.close()
        assert process.wait(BOUND_S) == 0


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_the_end_of_standard_input_is_heard(loop: str, kind: str) -> None:
    mine, other = socket.socketpair()
    with (
        mine,
        subprocess.Popen(
            [sys.executable, "-c", PROCESS.format(loop=loop)],
            cwd=ROOT,
            stdin=subprocess.PIPE if kind == "pipe" else other.fileno(),
            stdout=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        other.close()
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        if process.stdin:
            process.stdin.close()
        mine.close()
        assert process.wait(BOUND_S) == 0


@pytest.mark.slow
async def test_a_process_that_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "stations.yaml").write_text(
        'stations:\n  - id: s\n    cameras: [{id: a, url: "rtsp://127.0.0.1:1/a"}]\n'
    )
    path = tmp_path / "kuager.yaml"
    path.write_text(
        "election: {id: e, name: E, date: 2026-11-29, time_zone: UTC,"
        " windows: [{from: 2020-01-01T00:00, to: 2090-01-01T00:00}]}\n"
        "stations: stations.yaml\nspool: spool\narchives: [archive]\n"
    )
    python, started = tmp_path / "python", tmp_path / "started"
    with structlog.testing.capture_logs() as said:
        task = asyncio.create_task(Supervisor(load(path, {}), [str(python)]).run())
        await until(lambda: any("cannot be started" in str(line) for line in said), BOUND_S)
        whole = tmp_path / "whole"
        whole.write_text(f'#!/bin/sh\necho "$5" >> {started}\nexec cat\n')
        whole.chmod(0o755)
        whole.rename(python)
        roles = {"recorder", "uploader", "pictures", "web"}
        await until(lambda: started.exists() and roles <= set(started.read_text().split()), BOUND_S)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.slow
def test_a_role_imports_what_it_needs_alone() -> None:
    """Each of these takes memory, in every process that imports it."""
    heavy = {"aiohttp", "alembic", "av", "boto3", "cv2", "jinja2", "numpy", "sqlalchemy", "stripe"}
    for module, needs in (
        ("kuager.cli, kuager.reading, kuager.run", set[str]()),
        ("recorder.worker", set[str]()),
        ("recorder.pictures.process", {"cv2", "numpy"}),
    ):
        loaded = f"import sys, {module}; print(*sys.modules)"
        done = subprocess.run([sys.executable, "-c", loaded], cwd=ROOT, capture_output=True)
        assert set(done.stdout.decode().split()) & heavy == needs, module


def test_the_log_says_how_many_cameras_fit() -> None:
    files = FILES_BESIDE + 3 * FILES_A_CAMERA
    with structlog.testing.capture_logs() as said:
        check_file_limit(files, 3)
        assert said == []
        check_file_limit(files, 4)
    assert (said[0]["files"], said[0]["cameras_that_fit"]) == (files, 3)


@pytest.mark.slow
def test_a_role_may_open_as_many_files_as_it_may_ask_for() -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-c"),
            "import asyncio, resource as r\n"
            "from kuager.run import _run_until_signal as run\n"
            "r.setrlimit(r.RLIMIT_NOFILE, (100, 200))\n"
            "async def role(): print(r.getrlimit(r.RLIMIT_NOFILE))\n"
            "run(role)",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=BOUND_S,
    )
    assert done.stdout == "(200, 200)\n", done.stderr


def test_the_unit_is_right(tmp_path: Path) -> None:
    text = (ROOT / "deploy/kuager.service").read_text()
    unit = configparser.RawConfigParser()
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(text)
    service = unit["Service"]
    assert service["KillMode"] == "mixed" and int(service["TimeoutStopSec"]) > STOP_S
    program, *arguments = service["ExecStart"].split()
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert Path(program).name in scripts
    command = typer.main.get_command(app)
    found = command.commands[arguments[0]]  # type: ignore[attr-defined]
    found.make_context("run", arguments[1:])  # fails for an option that there is not
    if verify := shutil.which("systemd-analyze"):
        here = tmp_path / "kuager.service"
        here.write_text(text.replace(program, "/bin/true").replace("User=kuager", "User=root"))
        done = subprocess.run([verify, "verify", str(here)], capture_output=True, text=True)
        ours = [line for line in done.stderr.splitlines() if "kuager" in line]
        assert done.returncode == 0 and not ours, done.stderr


def main() -> None:
    chance = random.Random()
    print("| Ctrl-C | exit code | seconds | processes left | traceback |\n|---|---|---|---|---|")
    clean = True
    for n in range(int(sys.argv[1])):
        with tempfile.TemporaryDirectory(prefix="kuager-demo-") as folder:
            done = interrupt(Path(folder) / "demo", None if n == 0 else chance.uniform(0, 12))
        clean &= done.clean
        left, traceback = ", ".join(done.left) or "none", "yes" if done.traceback else "no"
        print(f"| {done.moment} | {done.code} | {done.seconds:.1f} | {left} | {traceback} |")
        if not done.clean:
            print(done.text, file=sys.stderr)
    sys.exit(not clean)


if __name__ == "__main__":
    main()
