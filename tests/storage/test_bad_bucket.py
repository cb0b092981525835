"""Every lie of a bucket is found, named and survived: nothing is lost, nothing overwritten.

Each lie is told before a server that refuses to replace an object (moto) and one that does not
(rclone); tests/support/s3.py says what the two do. Neither compares SHA-256, so what is found here
is found by reading back.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from storage.archive.factory import open_archive
from storage.archive.port import Archive, ArchiveConflict, ArchiveError
from storage.archive.s3 import S3Archive
from storage.archive.s3_client import Patience, S3Client
from storage.records import parse_archive_document
from tests.support.archiving import NOW, configure, kept, s3, uploading
from tests.support.bad_bucket import FAULTS, PUT, BadBucket, bad_bucket
from tests.support.repository import ROOT
from tests.support.s3 import BUCKET, KEY, SECRET, free_port, moto, rclone, settings
from tests.support.spools import fill
from tests.support.waiting import until

WORDS = {
    "wrong-bytes": "has other bytes when it is read back",
    "half": "has other bytes when it is read back",
    "not-stored": "is not there when it is read back",
    "old-version": "is not there when it is read back",
    "lost-answer": "cut the connection without an answer",
    "cut": "cut the connection without an answer",
    "wrong-read": "has other bytes when it is read back",
    "half-read": "could not be read to its end: cut the connection",
    "storm": "is overloaded (SlowDown)",
    "skew": "clock and this machine's differ too much",
    "away": "cut the connection without an answer",
    "slow": "the bucket or the way to it is too slow",
}
LETS_SOME_THROUGH = ("old-version", "lost-answer", "slow")  # what was stored is right, in the end


def test_every_lie_has_its_words_in_the_docs() -> None:
    page = (ROOT / "docs/operations.md").read_text()
    assert not [lie for lie in FAULTS if WORDS[lie] not in page]


@pytest.fixture(params=["rclone", "moto"])
async def upstream(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[int]:
    port = free_port()
    with contextlib.ExitStack() as stack:
        stack.enter_context(rclone(tmp_path, port) if request.param == "rclone" else moto(port))
        yield port


@pytest.fixture
async def bad(upstream: int) -> AsyncIterator[BadBucket]:
    async with bad_bucket(f"http://127.0.0.1:{upstream}", KEY, SECRET) as found:
        yield found


@pytest.mark.slow
@pytest.mark.parametrize("lie", FAULTS)
async def test_a_lie_is_named_and_survived(
    upstream: int, bad: BadBucket, tmp_path: Path, lie: str
) -> None:
    patience = Patience(seconds_each=1) if lie == "slow" else Patience()
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", s3(bad.port), rewind="2d")
    fill(config.spool, start_ms=NOW - 600_000, runs=1).close()
    media = recordings(config.spool / "s/c")
    # the largest has 40 s or more, 8.5 kB: alone on the link it is read in 2 s, and 1.2 it may take
    bad.fault(lie, key="mp4$", bytes_per_s=4000)
    with capture_logs() as log:
        async with uploading(
            config, open_archive=lambda settings: S3Archive(settings, patience)
        ) as (uploader, catalogue, _):
            await until(lambda: any(WORDS[lie] in str(entry.get("why")) for entry in log))
            if lie not in LETS_SOME_THROUGH:
                assert not kept(uploader).ok and kept(uploader).archived_total == 0
                assert not any(
                    row.archives for row in await catalogue.recordings_of(("e", "s", "c"))
                )
            bad.heal()
            await until(lambda: kept(uploader).archived_total == len(media))
            assert kept(uploader).ok and kept(uploader).backlog_recordings == 0
    assert bad.done[lie]
    await compare(upstream, media)


def recordings(camera: Path) -> dict[str, bytes]:
    """Return the bytes of a camera's recordings by day and name."""
    found = camera.glob("*/*.mp4")
    return {p.relative_to(camera).with_suffix("").as_posix(): p.read_bytes() for p in found}


async def compare(upstream: int, media: dict[str, bytes]) -> None:
    """Compare what the bucket has in truth with the recordings."""
    archive = open_archive(settings(upstream, url=f"s3://{BUCKET}"))
    keys = [entry.key async for entry in archive.entries("e/")]
    assert sorted(keys) == sorted(
        f"e/s/c/{name}{ending}" for name in media for ending in (".json", ".mp4")
    )
    for name, data in media.items():
        assert await archive.get(f"e/s/c/{name}.mp4") == data
        index = parse_archive_document(await archive.get(f"e/s/c/{name}.json"))
        assert index.seal is not None and index.seal.sha256 == hashlib.sha256(data).hexdigest()
    await archive.close()


