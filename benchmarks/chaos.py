"""Rounds of kill -9 at random over all processes, with a bucket that fails at random: `python -m
benchmarks.chaos --rounds 200 --cameras 12`. Prints what was killed and what was found; the exit
code is 1 when anything that a player could see is lost, twice, or not accounted for.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import itertools
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import m3u8

from benchmarks.bench_record import descendants, memory_mb
from config.load import load
from storage.archival.replicator import PARALLEL
from storage.archive.factory import open_archive
from storage.catalogue.catalogue import Catalogue
from storage.fsck.check import Fsck
from storage.records import LONGEST_MS, parse_archive_document
from storage.spool.gaps import read_gaps
from tests.support.s3 import BUCKET, KEY, SECRET, free_port, rclone

ALTERED = "An archived recording was altered later"  # the uploader's words

Seen = dict[tuple[str, int], str]  # camera and segment_no -> SHA-256 of its bytes


class Chaos:
    """One run: cameras, bucket and Kuager in a folder, all real processes."""

    def __init__(self, folder: Path, cameras: int, seed: int, rate: float, away_min: float):
        self.folder, self.rate, self.away_min = folder, rate, away_min
        self.names = [f"cam{n}" for n in range(cameras)]
        self.random = random.Random(seed)
        self.begin_ms = int(time.time()) * 1000
        self.rtsp, self.web, self.s3, self.proxy = (free_port() for _ in range(4))
        self.kills: Counter[str] = Counter()
        self.seen: Seen = {}
        self.wrong: list[str] = []
        self.uploader_mb: list[float] = []

    async def run(self, rounds: int, every_s: float) -> bool:
        """Do it all; True when nothing was wrong."""
        with rclone(self.folder / "s3", self.s3):
            self._write_config()
            film = {"width": 854, "height": 480, "fps": 15, "bitrate": 600_000, "film_s": 20}
            cameras = [{"name": self.names[0]} | film]
            cameras += [{"name": n, "shared": self.names[0]} for n in self.names[1:]]
            (self.folder / "simulator.json").write_text(json.dumps({"cameras": cameras}))
            config = str(self.folder / "simulator.json")
            async with (
                self._process("kuager.simulator", "--config", config, "--port", str(self.rtsp)),
                contextlib.AsyncExitStack() as self._proxy,
            ):
                await self._proxy.enter_async_context(self._bucket("--rate", str(self.rate)))
                await self._listening(self.rtsp)
                watcher = asyncio.create_task(self._watch())
                kuager = await self._start()
                await self._recording()
                if self.away_min:
                    await self._away(kuager)
                for _ in range(rounds):
                    await asyncio.sleep(self.random.uniform(0.3, 2 * every_s))
                    kuager = await self._kill_one(kuager)
                await self._recording()
                await asyncio.sleep(5)
                kuager.terminate()
                await kuager.wait()
                watcher.cancel()
            async with (
                self._bucket(),
                self._process("kuager", *self._role("uploader")) as uploader,
            ):
                await self._all_archived(uploader.pid)
                if not self.away_min:
                    await self._last_looks()
        await self._check()
        return not self.wrong

    def _role(self, role: str) -> list[str]:
        config = ["--config", str(self.folder / "kuager.yaml")]
        return ["run", *config, "--role", role]

    def _write_config(self) -> None:
        listed = "".join(
            f'      - {{id: {n}, url: "rtsp://127.0.0.1:{self.rtsp}/{n}"}}\n' for n in self.names
        )
        (self.folder / "stations.yaml").write_text("stations:\n  - id: s\n    cameras:\n" + listed)
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(self.begin_ms / 1000))
        (self.folder / "kuager.yaml").write_text(
            "election: {id: e, name: E, date: 2026-11-29, time_zone: UTC,"
            f" windows: [{{from: {moment}, to: 2090-01-01T00:00}}]}}\n"
            "stations: stations.yaml\nspool: spool\nworkers: 2\nrewind: 60s\n"
            f"archives:\n- url: s3://{BUCKET}\n  endpoint: http://127.0.0.1:{self.proxy}\n"
            f"  region: us-east-1\n  access_key_id: {KEY}\n"
            "  secret_access_key: ${TEST_SECRET}\n"
            f'web: {{listen: "127.0.0.1:{self.web}", processes: 2}}\n'
        )

    # -- processes -----------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _process(self, module: str, *arguments: str):  # type: ignore[no-untyped-def]
        with (self.folder / f"{module}.log").open("ab") as log:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", module, *arguments),
                env=os.environ | {"TEST_SECRET": SECRET},
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=log,
            )
        try:
            yield child
        finally:
            if child.returncode is None:
                child.terminate()
                await child.wait()

    def _bucket(self, *how: str):  # type: ignore[no-untyped-def]
        ports = ("--port", str(self.proxy), "--upstream", f"http://127.0.0.1:{self.s3}")
        return self._process("tests.support.bad_bucket", *ports, *how)

    async def _listening(self, port: int) -> None:
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.3)

    async def _start(self) -> asyncio.subprocess.Process:
        with (self.folder / "kuager.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "kuager", "run", "--config", f"{self.folder}/kuager.yaml"),
                env=os.environ | {"TEST_SECRET": SECRET},
                stdin=asyncio.subprocess.DEVNULL,
                stderr=log,
            )

    async def _kill_one(self, kuager: asyncio.subprocess.Process) -> asyncio.subprocess.Process:
        """kill -9 a process of ours, any of them; start the supervisor again if it was that."""
        kinds: dict[str, list[int]] = {}
        for pid in descendants(kuager.pid):
            with contextlib.suppress(OSError):
                words = _command(pid)
                role = words[words.index("--role") + 1] if "--role" in words else ""
                kind = "supervisor" if pid == kuager.pid else role or Path(words[0]).name
                kinds.setdefault(kind, []).append(pid)
                if role == "uploader":
                    self.uploader_mb.append(memory_mb([pid]))
        kind = self.random.choice(sorted(kinds))
        self.kills[kind] += 1
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.random.choice(kinds[kind]), signal.SIGKILL)
        if kind == "supervisor":
            await kuager.wait()
            kuager = await self._start()
        return kuager

    async def _away(self, kuager: asyncio.subprocess.Process) -> None:
        """Take the bucket away, bring it back slow, then well; print what the uploader says."""
        print("| minute | bucket | backlog | oldest | archived | memory | live |\n|" + "---|" * 7)
        begun = time.monotonic()
        for name, how, minutes in (
            ("away", None, self.away_min),
            ("slow: 5 MB/s", ("--fault", "slow", "--bytes-per-s", "5e6"), min(2.0, self.away_min)),
            ("well", (), 1.0),
        ):
            await self._proxy.aclose()
            if how is not None:
                await self._proxy.enter_async_context(self._bucket(*how))
            until = time.monotonic() + minutes * 60
            while time.monotonic() < until or (
                name == "well" and self._said()["backlog_recordings"]
            ):
                live = len(self.seen)
                await asyncio.sleep(min(60.0, self.away_min * 10))
                mb = [memory_mb([p]) for p in descendants(kuager.pid) if "uploader" in _command(p)]
                self.uploader_mb += mb
                said, minute = self._said(), (time.monotonic() - begun) / 60
                oldest = (
                    time.time() * 1000 - (said["oldest_unarchived_ms"] or time.time() * 1000)
                ) / 1000
                print(
                    f"| {minute:.0f} | {name} | {said['backlog_recordings']} recordings,"
                    f" {said['backlog_bytes'] / 1e6:.0f} MB | {oldest:.0f} s |"
                    f" {said['archived_total']} | {max(mb, default=0):.0f} MB |"
                    f" {len(self.seen) - live} new segments |",
                    flush=True,
                )
        await self._check_order()

    def _said(self) -> dict[str, Any]:
        path = self.folder / "spool/_status/uploader.json"
        found: dict[str, Any] = json.loads(path.read_bytes())["archives"]["archive"]
        return found

    async def _check_order(self) -> None:
        """Check that what had waited went the oldest first, a few at a time; what a slow bucket did
        not take in time waits by its own back-off."""
        config = load(self.folder / "kuager.yaml", {"TEST_SECRET": SECRET})
        catalogue = await Catalogue.open(config.database_url)
        rows = [
            (r.start_ms, r.archives[0].archived_ms)
            for n in self.names
            for r in await catalogue.recordings_of(("e", "s", n))
            if r.archives
        ]
        await catalogue.close()
        done = [archived_ms for _, archived_ms in sorted(rows)]
        late = sum(b < a for a, b in zip(done, done[3 * PARALLEL :], strict=False))
        print(f"{len(done)} archived, {late} of them before one that was {3 * PARALLEL} older")
        if late > len(done) // 10:
            self.wrong.append(f"{late} recordings were archived long before older ones")

    # -- watching ------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Be every viewer: fetch each segment of each playlist, and keep its hash."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(5)) as session:
            while True:
                await asyncio.gather(*(self._watch_one(session, n) for n in self.names))
                await asyncio.sleep(1)

    async def _watch_one(self, session: aiohttp.ClientSession, name: str) -> None:
        base = f"http://127.0.0.1:{self.web}/live/s/{name}/"
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, ConnectionError):
            async with session.get(base + "index.m3u8") as answer:
                if answer.status != 200:
                    return
                listed = m3u8.loads(await answer.text()).segments
            for segment in listed:
                number = int(segment.uri.rpartition("/")[2].partition(".")[0])
                if self.seen.get((name, number)):
                    continue
                self.seen.setdefault((name, number), "")
                async with session.get(f"{base}{number}.m4s") as answer:
                    if answer.status == 200:
                        self.seen[name, number] = hashlib.sha256(await answer.read()).hexdigest()

    async def _recording(self) -> None:
        """Wait until every camera has a segment that is newer than now."""
        newest = {n: max((k for c, k in self.seen if c == n), default=-1) for n in self.names}
        until = time.monotonic() + 90
        while any(
            max((k for c, k in self.seen if c == n), default=-1) <= newest[n] for n in newest
        ):
            if time.monotonic() > until:
                self.wrong.append("not every camera came back within 90 s")
                return
            await asyncio.sleep(0.5)

    async def _all_archived(self, pid: int) -> None:
        until = time.monotonic() + 300
        status = self.folder / "spool/_status/uploader.json"
        while time.monotonic() < until:
            await asyncio.sleep(3)
            with contextlib.suppress(OSError, ValueError, KeyError):
                said = json.loads(status.read_bytes())
                if said["pid"] == pid and said["archives"]["archive"]["backlog_recordings"] == 0:
                    return
        self.wrong.append("not everything was archived within 300 s")

    async def _last_looks(self) -> None:
        """Wait until all but each camera's newest recording had its last look and left the spool.

        A write that was on its way when its uploader died may spoil what the next one verified.
        """
        spool, until = self.folder / "spool/s", time.monotonic() + LONGEST_MS / 1000 + 180
        while any(len(list((spool / n).glob("*/*.jsonl"))) > 1 for n in self.names):
            if time.monotonic() > until:
                self.wrong.append("not everything left the spool")
                return
            await asyncio.sleep(3)
        said = [path.read_text().count(ALTERED) for path in self.folder.glob("kuager*.log")]
        print(f"altered by late writes, found by the last look and put right: {sum(said)}")

    # -- checking ------------------------------------------------------------------------

    async def _check(self) -> None:
        segments: Counter[tuple[str, int]] = Counter()
        hashes: Seen = {}
        for path in (self.folder / "s3" / BUCKET).rglob("*Z-*.json"):
            if "-gap-" in path.name:
                continue
            index = parse_archive_document(path.read_bytes())
            for s in index.segments:
                key = (index.header.camera, s.segment_no)
                segments[key] += 1
                hashes[key] = s.sha256
        self.wrong += [f"{k}: archived {n} times" for k, n in segments.items() if n > 1]
        for key, sha256 in self.seen.items():
            if key not in hashes:
                self.wrong.append(f"{key}: was live and is not in the archive")
            elif sha256 and hashes[key] != sha256:
                self.wrong.append(f"{key}: other bytes are archived than were live")
        fetched = sum(bool(v) for v in self.seen.values())
        print(f"{len(self.seen):,} segments were live, {fetched:,} of them fetched and compared")
        print(f"{len(segments):,} segments are archived, each once")
        self._check_tiling()
        await self._check_fsck()

    def _check_tiling(self) -> None:
        pieces: dict[str, list[tuple[int, int]]] = {n: [] for n in self.names}
        for path in (self.folder / "s3" / BUCKET).rglob("*Z-*.json"):
            if "-gap-" not in path.name:
                index = parse_archive_document(path.read_bytes())
                pieces[index.header.camera].append((index.start_ms, index.end_ms))
        for name in self.names:
            gaps = read_gaps(self.folder / "spool/s" / name / "gaps.jsonl")
            pieces[name] += [(g.start_ms, g.end_ms) for g in gaps if g.end_ms is not None]
            tiles = sorted(p for p in pieces[name] if p[0] < p[1])
            if tiles[0][0] > self.begin_ms:
                self.wrong.append(f"{name}: nothing accounts for its first moments")
            for (_, end), (begin, _) in itertools.pairwise(tiles):
                if begin != end:
                    self.wrong.append(f"{name}: {begin - end} ms between two pieces at {end}")
        print(f"recordings and gaps of {len(self.names)} cameras: compared end to end")

    async def _check_fsck(self) -> None:
        config = load(self.folder / "kuager.yaml", {"TEST_SECRET": SECRET})
        with rclone(self.folder / "s3", self.s3):
            async with self._bucket():
                await self._listening(self.proxy)
                catalogue = await Catalogue.open(config.database_url)
                archives = [open_archive(a) for a in config.archives]
                fsck = Fsck(config, catalogue, archives, deep=True)
                for name in await fsck.cameras():
                    self.wrong += [str(f) for f in await fsck.check(name)]
                for archive in archives:
                    await archive.close()
                await catalogue.close()
        print(f"fsck --deep: {fsck.recordings} recordings, {fsck.bytes_read / 1e6:.0f} MB hashed")


def _command(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")


def main() -> None:
    """Parse the command line and do it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--cameras", type=int, default=12)
    parser.add_argument("--every", type=float, default=4.0, help="seconds between kills, mean")
    parser.add_argument(
        "--rate", type=float, default=0.1, help="of requests that the bucket spoils"
    )
    parser.add_argument("--away", type=float, default=0.0, help="minutes without a bucket, first")
    parser.add_argument("--seed", type=int, default=1)
    a = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kuager-chaos-") as folder:
        chaos = Chaos(Path(folder), a.cameras, a.seed, a.rate, a.away)
        begun = time.monotonic()
        well = asyncio.run(chaos.run(a.rounds, a.every))
        kills = ", ".join(f"{k} {n}" for k, n in sorted(chaos.kills.items()))
        print(f"killed: {kills}; {time.monotonic() - begun:.0f} s")
        if memory := sorted(chaos.uploader_mb):
            print(f"memory of the uploader: {memory[0]:.0f} to {memory[-1]:.0f} MB")
        for line in chaos.wrong[:20]:
            print("WRONG:", line)
        print("nothing was lost" if well else f"{len(chaos.wrong)} things are wrong")
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
