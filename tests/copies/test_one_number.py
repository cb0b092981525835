"""Two spools of a camera used the same numbers: nothing of one stands for something of another."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from copies.footage.find import find
from copies.orders import events
from copies.orders.events import key_of, new_secret
from copies.orders.quotes import QuoteRequest, make_quote
from storage.archive.directory import DirectoryArchive
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.order_files import FootageGone
from storage.recording_source import Sources
from storage.records import Index
from storage.spool.reader import SpoolReader
from tests.support.archiving import configure
from tests.support.footage import NAME, UTC0, Camera, whole
from tests.support.selling import COPIES
from tests.support.spools import fill

pytest_plugins = ["tests.support.postgres"]
LATER_MS = 700  # what the second machine's clock or start is behind the first's


@pytest.fixture
async def catalogue(database_url: str) -> AsyncIterator[Catalogue]:
    found = await Catalogue.open(database_url)
    yield found
    await found.close()


async def two(folder: Path, catalogue: Catalogue) -> tuple[list[Camera], DirectoryArchive]:
    """Two machines record a camera for four minutes, each from the same numbers on."""
    archive = DirectoryArchive("archive", folder / "archive")
    cameras = [
        Camera(folder / name, start_ms=UTC0 + n * LATER_MS, seed=n) for n, name in enumerate("ab")
    ]
    for camera in cameras:
        camera.record(120)
        await camera.archive(catalogue, archive, keep=True)
    return cameras, archive


async def test_a_copy_has_footage_of_one_run(tmp_path: Path, catalogue: Catalogue) -> None:
    cameras, archive = await two(tmp_path, catalogue)
    until_ms = UTC0 + 230_000
    found = await find(catalogue, [archive], tmp_path, NAME, UTC0 + 1_000, until_ms, zone="UTC")
    assert len({file.file_name for file in found.files}) == len(found.files) == 2
    of = [{i.seal.sha256 for _, i in camera.indexes() if i.seal} for camera in cameras]
    for file in found.files:
        assert [{part.sha256 for part in file.parts} <= those for those in of].count(True) == 1
        data = await whole(file, Sources(None, [archive], catalogue))
        assert len(data) == file.length
    await archive.close()


@pytest.mark.parametrize("first", [0, 1])
async def test_a_run_is_that_of_the_higher_epoch(
    tmp_path: Path, catalogue: Catalogue, first: int
) -> None:
    """Whichever was entered first, an init and the segments of its number are of one owner."""
    owners: list[list[Index]] = []
    for epoch, name in ((5, "a"), (6, "b")):
        fill(tmp_path / name, start_ms=UTC0 + epoch * LATER_MS).close()
        view = SpoolReader(tmp_path / name, "s", "c")
        view.refresh()
        owners.append(
            [replace(i, header=replace(i.header, epoch=epoch)) for _, i in view.recordings()]
        )
    for n in (first, 1 - first):
        await catalogue.writer.put_recordings(owners[n])
    believed = {i.identity.sha256 for i in owners[1]}
    for index in owners[1]:
        run = await catalogue.recording_of_run(NAME, index.header.run_no)
        segment = await catalogue.recording_with_segment(NAME, index.segments[-1].segment_no)
        assert run and segment and {run.sha256, segment.sha256} <= believed
        assert run.run_no == segment.run_no == index.header.run_no


async def test_numbers_of_recordings_whose_spool_nobody_knows(
    tmp_path: Path, catalogue: Catalogue
) -> None:
    """A catalogue that was made again from an archive: an owner of a higher epoch is another."""
    fill(tmp_path / "a").close()
    view = SpoolReader(tmp_path / "a", "s", "c")
    view.refresh()
    found = [replace(i, header=replace(i.header, epoch=9)) for _, i in view.recordings()]
    await catalogue.writer.put_recordings(found, now_ms=UTC0)
    numbers = await catalogue.numbers_elsewhere(NAME, "mine", 8)
    assert numbers is not None and numbers["epoch"] == 9
    assert numbers["segment_no"] > found[-1].segments[-1].segment_no
    assert await catalogue.numbers_elsewhere(NAME, "mine", 9) is None  # they may be its own


async def test_what_is_gone_is_told_by_its_bytes(tmp_path: Path, database_url: str) -> None:
    """The recording that is ordered was removed; another of its number is still there."""
    config = configure(tmp_path, database_url, "archives: [archive]\n" + COPIES, "1h")
    assert config.copies is not None
    catalogue = await Catalogue.open(config.database_url)
    (a, _), archive = await two(tmp_path, catalogue)
    begin = UTC0 + 5_000
    asked = QuoteRequest(config.stations[0], ("c",), begin, begin + 10_000)
    row, plans = await make_quote(config, config.copies, catalogue, [archive], asked, "kk")
    pk = await catalogue.orders.create(str(key_of(new_secret())), row, plans)
    gone = a.indexes()[0][1]
    (there,) = (r for r in await catalogue.recordings_of(NAME) if r.sha256 == gone.identity.sha256)
    assert await catalogue.holds.begin_removal(NAME, there, "archive", 5, "kept for a day")
    with pytest.raises(FootageGone):
        await catalogue.orders.change(pk, events.place(config.copies, None, "", UTC0))
    await archive.close()
    await catalogue.close()
