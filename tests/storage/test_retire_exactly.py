"""A removal names exactly what it removes, and is never without its trace."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from config.model import Config
from storage.archival.retention import retire
from storage.archive.directory import DirectoryArchive
from storage.archive.port import TRACE, Archive, Put
from storage.archive.s3 import S3Archive
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.rows import recording_values
from storage.fsck.camera import Finding
from storage.fsck.check import Fsck
from storage.records import REMOVED_FORMAT, Trace, parse_archive_document, sha256_of
from tests.support.archiving import (
    NOW,
    C,
    configure,
    forget_the_spool,
    kept,
    later_ms,
    opened,
    uploading,
)
from tests.support.s3 import Server, s3_server
from tests.support.small_disk import fill_up, small_disk
from tests.support.spools import fill
from tests.support.waiting import until

HOUR = 3_600_000


async def archived(folder: Path, archive: str = "archive") -> Config:
    """Have some recordings that only an archive has."""
    config = configure(folder, f"sqlite:///{folder}/k.db", f"archives: [{archive}]\n")
    fill(config.spool, camera="c", start_ms=NOW - 2 * HOUR, segments=60).close()
    async with uploading(config) as (uploader, catalogue, _):
        await until(lambda: kept(uploader).archived_total >= 4)
        await until(lambda: kept(uploader).backlog_recordings == 0)
        await forget_the_spool(config, catalogue)
    return config


@contextlib.asynccontextmanager
async def looking(config: Config) -> AsyncIterator[tuple[Catalogue, Sequence[Archive], list[Path]]]:
    """Yield also the `.mp4` of the recordings, oldest first."""
    async with opened(config) as (catalogue, archives):
        assert isinstance(archives[0], DirectoryArchive)
        yield catalogue, archives, sorted((archives[0]._root / "e/s/c").glob("*/*.mp4"))


async def differences(
    config: Config, catalogue: Catalogue, archives: Sequence[Archive]
) -> list[Finding]:
    """Return what fsck finds; of the years before these recordings nothing is known."""
    found = await Fsck(config, catalogue, archives, clock=later_ms).check(C)
    return [f for f in found if f.where != "schedule"]


def traces(media: Sequence[Path]) -> list[bool]:
    return [p.with_name(p.stem + TRACE).exists() for p in media]


def other_bytes(media: Path, _other: Path) -> None:
    data = bytearray(media.read_bytes())
    data[-1] ^= 1
    media.write_bytes(data)


def another_recording(media: Path, other: Path) -> None:
    for ending in (".mp4", ".json"):
        media.with_suffix(ending).write_bytes(other.with_suffix(ending).read_bytes())


def same_name_other_bytes(media: Path, other: Path) -> None:
    """As another spool's recorder may have made it: all is right but the hash."""
    data = other.read_bytes()
    told = orjson.loads(media.with_suffix(".json").read_bytes())
    media.write_bytes(data)
    media.with_suffix(".json").write_bytes(orjson.dumps(told | {"sha256": sha256_of(data)}))


def description_of_another(media: Path, other: Path) -> None:
    media.with_suffix(".json").write_bytes(other.with_suffix(".json").read_bytes())


def description_of_another_camera(media: Path, _other: Path) -> None:
    path = media.with_suffix(".json")
    path.write_bytes(orjson.dumps(orjson.loads(path.read_bytes()) | {"camera": "d"}))


def spoilt_description(media: Path, _other: Path) -> None:
    media.with_suffix(".json").write_bytes(b'{"kuager": "recording/1"}')


def a_trace(row: Mapping[str, Any]) -> bytes:
    """Return what tells that the recording of a row was removed."""
    camera = dict(zip(("election", "station", "camera"), C, strict=True))
    why = {"kuager": REMOVED_FORMAT, "removed_ms": 1, "reason": "kept for a day"}
    return Trace.of({**row, **camera, **why}).to_json()


def lost_bytes(media: Path, _other: Path) -> None:
    media.unlink()


def lost_description(media: Path, _other: Path) -> None:
    media.with_suffix(".json").unlink()


def trace_of_another(media: Path, _other: Path) -> None:
    index = parse_archive_document(media.with_suffix(".json").read_bytes())
    other = recording_values(index) | {"sha256": "00" * 32}
    media.with_name(media.stem + TRACE).write_bytes(a_trace(other))


