"""A crash between any two steps of the commit order is repaired (docs/architecture.md)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.archival.retention import retire
from storage.fsck.check import Fsck
from storage.records import parse_index
from storage.spool.disk import spool_id
from storage.spool.numbers import Numbers
from storage.spool.repair import finish
from storage.spool.writer import CameraSpool
from tests.support.archiving import (
    NOW,
    configure,
    forget_the_spool,
    kept,
    later_ms,
    opened,
    uploading,
)
from tests.support.dying import REMOVER, UPLOADER, WRITER, write
from tests.support.mortals import Mortals
from tests.support.spools import UTC0, fill
from tests.support.waiting import until

pytest_plugins = ["tests.support.postgres"]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def mortals() -> Iterator[Mortals]:
    with Mortals("tests.support.dying") as mortals:
        yield mortals


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", UPLOADER)
async def test_crash_of_the_uploader(
    database_url: str, tmp_path: Path, mortals: Mortals, step: str, when: str
) -> None:
    """`step` names what it was about to do, or had just done: put-after is after the put and
    before the commit."""
    config = configure(tmp_path, database_url, "archives: [archive]\n")
    fill(config.spool, camera="c", start_ms=NOW - 7_200_000, segments=60).close()
    fill(config.spool, camera="d", start_ms=NOW - 7_200_000, segments=60).close()
    sealed = {}
    for path in config.spool.glob("s/*/*/*.jsonl"):
        index = parse_index(path.read_bytes())
        assert index.seal is not None
        sealed[path.parent.parent.name, index.header.record_seq] = index.seal.sha256
    mortals.die("uploader", str(config.path), step, when)
    async with uploading(config) as (uploader, catalogue, _):

        async def only_the_newest_are_left() -> bool:
            known = [
                await catalogue.in_spool("s", camera, spool_id(config.spool)) for camera in "cd"
            ]
            return sum(len(k) for k in known) == 2

        # all but the newest of each camera are past the rewind window
        await until(lambda: len(list(config.spool.glob("s/*/*/*.mp4"))) == 2)
        await until(lambda: kept(uploader).backlog_recordings == 0)
        await until(only_the_newest_are_left)
        assert kept(uploader).failures_total == 0
    async with opened(config) as (catalogue, archives):
        fsck = Fsck(config, catalogue, archives, deep=True, clock=later_ms)
        found = [f for name in await fsck.cameras() for f in await fsck.check(name)]
        assert [f for f in found if f.where != "schedule"] == []
        rows = [r for c in "cd" for r in await catalogue.recordings_of(("e", "s", c))]
        assert len(rows) == len(sealed) == fsck.recordings
        assert sorted(r.sha256 for r in rows) == sorted(sealed.values())
        assert all(len(r.archives) == 1 for r in rows)


def left_in(folder: Path) -> dict[int, set[str]]:
    """Return, by number, the kinds of objects that an archive has of a camera."""
    found: dict[int, set[str]] = {}
    for path in (folder / "archive/e/s/c").glob("*/*Z-*"):
        number, _, kind = path.name.rpartition("Z-")[2].partition(".")
        found.setdefault(int(number), set()).add(kind)
    return found


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", REMOVER)
async def test_crash_of_a_removal(
    database_url: str, tmp_path: Path, mortals: Mortals, step: str, when: str
) -> None:
    """What is removed is never without a trace, and what a hold keeps is there."""
    config = configure(tmp_path, database_url, "archives: [archive]\n")
    fill(config.spool, camera="c", start_ms=NOW - 7_200_000, segments=60).close()
    async with uploading(config) as (uploader, catalogue, _):
        await until(lambda: kept(uploader).archived_total >= 4)
        await until(lambda: kept(uploader).backlog_recordings == 0)
    async with opened(config) as (catalogue, archives):
        await forget_the_spool(config, catalogue)
    whole, trace = {"mp4", "json"}, {"removed.json"}
    mortals.die("remover", str(config.path), step, when)
    async with opened(config) as (catalogue, archives):
        rows = await catalogue.recordings_of(("e", "s", "c"))
        removed = {r.record_seq: r.archives[0].removed_ms is not None for r in rows}
        for seq, kinds in left_in(tmp_path).items():
            assert kinds >= whole or kinds >= trace
            assert kinds >= (trace if removed[seq] else whole)
        hold = await catalogue.holds.add("e", "a court asks", NOW)
        fsck = Fsck(config, catalogue, archives, repair=True, clock=later_ms)
        await fsck.check(("e", "s", "c"))
        # what was half removed is whole and held, or gone with its trace; nothing is in between
        assert all(kinds in (whole, trace) for kinds in left_in(tmp_path).values())
        before = left_in(tmp_path)
        await retire(catalogue, archives[0], ("e", "s", "c"), 60, share=1)
        assert left_in(tmp_path) == before
        await catalogue.holds.release(hold, NOW)
        await retire(catalogue, archives[0], ("e", "s", "c"), 60, share=1)
        assert all(kinds == trace for kinds in left_in(tmp_path).values())
        fsck = Fsck(config, catalogue, archives, deep=True, clock=later_ms)
        found = await fsck.check(("e", "s", "c"))
        assert [f for f in found if f.where != "schedule"] == []


@pytest.mark.parametrize(
    ("step", "when"),
    [
        (step, when)
        for step, (_, function, _) in WRITER.items()
        for when in ("before", *(("half",) if function == "write_all" else ()), "after")
    ],
)
def test_crash_of_the_recorder(tmp_path: Path, mortals: Mortals, step: str, when: str) -> None:
    said = mortals.die("writer", str(tmp_path), step, when)
    live = [line.split() for line in said.splitlines()]
    spool = CameraSpool(tmp_path, "e", "s", "c", Numbers())
    bases = sorted(p.with_suffix("") for p in tmp_path.glob("s/c/*/*.jsonl"))
    indexes = [i for b in bases if (i := finish(b)) is not None]
    segments = [s for i in indexes for s in i.segments]
    # what was live is there, and at most the one more whose line was written as it died
    assert [(str(s.segment_no), s.sha256) for s in segments][: len(live)] == [
        tuple(x) for x in live
    ]
    assert len(segments) - len(live) in (0, 1)
    for index, base in zip(indexes, bases, strict=False):
        assert index.seal is not None
        media = base.with_name(base.name + ".mp4").read_bytes()
        assert (
            len(media) == index.seal.length == index.segments[-1].offset + index.segments[-1].length
        )
    spool.close()
    write(tmp_path, UTC0 + 600_000, 5)
    numbers = [
        s.segment_no
        for p in tmp_path.glob("s/c/*/*.jsonl")
        for s in parse_index(p.read_bytes()).segments
    ]
    assert len(set(numbers)) == len(numbers) == len(segments) + 5
