"""Real S3 servers on loopback, rclone's and moto's, what they can do, and one of your own.

KUAGER_TEST_S3=http://... with the usual AWS variables names an endpoint of your own; its key must
be allowed to make and remove buckets that begin with the name below.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any, BinaryIO

import boto3
from botocore.config import Config as BotoConfig
from botocore.exceptions import ClientError
from pydantic import SecretStr

from config.model import Archive
from tests.support.programs import need

BIN = Path(sys.executable).parent
_ports: set[int] = set()  # that were given
KEY, SECRET, BUCKET = "tester", "test-secret-0123456789", "kuager-test"


def free_port() -> int:
    """Return an even port that nobody listens on now, nor on the next, which operators get.

    It is below those that the kernel gives to outgoing connections (ip_local_port_range), so that
    none of these takes it before the server that is to have it; and no other process that runs
    tests is given it, as a byte of a file is locked for each (fcntl(2)), until this one ends.
    """
    while True:
        port = random.randrange(20_000, 32_000, 2)
        if port in _ports:
            continue
        with contextlib.suppress(OSError), socket.socket() as probe, socket.socket() as beside:
            fcntl.lockf(_locks(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
            probe.bind(("127.0.0.1", port))
            beside.bind(("127.0.0.1", port + 1))
            _ports.add(port)
            return port


@cache
def _locks() -> BinaryIO:
    return (Path(tempfile.gettempdir()) / f"kuager-test-ports-{os.getuid()}").open("ab")


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


def program(name: str) -> str:
    """Return the path of a program that a wheel brings; without it the test is skipped."""
    return need(name, "make tools", str(BIN))


@contextlib.contextmanager
def server(command: list[str], port: int, environ: Mapping[str, str]) -> Iterator[None]:
    """Run a server while the block runs."""
    child = subprocess.Popen(
        command, env=os.environ | environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while True:  # pytest's timeout ends what never listens
            assert child.poll() is None, f"{command[0]} ended"
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield
    finally:
        child.terminate()
        child.wait()


@contextlib.contextmanager
def rclone(folder: Path, port: int) -> Iterator[None]:
    """rclone serve s3, with a bucket."""
    (folder / BUCKET).mkdir(parents=True, exist_ok=True)
    command = [program("rclone"), "serve", "s3", "--addr", f"127.0.0.1:{port}", str(folder)]
    environ = {"RCLONE_AUTH_KEY": f'"{KEY},{SECRET}"', "RCLONE_CONFIG": "/dev/null"}
    with server(command, port, environ):
        yield


def client_of(endpoint: str, key: str | None, secret: str | None) -> Any:
    """Return a client of an S3 server, which asks for buckets by path."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=os.environ.get("AWS_DEFAULT_REGION", "us-east-1"),
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=BotoConfig(signature_version="s3v4", s3={"addressing_style": "path"}),
    )


@contextlib.contextmanager
def moto(port: int) -> Iterator[None]:
    """moto's server, with a bucket."""
    with server([program("moto_server"), "-p", str(port)], port, {}):
        with contextlib.closing(client_of(f"http://127.0.0.1:{port}", KEY, SECRET)) as client:
            client.create_bucket(Bucket=BUCKET)
        yield


@dataclass(frozen=True)
class Can:
    """What a server was found to do. False is a lie where it takes the request all the same."""

    checks_keys: bool  # refuses a wrong secret
    refuses_to_replace: bool  # heeds If-None-Match: *
    compares_sha256: bool  # refuses an upload that is not of its x-amz-checksum-sha256
    locks: bool  # keeps a locked version until its date; False: takes date and deletion alike
    keeps_class: bool  # remembers the storage class it was given


# Found by asking. Both take uploads that are not of the x-amz-content-sha256 that was signed;
# rclone compares Content-MD5, moto does not. rclone has no versions, and answers a question
# for the bucket's lock configuration with a list of objects, which reads as none.
CAN = {
    "rclone": Can(True, False, False, False, True),
    "moto": Can(False, True, False, True, True),
}
ENDPOINT = "KUAGER_TEST_S3"


@dataclass(frozen=True)
class Server:
    """A server for the contract suite, with buckets of its own; without a key, AWS variables."""

    name: str
    endpoint: str
    key: str | None = KEY
    secret: str | None = SECRET
    made: list[str] = field(default_factory=list)

    @property
    def can(self) -> Can | None:
        """What it is known to do; None for one that the environment names."""
        return CAN.get(self.name)

    @cached_property
    def client(self) -> Any:
        """A client of boto3, to look behind Kuager."""
        return client_of(self.endpoint, self.key, self.secret)

    def bucket(self, *, lock: bool = False) -> str:
        """Make a bucket."""
        name = f"{BUCKET}-{secrets.token_hex(4)}"
        region = self.client.meta.region_name
        more: dict[str, Any] = {"ObjectLockEnabledForBucket": True} if lock else {}
        if region != "us-east-1":
            more["CreateBucketConfiguration"] = {"LocationConstraint": region}
        self.client.create_bucket(Bucket=name, **more)
        self.made.append(name)
        return name

    def settings(self, bucket: str, **other: object) -> Archive:
        """Return an archive's settings for a bucket."""
        values: dict[str, object] = {
            "url": f"s3://{bucket}/some/prefix",
            "endpoint": self.endpoint,
            "region": self.client.meta.region_name,
            "access_key_id": self.key,
            "secret_access_key": SecretStr(self.secret) if self.secret else None,
        }
        return Archive.model_validate(values | other)

    def clean(self) -> None:
        """Remove the buckets that `bucket` made, and every version; what is locked yet stays."""
        for bucket in self.made:
            listed = self.client.list_object_versions(Bucket=bucket)
            with contextlib.suppress(ClientError):
                for version in [*listed.get("Versions", []), *listed.get("DeleteMarkers", [])]:
                    self.client.delete_object(
                        Bucket=bucket,
                        Key=version["Key"],
                        VersionId=version["VersionId"],
                        BypassGovernanceRetention=True,
                    )
                self.client.delete_bucket(Bucket=bucket)


@contextlib.contextmanager
def s3_server(name: str, folder: Path) -> Iterator[Server]:
    """Run rclone or moto, or take the endpoint that the environment names."""
    if name == ENDPOINT:
        found = Server(name, os.environ[ENDPOINT], None, None)
        yield found
        found.clean()
        return
    port = free_port()
    with rclone(folder, port) if name == "rclone" else moto(port):
        yield Server(name, f"http://127.0.0.1:{port}")