@pytest.mark.parametrize(
    "spoil",
    [
        other_bytes,
        another_recording,
        same_name_other_bytes,
        description_of_another,
        description_of_another_camera,
        spoilt_description,
        lost_bytes,
        lost_description,
        trace_of_another,
    ],
)
async def test_what_is_not_what_its_row_names_stays(
    tmp_path: Path, spoil: Callable[[Path, Path], None]
) -> None:
    config = await archived(tmp_path)
    async with looking(config) as (catalogue, archives, media):
        spoil(media[1], media[0])
        stem = media[1].stem
        before = {p: p.read_bytes() for p in media[1].parent.glob(f"{stem}.*")}
        with capture_logs() as log:
            assert await retire(catalogue, archives[0], C, 60, share=1) == len(media) - 1
        assert {p: p.read_bytes() for p in media[1].parent.glob(f"{stem}.*")} == before
        (said,) = (entry for entry in log if "cannot be removed" in entry["event"])
        assert [name.rpartition("/")[2] for name in said["why"]] == [stem]
        rows = await catalogue.recordings_of(C)
        removed = [row.archives[0].removed_ms is not None for row in rows]
        assert removed == [n != 1 for n in range(len(media))]


async def test_bytes_that_were_verified_are_removed_though_the_etag_is_not_known(
    tmp_path: Path,
) -> None:
    """A catalogue that fsck made again from the archive knows no ETags: the bytes are read."""
    await archived(tmp_path)
    config = configure(tmp_path, f"sqlite:///{tmp_path}/new.db", "archives: [archive]\n")
    async with looking(config) as (catalogue, archives, media):
        await Fsck(config, catalogue, archives, repair=True, clock=later_ms).check(C)
        other_bytes(media[2], media[0])
        assert await retire(catalogue, archives[0], C, 60, share=1) == len(media) - 1
        assert media[2].exists() and traces(media) == [n != 2 for n in range(len(media))]


async def test_two_processes_that_remove_at_once_leave_one_trace(tmp_path: Path) -> None:
    config = await archived(tmp_path)
    async with looking(config) as (catalogue, archives, media):

        class Slow(DirectoryArchive):
            """Between its trace and its row another process does all of the same."""

            async def put(self, key: str, *args: Any, **named: Any) -> Put:
                done = await super().put(key, *args, **named)
                await retire(catalogue, archives[0], C, 60, share=1)
                return done

        slow = Slow("archive", tmp_path / "archive")
        assert await retire(catalogue, slow, C, 60, share=1) > 0
        assert traces(media) == [True] * len(media)
        assert not any(p.exists() or p.with_suffix(".json").exists() for p in media)
        assert await differences(config, catalogue, archives) == []
        await slow.close()


async def test_fsck_takes_no_trace_of_another_recording_for_one_of_this(tmp_path: Path) -> None:
    config = await archived(tmp_path)
    async with looking(config) as (catalogue, archives, media):
        trace_of_another(media[0], media[1])
        old = later_ms() / 1000 - 86_400
        os.utime(media[0].with_name(media[0].stem + TRACE), (old, old))
        before = {p: p.read_bytes() for p in media[0].parent.glob("*.*")}
        row = (await catalogue.recordings_of(C))[0]
        assert await catalogue.holds.begin_removal(C, row, "archive", 1, "kept for a day")
        await Fsck(config, catalogue, archives, repair=True, clock=later_ms).check(C)
        assert {p: p.read_bytes() for p in media[0].parent.glob("*.*")} == before


async def test_fsck_takes_no_trace_from_a_removal_that_goes_on(tmp_path: Path) -> None:
    """By a clock that is ahead the trace of this moment looks old."""
    config = await archived(tmp_path)
    async with looking(config) as (catalogue, _, media):

        class Busy(DirectoryArchive):
            """When fsck reads a trace, whoever wrote it goes on."""

            async def get(self, key: str, *args: Any, **named: Any) -> bytes:
                if key.endswith(TRACE):
                    row = (await catalogue.recordings_of(C))[0]
                    assert await catalogue.holds.begin_removal(C, row, "archive", 1, "its time")
                return await super().get(key, *args, **named)

        row = (await catalogue.recordings_of(C))[0]
        trace = media[0].with_name(media[0].stem + TRACE)
        trace.write_bytes(a_trace(asdict(row)))
        busy = Busy("archive", tmp_path / "archive")
        found = await Fsck(config, catalogue, [busy], repair=True, clock=later_ms).check(C)
        (finding,) = [f for f in found if f.where == "archive"]
        assert "trace" in finding.what and not finding.done and trace.exists()
        await busy.close()


