"""Copies of what a simulated camera really sent: the recorded bytes, the right length, the right
moments, whether they come from the spool, a directory or a bucket."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import json
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from copies.footage.find import find
from copies.footage.plan import CopyPlan
from copies.mp4 import read_about, rebase
from recorder.ffmpeg import find_ffmpeg
from storage.archive.directory import DirectoryArchive
from storage.archive.factory import open_archive
from storage.archive.port import Archive
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.rows import Archived
from storage.media.fmp4 import boxes, parse_init
from storage.recording_source import Sources
from tests.support.footage import whole
from tests.support.programs import need
from tests.support.recorded_cameras import NAMES, record_cameras
from tests.support.s3 import s3_server
from tests.support.stack import recordings
from tests.support.strip import pictures
from tests.support.waiting import BOUND_S

pytestmark = pytest.mark.slow  # cameras are recorded first
PLACES = ("spool", "directory", "rclone", "moto")


@pytest.fixture(scope="module")
def spool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spool with about 16 s of three cameras."""
    root = tmp_path_factory.mktemp("copies")
    asyncio.run(record_cameras(root, 16))
    return root


@contextlib.asynccontextmanager
async def kept(
    place: str, spool: Path, folder: Path
) -> AsyncIterator[tuple[Path, Catalogue | None, list[Archive]]]:
    """Give where copies are read from: the spool, or an archive that has all of it."""
    if place == "spool":
        yield spool, None, []
        return
    with contextlib.ExitStack() as stack:
        if place == "directory":
            archive: Archive = DirectoryArchive("archive", folder / "archive")
        else:
            server = stack.enter_context(s3_server(place, folder))
            archive = open_archive(server.settings(server.bucket()))
        catalogue = await Catalogue.open(f"sqlite:///{folder}/k.db")
        for name in NAMES:
            for r in recordings(spool, name):
                key = f"e/s/{name}/{r.path.parent.name}/{r.path.stem}"
                assert r.index.seal
                document = r.index.archive_document()
                put = await archive.put(f"{key}.mp4", r.path.read_bytes(), r.index.seal.sha256)
                digest = hashlib.sha256(document).hexdigest()
                await archive.put(f"{key}.json", document, digest)
                await catalogue.writer.put_recordings([r.index])
                there = Archived("archive", put.bucket, 1, "read back")
                assert await catalogue.writer.mark_archived(r.index, there)
        yield folder / "no spool", catalogue, [archive]
        await archive.close()
        await catalogue.close()


def duration_s(path: Path) -> float:
    """Return what ffprobe says."""
    ffprobe = need("ffprobe", "apt-get install ffmpeg")
    command = [ffprobe, "-v", "error", "-show_format", "-of", "json", str(path)]
    done = subprocess.run(command, capture_output=True, check=True, timeout=BOUND_S)
    assert done.stderr == b""
    said = json.loads(done.stdout)["format"]
    assert float(said["start_time"]) == pytest.approx(0, abs=0.001)
    return float(said["duration"])


def check_bytes(spool: Path, name: str, data: bytes) -> None:
    """Every segment, its tfdt put back, has the hash of its index line."""
    hashes = {s.segment_no: s.sha256 for r in recordings(spool, name) for s in r.index.segments}
    about = read_about(data)
    back = {int(track): -base for track, base in about["tfdt"].items()}
    found = list(boxes(data, 0, len(data)))
    moofs = [b for b in found if b.type == b"moof"]
    assert len(moofs) == about["segments"]
    for number, moof in enumerate(moofs, about["first_segment_no"]):
        mdat = next(b for b in found if b.start == moof.end)
        moved = rebase(data[moof.start : mdat.end], back)
        digest = hashlib.sha256(moved + data[mdat.start : mdat.end]).hexdigest()
        assert digest == hashes[number]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.slow
async def test_a_copy_is_what_was_recorded(spool: Path, place: str, tmp_path: Path) -> None:
    ffmpeg = find_ffmpeg(None)
    async with kept(place, spool, tmp_path) as (root, catalogue, archives):
        for name in NAMES:
            found = recordings(spool, name)
            assert len(found) >= 3
            from_ms = found[0].index.start_ms + 2_700
            to_ms = found[-1].index.end_ms - 2_900
            said = await find(
                catalogue, archives, root, ("e", "s", name), from_ms, to_ms, zone="Asia/Almaty"
            )
            (plan,) = said.files
            assert plan == CopyPlan.from_dict(plan.to_dict())
            data = await whole(plan, Sources(root, archives, catalogue))
            assert len(data) == plan.length
            check_bytes(spool, name, data)
            path = tmp_path / f"{name}.mp4"
            path.write_bytes(data)
            longest_ms = max(s.duration_90k for r in found for s in r.index.segments) // 90
            shown = check_times(path, plan, from_ms, to_ms, longest_ms + 500, ffmpeg)
            sent = recorded_pictures(spool, name)
            assert shown == [b for b, at in sent if plan.start_ms - 1 <= at < plan.end_ms - 1]
            (moov,) = (b for b in boxes(data, 0, len(data)) if b.type == b"moov")
            tracks = parse_init(data[moov.start : moov.end])
            assert [t.codec for t in tracks] == {"aac": ["h264", "aac"]}.get(name, [name])
            assert name != "h265" or tracks[0].entry[4:8] == b"hvc1"  # Apple plays no hev1


def check_times(
    path: Path, plan: CopyPlan, from_ms: int, to_ms: int, segment_ms: int, ffmpeg: str
) -> list[float]:
    """The file covers the stretch with less than a segment of excess, and says its length.

    Returns the moments that its pictures show.
    """
    assert duration_s(path) == pytest.approx(plan.duration_90k / 90_000, abs=0.05)
    assert plan.end_ms - plan.start_ms == pytest.approx(plan.duration_90k / 90, abs=25)
    shown = [p for p in pictures(path, ffmpeg) if p.burned_ms is not None]
    placed = [plan.start_ms + p.media_s * 1000 for p in shown]
    late = sorted(at - (p.burned_ms or 0) for at, p in zip(placed, shown, strict=True))
    assert abs(late[len(late) // 2]) < 150  # placed well, so that the following means something
    # where a busy machine sent no picture for a while, the one before lasts longer
    assert from_ms - segment_ms < plan.start_ms <= from_ms
    assert to_ms <= plan.end_ms < to_ms + segment_ms
    assert abs(time.time() * 1000 - plan.end_ms) < 600_000
    return [float(p.burned_ms or 0) for p in shown]


@functools.cache
def recorded_pictures(spool: Path, name: str) -> list[tuple[float, float]]:
    """Return the moment that each recorded picture shows, and the one at which it is placed."""
    found = [e for r in recordings(spool, name) for e in r.marked_errors_ms(find_ffmpeg(None))]
    return [(burned, burned + error) for burned, error, _ in found if burned]
