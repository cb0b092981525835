"""Pipes to child processes: every descriptor is closed once, and nothing that was said is lost."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest

from recorder.ffmpeg import FfmpegSource
from recorder.pipe import ReadPipe, pipe_with
from recorder.rtsp.description import Description
from recorder.source import Frame
from storage.records import GapCause
from tests.support.programs import need
from tests.support.waiting import BOUND_S, until

SESSIONS = textwrap.dedent("""
    import asyncio, sys, uvloop
    from tests.recorder.test_pipe import session
    async def main():
        for _ in range(5):
            await session(sys.argv[1])
    uvloop.run(main())
""")


class Nobody:
    """Takes what a source yields."""

    def on_tracks(self, tracks: object, transcoded: object) -> None: ...

    def on_frame(self, frame: Frame) -> None: ...


async def session(program: str) -> tuple[GapCause, str]:
    end = await FfmpegSource(program, "rtsp://u:s3cret@x/", Description("h264", None)).run(Nobody())
    return end.cause, end.detail


def program(folder: Path, script: str) -> str:
    path = folder / "ffmpeg"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.slow
def test_a_session_closes_each_descriptor_once(tmp_path: Path) -> None:
    """A second close would close what another thread has opened meanwhile."""
    strace = need("strace", "apt-get install strace")
    log = tmp_path / "log"
    command = [strace, "-f", "-e", "trace=close", "-o", str(log), sys.executable, "-c", SESSIONS]
    subprocess.run([*command, program(tmp_path, "cat >/dev/null")], check=True, timeout=BOUND_S)
    closes = log.read_text().splitlines()
    assert len(closes) > 50
    assert [line for line in closes if "EBADF" in line] == []


@pytest.mark.slow
async def test_a_child_that_ends_before_it_reads_says_why(tmp_path: Path) -> None:
    said = 'echo "[rtsp @ 0x1] rtsp://u:s3cret@x/: Connection refused" >&2'
    for _ in range(20):
        cause, detail = await session(program(tmp_path, said))
        assert cause is GapCause.UNREACHABLE and "refused" in detail and "s3cret" not in detail


@pytest.mark.slow
async def test_a_session_that_is_cancelled_at_any_moment_leaves_nothing(tmp_path: Path) -> None:
    """No child, be it alive or not waited for, and no descriptor."""
    path = program(tmp_path, "exec sleep 600")

    def open_files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    await session(program(tmp_path, "exit 0"))  # whatever the first one opens for good
    program(tmp_path, "exec sleep 600")
    before, others = open_files(), set(psutil.Process().children())
    for n in range(80):
        task = asyncio.create_task(session(path))
        for _ in range(min(n, 40)):
            await asyncio.sleep(0)
        await asyncio.sleep(max(0, n - 40) / 1000)
        task.cancel()
        await asyncio.wait({task})
    await until(lambda: set(psutil.Process().children()) <= others)
    await until(lambda: open_files() <= before)


async def test_a_line_without_end_neither_blocks_the_child_nor_is_kept(tmp_path: Path) -> None:
    said = "head -c 1000000 /dev/zero | tr '\\0' x >&2; echo >&2; echo '404 Not Found' >&2"
    cause, _ = await session(program(tmp_path, said))
    assert cause is GapCause.NO_SUCH_STREAM


async def test_a_child_inherits_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CAMERA_PASSWORD", "s3cret")
    await session(program(tmp_path, f"env > {tmp_path}/environment"))
    seen = (tmp_path / "environment").read_text()
    assert "PATH=" in seen and "CAMERA_PASSWORD" not in seen and "s3cret" not in seen


async def test_what_was_written_before_the_end_is_read() -> None:
    taken = bytearray()
    ended = asyncio.Event()
    pipe = ReadPipe(lambda data: taken.extend(data), ended.set)
    os.write(pipe.writing, b"last words")
    pipe.child_has_it()
    await ended.wait()
    assert taken == b"last words"
    pipe.close()


def test_what_does_not_fit_into_a_pipe_is_refused() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(OSError):
        pipe_with(bytes(1 << 20))
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    reading = pipe_with(b"x")
    assert os.read(reading, 10) == b"x" and os.read(reading, 10) == b""
    os.close(reading)
