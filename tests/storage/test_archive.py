"""One contract for every archive: a directory, rclone's S3 server, moto's, and one of your own.

What rclone and moto do not do stands in tests/support/s3.py as `CAN`; here it is held against them.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import io
import os
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import HTTPClientError
from pydantic import SecretStr
from structlog.testing import capture_logs

from config.model import Archive as Settings
from storage.archive.directory import DirectoryArchive
from storage.archive.factory import open_archive
from storage.archive.port import (
    Archive,
    ArchiveConflict,
    ArchiveError,
    Fault,
    ObjectExists,
    ObjectNotFound,
    Put,
    UnreadableSource,
)
from storage.archive.s3 import S3Archive
from storage.archive.s3_client import Unsupported
from storage.records import sha256_of
from tests.support.programs import self_signed
from tests.support.s3 import ENDPOINT, Server, free_port, rclone, s3_server, settings

NAMES = ["rclone", "moto", *((ENDPOINT,) if ENDPOINT in os.environ else ())]
SERVERS = [pytest.param(name, marks=pytest.mark.slow) for name in NAMES]


async def put(archive: Archive, key: str, data: bytes) -> Put:
    return await archive.put(key, data, hashlib.sha256(data).hexdigest())


@pytest.fixture
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with s3_server(request.param, tmp_path) as found:
        yield found


@contextlib.asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Archive]:
    archive = open_archive(settings)
    yield archive
    await archive.close()


@pytest.fixture(params=["directory", *SERVERS])
async def archive(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Archive]:
    with contextlib.ExitStack() as stack:
        if request.param == "directory":
            settings = Settings.model_validate(str(tmp_path / "archive"))
        else:
            found = stack.enter_context(s3_server(request.param, tmp_path))
            settings = found.settings(found.bucket())
        async with opened(settings) as archive:
            yield archive


async def test_put_get_range_entries_remove(archive: Archive) -> None:
    data = os.urandom(3_000_000)
    await put(archive, "e/s/c/2026-11-29/x-1.mp4", data)
    await put(archive, "e/s/c/2026-11-29/x-1.json", b"{}")
    assert await archive.get("e/s/c/2026-11-29/x-1.mp4") == data
    assert await archive.get("e/s/c/2026-11-29/x-1.mp4", 1000, 500) == data[1000:1500]
    digest = await archive.sha256("e/s/c/2026-11-29/x-1.mp4")
    assert digest == hashlib.sha256(data).hexdigest()
    found = [e async for e in archive.entries("e/s/")]
    assert [(e.key, e.size) for e in found] == [
        ("e/s/c/2026-11-29/x-1.json", 2),
        ("e/s/c/2026-11-29/x-1.mp4", len(data)),
    ]
    assert all(abs(e.stored_ms - time.time() * 1000) < 60_000 for e in found)
    assert [e async for e in archive.entries("other/")] == []
    assert await archive.below("e/") == ["s"] and await archive.below("e/s/") == ["c"]
    assert await archive.below("other/") == []
    await archive.remove("e/s/c/2026-11-29/x-1.mp4")
    await archive.remove("e/s/c/2026-11-29/x-1.mp4")
    assert [e.key async for e in archive.entries("e/s/")] == ["e/s/c/2026-11-29/x-1.json"]


async def test_missing(archive: Archive) -> None:
    assert await archive.sha256("no/such/key.mp4") is None
    with pytest.raises(ObjectNotFound):
        await archive.get("no/such/key.mp4", 0, 10)


async def test_the_same_again_is_well_and_other_bytes_are_refused(archive: Archive) -> None:
    await put(archive, "e/s/c/key-1.json", b"first")
    await put(archive, "e/s/c/key-1.json", b"first")
    with pytest.raises(ArchiveConflict):
        await put(archive, "e/s/c/key-1.json", b"other")
    assert await archive.get("e/s/c/key-1.json") == b"first"


@pytest.mark.parametrize("server", SERVERS, indirect=True)
async def test_an_empty_object_is_read(server: Server) -> None:
    """Half of an upload may be nothing; that is found, not stumbled over."""
    bucket = server.bucket()
    server.client.put_object(Bucket=bucket, Key="some/prefix/e/s/c/k.json", Body=b"")
    async with opened(server.settings(bucket)) as archive:
        assert await archive.get("e/s/c/k.json") == b""
        with pytest.raises(ArchiveConflict):
            await put(archive, "e/s/c/k.json", b"{}")


@pytest.mark.parametrize("server", SERVERS, indirect=True)
async def test_what_the_server_can_do_is_found_out(server: Server) -> None:
    with capture_logs() as log:
        async with opened(server.settings(server.bucket())) as archive:
            await put(archive, "e/s/c/k.mp4", b"data")
            (told,) = [e for e in log if e["event"] == "What the archive can do"]
            # bytes that are not those of the hash are refused, or nobody vouches for them
            try:
                other = await archive.put(
                    "e/s/c/l.mp4", b"dat4", hashlib.sha256(b"data").hexdigest()
                )
            except ArchiveError as error:
                assert told["compares_sha256"] and "other bytes arrived" in str(error)
            else:
                assert not told["compares_sha256"] and other.verified == ""
    if server.can is not None:
        assert told["refuses_to_replace"] is server.can.refuses_to_replace
        assert told["compares_sha256"] is server.can.compares_sha256


@pytest.fixture(scope="module")
def bare() -> S3Archive:
    """One of which nothing is known, and that nobody answers: `call` of its server is replaced."""
    return S3Archive(settings(1))


@pytest.mark.parametrize("takes_checksums", [True, False])
@pytest.mark.parametrize("compares", [True, False])
@pytest.mark.parametrize("refuses_to_replace", [True, False])
@pytest.mark.parametrize("busy", [0, 1, 2, 3])
async def test_each_thing_that_a_server_can_do_is_judged_apart(
    bare: S3Archive, takes_checksums: bool, compares: bool, refuses_to_replace: bool, busy: int
) -> None:
    """One that takes no checksums may well refuse to replace; one that is busy while it is tried
    is judged the next time."""
    archive, stored, puts = bare, set[str](), [0]
    server = archive._server
    archive._refuses_to_replace, server.sends_sha256 = None, True

    def call(
        name: str, bucket: str, key: str = "", seconds: float = 0, data: Any = None,
        sha256: str = "", **arguments: Any,
    ) -> dict[str, Any]:  # fmt: skip
        if name != "put_object":
            raise ObjectNotFound(key)
        puts[0] += 1
        if puts[0] == busy:
            raise ArchiveError("SlowDown")
        if server.sends_sha256 and not takes_checksums:
            raise Unsupported("no checksums")
        if server.sends_sha256 and compares and sha256_of(data.read()) != sha256:
            raise Unsupported("BadDigest")
        if refuses_to_replace and "IfNoneMatch" in arguments and key in stored:
            raise ObjectExists(key)
        stored.add(key)
        return {}

    server.call = call  # type: ignore[method-assign,assignment]
    for attempt in range(2 if busy else 1):
        with pytest.raises(ArchiveError) if busy and not attempt else contextlib.nullcontext():
            done = await put(archive, "e/s/c/k.mp4", b"data")
    assert server.sends_sha256 is takes_checksums
    assert done.verified == ("by the server" if takes_checksums and compares else "")
    assert archive._refuses_to_replace is refuses_to_replace


@pytest.mark.parametrize("server", SERVERS, indirect=True)
async def test_object_lock_keeps_a_version_until_its_date(server: Server) -> None:
    until_ms = int(time.time() + 120) * 1000
    lock = {"lock": "governance", "keep": "1d"}
    digest = hashlib.sha256(b"data").hexdigest()
    async with opened(server.settings(server.bucket(), **lock)) as archive:
        with pytest.raises(ArchiveError, match="object lock is not on"):
            await archive.put("e/s/c/k.mp4", b"data", digest, until_ms)
    bucket = server.bucket(lock=True)
    async with opened(server.settings(bucket, **lock)) as archive:
        if server.can is not None and not server.can.locks:  # it would take date and deletion
            with pytest.raises(ArchiveError, match="object lock is not on"):
                await archive.put("e/s/c/k.mp4", b"data", digest, until_ms)
            return
        stored = await archive.put("e/s/c/k.mp4", b"data", digest, until_ms)
        again = await archive.put("e/s/c/k.mp4", b"data", digest, until_ms)
        assert stored.version_id and again.version_id == stored.version_id
        head = server.client.head_object(Bucket=bucket, Key="some/prefix/e/s/c/k.mp4")
        assert head["ObjectLockMode"] == "GOVERNANCE"
        assert head["ObjectLockRetainUntilDate"].timestamp() * 1000 == until_ms
        with pytest.raises(ArchiveError, match="denied"):
            await archive.remove("e/s/c/k.mp4", version_id=stored.version_id)
        assert await archive.get("e/s/c/k.mp4") == b"data"
        unlocked = await put(archive, "e/s/c/l.mp4", b"data")
        await archive.remove("e/s/c/l.mp4", version_id=unlocked.version_id)
        assert await archive.sha256("e/s/c/l.mp4") is None


@pytest.mark.parametrize("server", SERVERS, indirect=True)
async def test_storage_class_and_encryption(server: Server) -> None:
    bucket = server.bucket()
    settings = server.settings(bucket, storage_class="STANDARD_IA", encryption="AES256")
    async with opened(settings) as archive:
        await put(archive, "e/s/c/k.mp4", b"data")
        assert await archive.get("e/s/c/k.mp4") == b"data"
    head = server.client.head_object(Bucket=bucket, Key="some/prefix/e/s/c/k.mp4")
    if server.can is not None:
        assert head["ServerSideEncryption"] == "AES256"
        assert (head.get("StorageClass") == "STANDARD_IA") is server.can.keeps_class


@pytest.mark.parametrize("server", SERVERS, indirect=True)
async def test_cameras_spread_over_buckets(server: Server) -> None:
    buckets = [server.bucket() for _ in range(3)]
    settings = server.settings(buckets[0], more_buckets=buckets[1:])
    async with opened(settings) as archive:
        cameras = {archive.bucket_of(f"e/s/c{n}/x"): f"c{n}" for n in range(300)}  # one of each
        keys = [f"e/s/{c}/2026-11-29/x-{k}.mp4" for c in cameras.values() for k in range(2)]
        where = {key: (await put(archive, key, key.encode())).bucket for key in keys}
        assert set(where.values()) == set(buckets)
        assert all(where[a] == where[b] for a, b in zip(keys[::2], keys[1::2], strict=True))
        for key, bucket in where.items():
            assert await archive.get(key) == await archive.get(key, bucket=bucket) == key.encode()
        found = [(e.key, e.bucket) async for e in archive.entries("e/")]
        assert sorted(found) == sorted(where.items())
        assert await archive.below("e/s/") == sorted({key.split("/")[2] for key in keys})
        await archive.remove(keys[0])
        assert await archive.sha256(keys[0], bucket=where[keys[0]]) is None


@pytest.mark.slow
async def test_refusals_have_words_and_no_secrets(tmp_path: Path) -> None:
    port = free_port()
    away = open_archive(settings(port))
    with pytest.raises(ArchiveError, match="cannot be reached: connection refused") as error:
        await put(away, "a/b/c.mp4", b"x")
    assert error.value.fault is Fault.UNREACHABLE
    await away.close()
    with rclone(tmp_path, port):
        wrong = open_archive(settings(port, secret_access_key=SecretStr("a-wrong-secret")))
        with pytest.raises(ArchiveError) as error:
            await put(wrong, "a/b/c.mp4", b"x")
        assert "refused" in str(error.value) or "denied" in str(error.value)
        assert error.value.fault is Fault.CREDENTIALS
        assert "a-wrong-secret" not in str(error.value)
        await wrong.close()
        other = open_archive(settings(port, url="s3://no-such-bucket"))
        with pytest.raises(ArchiveError, match="no such bucket") as error:
            await put(other, "a/b/c.mp4", b"x")
        assert error.value.fault is Fault.BUCKET
        await other.close()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"profile": "nonsense"}, "nonsense"),
        ({"region": "eu west 1"}, "eu west 1"),
        ({"region": ""}, "Invalid endpoint"),
        ({"endpoint": "http://a_b:1"}, "Invalid endpoint"),
    ],
)
async def test_settings_that_boto3_does_not_take_end_no_process(
    settings: dict[str, str], said: str
) -> None:
    archive = open_archive(Settings.model_validate({"url": "s3://bucket/p"} | settings))
    with pytest.raises(ArchiveError, match=said) as refused:
        await archive.get("x")
    assert refused.value.fault is Fault.CREDENTIALS and "'profile'" in str(refused.value)
    with pytest.raises(ArchiveError, match=said):
        await put(archive, "x", b"x")
    await archive.close()


async def test_a_certificate_that_nobody_vouches_for(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*self_signed(tmp_path))

    def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(close, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    archive = open_archive(settings(port, endpoint=f"https://127.0.0.1:{port}"))
    with pytest.raises(ArchiveError, match="its certificate is not accepted") as error:
        await put(archive, "a/b.mp4", b"x")
    assert error.value.fault is Fault.CERTIFICATE
    await archive.close()
    server.close()


async def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    archive = open_archive(Settings.model_validate(str(tmp_path / "file" / "archive")))
    with pytest.raises(ArchiveError, match="Not a directory"):
        await put(archive, "a/b.mp4", b"x")
    await archive.close()


@pytest.mark.slow
async def test_what_is_replaced_in_a_directory_is_there_at_every_moment(tmp_path: Path) -> None:
    done = asyncio.Event()

    def read() -> set[bytes]:
        found = set()
        while not done.is_set():
            found.add((tmp_path / "archive/s/c/key-1.json").read_bytes())
        return found

    async with opened(Settings.model_validate(str(tmp_path / "archive"))) as archive:
        await put(archive, "s/c/key-1.json", b"first")
        reader = asyncio.create_task(asyncio.to_thread(read))
        for n in range(200):
            data = b"%d" % n
            await archive.put("s/c/key-1.json", data, sha256_of(data), replace=True)
        done.set()
        assert (await reader) - {b"first", *(b"%d" % n for n in range(200))} == set()


@pytest.mark.parametrize("page", [{}, {"NextContinuationToken": "the same"}])
async def test_a_list_that_goes_on_nowhere_ends(
    monkeypatch: pytest.MonkeyPatch, page: dict[str, str]
) -> None:
    archive = S3Archive(settings(1))

    def call(*_: object, **__: object) -> dict[str, object]:
        return {"IsTruncated": True, **page}

    monkeypatch.setattr(archive._server, "call", call)
    with pytest.raises(ArchiveError, match="goes on, and not where"):
        await archive.below("e/")
    await archive.close()


async def test_what_a_process_that_was_killed_left_of_an_object_goes(tmp_path: Path) -> None:
    async with opened(Settings.model_validate({"url": str(tmp_path)})) as archive:
        left = tmp_path / "e/.x-1.mp4.4711.new"
        left.parent.mkdir()
        left.write_bytes(b"half")
        await put(archive, "e/x-1.mp4", b"whole")
        assert [p.name for p in left.parent.iterdir()] == ["x-1.mp4"]


@pytest.mark.parametrize("kind", ["directory", "bucket"])
async def test_a_file_that_cannot_be_read_is_laid_to_no_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(errno.EIO, "Input/output error")

    class Client:
        def put_object(self, *, Body: io.BytesIO, **_: object) -> None:
            try:
                Body.read(1)
            except Exception as error:  # as botocore does
                raise HTTPClientError(error=error) from None

    bucket = S3Archive(settings(1))
    bucket._refuses_to_replace = True
    monkeypatch.setattr(bucket._server, "_made", Client)
    archive: Archive = bucket if kind == "bucket" else DirectoryArchive("archive", tmp_path)
    monkeypatch.setattr(Path, "open", lambda *_, **__: Failing(b"1234"))
    with pytest.raises(UnreadableSource, match=r"1\.mp4 cannot be read: Input/output error"):
        await archive.put("e/s/c/1.mp4", tmp_path / "1.mp4", sha256_of(b"1234"))
    await archive.close()


async def test_what_goes_while_a_folder_is_listed_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    @contextlib.contextmanager
    def late(path: Path) -> Iterator[list[os.DirEntry[str]]]:
        with scandir(path) as scan:
            items = list(scan)
        (path / "x-2.json").unlink(missing_ok=True)
        yield items

    async with opened(Settings.model_validate(str(tmp_path))) as archive:
        for number in (1, 2, 3):
            await put(archive, f"e/s/c/x-{number}.json", b"{}")
        monkeypatch.setattr(os, "scandir", late)
        found = [entry.key async for entry in archive.entries("e/s/c/")]
        assert found == ["e/s/c/x-1.json", "e/s/c/x-3.json"]


@pytest.mark.parametrize("other", [b"whole", b"other"])
async def test_what_two_processes_put_at_once_is_one_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: bytes
) -> None:
    """The second one comes just before the first has its name, or just after, and may have the
    number of the first, as processes of two containers have."""
    link, key = os.link, "e/x-1.mp4"
    first, second = (DirectoryArchive(name, tmp_path) for name in ("first", "second"))

    def between(beside: Path, path: Path) -> None:
        monkeypatch.setattr(os, "link", link)
        if other != b"whole":
            link(beside, path)
            with pytest.raises(ArchiveConflict):
                second._put(path, other, sha256_of(other), False)
            return
        second._put(path, other, sha256_of(other), False)
        link(beside, path)

    monkeypatch.setattr(os, "link", between)
    first._put(tmp_path / key, b"whole", sha256_of(b"whole"), False)
    assert (tmp_path / key).read_bytes() == b"whole"
    assert [p.name for p in (tmp_path / "e").iterdir()] == ["x-1.mp4"]
    await first.close()
    await second.close()


@pytest.mark.parametrize("is_ignored", [True, False])
async def test_a_range_that_is_ignored_is_cut_here(
    monkeypatch: pytest.MonkeyPatch, is_ignored: bool
) -> None:
    archive, data = S3Archive(settings(1)), b"0123456789"

    def call(*_: object, Range: str = "") -> dict[str, object]:
        if is_ignored:
            return {"Body": io.BytesIO(data), "ContentLength": len(data)}
        told = {"ContentLength": 4, "ContentRange": "bytes 2-5/10"}
        return {"Body": io.BytesIO(data[2:6]), **told}

    monkeypatch.setattr(archive._server, "call", call)
    assert await archive.get("e/x", 2, 4) == b"2345"
    await archive.close()