@pytest.mark.parametrize("spoil", [description_of_another, spoilt_description])
async def test_fsck_finishes_no_removal_of_what_the_row_does_not_name(
    tmp_path: Path, spoil: Callable[[Path, Path], None]
) -> None:
    config = await archived(tmp_path)
    async with looking(config) as (catalogue, archives, media):
        row = (await catalogue.recordings_of(C))[1]
        assert await catalogue.holds.begin_removal(C, row, "archive", 1, "kept for a day")
        trace = media[1].with_name(media[1].stem + TRACE)
        trace.write_bytes(a_trace(asdict(row)))
        spoil(media[1], media[0])
        before = {p: p.read_bytes() for p in media[1].parent.glob(f"{media[1].stem}.*")}
        await Fsck(config, catalogue, archives, repair=True, clock=later_ms).check(C)
        assert {p: p.read_bytes() for p in media[1].parent.glob(f"{media[1].stem}.*")} == before


async def test_fsck_ends_no_hold_by_its_date(tmp_path: Path) -> None:
    """It has no witness: by a clock that is ahead a hold of years is over."""
    config, year = await archived(tmp_path), 365 * 24 * HOUR
    async with looking(config) as (catalogue, archives, media):
        row = (await catalogue.recordings_of(C))[0]
        trace = media[0].with_name(media[0].stem + TRACE)
        trace.write_bytes(a_trace(asdict(row)))
        assert await catalogue.holds.begin_removal(C, row, "archive", 1, "kept for a day")
        await catalogue.holds.add("e", "a court asks", NOW, until_ms=NOW + year)
        look = Fsck(config, catalogue, archives, repair=True, clock=lambda: NOW + 2 * year)
        (finding,) = [f for f in await look.check(C) if f.where == "archive"]
        assert finding.done.endswith("a hold keeps it") and media[0].exists()
        assert traces(media) == [False] * len(media)
        assert all(row.archives[0].removed_ms is None for row in await catalogue.recordings_of(C))


async def test_a_full_directory_can_be_cleared(tmp_path: Path) -> None:
    """The room for a trace is kept from the beginning, and again after each removal."""
    with small_disk("1m") as disk:
        config = await archived(tmp_path, str(disk / "archive"))
        async with looking(config) as (catalogue, archives, media):
            fill_up(disk)
            with pytest.raises(OSError):
                (disk / "more").write_bytes(bytes(5000))
            assert await retire(catalogue, archives[0], C, 60, share=1) == len(media)
            assert traces(media) == [True] * len(media)
            assert await differences(config, catalogue, archives) == []
            left = {p.name for p in (disk / "archive/_kuager").iterdir()}
            assert left == {"archive.json", "reserve"}


async def test_without_room_for_a_trace_nothing_is_removed(tmp_path: Path) -> None:
    with small_disk("1m") as disk:
        config = await archived(tmp_path, str(disk / "archive"))
        async with looking(config) as (catalogue, archives, media):
            (disk / "archive/_kuager/reserve").unlink()
            fill_up(disk)
            with capture_logs() as log:
                assert await retire(catalogue, archives[0], C, 60, share=1) == 0
            assert any("nor a reserve for traces" in str(entry) for entry in log)
            assert all(p.exists() for p in media) and not any(traces(media))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with s3_server("moto", tmp_path_factory.mktemp("moto")) as found:
        yield found


@pytest.mark.slow
async def test_a_bucket_with_versions_keeps_none_of_what_was_removed(
    tmp_path: Path, server: Server
) -> None:
    """The bytes go, not only their name; what was put over them later is another's, and stays."""
    bucket = server.bucket()
    server.client.put_bucket_versioning(
        Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    url = (
        f"{{url: s3://{bucket}/p, name: archive, endpoint: '{server.endpoint}', region: us-east-1,"
        f" access_key_id: {server.key}, secret_access_key: '${{SECRET}}'}}"
    )
    config = await archived(tmp_path, url)

    def there() -> list[str]:
        found = server.client.list_object_versions(Bucket=bucket)
        versions = [v["Key"] for v in found.get("Versions", []) if "/_kuager/" not in v["Key"]]
        assert not found.get("DeleteMarkers")
        return sorted(versions)

    before = there()
    media = [key for key in before if key.endswith(".mp4")]
    server.client.put_object(Bucket=bucket, Key=media[1], Body=b"another's")
    async with opened(config) as (catalogue, archives):
        assert isinstance(archives[0], S3Archive)
        assert await retire(catalogue, archives[0], C, 60, share=1) == len(media) - 1
    stay = media[1].removesuffix(".mp4")
    gone = [key.removesuffix(".mp4") + TRACE for key in media if key != media[1]]
    assert there() == sorted([*gone, stay + ".json", stay + ".mp4", stay + ".mp4"])
