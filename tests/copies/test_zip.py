"""Everything as one ZIP: what other programs read in it, and that its bytes are always the same."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import zipfile
import zlib
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from copies.files.readme import TEXTS, TITLES
from copies.files.sha256 import hash_copy
from copies.files.virtual import VirtualFile
from copies.files.zip import Bundle, Item
from copies.footage.find import find
from copies.footage.plan import PlanPart
from storage.recording_source import Sources
from storage.records import GapCause, Losses
from tests.support.footage import NAME, UTC0, Camera
from tests.support.waiting import BOUND_S

STRETCH = (UTC0 + 5_000, UTC0 + 170_000)
SAID = {
    "election": NAME[0],
    "election_name": "Presidential election",
    "station": NAME[1],
    "station_number": "117",
    "station_name": "School 12",
    "station_address": "5 Abai Avenue",
}


def run(command: list[str], folder: Path | None = None) -> str:
    """Run a program that must succeed and complain of nothing; return what it says."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=BOUND_S)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


async def order(root: Path) -> tuple[dict[str, Any], list[Item]]:
    """Return what is told of an order of three files with a gap, and its files."""
    camera = Camera(root)
    camera.record(20, end=GapCause.PARAMETERS_CHANGED)
    camera.record(20, lost=2)
    camera.gap(7_000, GapCause.UNREACHABLE)
    camera.record(40)
    found = await find(None, [], root, NAME, *STRETCH, zone="Asia/Almaty")
    items = []
    for plan in found.files:
        file = VirtualFile(plan, Sources(root, []))
        passed = await hash_copy(file)
        items.append(Item(file, passed.sha256, passed.crc32))
    camera_said = {
        "camera": NAME[2],
        "title": "Ballot box",
        "gaps": [g.to_dict() for g in found.gaps],
        "removed": [{"start_ms": 1, "end_ms": 2, "removed_ms": 3, "reason": "kept 1 day"}],
        "unscheduled": [[UTC0, UTC0 + 1], [UTC0 + 3_600_000, UTC0 + 7_200_000]],
    }
    about = {
        **SAID,
        "from_ms": STRETCH[0],
        "to_ms": STRETCH[1],
        "cameras": [camera_said],
    }
    return about, items


async def read(bundle: Bundle, start: int = 0, stop: int | None = None) -> bytes:
    return b"".join([bytes(p) async for p in bundle.read(start, stop)])


@pytest.mark.parametrize("language", sorted(TEXTS))
async def test_other_programs_read_it(tmp_path: Path, language: str) -> None:
    about, items = await order(tmp_path / "spool")
    bundle = Bundle(about, items, language, "Asia/Almaty")
    data = await read(bundle)
    assert len(data) == bundle.length
    path = tmp_path / "all.zip"
    path.write_bytes(data)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        copies = [i.file.plan.file_name for i in items]
        assert names == ["README.txt", *copies, "manifest.json", "SHA256SUMS"]
        assert all(i.compress_type == zipfile.ZIP_STORED for i in archive.infolist())
        said = json.loads(archive.read("manifest.json"))
        text = archive.read("README.txt").decode("utf-8-sig")
        sums_of = archive.read("SHA256SUMS").decode()
        archive.extractall(tmp_path / "out")
    (camera,) = said["cameras"]
    assert said["kuager"] == "copies/1" and camera["gaps"][0]["cause"] == "unreachable"
    assert [file.get("lost") for file in camera["files"]] == [None, 40, None]
    for file, item in zip(camera["files"], items, strict=True):
        copy = (tmp_path / "out" / file["name"]).read_bytes()
        assert file["sha256"] == hashlib.sha256(copy).hexdigest()
        assert sum(r["segments"] for r in file["recordings"]) == file["segments"]
        assert len(copy) == file["length"] == item.file.length
    assert all(name in text for name in copies) and "unreachable" in text and "kept 1 day" in text
    assert "29.11.2025 10:00:05 - 10:02:50 (Asia/Almaty)" in text and "{" not in text
    assert "№ 117, School 12, 5 Abai Avenue" in text and "Presidential election" in text
    assert text.count("Ballot box, 29.11.2025") == len(items) + 2  # a gap, and unscheduled time
    assert f"11:00:00 - 12:00:00: {TITLES[language][-1]}" in text
    assert f"{NAME[2]}, " not in text  # an id is in names of files alone
    summed = [line.split()[1] for line in sums_of.splitlines()]
    assert sorted(summed) == sorted(name for name in names if name != "SHA256SUMS")
    run(["sha256sum", "-c", "SHA256SUMS"], tmp_path / "out")
    for command in (
        ["unzip", "-tq"],
        ["7z", "t", "-bd"],
        ["bsdtar", "-tf"],
        ["python3", "-m", "zipfile", "-t"],
    ):
        if shutil.which(command[0]):
            run([*command, str(path)])
    again = Bundle(about, items, language, "Asia/Almaty")
    assert again.etag == bundle.etag and await read(again) == data