@pytest.mark.slow
@pytest.mark.parametrize("upstream", ["rclone"], indirect=True)
async def test_away_then_slow_catches_up_oldest_first(
    upstream: int, bad: BadBucket, tmp_path: Path
) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", s3(bad.port), rewind="2d")
    fill(config.spool, start_ms=NOW - 3_600_000, segments=300).close()
    media = recordings(config.spool / "s/c")
    await bad.leave()
    with capture_logs() as log:
        async with uploading(config) as (uploader, catalogue, _):
            await until(lambda: not kept(uploader).ok)
            assert "cannot be reached" in (kept(uploader).last_error or "")
            assert kept(uploader).backlog_recordings > 0
            await bad.come_back()
            bad.fault("slow", bytes_per_s=100_000)
            await until(lambda: kept(uploader).archived_total == len(media))
            rows = await catalogue.recordings_of(("e", "s", "c"))
    told = [entry["event"] for entry in log if "archive" in entry["event"].lower()]
    assert told.count("The archive refuses; recordings wait in the spool") == 1
    assert told.count("The archive works again") == 1
    # what was tried while it was away has a pause of its own, and a few are under way at a time
    times = [r.archives[0].archived_ms for r in rows]
    pairs = [(a, b) for n, a in enumerate(times) for b in times[n + 1 :]]
    assert sum(a > b for a, b in pairs) <= len(pairs) / 3, "not the oldest first"
    await compare(upstream, media)


async def put_as_the_uploader_does(archive: Archive, key: str, data: bytes) -> None:
    """Put, read back and compare; raises ArchiveError where that fails."""
    sha256 = hashlib.sha256(data).hexdigest()
    put = await archive.put(key, data, sha256)
    if put.verified != "read back" and await archive.sha256(key, bucket=put.bucket) != sha256:
        raise ArchiveError("has other bytes")


@pytest.mark.slow
@pytest.mark.parametrize("size", [40, 3_000_000])
async def test_nothing_is_overwritten_and_a_later_try_succeeds(
    upstream: int, bad: BadBucket, size: int
) -> None:
    through, direct = open_archive(settings(bad.port)), open_archive(settings(upstream))
    first, other = os.urandom(size), os.urandom(size)
    await put_as_the_uploader_does(through, "e/s/c/first", first)
    for lie in PUT:
        bad.fault(lie)
        with pytest.raises(ArchiveError):
            await put_as_the_uploader_does(through, "e/s/c/first", other)
        bad.heal()
        assert await direct.get("e/s/c/first") == first
        await put_as_the_uploader_does(through, "e/s/c/first", first)
        with pytest.raises(ArchiveConflict):
            await put_as_the_uploader_does(through, "e/s/c/first", other)
        bad.fault(lie, 1)
        with pytest.raises(ArchiveError):
            await put_as_the_uploader_does(through, f"e/s/c/{lie}", other)
        damaged = await direct.sha256(f"e/s/c/{lie}")
        assert bad.done[lie]
        if lie in ("wrong-bytes", "half"):  # not overwritten blindly either: the uploader decides
            assert damaged not in (None, hashlib.sha256(other).hexdigest())
            with pytest.raises(ArchiveConflict):
                await put_as_the_uploader_does(through, f"e/s/c/{lie}", other)
            await through.remove(f"e/s/c/{lie}")
        await put_as_the_uploader_does(through, f"e/s/c/{lie}", other)
        assert await direct.get(f"e/s/c/{lie}") == other
    await through.close()
    await direct.close()


@pytest.mark.slow
@pytest.mark.parametrize("upstream", ["rclone"], indirect=True)
async def test_a_slow_link_is_given_more_time_each_way(upstream: int, bad: BadBucket) -> None:
    patience = Patience(seconds_each=0.3, bytes_per_s=10_000_000)
    archive, data = S3Archive(settings(bad.port), patience), os.urandom(3_000_000)
    digest = hashlib.sha256(data).hexdigest()
    little = hashlib.sha256(b"x").hexdigest()
    await tries_of(lambda: archive.put("e/s/c/before", b"x", little))
    bad.fault("slow", bytes_per_s=2_000_000)  # 1.5 s instead of 0.6
    assert await tries_of(lambda: archive.put("e/s/c/slow", data, digest)) > 1
    assert await tries_of(lambda: archive.sha256("e/s/c/slow")) > 1
    await archive.close()
    direct = open_archive(settings(upstream))
    assert await direct.sha256("e/s/c/slow") == digest
    await direct.close()


async def tries_of(call: Callable[[], Awaitable[object]]) -> int:
    """Call until the bucket is not too slow; returns how often. On a machine that is busy more
    tries are needed; each gives twice the time."""
    for tries in itertools.count(1):
        try:
            await call()
            return tries
        except ArchiveError as error:
            assert "too slow" in str(error) and tries < 20
    raise AssertionError


def test_a_date_without_a_zone_is_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of the three forms that a server may date its answers in (RFC 9110, 5.6.7) has none."""
    client, told = S3Client(settings(1)), 1_795_942_800_000
    monkeypatch.setenv("TZ", "Asia/Almaty")
    time.tzset()
    try:
        for date in ("Sun, 29 Nov 2026 09:00:00 GMT", "Sun Nov 29 09:00:00 2026", "yesterday", ""):
            client._take_time(date)
            assert client.server_time is not None and client.server_time[0] == told, date
    finally:
        monkeypatch.undo()
        time.tzset()
