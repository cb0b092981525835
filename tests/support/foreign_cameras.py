"""Cameras that are not ours: GStreamer's RTSP server, and MediaMTX, to which ffmpeg sends.

python -m tests.support.foreign_cameras prints what both sources make of each. MediaMTX is among
them where the environment variable MEDIAMTX names its binary.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import ffmpeg as ffmpeg_python

from recorder.ffmpeg import find_ffmpeg
from recorder.native import why_not
from recorder.rtsp.connection import Resolver
from recorder.rtsp.describe import DescribeFailed
from tests.support.programs import missing
from tests.support.repository import ROOT
from tests.support.rtsp_camera import described
from tests.support.s3 import free_port
from tests.support.sources import compare
from tests.support.waiting import BOUND_S, until

VIDEO = (
    "videotestsrc is-live=true pattern=ball flip=true ! "
    "video/x-raw,width=320,height=180,framerate=25/1 ! "
)
# small and ultrafast: a machine that is busy with other work encodes in time all the same
H264 = VIDEO + "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=50 bitrate=600 ! "
PAY = "rtph264pay name=pay0 pt=96 config-interval={n}"
# packets of 20 ms, as cameras send them: sound may lead by one until ffmpeg has a sender report
AUDIO = "audiotestsrc is-live=true wave=ticks samplesperbuffer={n} ! "
AUDIO += "audio/x-raw,rate={rate},channels=1 ! "
MOUNTS = {
    "aac": H264
    + PAY.format(n=-1)
    + " "
    + AUDIO.format(rate=48000, n=960)
    + "avenc_aac ! rtpmp4gpay name=pay1 pt=97",
    "b": VIDEO
    + "x264enc speed-preset=ultrafast b-adapt=false bframes=2 rc-lookahead=2 key-int-max=50"
    + " bitrate=600 ! "
    + "video/x-h264,profile=main ! "
    + PAY.format(n=0),
    "g711": H264
    + PAY.format(n=1)
    + " "
    + AUDIO.format(rate=8000, n=160)
    + "mulawenc ! rtppcmupay name=pay1 pt=0",
    "h265": VIDEO
    + "x265enc tune=zerolatency speed-preset=ultrafast key-int-max=50 bitrate=600 ! "
    + "rtph265pay name=pay0 pt=96 config-interval=-1",
    "jpeg": VIDEO.replace("25/1", "15/1,format=I420") + "jpegenc ! rtpjpegpay name=pay0 pt=26",
}
NATIVE = ("aac", "b", "h265")  # that have nothing to be encoded again
MEDIAMTX = os.environ.get("MEDIAMTX")
PICTURE: dict[str, Any] = {"pix_fmt": "yuv420p", "g": 25, "preset": "ultrafast", "b:v": "600k"}
PUBLISHED: dict[str, dict[str, Any]] = {
    "h264": PICTURE | {"c:v": "libx264", "tune": "zerolatency", "c:a": "aac"},
    "h265": PICTURE | {"c:v": "libx265", "x265-params": "log-level=none:bframes=0"},
}
SYSTEM_PYTHON = "/usr/bin/python3"


@contextlib.asynccontextmanager
async def server(*more: str) -> AsyncIterator[int]:
    """Serve all mounts; yields the port."""
    probe = "import gi; gi.require_version('GstRtspServer', '1.0')"
    asked = await asyncio.to_thread(
        subprocess.run, [SYSTEM_PYTHON, "-c", probe], capture_output=True
    )
    if asked.returncode:
        missing("GStreamer's RTSP server is missing: apt-get install gir1.2-gst-rtsp-server-1.0")
    port = free_port()
    mounts = [f"{name}={pipeline}" for name, pipeline in MOUNTS.items()]
    script = str(ROOT / "tests/support/gst_server.py")
    child = await asyncio.create_subprocess_exec(
        *(SYSTEM_PYTHON, script, str(port), *mounts, *more),
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert child.stdout is not None
        assert await asyncio.wait_for(child.stdout.readline(), BOUND_S) == b"ready\n"
        yield port
    finally:
        child.kill()
        await child.wait()


@contextlib.asynccontextmanager
async def mediamtx(folder: Path, ffmpeg: str) -> AsyncIterator[int]:
    """Have MediaMTX serve what ffmpeg sends to it; yields the port."""
    assert MEDIAMTX is not None
    port, rtp = free_port(), free_even_pair()
    (folder / "mediamtx.yml").write_text(
        f"logLevel: error\nrtspAddress: 127.0.0.1:{port}\nrtpAddress: 127.0.0.1:{rtp}\n"
        f"rtcpAddress: 127.0.0.1:{rtp + 1}\nrtspTransports: [udp, tcp]\nrtmp: no\nhls: no\n"
        "webrtc: no\nsrt: no\nmoq: no\npaths:\n  all_others:\n"
    )
    async with contextlib.AsyncExitStack() as stack:

        async def begin(*command: str) -> None:
            child = await asyncio.create_subprocess_exec(
                *command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )

            async def end() -> None:
                if child.returncode is None:
                    child.kill()
                await child.wait()

            stack.push_async_callback(end)

        await begin(MEDIAMTX, str(folder / "mediamtx.yml"))
        await until(lambda: listens(port), why="MediaMTX does not listen")
        for name, options in PUBLISHED.items():
            sources = [ffmpeg_python.input("testsrc2=size=640x360:rate=25", f="lavfi", re=None)]
            if "c:a" in options:
                sources.append(ffmpeg_python.input("sine=frequency=300", f="lavfi", re=None))
            sent = ffmpeg_python.output(
                *sources,
                f"rtsp://127.0.0.1:{port}/{name}",
                f="rtsp",
                rtsp_transport="tcp",
                **options,
            )
            await begin(*sent.compile(cmd=[ffmpeg, "-nostdin", "-v", "error"]))
        for name in PUBLISHED:
            await until(partial(_plays, port, name), why=f"{name} is not published")
        yield port


def listens(port: int) -> bool:
    """Say whether somebody takes connections."""
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    return False


def free_even_pair() -> int:
    """Return an even UDP port that is free, with the next one."""
    while True:
        port = free_port() & ~1
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:
            for number in (port, port + 1):
                way = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                way.bind(("127.0.0.1", number))
            return port


async def _plays(port: int, name: str) -> bool:
    with contextlib.suppress(DescribeFailed):
        await described(f"rtsp://127.0.0.1:{port}/{name}", Resolver())
        return True
    return False


async def table() -> None:
    """Print what both sources make of each camera."""
    ffmpeg = find_ffmpeg(None)
    print("| camera | transport | pictures alike | sound alike | first picture: native, ffmpeg |")
    print("|---|---|---|---|---|")
    for transport in ("tcp", "udp"):
        async with server("--user", "viewer:pass word", "--protocols", transport) as port:
            for name in MOUNTS:
                url = f"rtsp://viewer:pass%20word@127.0.0.1:{port}/{name}"
                await _row(f"GStreamer, {name}", url, ffmpeg, transport, name == "aac")
        if MEDIAMTX is not None:
            with tempfile.TemporaryDirectory() as folder:
                async with mediamtx(Path(folder), ffmpeg) as port:
                    for name, options in PUBLISHED.items():
                        url = f"rtsp://127.0.0.1:{port}/{name}"
                        await _row(f"MediaMTX, {name}", url, ffmpeg, transport, "c:a" in options)


async def _row(title: str, url: str, ffmpeg: str, transport: str, sound: bool) -> None:
    why = why_not(await described(url, Resolver()))
    if why is not None or title.endswith("g711"):
        print(f"| {title} | {transport} | {why or 'its sound is encoded again'} | | |", flush=True)
        return
    same = await compare(url, ffmpeg, transport, sound, steady=False)
    times = f"{same.native_s:.1f}, {same.ffmpeg_s:.1f} s"
    print(f"| {title} | {transport} | {same.pictures} | {same.sound} | {times} |", flush=True)


if __name__ == "__main__":
    asyncio.run(table())
