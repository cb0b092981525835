"""What taking recordings to a bucket costs: `make bench-upload`.

The same files of random bytes go to the same server (rclone serve s3, plain HTTP, on loopback),
one client after another, several rounds: Kuager's S3Archive as the uploader uses it (the file
read and hashed, put under its SHA-256, and read back or not), `rclone copy`, with `rclone check
--download` as its way to read back, and `aws s3 cp` where there is one. CPU is user and system
of the client with its children, start included; the server's is not counted, but it takes its
share of the machine. The middle of all rounds is shown.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from storage.archival.replicator import PARALLEL
from storage.archive.factory import open_archive
from storage.records import sha256_of
from tests.support.s3 import BIN, KEY, SECRET, free_port, rclone, settings


async def upload(waiting: list[Path], bucket: str, port: int, read_back: bool) -> None:
    """Take every file to the bucket as the uploader does, so many at once."""
    archive = open_archive(settings(port, url=f"s3://{bucket}"))

    async def work() -> None:
        while waiting:
            path = waiting.pop()
            data = await asyncio.to_thread(path.read_bytes)
            sha256 = await asyncio.to_thread(sha256_of, data)
            put = await archive.put(f"e/s/c/{path.name}", data, sha256)
            if (
                read_back
                and await archive.sha256(f"e/s/c/{path.name}", bucket=put.bucket) != sha256
            ):
                raise SystemExit(f"{path.name} is not what was put")

    await asyncio.gather(*(work() for _ in range(PARALLEL)))
    await archive.close()


def clients(folder: Path, bucket: str, port: int) -> dict[str, list[list[str]]]:
    """Return the commands of each client by its name."""
    own = [sys.executable, "-m", "benchmarks.bench_upload", "--upload", str(folder)]
    own += ["--bucket", bucket, "--port", str(port)]
    tool, there = str(BIN / "rclone"), f"bench:{bucket}"
    copy = [tool, "-q", "copy", str(folder), there, "--transfers", str(PARALLEL)]
    check = [tool, "-q", "check", "--download", str(folder), there, "--checkers", str(PARALLEL)]
    found = {
        "Kuager, not read back": [own],
        "Kuager, read back": [[*own, "--read-back"]],
        "rclone copy": [copy],
        "rclone copy, then check --download": [copy, check],
    }
    aws = shutil.which("aws")
    if aws and subprocess.run([aws, "--version"], capture_output=True).returncode == 0:
        endpoint = ["--endpoint-url", f"http://127.0.0.1:{port}"]
        found["aws s3 cp"] = [
            [aws, "s3", "cp", "--recursive", "--quiet", *endpoint, str(folder), f"s3://{bucket}"]
        ]
    return found


def environ(port: int) -> dict[str, str]:
    """Return what tells rclone and aws of the server, and nothing of the user's own settings."""
    return os.environ | {
        "RCLONE_CONFIG": "/dev/null",
        "RCLONE_CONFIG_BENCH_TYPE": "s3",
        "RCLONE_CONFIG_BENCH_PROVIDER": "Rclone",
        "RCLONE_CONFIG_BENCH_ENDPOINT": f"http://127.0.0.1:{port}",
        "RCLONE_CONFIG_BENCH_ACCESS_KEY_ID": KEY,
        "RCLONE_CONFIG_BENCH_SECRET_ACCESS_KEY": SECRET,
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def run(commands: Sequence[list[str]], port: int) -> tuple[float, float]:
    """Run commands one after another; return seconds and CPU seconds."""
    begun, cpu = time.monotonic(), 0.0
    for command in commands:
        child = subprocess.Popen(command, env=environ(port), stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise SystemExit(f"{' '.join(command[:3])} ended with {child.returncode}")
        cpu += used.ru_utime + used.ru_stime
    return time.monotonic() - begun, cpu


def compare(files: int, size: int, rounds: int) -> None:
    """Measure every client and print the table."""
    total, port = files * size / 1e9, free_port()
    with tempfile.TemporaryDirectory(prefix="kuager-bench-") as text:
        source, root = Path(text, "files"), Path(text, "s3")
        source.mkdir()
        for n in range(files):
            (source / f"{n:06}.mp4").write_bytes(os.urandom(size))
        names = list(clients(source, "", port))
        took: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
        buckets = [f"bench-{n}" for n in range(rounds * len(names))]
        for bucket in buckets:  # one for each run: the server remembers what it has
            (root / bucket).mkdir(parents=True)
        with rclone(root, port):
            for n, bucket in enumerate(buckets):
                name = names[n % len(names)]
                seconds, cpu = run(clients(source, bucket, port)[name], port)
                took[name].append((seconds, cpu))
                stored = list((root / bucket).rglob("*.mp4"))
                if len(stored) != files or any(p.stat().st_size != size for p in stored):
                    raise SystemExit(f"{name}: {len(stored)} of {files} files were stored")
                for path in stored:
                    path.unlink()
                print(f"{name}: {seconds:.1f} s, CPU {cpu:.1f} s", flush=True)
    middle = {
        name: tuple(statistics.median(values) for values in zip(*each, strict=True))
        for name, each in took.items()
    }
    base_s, base_cpu = middle["rclone copy"]
    print(f"\n{files} files of {size / 1e6:.0f} MB, {rounds} rounds, {PARALLEL} at once")
    print("| client | MB/s | CPU s per GB | MB per CPU s | time | CPU |\n|---|---|---|---|---|---|")
    for name, (seconds, cpu) in middle.items():
        print(
            f"| {name} | {total * 1e3 / seconds:.0f} | {cpu / total:.2f} | {total * 1e3 / cpu:.0f}"
            f" | {seconds / base_s:.2f} | {cpu / base_cpu:.2f} |"
        )
    print("time and CPU: against rclone copy")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--mb", type=float, default=15)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--upload", type=Path, help=argparse.SUPPRESS)  # one client of the run
    parser.add_argument("--bucket", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--read-back", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.upload:
        asyncio.run(
            upload(sorted(given.upload.iterdir()), given.bucket, given.port, given.read_back)
        )
    else:
        compare(given.files, int(given.mb * 1e6), given.rounds)
