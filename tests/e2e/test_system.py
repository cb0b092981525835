"""The whole of it: `kuager run` as operators start it, killed part by part, and watched."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import m3u8
import psutil
import pytest
from playwright.async_api import Page, expect

from kuager.simulator.camera import SimCamera
from storage.records import FormatError, GapCause, Index, parse_archive_document
from tests.support.programs import need
from tests.support.repository import ROOT
from tests.support.running import kuager, playing, start
from tests.support.s3 import BUCKET, KEY, SECRET, free_port
from tests.support.site_stack import opened
from tests.support.stack import SMALL, check_tiling, gaps, recordings
from tests.support.strip import pictures
from tests.support.waiting import BOUND_S, until

CAMERAS = [
    SimCamera("a", user="u", password="pass-of-a", **SMALL),
    SimCamera("b", audio="aac", **SMALL),
]


class Follower:
    """A player's eyes: reads the playlist every second and checks that RFC 8216 is kept."""

    def __init__(self, url: str):
        self._url = url
        self.seen: dict[str, tuple[int, int]] = {}
        self.newest = 0
        self.targets: set[int] = set()
        self.lengths: set[int] = set()  # of segments, in whole seconds

    async def follow(self) -> None:
        async with aiohttp.ClientSession() as session:
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    async with session.get(self._url) as answer:
                        if answer.status == 200:
                            self._take(m3u8.loads(await answer.text()))
                await asyncio.sleep(0.7)

    def _take(self, playlist: Any) -> None:
        self.targets.add(playlist.target_duration)
        self.lengths |= {int(segment.duration + 0.5) for segment in playlist.segments}
        breaks = playlist.discontinuity_sequence
        for place, segment in enumerate(playlist.segments):
            breaks += segment.discontinuity
            numbers = (playlist.media_sequence + place, breaks)
            assert self.seen.setdefault(segment.uri, numbers) == numbers
            self.newest = max(self.newest, numbers[0])


@pytest.mark.slow
async def test_killed_part_by_part(tmp_path: Path, ffmpeg: str) -> None:
    """kill -9 of ffmpeg, a worker, the uploader, a web process and the supervisor."""
    async with kuager(tmp_path, CAMERAS, ffmpeg, source="ffmpeg") as running:
        await playing(running, ["a", "b"])
        followers = {n: Follower(f"{running.base}/live/s/{n}/index.m3u8") for n in ("a", "b")}
        tasks = [asyncio.create_task(f.follow()) for f in followers.values()]
        for name in ("ffmpeg", "recorder 0/2", "recorder 1/2", "uploader 0/1", "web 0/2"):
            pids = running.processes()
            if name == "ffmpeg":
                recorders = [pid for key, pid in pids.items() if key.startswith("recorder")]
                children = [c for pid in recorders for c in running.ffmpegs(pid)]
                os.kill(children[0], signal.SIGKILL)
            else:
                os.kill(pids[name], signal.SIGKILL)
                await until(lambda: running.processes().get(name) not in (None, pids[name]))  # noqa: B023
            marks = {n: f.newest for n, f in followers.items()}
            await until(
                lambda: all(f.newest > marks[n] + 1 for n, f in followers.items()),  # noqa: B023
                why=f"the players did not go on after {name} was killed",
            )
        os.kill(running.process.pid, signal.SIGKILL)
        await running.process.wait()
        await until(lambda: not running.processes(), why="orphans of the supervisor")
        running.process = await start(tmp_path, running.log)
        marks = {n: f.newest for n, f in followers.items()}
        await until(lambda: all(f.newest > marks[n] + 1 for n, f in followers.items()))
        for task in tasks:
            assert not task.done()
            task.cancel()
    causes: set[GapCause] = set()
    for name, follower in followers.items():
        # more only where a picture stood still, as on a busy machine: 4.3.3.1
        assert follower.targets - {min(follower.targets)} <= follower.lengths
        check_tiling(running.spool, name, running.begin_ms)
        causes |= {g.cause for g in gaps(running.spool, name)}
        kept = {s.segment_no: s for r in recordings(running.spool, name) for s in r.index.segments}
        for uri in follower.seen:  # what anybody could see is there
            assert int(uri.removesuffix(".m4s")) in kept
    # what the camera still had in hand may close the gap of a stream that broke
    assert causes - {GapCause.STREAM_BROKEN} == {
        GapCause.CONNECTING,
        GapCause.RECORDER_CRASHED,
        GapCause.RECORDER_STOPPED,
    }
    log = running.log.read_text()
    assert "pass-of-a" not in log and SECRET not in log
    assert "Traceback" not in log


