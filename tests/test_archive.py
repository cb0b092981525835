"""One contract for every archive: a directory, rclone's S3 server and moto's."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from config.model import Archive as Settings
from storage.archive import Archive, ArchiveConflict, ArchiveError, Put, open_archive
from tests.s3 import free_port, moto, rclone, settings

# moto takes any key and signature; both servers are real programs over real HTTP
CHECKS_KEYS = {"rclone": True, "moto": False}


async def put(archive: Archive, key: str, data: bytes) -> Put:
    return await archive.put(key, data, hashlib.sha256(data).hexdigest())


@pytest.fixture(params=["directory", "rclone", "moto"])
async def archive(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Archive]:
    port = free_port()
    with contextlib.ExitStack() as stack:
        if request.param == "directory":
            found = open_archive(Settings.model_validate(str(tmp_path / "archive")))
        else:
            stack.enter_context(rclone(tmp_path, port) if request.param == "rclone" else moto(port))
            found = open_archive(settings(port))
        yield found
        await found.close()


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
    with pytest.raises(KeyError):
        await archive.get("no/such/key.mp4", 0, 10)


async def test_the_same_again_is_well_and_other_bytes_are_refused(archive: Archive) -> None:
    await put(archive, "e/s/c/key-1.json", b"first")
    await put(archive, "e/s/c/key-1.json", b"first")
    with pytest.raises(ArchiveConflict):
        await put(archive, "e/s/c/key-1.json", b"other")
    assert await archive.get("e/s/c/key-1.json") == b"first"


async def test_refusals_have_words_and_no_secrets(tmp_path: Path) -> None:
    port = free_port()
    away = open_archive(settings(port))
    with pytest.raises(ArchiveError, match="cannot be reached"):
        await put(away, "a/b/c.mp4", b"x")
    await away.close()
    with rclone(tmp_path, port):
        wrong = open_archive(settings(port, secret_access_key=SecretStr("a-wrong-secret")))
        with pytest.raises(ArchiveError) as error:
            await put(wrong, "a/b/c.mp4", b"x")
        assert "refused" in str(error.value) or "denied" in str(error.value)
        assert "a-wrong-secret" not in str(error.value)
        await wrong.close()
        other = open_archive(settings(port, url="s3://no-such-bucket"))
        with pytest.raises(ArchiveError, match="no such bucket"):
            await put(other, "a/b/c.mp4", b"x")
        await other.close()


async def test_a_directory_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    archive = open_archive(Settings.model_validate(str(tmp_path / "file" / "archive")))
    with pytest.raises(ArchiveError, match="Not a directory"):
        await put(archive, "a/b.mp4", b"x")
    await archive.close()
