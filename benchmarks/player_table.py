"""What players make of a copy: `make player-table` writes the table of docs/copies.md.

Three simulated cameras (H.264, H.264 with AAC, H.265) are recorded for some seconds by the real
recorder, and a copy of each is made. Each player opens it, says how long it is, and seeks to three
points; where a picture can be had the time burned into it is read, and must be that of the point.
What is not installed is said; nothing is installed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import ffmpeg
import numpy as np
from aiohttp import web
from playwright.async_api import async_playwright

from copies.files.virtual import VirtualFile
from copies.footage.find import find
from copies.footage.plan import CopyPlan
from storage.recording_source import Sources
from streaming.http.ranges import send
from streaming.media.downloads import content_of
from tests.support.footage import whole
from tests.support.recorded_cameras import NAMES, record_cameras
from tests.support.s3 import free_port
from tests.support.site_stack import CHROMIUM
from tests.support.stack import recordings
from tests.support.strip import read_strip

DOC = Path(__file__).parent.parent / "docs/copies.md"
BEGIN, END = "<!-- player table -->", "<!-- end of player table -->"
POINTS = (0.2, 0.5, 0.8)
TITLES = {"h264": "H.264", "aac": "H.264 + AAC", "h265": "H.265"}

# A picture after an accurate seek, by GStreamer's own demuxer and decoder, as PGM.
GSTREAMER = """
import gi, sys
gi.require_version("Gst", "1.0")
from gi.repository import Gst
Gst.init(None)
path, at, out = sys.argv[1], float(sys.argv[2]), sys.argv[3]
line = f'filesrc location="{path}" ! qtdemux name=d d.video_0 ! decodebin ! videoconvert '
line += '! video/x-raw,format=GRAY8 ! appsink name=s sync=false'
pipe = Gst.parse_launch(line)
pipe.set_state(Gst.State.PAUSED)
pipe.get_state(10 * Gst.SECOND)
flags = Gst.SeekFlags.FLUSH | Gst.SeekFlags.ACCURATE
assert pipe.seek_simple(Gst.Format.TIME, flags, int(at * Gst.SECOND)), "no seek"
pipe.get_state(10 * Gst.SECOND)
sample = pipe.get_by_name("s").emit("pull-preroll")
size = sample.get_caps().get_structure(0)
width, height = size.get_value("width"), size.get_value("height")
found, data = sample.get_buffer().map(Gst.MapFlags.READ)
stride = len(data.data) // height
rows = b"".join(bytes(data.data[n * stride:n * stride + width]) for n in range(height))
open(out, "wb").write(b"P5\\n%d %d\\n255\\n" % (width, height) + rows)
pipe.set_state(Gst.State.NULL)
"""


@dataclass(frozen=True)
class Copy:
    """A copy on disk, with what is true of it."""

    path: Path
    plan: CopyPlan
    late_ms: float  # how much later than burned in its pictures are placed

    @property
    def seconds(self) -> float:
        return self.plan.duration_90k / 90_000


class Failed(Exception):
    """A player does not do what it should; the text says what it says."""


def run(command: list[str], seconds: float = 40, user: bool = False) -> str:
    """Run a program and return all that it says; as nobody where it refuses root."""
    if user and os.geteuid() == 0:
        command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]
    environ = os.environ | {"SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy"}
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds,
        env=environ | {"HOME": "/tmp"} if user else environ,
    )
    said = done.stdout + done.stderr
    if done.returncode:
        raise Failed((said.strip().splitlines() or ["it failed"])[-1][:100])
    return said


def burned(image: Path) -> int:
    """Return the time burned into a picture."""
    grey = cv2.imread(str(image), cv2.IMREAD_GRAYSCALE)
    found = None if grey is None else read_strip(np.asarray(grey, np.uint8))
    if found is None:
        raise Failed("no readable picture after a seek")
    return found


def found(pattern: str, said: str) -> float:
    """Return the seconds that a player says: a number, or h:mm:ss."""
    if (match := re.search(pattern, said)) is None:
        raise Failed("it says no duration")
    value = 0.0
    for part in match.group(1).split(":"):
        value = value * 60 + float(part)
    return value


# Each player: how it says the duration, and how a picture after a seek is had.


def ffprobe(copy: Copy, folder: Path) -> tuple[float, list[int] | None]:
    command = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0"]
    for point in POINTS:
        at = point * copy.seconds
        seek = [*command[:3], "-select_streams", "v", "-read_intervals", f"{at}%+#1"]
        pts = run([*seek, "-show_entries", "packet=pts_time", "-of", "csv=p=0", str(copy.path)])
        if not at - 2.6 < float(pts.strip().split("\n")[0].strip(",")) <= at + 0.1:
            raise Failed(f"a seek to {at:.1f} s leads to {pts.strip()} s")
    return found(r"([\d.]+)", run([*command, str(copy.path)])), None


def ffplay(copy: Copy, folder: Path) -> tuple[float, list[int] | None]:
    said = run(["ffplay", "-hide_banner", "-autoexit", "-t", "1", str(copy.path)])
    shown = []
    for n, point in enumerate(POINTS):
        out = folder / f"ffmpeg{n}.png"
        still = ffmpeg.input(str(copy.path), ss=point * copy.seconds)
        run(still.output(str(out), **{"frames:v": 1}).compile(cmd=["ffmpeg", "-v", "error", "-y"]))
        shown.append(burned(out))
    return found(r"Duration: ([\d:.]+)", said), shown


def mpv(copy: Copy, folder: Path) -> tuple[float, list[int] | None]:
    quiet = ["mpv", "--no-config", "--ao=null", "--hwdec=no"]
    message = "--term-playing-msg=LENGTH=${=duration}"
    said = run([*quiet, "--vo=null", message, "--length=0.2", str(copy.path)])
    shown = []
    for n, point in enumerate(POINTS):
        out = folder / f"mpv{n}"
        vo = ["--vo=image", "--vo-image-format=png", f"--vo-image-outdir={out}", "--frames=1"]
        run([*quiet, *vo, f"--start={point * copy.seconds}", str(copy.path)])
        shown.append(burned(next(out.glob("*.png"))))
    return found(r"LENGTH=([\d.]+)", said), shown


def vlc(copy: Copy, folder: Path) -> tuple[float, list[int] | None]:
    quiet = ["cvlc", "--no-audio", "--vout=dummy", "--play-and-exit"]
    length, port = 0.0, free_port()
    control = ["--intf=rc", f"--rc-host=127.0.0.1:{port}", "--rc-fake-tty"]
    child = subprocess.Popen(
        [
            *(
                ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
                if os.geteuid() == 0
                else []
            ),
            *("cvlc", "--no-audio", "--vout=dummy", *control, str(copy.path)),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"HOME": "/tmp"},
    )
    try:
        length = _vlc_length(port)
    finally:
        child.terminate()
        child.wait(10)
    shown = []
    for n, point in enumerate(POINTS):
        out = folder / f"vlc{n}"
        out.mkdir()
        out.chmod(0o777)
        scene = ["--video-filter=scene", "--scene-format=png", f"--scene-path={out}"]
        scene += ["--scene-ratio=1000", "--run-time=2", f"--start-time={point * copy.seconds:.3f}"]
        run([*quiet, *scene, str(copy.path)], user=True)
        pictures = sorted(out.glob("*.png"))
        if not pictures:
            raise Failed("no picture after a seek")
        shown.append(burned(pictures[0]))
    return length, shown


def _vlc_length(port: int) -> float:
    """Ask VLC's remote control until it knows."""
    for _ in range(60):
        time.sleep(0.25)
        try:
            with socket.create_connection(("127.0.0.1", port), 1) as control:
                control.sendall(b"get_length\n")
                time.sleep(0.2)
                said = control.recv(4096).decode(errors="replace")
        except OSError:
            continue
        if (match := re.search(r"(?m)^(?:> )?(\d+)\s*$", said)) and int(match.group(1)):
            return float(match.group(1))
    raise Failed("it says no duration")


