"""Any range of a copy is that range of the whole; and never a byte that was not recorded."""

from __future__ import annotations

import asyncio
import hashlib
import zlib
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from copies.files.sha256 import hash_copy
from copies.files.virtual import VirtualFile
from copies.footage.find import find
from copies.footage.plan import CopyPlan
from copies.mp4 import read_about, rebase
from storage.archive.directory import DirectoryArchive
from storage.catalogue.catalogue import Catalogue
from storage.media.fmp4 import boxes, parse_moof
from storage.recording_source import Sources, Unreadable
from tests.support.footage import NAME, UTC0, Camera, whole
from tests.support.repository import ROOT
from tests.support.tables import open_catalogue

FROZEN = "7516f6f5f94d1bb5eb3e18a676c102258b03a09b1351b013655c6c04f4faaab4"
FROZEN_ETAG = '"48f08603fdee4ab38bd5cf4d098928b6"'


@dataclass
class Made:
    """A camera, a plan of a stretch of it, and the whole copy."""

    camera: Camera
    plan: CopyPlan
    data: bytes

    @property
    def sources(self) -> Sources:
        return Sources(self.camera.root, [])


async def made(root: Path, *, segments: int = 70, early: int = 0) -> Made:
    camera = Camera(root)
    camera.record(segments, early=early)
    from_ms, to_ms = UTC0 + 5_000, UTC0 + (segments * 2_000) - 7_000
    (plan,) = (await find(None, [], root, NAME, from_ms, to_ms, zone="UTC")).files
    return Made(camera, plan, await whole(plan, Sources(root, [])))


def check_segments(camera: Camera, plan: CopyPlan, data: bytes) -> list[list[int]]:
    """Every segment, its tfdt put back, is what was recorded; return the tfdt of each."""
    found = list(boxes(data, 0, len(data)))
    assert [b.type for b in found[:5]] == [b"ftyp", b"meta", b"moov", b"uuid", b"sidx"]
    assert found[-1].type == b"uuid" and found[-1].end == len(data) == plan.length
    moofs, mdats = found[5:-1:2], found[6:-1:2]
    assert {b.type for b in moofs} == {b"moof"} and {b.type for b in mdats} == {b"mdat"}
    about = read_about(data)
    back = {int(track): -base for track, base in about["tfdt"].items()}
    times = []
    for n, (moof, mdat) in enumerate(zip(moofs, mdats, strict=True), about["first_segment_no"]):
        segment = data[moof.start : mdat.end]
        recorded = rebase(segment, back) + data[mdat.start : mdat.end]
        assert recorded == camera.segments[n]
        times.append([f.decode_time for f in parse_moof(data, moof)])
    assert len(times) == about["segments"] == plan.segments
    return times


@pytest.mark.parametrize("early", [0, 700, 5_000, -900])
async def test_every_segment_is_the_recorded_one(tmp_path: Path, early: int) -> None:
    one = await made(tmp_path, early=early)
    times = check_segments(one.camera, one.plan, one.data)
    (video, audio), *_ = times
    assert min(video / 90_000, audio / 48_000) <= 1 / 48_000
    assert video / 90_000 - audio / 48_000 == pytest.approx(early / 48_000, abs=2 / 48_000)
    assert [t[0] for t in times] == [video + n * 180_000 for n in range(len(times))]
    assert one.plan.duration_90k == times[-1][0] + 180_000
    recordings = {index.header.record_seq: index for _, index in one.camera.indexes()}
    for part in one.plan.parts:  # the hashes of the index lines, too
        for s in recordings[part.record_seq].segments:
            assert hashlib.sha256(one.camera.segments[s.segment_no]).hexdigest() == s.sha256


async def test_the_format_is_frozen(tmp_path: Path) -> None:
    """Another hash: other bytes for a plan that was sold. Change copy/1, copy-plan/1, docs too."""
    one = await made(tmp_path)
    assert hashlib.sha256(one.data).hexdigest() == FROZEN
    assert one.plan.etag == FROZEN_ETAG


async def test_the_docs_tell_how_to_check_a_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    one = await made(tmp_path)
    (tmp_path / "copy.mp4").write_bytes(one.data)
    text = (ROOT / "docs/copies.md").read_text()
    monkeypatch.chdir(tmp_path)
    exec(text.split("```python\n")[1].split("```")[0], {})
    lines = {s.segment_no: s.sha256 for _, i in one.camera.indexes() for s in i.segments}
    said = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert len(said) == one.plan.segments
    assert all(lines[int(number)] == sha256 for number, sha256 in said)


async def test_any_range_is_that_range_of_the_whole(tmp_path: Path) -> None:
    one = await made(tmp_path)
    head = await VirtualFile(one.plan, one.sources).head()
    assert one.data.startswith(head)

    async def read(start: int, stop: int, given: bytes | None) -> bytes:
        file = VirtualFile(one.plan, one.sources, given, block_bytes=4_000)
        return b"".join([bytes(p) async for p in file.read(start, stop)])

    size = len(one.data)
    edges = [0, 1, len(one.plan.init), len(head), size - one.plan.proof_length, size]
    near = [e + d for e in edges for d in (-1, 0, 1) if 0 <= e + d <= size]
    for start in near:
        for stop in near:
            if start < stop:
                assert await read(start, stop, head) == one.data[start:stop]

    @settings(max_examples=60, suppress_health_check=[HealthCheck.differing_executors])
    @given(st.integers(0, size), st.integers(0, size + 10), st.booleans())
    def any_range(start: int, stop: int, with_head: bool) -> None:
        got = asyncio.run(read(start, stop, head if with_head else None))
        assert got == one.data[start:stop]

    await asyncio.to_thread(any_range)


