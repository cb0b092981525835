"""Real S3 servers on loopback: rclone's and moto's."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import boto3
from pydantic import SecretStr

from config.model import Archive

BIN = Path(sys.executable).parent
KEY, SECRET, BUCKET = "tester", "test-secret-0123456789", "kuager-test"


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def settings(port: int, **other: object) -> Archive:
    """Return the archive's settings for a server on this port."""
    values: dict[str, object] = {
        "url": f"s3://{BUCKET}/some/prefix",
        "endpoint": f"http://127.0.0.1:{port}",
        "region": "us-east-1",
        "access_key_id": KEY,
        "secret_access_key": SecretStr(SECRET),
    }
    return Archive.model_validate(values | other)


@contextlib.contextmanager
def server(command: list[str], port: int, environ: Mapping[str, str]) -> Iterator[None]:
    """Run a server while the block runs."""
    child = subprocess.Popen(
        command, env=os.environ | environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            assert child.poll() is None, f"{command[0]} ended"
            time.sleep(0.05)
        yield
    finally:
        child.terminate()
        child.wait(10)


@contextlib.contextmanager
def rclone(folder: Path, port: int) -> Iterator[None]:
    """rclone serve s3, with a bucket."""
    (folder / BUCKET).mkdir(parents=True, exist_ok=True)
    command = [str(BIN / "rclone"), "serve", "s3", "--addr", f"127.0.0.1:{port}", str(folder)]
    environ = {"RCLONE_AUTH_KEY": f'"{KEY},{SECRET}"', "RCLONE_CONFIG": "/dev/null"}
    with server(command, port, environ):
        yield


@contextlib.contextmanager
def moto(port: int) -> Iterator[None]:
    """moto's server, with a bucket."""
    with server([str(BIN / "moto_server"), "-p", str(port)], port, {}):
        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port}",
            region_name="us-east-1",
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
        )
        client.create_bucket(Bucket=BUCKET)
        client.close()
        yield