def gstreamer(copy: Copy, folder: Path) -> tuple[float, list[int] | None]:
    said = run(["gst-discoverer-1.0", str(copy.path)])
    shown = []
    for n, point in enumerate(POINTS):
        out = folder / f"gst{n}.pgm"
        at = str(point * copy.seconds)
        run(["/usr/bin/python3", "-c", GSTREAMER, str(copy.path), at, str(out)])
        shown.append(burned(out))
    return found(r"Duration: ([\d:.]+)", said), shown


def chromium(copy: Copy, folder: Path) -> tuple[float, list[int] | None]:
    return asyncio.run(_chromium(copy, folder))


async def _chromium(copy: Copy, folder: Path) -> tuple[float, list[int] | None]:
    """Play it over HTTP with ranges, as a browser would from a link."""
    file = VirtualFile(copy.plan, Sources(copy.path.parent / "spool", []))

    async def serve(request: web.Request) -> web.StreamResponse:
        return await send(request, content_of(file, file.read), {})

    async def page_(request: web.Request) -> web.StreamResponse:
        return web.Response(
            text="<video src=/copy.mp4 preload=auto muted></video>", content_type="text/html"
        )

    app = web.Application()
    app.add_routes([web.get("/copy.mp4", serve), web.get("/", page_)])
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    wait = """video => new Promise((well, bad) => {
        if (video.readyState >= 2) well(video.duration)
        video.onloadeddata = () => well(video.duration)
        video.onerror = () => bad(new Error(video.error.message))
        if (video.error) bad(new Error(video.error.message)) })"""
    seek = """(video, at) => new Promise(well => {
        video.onseeked = () => video.requestVideoFrameCallback ? well(video.currentTime) : well(0)
        video.currentTime = at })"""
    try:
        async with async_playwright() as play:
            browser = await play.chromium.launch(
                executable_path=shutil.which("chromium"), args=CHROMIUM
            )
            page = await browser.new_page(viewport={"width": 900, "height": 520})
            await page.goto(f"http://127.0.0.1:{port}/")
            video = page.locator("video")
            try:
                length = float(await video.evaluate(wait))
            except Exception as error:
                why = re.search(r"[A-Z]+(_[A-Z]+)+", str(error))
                raise Failed(why.group() if why else str(error)[:80]) from None
            shown = []
            for n, point in enumerate(POINTS):
                await video.evaluate(seek, point * copy.seconds)
                await asyncio.sleep(0.5)
                out = folder / f"chromium{n}.png"
                await video.screenshot(path=out)
                shown.append(burned(out))
            await browser.close()
            return length, shown
    finally:
        await runner.cleanup()


