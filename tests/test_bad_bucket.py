"""Every lie of a bucket is found, named and survived: nothing is lost, nothing overwritten.

What the servers do, found by asking them (storage/s3.py `_ask`): rclone takes If-None-Match and
x-amz-checksum-sha256 and heeds neither; moto refuses to replace an object but does not compare
the checksum. So each lie is told by both, once with and once without conditional puts.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.index import parse_archive_document
from tests.bad_bucket import FAULTS, BadBucket, bad_bucket
from tests.s3 import BUCKET, free_port, moto, rclone
from tests.spools import fill
from tests.stack import until
from tests.test_uploader import NOW, configure, kept, s3, uploading

WORDS = {
    "wrong-bytes": "has other bytes when it is read back",
    "half": "has other bytes when it is read back",
    "not-stored": "is not there when it is read back",
    "storm": "is overloaded (SlowDown)",
    "skew": "clock and this machine's differ too much",
    "lost-answer": "cannot be reached",
    "cut": "cannot be reached",
    "wrong-read": "has other bytes when it is read back",
    "old-version": "has other bytes when it is read back",
    "slow": "too slow",
}


@pytest.fixture(params=["rclone", "moto"])
async def bucket(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[BadBucket, int]]:
    port = free_port()
    with contextlib.ExitStack() as stack:
        stack.enter_context(rclone(tmp_path, port) if request.param == "rclone" else moto(port))
        async with bad_bucket(port) as found:
            yield found


@pytest.mark.parametrize("lie", FAULTS)
async def test_a_lie(
    bucket: tuple[BadBucket, int], tmp_path: Path, lie: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, port = bucket
    monkeypatch.setattr("storage.keeper.PAUSE_S", (0.2,))
    monkeypatch.setattr("storage.keeper.LOOK_S", 0.2)
    monkeypatch.setattr("storage.s3.READ_S", 2)
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", s3(port), rewind="2d")
    fill(config.spool, start_ms=NOW - 600_000, runs=1).close()
    media = {p.stem: p.read_bytes() for p in config.spool.glob("s/c/*/*.mp4")}
    bad.fault = "half" if lie == "old-version" else lie
    async with uploading(config) as (uploader, _, archive):
        await until(lambda: not kept(uploader).ok, 20)
        if lie == "old-version":
            bad.fault = lie
        await until(lambda: WORDS[lie] in (kept(uploader).last_error or ""), 20)
        assert BUCKET in (kept(uploader).last_error or "") or "read back" in WORDS[lie]
        assert kept(uploader).archived_total == 0
        assert bad.spoilt
        bad.fault = None
        if lie == "old-version":
            bad._instead.clear()
        await until(lambda: kept(uploader).archived_total == len(media), 30)
        assert kept(uploader).ok and kept(uploader).backlog_recordings == 0
        keys = [e.key async for e in archive.entries("e/")]
        assert len(keys) == 2 * len(media)
        for key in keys:
            if key.endswith(".json"):
                index = parse_archive_document(await archive.get(key))
                found = await archive.get(key.replace(".json", ".mp4"))
                assert found == media[Path(key).stem] and index.seal is not None


async def test_away_and_slow_catches_up_oldest_first(tmp_path: Path) -> None:
    port = free_port()
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", s3(port), rewind="2d")
    fill(config.spool, start_ms=NOW - 3_600_000, segments=400).close()
    count = len(list(config.spool.glob("s/c/*/*.mp4")))
    async with uploading(config) as (uploader, catalogue, _):
        await until(lambda: not kept(uploader).ok, 20)
        with rclone(tmp_path / "s3", port):
            await until(lambda: kept(uploader).archived_total == count, 60)
        rows = await catalogue.recordings_between(("e", "s", "c"), 0, NOW)
        times = [r["archives"][0]["archived_ms"] for r in rows]
        part = len(times) // 3  # a few at a time, the oldest first
        assert max(times[:part]) <= min(times[-part:])