@pytest.mark.slow
async def test_from_camera_to_bucket(tmp_path: Path, ffmpeg: str) -> None:
    """Live by ffprobe and a parser, archived recordings decode, no secret in the process list."""
    ffprobe = need("ffprobe", "apt-get install ffmpeg")
    async with kuager(tmp_path, CAMERAS, ffmpeg) as running:
        await playing(running, ["a", "b"])
        for name in ("a", "b"):
            done = await asyncio.create_subprocess_exec(
                *(ffprobe, "-v", "error", "-show_entries", "stream=codec_name", "-of", "json"),
                f"{running.base}/live/s/{name}/index.m3u8",
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            out, err = await done.communicate()
            assert done.returncode == 0 and err == b"", err.decode()
            codecs = [s["codec_name"] for s in json.loads(out)["streams"]]
            assert codecs == (["h264"] if name == "a" else ["h264", "aac"])
        arguments = await asyncio.to_thread(every_argument)
        assert b"pass-of-a" not in arguments and SECRET.encode() not in arguments
        bucket = tmp_path / "s3" / BUCKET
        documents: dict[Path, Index] = {}

        def are_whole() -> bool:  # the server may be writing one
            documents.clear()
            with contextlib.suppress(FormatError):
                for path in bucket.glob("e/s/*/*/*.json"):
                    documents[path] = parse_archive_document(path.read_bytes())
                return len(documents) >= 2
            return False

        await until(are_whole, every=0.5)
        for document, index in documents.items():
            # in a thread: the cameras live in this one
            found = await asyncio.to_thread(pictures, document.with_suffix(".mp4"), ffmpeg)
            assert len(found) > 14 and all(p.burned_ms for p in found)
            assert index.seal is not None
    # after the stop everything is sealed
    assert all(r.index.seal for n in ("a", "b") for r in recordings(running.spool, n))
    last = gaps(running.spool, "a")[-1]
    said = (running.spool / "s/a/gaps.jsonl").read_text() + running.log.read_text()[-4000:]
    assert last.cause is GapCause.RECORDER_STOPPED, said


def every_argument() -> bytes:
    """Return the arguments of all processes of this machine."""
    out = b""
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            out += (path / "cmdline").read_bytes()
    return out


@pytest.mark.slow
async def test_a_second_signal_ends_everything_at_once(tmp_path: Path, ffmpeg: str) -> None:
    async with kuager(tmp_path, CAMERAS[:1], ffmpeg, source="ffmpeg") as running:
        await playing(running, ["a"])
        children = list(running.processes().values())
        grandchildren = [f for pid in children for f in running.ffmpegs(pid)]
        assert grandchildren
        for pid in children:
            os.kill(pid, signal.SIGSTOP)  # so that they cannot end in order

        def ended_when_asked_again() -> bool:
            if running.process.returncode is None:
                running.process.terminate()
            return running.process.returncode is not None

        await until(ended_when_asked_again)
        assert running.process.returncode == 1
        everyone = [*children, *grandchildren]
        await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in everyone))
        running.process = await start(tmp_path, running.log)
        await playing(running, ["a"])
    check_tiling(running.spool, "a", running.begin_ms)


@pytest.mark.slow
async def test_sigterm_to_every_process_at_once_seals(tmp_path: Path, ffmpeg: str) -> None:
    """As systemd does it by default: also to ffmpeg, and the recorders get it twice."""
    async with kuager(tmp_path, CAMERAS, ffmpeg, source="ffmpeg") as running:
        await playing(running, ["a", "b"])
        tree = psutil.Process(running.process.pid)
        for process in (tree, *tree.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):  # who was told first may end others
                process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(running.process.wait(), BOUND_S) == 0
        assert not running.processes()
        assert all(r.index.seal for n in ("a", "b") for r in recordings(running.spool, n))
        running.process = await start(tmp_path, running.log)
        await playing(running, ["a", "b"])
    for name in ("a", "b"):
        check_tiling(running.spool, name, running.begin_ms)
        causes = {g.cause for g in gaps(running.spool, name)}
        assert causes == {GapCause.CONNECTING, GapCause.RECORDER_STOPPED}
    log = running.log.read_text()
    assert "Traceback" not in log and "did not stop in time" not in log, log