async def test_the_head_is_of_the_plan(tmp_path: Path) -> None:
    one = await made(tmp_path)
    with pytest.raises(ValueError, match="a head of 5 bytes"):
        VirtualFile(one.plan, one.sources, b"12345")


async def test_one_pass_finds_hash_checksum_and_head(tmp_path: Path) -> None:
    one = await made(tmp_path)
    seen: list[int] = []
    found = await hash_copy(VirtualFile(one.plan, one.sources), seen.append)
    assert found.sha256 == hashlib.sha256(one.data).hexdigest()
    assert found.crc32 == zlib.crc32(one.data)
    assert seen[-1] == len(one.data) and one.data.startswith(found.head)
    assert await whole(one.plan, one.sources, found.head) == one.data


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[tuple[Made, Catalogue, list[DirectoryArchive]]]:
    """A copy whose recordings are in two archives and in the spool."""
    catalogue = await open_catalogue(f"sqlite:///{tmp_path}/k.db")
    archives = [DirectoryArchive(name, tmp_path / name) for name in ("first", "second")]
    one = await made(tmp_path / "spool")
    await one.camera.archive(catalogue, *archives, keep=True)
    yield one, catalogue, archives
    for archive in archives:
        await archive.close()
    await catalogue.close()


Kept = tuple[Made, Catalogue, list[DirectoryArchive]]


def spoil(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


async def test_the_same_bytes_from_spool_and_each_archive(kept: Kept) -> None:
    one, catalogue, archives = kept
    for archive in archives:
        assert await whole(one.plan, Sources(None, [archive], catalogue)) == one.data
        assert await whole(one.plan, Sources(None, [archive])) == one.data  # without a catalogue
    for path, _ in one.camera.indexes():
        path.unlink()
        path.with_suffix(".jsonl").unlink()
    assert await whole(one.plan, Sources(one.camera.root, archives, catalogue)) == one.data


async def test_a_file_leaves_the_spool_while_it_is_read(kept: Kept) -> None:
    one, catalogue, archives = kept
    got = bytearray()
    sources = Sources(one.camera.root, archives, catalogue)
    async for piece in VirtualFile(one.plan, sources, block_bytes=10_000).read():
        got += piece
        if len(got) > len(one.data) // 3:
            for path in one.camera.spool.directory.glob("*/*"):
                path.unlink()
    assert got == one.data


@pytest.mark.parametrize("what", ["media", "short", "index", "gone"])
async def test_what_is_spoilt_comes_from_the_next_archive_or_not_at_all(
    kept: Kept, what: str
) -> None:
    one, catalogue, (first, second) = kept

    def damage(archive: DirectoryArchive) -> None:
        path = sorted((one.camera.root.parent / archive.name).rglob("*.mp4"))[1]
        if what == "media":
            spoil(path, path.stat().st_size // 2)
        elif what == "short":
            path.write_bytes(path.read_bytes()[:-3000])
        elif what == "index":
            path.with_suffix(".json").write_bytes(b"{}")
        else:
            path.unlink()

    damage(first)
    assert await whole(one.plan, Sources(None, [first, second], catalogue)) == one.data
    damage(second)
    got = bytearray()
    with pytest.raises(Unreadable, match="cannot be read from the spool or any archive"):
        async for piece in VirtualFile(one.plan, Sources(None, [first, second], catalogue)).read():
            got += piece
    assert got == one.data[: len(got)] and len(got) < len(one.data)  # never a wrong byte


async def test_another_recording_of_the_same_number_is_not_taken(
    kept: Kept, tmp_path: Path
) -> None:
    one, catalogue, (first, _) = kept
    other = Camera(tmp_path / "other", seed=2)
    other.record(70)
    impostor = DirectoryArchive("first", tmp_path / "o")
    elsewhere = await open_catalogue(f"sqlite:///{tmp_path}/o.db")
    await other.archive(elsewhere, impostor, keep=True)
    await elsewhere.close()
    with pytest.raises(Unreadable):
        await whole(one.plan, Sources(None, [impostor], catalogue))
    await impostor.close()
    assert await whole(one.plan, Sources(other.root, [first], catalogue)) == one.data


async def test_who_stops_reading_leaves_nothing_running(kept: Kept) -> None:
    one, catalogue, archives = kept
    before = asyncio.all_tasks()
    file = VirtualFile(one.plan, Sources(None, archives, catalogue), block_bytes=4_000)
    async with aclosing(file.read()) as pieces:
        got = 0
        async for piece in pieces:
            got += len(piece)
            if got > 50_000:
                break
    assert asyncio.all_tasks() == before
