"""One byte of an index is spoilt, and what is left can be read: a digit, a letter of a hash.

Nothing of it may be archived as if it were right; what other lines, the name, the bytes or the
recordings beside it tell is mended.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from storage.archival.backlog import Blocked
from storage.archival.pending import PermanentUploadError, read_sealed
from storage.archival.uploader import Uploader
from storage.fsck.check import Fsck
from storage.media.fmp4 import Sample, TrackRun, write_segment
from storage.records import GapCause, Index, parse_index
from storage.spool.disk import claim_spool
from storage.spool.numbers import Numbers
from storage.spool.reader import SpoolReader, SpoolRecording
from storage.spool.repair import compared, finish, restore_header
from storage.spool.writer import CameraSpool, Run, SegmentInfo
from tests.support.archiving import BRISK, NOW, C, configure, later_ms, opened
from tests.support.spool_files import CLOCK, TRACKS, UTC0

COUNT = 60  # segments of 2 s: more than one recording, of one run


@pytest.fixture
def recorded(tmp_path: Path) -> tuple[Path, Path]:
    """A spool, and the index of a recording in the middle of a run."""
    fill_run(tmp_path, UTC0, COUNT)
    return tmp_path, sorted(tmp_path.glob("s/c/*/*.jsonl"))[1]


def fill_run(root: Path, start_ms: int, count: int, election: str = "e") -> None:
    """Record so many segments of one run, in real boxes."""
    spool = CameraSpool(root, election, "s", "c", Numbers.by_clock(start_ms))
    run = Run(start_ms, b"init" * 20, TRACKS, 2)
    for k in range(count):
        samples = [Sample(90_000, 100, True, 0), Sample(90_000, 50, False, 0)]
        data = [bytes([k]) * sample.size for sample in samples]
        spool.append(
            run,
            write_segment(spool.next_segment_no, [TrackRun(1, k * 180_000, samples, data)]),
            SegmentInfo(
                tfdt_90k=k * 180_000,
                duration_90k=180_000,
                starts_with_key=True,
                arrival_ms=start_ms + 2000 * k,
                camera_ms=None,
            ),
            CLOCK,
        )
    spool.seal(GapCause.NO_DATA)
    spool.close()


def spoil(path: Path, line: int, field: bytes) -> Index:
    """Change the last digit or letter of a value; return the index as it was."""
    before = path.read_bytes()
    lines = before.splitlines(keepends=True)
    at = lines[line].index(b'"' + field + b'":') + len(field) + 3
    end = min(i for c in b",}" if (i := lines[line].find(bytes([c]), at)) > 0)
    end -= lines[line][end - 1 : end] == b'"'
    digit = b"1" if lines[line][end - 1 : end] != b"1" else b"2"
    lines[line] = lines[line][: end - 1] + digit + lines[line][end:]
    path.write_bytes(b"".join(lines))
    assert path.read_bytes() != before
    return parse_index(before)


def stored(root: Path, path: Path) -> SpoolRecording:
    reader = SpoolReader(root, "s", "c")
    reader.refresh()
    return next(s for s in reader.stored() if s.lines == path)


HEADER = [b"record_seq", b"run_start_ms", b"init_length", b"init_sha256"]
SEGMENT = [b"start_ms", b"tfdt_90k", b"offset", b"length", b"sha256", b"segment_no"]
SEAL = [b"segments", b"length", b"sha256", b"end_ms"]
SPOILT = [
    *((0, field) for field in HEADER),
    *((n, field) for n in (1, 5, -2) for field in SEGMENT),
    (5, b"duration_90k"),
    *((-1, field) for field in SEAL),
]


@pytest.mark.parametrize(("line", "field"), SPOILT)
def test_a_spoilt_digit_is_not_archived_and_is_mended(
    recorded: tuple[Path, Path], line: int, field: bytes
) -> None:
    root, path = recorded
    media = path.with_suffix(".mp4").read_bytes()
    before = spoil(path, line, field)
    with pytest.raises(PermanentUploadError):
        read_sealed(stored(root, path))
    assert finish(path.with_suffix(""), compare=True) is not None
    after = parse_index(path.read_bytes())
    for s, was in zip(after.segments, before.segments, strict=True):
        assert s == was or (replace(s, arrival_ms=was.arrival_ms) == was and s.arrival_ms is None)
    assert sum(s.arrival_ms is None for s in after.segments) <= 1
    assert (after.header, after.seal) == (before.header, before.seal)
    assert path.with_suffix(".mp4").read_bytes() == media
    read_sealed(stored(root, path))


def test_a_header_that_cannot_be_read_is_that_of_its_run(recorded: tuple[Path, Path]) -> None:
    root, path = recorded
    before = path.read_bytes()
    path.write_bytes(b"\xff" + before[1:])
    restore_header(path.with_suffix(""))
    assert path.read_bytes() == before
    path.write_bytes(before.replace(b'"station":', b'"stati\xffon":', 1))
    assert finish(path.with_suffix("")) is not None
    assert path.read_bytes() == before
    read_sealed(stored(root, path))


@pytest.mark.parametrize("field", [b"election", b"station", b"camera", b"epoch", b"run_no"])
def test_what_all_of_a_run_say_is_believed(recorded: tuple[Path, Path], field: bytes) -> None:
    """A letter of a station's name would file footage under another."""
    root, path = recorded
    before = spoil(path, 0, field)
    found = stored(root, path)
    reader = SpoolReader(root, "s", "c")
    reader.refresh()
    read = reader.read(found)
    assert found.broken == (field in (b"election", b"station", b"camera"))
    assert read is None or not found.broken or read.seal is None  # so it is not archived
    finish(path.with_suffix(""), compare=True)
    assert parse_index(path.read_bytes()) == before


