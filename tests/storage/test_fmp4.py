"""Boxes: what we write can be read, and no bytes make the readers do worse than Mp4Error."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path

import ffmpeg as ffmpeg_python
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.media.fmp4 import (
    Mp4Error,
    Sample,
    TrackInit,
    TrackRun,
    box_at,
    boxes,
    make_box,
    parse_init,
    parse_moof,
    write_init,
    write_segment,
)
from tests.support.waiting import BOUND_S

AVC1 = make_box(
    b"avc1", bytes(24) + b"\x03\x56\x01\xe0" + bytes(50), make_box(b"avcC", b"\1B\0\x1e")
)
MP4A = make_box(b"mp4a", bytes(28))
VIDEO = TrackInit(1, "video", "h264", 90_000, AVC1, 854, 480)
AUDIO = TrackInit(2, "audio", "aac", 48_000, MP4A)

samples = st.builds(
    Sample,
    duration=st.integers(1, 2**32 - 1),
    size=st.integers(0, 50),
    sync=st.booleans(),
    cts=st.integers(-(2**31), 2**31 - 1),
)


def moof_of(data: bytes, at: int = 0) -> tuple[bytes, int]:
    box = box_at(data, at, len(data))
    assert box is not None and box.type == b"moof"
    return data, box.end


def test_init_round_trip() -> None:
    init = write_init([VIDEO, AUDIO])
    ftyp, moov = boxes(init, 0, len(init))
    assert ftyp.type == b"ftyp"
    assert parse_init(init[moov.start : moov.end]) == [VIDEO, AUDIO]


@given(
    sequence=st.integers(0, 2**40),
    decode_time=st.integers(0, 2**63),
    rows=st.lists(samples, min_size=1, max_size=20),
    sound=st.lists(samples, max_size=5),
)
def test_segment_round_trip(
    sequence: int, decode_time: int, rows: list[Sample], sound: list[Sample]
) -> None:
    runs = [TrackRun(1, decode_time, rows, [bytes([n]) * s.size for n, s in enumerate(rows)])]
    if sound:
        runs.append(TrackRun(2, 7, sound, [b"\xff" * s.size for s in sound]))
    data = write_segment(sequence, runs)
    moof, mdat = boxes(data, 0, len(data))
    fragments = parse_moof(data, moof)
    assert [f.samples for f in fragments] == [tuple(r.samples) for r in runs]
    assert [f.decode_time for f in fragments] == [r.decode_time for r in runs]
    for fragment, run in zip(fragments, runs, strict=True):
        size = sum(s.size for s in run.samples)
        at = moof.start + fragment.data_offset
        assert data[at : at + size] == b"".join(run.data)
        assert mdat.body <= at <= at + size <= mdat.end


@given(st.data())
def test_readers_survive_any_damage(data: st.DataObject) -> None:
    good = write_init([VIDEO, AUDIO]) + write_segment(
        1, [TrackRun(1, 0, [Sample(1, 3, True, 0)], [b"abc"])]
    )
    damaged = bytearray(good)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    damaged = damaged[: data.draw(st.integers(0, len(good)))]
    try:
        for box in boxes(damaged, 0, len(damaged)):
            if box.type == b"moov":
                parse_init(bytes(damaged[box.start : box.end]))
            elif box.type == b"moof":
                parse_moof(damaged, box)
    except Mp4Error:
        pass


@given(st.binary(max_size=400))
def test_readers_survive_any_bytes(data: bytes) -> None:
    moov, moof = make_box(b"moov", data), make_box(b"moof", data)
    with contextlib.suppress(Mp4Error):
        parse_init(moov)
    box = box_at(moof, 0, len(moof))
    assert box is not None
    with contextlib.suppress(Mp4Error):
        parse_moof(moof, box)


def test_an_incomplete_box_is_waited_for_and_an_impossible_one_refused() -> None:
    assert box_at(b"\0\0\0\x10moof", 0, 8) is None
    assert box_at(b"\0\0\0", 0, 3) is None
    with pytest.raises(Mp4Error):
        box_at(b"\0\0\0\7moof", 0, 8)
    with pytest.raises(Mp4Error):
        box_at(b"\0\0\0\0moof", 0, 8)


def test_what_ffmpeg_wrote_decodes_after_our_writing(tmp_path: Path, ffmpeg: str) -> None:
    source = tmp_path / "source.mp4"
    inputs = [ffmpeg_python.input(i, f="lavfi") for i in ("testsrc=s=320x240:r=25", "sine")]
    codecs = {"t": 2, "c:v": "libx264", "bf": 2, "c:a": "aac"}
    flags = "empty_moov+default_base_moof+frag_every_frame+skip_trailer"
    made = ffmpeg_python.output(*inputs, str(source), movflags=flags, **codecs)
    command = made.compile(cmd=[ffmpeg, "-nostdin", "-v", "error"])
    subprocess.run(command, check=True, timeout=BOUND_S)
    data = source.read_bytes()
    tracks: list[TrackInit] = []
    out: list[bytes] = []
    for box in boxes(data, 0, len(data)):
        if box.type == b"moov":
            tracks = parse_init(data[box.start : box.end])
        elif box.type == b"moof":
            for f in parse_moof(data, box):
                at = box.start + f.data_offset
                size = sum(s.size for s in f.samples)
                parts = [data[at : at + size]]
                out.append(
                    write_segment(len(out), [TrackRun(f.track_id, f.decode_time, f.samples, parts)])
                )
    assert [t.codec for t in tracks] == ["h264", "aac"]
    ours = tmp_path / "ours.mp4"
    ours.write_bytes(write_init(tracks) + b"".join(out))
    said = subprocess.run(
        ffmpeg_python.input(str(ours))["v"]
        .output("-", f="framemd5")
        .compile(cmd=[ffmpeg, "-nostdin", "-v", "error"]),
        capture_output=True,
        text=True,
        timeout=BOUND_S,
    )
    assert said.stderr == ""
    assert len([line for line in said.stdout.splitlines() if not line.startswith("#")]) == 50
