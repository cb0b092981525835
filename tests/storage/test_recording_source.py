"""The one reader of recordings: which place gives the bytes, and why none does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from storage.archive.directory import DirectoryArchive
from storage.archive.port import ArchiveError
from storage.recording_source import (
    HashedRange,
    NotStored,
    RecordingReader,
    Sources,
    Unreadable,
)
from tests.support.footage import NAME, Camera
from tests.support.tables import open_catalogue


class Away(DirectoryArchive):
    """An archive that does not answer."""

    async def get(
        self, key: str, offset: int = 0, length: int | None = None, *, bucket: str = ""
    ) -> bytes:
        raise ArchiveError("it does not answer")


@pytest.fixture
async def camera(tmp_path: Path) -> AsyncIterator[Camera]:
    """A recording that is in the spool and in the archive `has`."""
    one = Camera(tmp_path / "spool")
    one.record(5)
    catalogue = await open_catalogue(f"sqlite:///{tmp_path}/k.db")
    archive = DirectoryArchive("has", tmp_path / "has")
    await one.archive(catalogue, archive, keep=True)
    yield one
    await archive.close()
    await catalogue.close()


def segment(camera: Camera, spool: bool, *archives: DirectoryArchive) -> HashedRange:
    """Return the third segment of the recording, to be read from some places."""
    (_, index), *_ = camera.indexes()
    key = (index.header.record_seq, index.start_ms)
    sources = Sources(camera.root if spool else None, archives)
    found = index.segments[2]
    return HashedRange(
        RecordingReader(sources, NAME), key, found.offset, found.length, found.sha256
    )


async def test_each_place_gives_the_same_bytes(camera: Camera, tmp_path: Path) -> None:
    data = camera.segments[3]
    archive = DirectoryArchive("has", tmp_path / "has")
    for part in (segment(camera, True), segment(camera, False, archive)):
        assert await part.whole() == data
    part = segment(camera, True)
    assert part.piece_in_spool(0, part.length) == data
    assert part.piece_in_spool(10, 20) == data[10:30]
    assert segment(camera, False).piece_in_spool(0, 5) is None


async def test_what_is_altered_comes_from_the_next_place(camera: Camera, tmp_path: Path) -> None:
    (media, _), *_ = camera.indexes()
    part = segment(camera, True, DirectoryArchive("has", tmp_path / "has"))
    altered = bytearray(media.read_bytes())
    altered[part.offset] ^= 1
    media.write_bytes(altered)
    assert await part.whole() == camera.segments[3]
    with pytest.raises(Unreadable, match="the spool has other bytes") as found:
        await segment(camera, True).whole()
    assert not isinstance(found.value, NotStored)


async def test_a_part_whose_end_is_missing_is_not_begun(camera: Camera) -> None:
    (media, _), *_ = camera.indexes()
    part = segment(camera, True)
    media.write_bytes(media.read_bytes()[: part.offset + part.length - 1])
    assert part.piece_in_spool(0, 10) is None
    media.unlink()
    assert part.piece_in_spool(0, 10) is None


async def test_it_is_told_apart_whether_it_is_nowhere_or_cannot_be_read(
    camera: Camera, tmp_path: Path
) -> None:
    empty, away = DirectoryArchive("empty", tmp_path / "empty"), Away("away", tmp_path / "away")
    has = DirectoryArchive("has", tmp_path / "has")
    with pytest.raises(NotStored):
        await segment(camera, False, empty).whole()
    for archives in ((away, empty), (empty, away)):
        with pytest.raises(Unreadable, match="away: it does not answer") as found:
            await segment(camera, False, *archives).whole()
        assert not isinstance(found.value, NotStored)
    assert await segment(camera, False, away, empty, has).whole() == camera.segments[3]
    with pytest.raises(Unreadable) as found:  # nobody was asked: nothing is known
        await segment(camera, False).whole()
    assert not isinstance(found.value, NotStored)