async def test_any_range(tmp_path: Path) -> None:
    about, items = await order(tmp_path)
    bundle = Bundle(about, items, "kk", "Asia/Almaty")
    data = await read(bundle)
    for start, stop in [(n, n + 997) for n in range(0, len(data), 20_011)] + [
        (len(data) - 5, 10**9)
    ]:
        assert await read(bundle, start, stop) == data[start:stop]


async def test_there_is_none_before_each_file_was_read_through(tmp_path: Path) -> None:
    about, items = await order(tmp_path)
    with pytest.raises(ValueError, match="not read through yet"):
        Bundle(about, [items[0], Item(items[1].file)], "kk", "Asia/Almaty")


async def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    about, items = await order(tmp_path)
    with pytest.raises(ValueError, match="one name"):
        Bundle(about, [items[0], items[0]], "en", "UTC")


class Zeros:
    """A copy of any length, of zeros: what a ZIP of many gigabytes looks like."""

    last_modified_ms = UTC0

    def __init__(self, plan: Any, n: int, length: int):
        self.length, self.etag = length, f'"{n}"'
        self.plan = _Named(plan, f"{n}.mp4")

    async def read(self, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        yield bytes((self.length if stop is None else stop) - start)


class _Named:
    def __init__(self, plan: Any, name: str):
        self._plan, self.file_name = plan, name

    def __getattr__(self, name: str) -> Any:
        return getattr(self._plan, name)


async def test_beyond_4_gigabytes(tmp_path: Path) -> None:
    """Sizes and offsets of 4 GiB and more; the file is sparse, only its structure is written."""
    about, items = await order(tmp_path / "spool")
    plan = items[0].file.plan
    sizes = [(1 << 32) + 5, 100, (1 << 32) - 1, (1 << 32) - 2, 3]
    files = [cast("VirtualFile", Zeros(plan, n, size)) for n, size in enumerate(sizes)]
    bundle = Bundle(about, [Item(f, "0" * 64, zlib.crc32(bytes(3))) for f in files], "en", "UTC")
    path, at = tmp_path / "large.zip", 0
    with path.open("wb") as out:
        for entry in bundle._entries:
            length = entry.head_length + (entry.length if entry.length < 10_000 else 0)
            out.seek(entry.at)
            out.write(await read(bundle, entry.at, entry.at + length))
            at = entry.at + entry.whole_length
        out.seek(at)
        out.write(await read(bundle, at))
    assert path.stat().st_size == bundle.length > 3 << 32
    with zipfile.ZipFile(path) as archive:
        infos = {i.filename: i for i in archive.infolist()}
        assert [infos[f"{n}.mp4"].file_size for n in range(5)] == sizes
        assert archive.read("4.mp4") == bytes(3) and archive.read("SHA256SUMS")
        with archive.open("0.mp4") as first:
            assert first.read(10) == bytes(10)
    if shutil.which("unzip"):
        listed = run(["unzip", "-lq", str(path)])
        assert all(str(size) in listed for size in sizes)


@settings(max_examples=60)
@given(st.lists(st.integers(0, 500), max_size=6), st.data())
async def test_any_files(sizes: list[int], data: st.DataObject) -> None:
    contents = [os.urandom(size) for size in sizes]

    class Fixed(Zeros):
        async def read(
            self, start: int = 0, stop: int | None = None
        ) -> AsyncGenerator[bytes, None]:
            yield contents[int(self.etag.strip('"'))][start:stop]

    class Plan:
        camera, start_ms, end_ms, run_no, segments, bases = "c", UTC0, UTC0 + 1, 1, 0, {1: 0}
        parts, losses = (PlanPart(1, 1, "", 1, 1, 0, 0),), Losses()

        def __init__(self, length: int):
            self.length = length

    items = []
    for n, content in enumerate(contents):
        file = cast("VirtualFile", Fixed(Plan(len(content)), n, len(content)))
        items.append(Item(file, hashlib.sha256(content).hexdigest(), zlib.crc32(content)))
    camera = {"camera": "c", "title": "Ballot box", "gaps": [], "removed": [], "unscheduled": []}
    bundle = Bundle({**SAID, "from_ms": 0, "to_ms": 1, "cameras": [camera]}, items, "ru", "UTC")
    whole = await read(bundle)
    assert len(whole) == bundle.length
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        assert archive.testzip() is None
        assert [archive.read(f"{n}.mp4") for n in range(len(sizes))] == contents
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, len(whole)))
    assert await read(bundle, start, stop) == whole[start:stop]