async def video_times(page: Page) -> list[float]:
    times: list[float] = await page.evaluate(
        "[...document.querySelectorAll('figure video')].map(v => v.currentTime)"
    )
    return times


@pytest.mark.browser
@pytest.mark.slow
async def test_a_browser_plays_and_goes_on_through_a_gap(
    tmp_path: Path, ffmpeg: str, chromium: str
) -> None:
    async with kuager(tmp_path, CAMERAS, ffmpeg) as running:
        await playing(running, ["a", "b"])
        async with opened(chromium, running.base) as (page, errors):
            await page.click("#stations a")
            await moving(page, 2)
            running.simulator.fault("a", "drop", 9)
            slate = page.locator("figure[data-camera=a] .slate", has_text="camera")
            await slate.wait_for()
            web = running.processes()["web 1/2"]
            os.kill(web, signal.SIGKILL)
            await asyncio.sleep(8)
            await moving(page, 2)
            assert errors == []
            assert await page.evaluate("document.documentElement.scrollWidth") <= 390


async def moving(page: Page, count: int) -> None:
    """Wait until all videos of the page play on."""
    await expect(page.locator("figure video")).to_have_count(count)  # it is the page with them

    async def move() -> bool:
        before = await video_times(page)
        await asyncio.sleep(1.5)
        after = await video_times(page)
        return all(b - a > 0.7 for a, b in zip(before, after, strict=True))

    await until(move, why="videos stand still")


def run(folder: Path, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kuager", *arguments],
        env=os.environ | environ,
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        cwd=folder.parent,
    )


@pytest.fixture
def configured(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "stations.yaml").write_text(
        'stations:\n  - id: s\n    cameras: [{id: a, url: "rtsp://127.0.0.1:1/a"}]\n'
    )
    (tmp_path / "kuager.yaml").write_text(
        "election: {id: e, name: E, date: 2026-11-29, time_zone: UTC,"
        " windows: [{from: 2020-01-01T00:00, to: 2090-01-01T00:00}]}\n"
        "stations: stations.yaml\nspool: spool\narchives: [archive]\n"
        f'web: {{listen: "127.0.0.1:{free_port()}"}}\n'
    )
    yield tmp_path


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ("corrupt", 2, "kuager.yaml:"),
        ("encoding", 2, "UTF-8"),
        ("ffmpeg", 2, "is not a program that can be run"),
        ("port", 2, "web.listen"),
        ("spool", 2, "cannot be written"),
        ("missing", 2, "cannot be read"),
    ],
)
def test_bad_input_is_a_clear_message(configured: Path, change: str, code: int, words: str) -> None:
    import socket

    path = configured / "kuager.yaml"
    text = path.read_text()
    with socket.socket() as taken:
        if change == "corrupt":
            path.write_text(text + "spool: [1, 2\n")
        elif change == "encoding":
            path.write_text(text.replace("stations.yaml", "stations.csv"))
            rows = "station_id,camera_id,name_ru,url\ns,a,Школа,rtsp://127.0.0.1/a\n"
            (configured / "stations.csv").write_bytes(rows.encode("cp1251"))
        elif change == "ffmpeg":
            path.write_text(text + "ffmpeg: /no/such/ffmpeg\n")
        elif change == "port":
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            path.write_text(re.sub(r"127\.0\.0\.1:\d+\"}", f'127.0.0.1:{port}"}}', text))
        elif change == "spool":
            (configured / "spool").write_bytes(b"a file where a directory belongs")
        elif change == "missing":
            path.unlink()
        done = run(ROOT / "x", "run", "--config", str(path))
    assert done.returncode == code, done.stderr
    assert words in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
async def test_a_bucket_that_refuses_the_key(tmp_path: Path, ffmpeg: str) -> None:
    cameras = [SimCamera("a", **SMALL)]
    async with kuager(tmp_path, cameras, ffmpeg) as running:
        await playing(running, ["a"])
        running.process.terminate()
        await running.process.wait()
        text = (tmp_path / "kuager.yaml").read_text().replace(f"id: {KEY}", "id: nobody")
        (tmp_path / "kuager.yaml").write_text(text)
        running.process = await start(tmp_path, running.log)
        await playing(running, ["a"])
        await until(lambda: "The archive refuses" in running.log.read_text())
        assert "the key is refused" in running.log.read_text()
        assert list(running.spool.glob("s/a/*/*.mp4"))