@pytest.mark.parametrize("gone", range(6))
@pytest.mark.parametrize("folder", ["c", "renamed"])
def test_recordings_of_a_renamed_folder_and_of_two_elections_are_well(
    tmp_path: Path, folder: str, gone: int
) -> None:
    """However many of them have left the spool already, the oldest first."""
    fill_run(tmp_path, UTC0, 60)
    fill_run(tmp_path, UTC0 + 1_000_000, 60, "e2")
    (tmp_path / "s/c").rename(tmp_path / "s" / folder)
    for path in sorted((tmp_path / "s").glob("*/*/*.jsonl"))[:gone]:
        path.unlink()
    reader = SpoolReader(tmp_path, "s", folder)
    reader.refresh()
    found = reader.stored()
    assert found and all(reader.read(one) for one in found) and not any(s.broken for s in found)


@pytest.mark.parametrize("name", ["notes", "123456789Z-x", "129900000Z-5", "050122000Z-0", "-"])
def test_files_of_others_stop_nothing(recorded: tuple[Path, Path], name: str) -> None:
    root, path = recorded
    (root / "s/c/camera.json").unlink()  # all recordings are looked at
    (path.parent / f"{name}.jsonl").write_bytes(b"spoilt\n")
    before = path.read_bytes()
    path.write_bytes(b"\xff" + before[1:])
    CameraSpool(root, "e", "s", "c", Numbers.by_clock(UTC0 + 10_000_000)).close()
    assert path.read_bytes() == before


def test_a_header_of_another_run_is_not_taken(recorded: tuple[Path, Path]) -> None:
    root, path = recorded
    for other in root.glob("s/c/*/*.jsonl"):
        if other != path:
            other.write_bytes(
                other.read_bytes().replace(b'"run_start_ms":1', b'"run_start_ms":2', 1)
            )
    path.write_bytes(b"\xff" + path.read_bytes()[1:])
    assert finish(path.with_suffix("")) is None
    assert path.with_name(path.name + ".aside").exists()


async def test_fsck_mends_a_spoilt_index_and_all_is_archived(tmp_path: Path) -> None:
    """A digit of one, the header of another, of a camera whose recorder runs no longer."""
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2d")
    claim_spool(config.spool)
    fill_run(config.spool, NOW - 3_600_000, 150)
    spoilt = sorted(config.spool.glob("s/c/*/*.jsonl"))[1:4]
    whole = [parse_index(path.read_bytes()) for path in spoilt]
    spoil(spoilt[0], 3, b"sha256")
    spoilt[1].write_bytes(b"\xff" + spoilt[1].read_bytes()[1:])
    spoil(spoilt[2], 0, b"record_seq")
    for path in spoilt:
        os.utime(path, (1, 1))
    async with opened(config) as (catalogue, archives):
        uploader = Uploader(config, catalogue, archives, pauses=BRISK)
        for _ in range(2):
            assert await uploader.recognise()
            await uploader.discovery.look()
            await take_all(uploader)
        blocked = {p.stored.lines: p.blocked for _, p in uploader.replicators.blocked}
        assert blocked == dict.fromkeys(spoilt, Blocked.UNREADABLE)
    for _ in range(2):
        async with opened(config) as (catalogue, archives):
            look = Fsck(config, catalogue, archives, repair=True, clock=later_ms)
            for name in await look.cameras():
                await look.check(name)
    for path, was in zip(spoilt, whole, strict=True):
        assert parse_index(path.read_bytes()) == was
    async with opened(config) as (catalogue, archives):
        uploader = Uploader(config, catalogue, archives, pauses=BRISK)
        assert await uploader.recognise()
        await uploader.discovery.look()
        await take_all(uploader)
        rows = await catalogue.recordings_of(C)
        assert len(rows) == len(list(config.spool.glob("s/c/*/*.jsonl")))
        assert all(row.archives for row in rows)


async def take_all(uploader: Uploader) -> None:
    for replicator in uploader.replicators.all:
        for backlog in replicator._backlogs.values():
            while await replicator._take(backlog):
                pass


def test_bytes_that_are_spoilt_are_told_from_their_index(recorded: tuple[Path, Path]) -> None:
    _, path = recorded
    index, media = parse_index(path.read_bytes()), path.with_suffix(".mp4")
    assert compared(index, media) == (True, True)
    data = media.read_bytes()
    media.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert compared(index, media) == (False, False)
    finish(path.with_suffix(""), compare=True)
    assert parse_index(path.read_bytes()) == index  # it stays as it is
    assert not media.with_name(media.name + ".aside").exists()