Player = Callable[[Copy, Path], tuple[float, list[int] | None]]
PLAYERS: dict[str, tuple[str, Player]] = {
    "Chromium": ("chromium", chromium),
    "VLC": ("cvlc", vlc),
    "mpv": ("mpv", mpv),
    "ffplay, ffmpeg": ("ffplay", ffplay),
    "ffprobe": ("ffprobe", ffprobe),
    "GStreamer": ("gst-discoverer-1.0", gstreamer),
}


def cell(copy: Copy, player: Player) -> str:
    """Return what a player made of a copy: its duration, and how far off each seek was."""
    with tempfile.TemporaryDirectory(prefix="kuager-player-") as text:
        Path(text).chmod(0o755)
        try:
            length, shown = player(copy, Path(text))
        except (Failed, subprocess.TimeoutExpired, OSError) as error:
            return f"no: {error}"
    off = "to the keyframe"
    if shown is not None:
        wanted = [copy.plan.start_ms + p * copy.seconds * 1000 - copy.late_ms for p in POINTS]
        seconds = [(s - w) / 1000 for s, w in zip(shown, wanted, strict=True)]
        off = ", ".join(f"{round(s, 2) + 0.0:+.2f}" for s in seconds) + " s"
    return f"{length:.2f} s; {off}"


async def make(folder: Path) -> dict[str, Copy]:
    """Record, and make a copy of each camera."""
    spool = folder / "spool"
    await record_cameras(spool, 20)
    made = {}
    for name in NAMES:
        (*_, last) = kept = recordings(spool, name)
        from_ms, to_ms = kept[0].index.start_ms + 2_500, last.index.end_ms - 1_000
        (plan,) = (await find(None, [], spool, ("e", "s", name), from_ms, to_ms, zone="UTC")).files
        path = folder / f"{name}.mp4"
        path.write_bytes(await whole(plan, Sources(spool, [])))
        errors = sorted(e for r in kept for e in r.errors_ms("ffmpeg"))
        made[name] = Copy(path, plan, errors[len(errors) // 2])
    return made


def table() -> str:
    """Record, play, and return the table."""
    with tempfile.TemporaryDirectory(prefix="kuager-players-") as text:
        folder = Path(text)
        folder.chmod(0o755)
        made = asyncio.run(make(folder))
        head = " | ".join(f"{TITLES[n]}, {made[n].seconds:.2f} s" for n in NAMES)
        rows = [f"| player | {head} |", "|---|" + "---|" * len(NAMES)]
        for name, (program, player) in PLAYERS.items():
            if shutil.which(program) is None:
                print(f"{name} is missing: apt-get install it to have its row")
                continue
            cells = " | ".join(cell(made[n], player) for n in NAMES)
            rows.append(f"| {name} | {cells} |")
            print(rows[-1], flush=True)
    return "\n".join(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="into docs/copies.md")
    given = parser.parse_args()
    made = table()
    print(made)
    if given.write:
        text = DOC.read_text()
        before, _, rest = text.partition(BEGIN)
        _, _, after = rest.partition(END)
        DOC.write_text(f"{before}{BEGIN}\n{made}\n{END}{after}")
