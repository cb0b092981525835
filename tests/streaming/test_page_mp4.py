"""What the page's scripts make of our MP4 is what our own reader reads of it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from storage.media.fmp4 import (
    Sample,
    TrackInit,
    TrackRun,
    boxes,
    parse_init,
    parse_moof,
    write_init,
    write_segment,
)
from storage.media.fmp4 import make_box as box
from tests.support.live_fixture import clip
from tests.support.repository import ROOT

SCRIPT = ROOT / "streaming/static/mp4.mjs"
NODE = ROOT / ".venv/bin/node"
TOLD = """
import {{ readFileSync, writeFileSync }} from "node:fs";
import * as mp4 from {script};
const [init, segment] = ["init", "segment"].map((name) => new Uint8Array(readFileSync(name)));
const said = mp4.readInit(init);
writeFileSync("silent-init", said.silent.data);
writeFileSync("silent-segment", mp4.silent(segment, said));
writeFileSync("picture", mp4.firstPicture(segment.subarray(0, {enough}), said, 180000) ?? "");
const {{ tfdt, independent, rows }} = mp4.readSegment(segment, said);
console.log(JSON.stringify({{
  silent: said.silent.mime, whole: said.whole.mime, tfdt, independent, rows: rows.length,
  length: mp4.pictureLength(segment, said),
  early: mp4.pictureLength(segment.subarray(0, 60), said),
  short: mp4.firstPicture(segment.subarray(0, {enough} - 1), said, 1),
}}));
"""


def visual(kind: bytes, config: bytes) -> bytes:
    """Return a visual sample entry (8.5.2, 12.1.3) with a decoder's configuration."""
    return box(kind, bytes(24) + b"\x01\x40\x00\xb4" + bytes(50), config)


AVC = visual(b"avc1", box(b"avcC", bytes([1, 0x64, 0x00, 0x1F, 0xFF])))
# main tier, profile 1, compatible with 1 and 2, level 120, constraints 90 (ISO/IEC 14496-15, 8.3.3)
HEVC = visual(b"hvc1", box(b"hvcC", bytes([1, 1, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 120])))
AAC = box(b"mp4a", bytes(28))
START = 5_000_000_000  # more than 32 bits hold


def ask(folder: Path, entry: bytes, sound: bool) -> dict[str, object]:
    """Write an init and a segment, let the script read and write them; returns what it says."""
    codec = "h264" if entry == AVC else "h265"
    video = TrackInit(1, "video", codec, 90_000, entry, 320, 180)
    tracks = [video, TrackInit(2, "audio", "aac", 48_000, AAC)][: 1 + sound]
    pictures = [Sample(3600, 500 - 90 * n, n == 0, 0 if n == 0 else -40) for n in range(3)]
    runs = [TrackRun(1, START, pictures, [bytes([n + 1]) * s.size for n, s in enumerate(pictures)])]
    if sound:
        runs.append(TrackRun(2, 99, [Sample(1024, 7, True, 0)], [b"\xee" * 7]))
    (folder / "init").write_bytes(write_init(tracks))
    (folder / "segment").write_bytes(segment := write_segment(7, runs))
    (moof, *_) = boxes(segment, 0, len(segment))
    enough = parse_moof(segment, moof)[0].data_offset + 500
    (folder / "told.mjs").write_text(TOLD.format(script=json.dumps(str(SCRIPT)), enough=enough))
    done = subprocess.run(
        [NODE, "told.mjs"], cwd=folder, stdout=subprocess.PIPE, check=True, timeout=60
    )
    said: dict[str, object] = json.loads(done.stdout)
    assert said["length"] == enough and said["early"] == 0 and said["short"] is None
    return said


def test_an_init_is_read_and_the_sound_taken_out(tmp_path: Path) -> None:
    said = ask(tmp_path, AVC, sound=True)
    assert said["silent"] == 'video/mp4; codecs="avc1.64001f"'
    assert said["whole"] == 'video/mp4; codecs="avc1.64001f,mp4a.40.2"'
    silent = (tmp_path / "silent-init").read_bytes()
    ftyp, moov = boxes(silent, 0, len(silent))
    assert ftyp.type == b"ftyp"
    (only,) = parse_init(silent[moov.start : moov.end])
    assert (only.id, only.codec, only.entry) == (1, "h264", AVC)
    assert silent.count(b"trex") == 1


def test_a_segment_is_read_and_written_with_its_pictures_alone(tmp_path: Path) -> None:
    said = ask(tmp_path, AVC, sound=True)
    assert (said["tfdt"], said["independent"], said["rows"]) == (START, True, 3)
    whole, silent = ((tmp_path / n).read_bytes() for n in ("segment", "silent-segment"))
    before = parse_moof(whole, next(iter(boxes(whole, 0, len(whole)))))[0]
    moof, mdat = boxes(silent, 0, len(silent))
    (after,) = parse_moof(silent, moof)
    assert (after.track_id, after.decode_time, after.samples) == (1, START, before.samples)
    assert after.data_offset == mdat.body
    length = sum(s.size for s in before.samples)
    assert (
        silent[mdat.body :] == whole[before.data_offset : before.data_offset + length]
        and len(silent) == mdat.body + length
    )


def test_one_picture_of_a_segment_stands_as_long_as_is_asked(tmp_path: Path) -> None:
    ask(tmp_path, AVC, sound=True)
    picture = (tmp_path / "picture").read_bytes()
    moof, mdat = boxes(picture, 0, len(picture))
    (only,) = parse_moof(picture, moof)
    assert only.samples == (Sample(180_000, 500, True, 0),) and only.decode_time == START
    assert picture[mdat.body :] == b"\x01" * 500


def test_segments_of_another_writer_are_read_too(tmp_path: Path) -> None:
    """Those of ffmpeg: what all samples have in common stands in the headers."""
    init, (segment, *_) = clip("red")
    (moof, *_) = boxes(segment, 0, len(segment))
    (want,) = parse_moof(segment, moof)
    (tmp_path / "init").write_bytes(init)
    (tmp_path / "segment").write_bytes(segment)
    (tmp_path / "told.mjs").write_text(TOLD.format(script=json.dumps(str(SCRIPT)), enough=9))
    subprocess.run([NODE, "told.mjs"], cwd=tmp_path, check=True, timeout=60)
    silent = (tmp_path / "silent-segment").read_bytes()
    after, _ = boxes(silent, 0, len(silent))
    (got,) = parse_moof(silent, after)
    assert (got.decode_time, got.samples) == (want.decode_time, want.samples)


def test_h265_is_named_as_browsers_want_it(tmp_path: Path) -> None:
    said = ask(tmp_path, HEVC, sound=False)
    assert said["silent"] == said["whole"] == 'video/mp4; codecs="hvc1.1.6.L120.90"'
    assert (tmp_path / "silent-init").read_bytes() == (tmp_path / "init").read_bytes()
