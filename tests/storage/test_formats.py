"""docs/formats.md is frozen: what it names is what is written, and an old spool can be read."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from storage.media.fmp4 import Sample, TrackInit, TrackRun, make_box, write_init, write_segment
from storage.records import (
    FormatError,
    Gap,
    GapCause,
    Header,
    Seal,
    Segment,
    Track,
    parse_archive_document,
    parse_index,
    recording_name,
)
from tests.support.repository import ROOT
from tests.support.spools import fill

DOCS = (ROOT / "docs/formats.md").read_text()
AVC1 = make_box(
    b"avc1", bytes(24) + b"\x03\x56\x01\xe0" + bytes(50), make_box(b"avcC", b"\1B\0\x1e")
)

INDEX_1 = b"""\
{"election":"e","station":"s","camera":"c","epoch":1,"run_no":2,"record_seq":3,\
"run_start_ms":1764392400000,"init_length":20,"init_sha256":"00","target_duration_s":2,\
"tracks":[{"id":1,"kind":"video","codec":"h264","timescale":90000,"width":854,"height":480}],\
"transcoded":[],"clock":{"synchronized":true,"error_ms":2},"gaps":[{"gap_no":1,\
"start_ms":1764392390000,"end_ms":1764392400000,"cause":"no_data","detail":"x"}],\
"overlaps":false,"kuager":"index/1"}
{"segment_no":7,"start_ms":1764392400000,"tfdt_90k":0,"duration_90k":180000,"offset":20,\
"length":5,"sha256":"11","starts_with_key":true,"arrival_ms":1764392400020,"camera_ms":null}
{"sealed_ms":1764392460000,"segments":1,"length":25,"sha256":"22","end_ms":1764392402000,\
"end_reason":"closed_by_camera"}
"""


def test_an_index_of_version_1_reads_as_it_always_did() -> None:
    index = parse_index(INDEX_1)
    assert index.header.record_seq == 3 and index.header.gaps[0].cause is GapCause.NO_DATA
    assert index.segments == [
        Segment(7, 1764392400000, 0, 180000, 20, 5, "11", True, 1764392400020, None)
    ]
    assert index.seal == Seal(1764392460000, 1, 25, "22", 1764392402000, GapCause.CLOSED_BY_CAMERA)
    again = index.header.to_line() + index.segments[0].to_line() + index.seal.to_line()
    assert again == INDEX_1
    assert parse_archive_document(index.archive_document()).segments == index.segments


def test_a_description_is_one_of_a_whole_recording() -> None:
    """Whoever reads it asks for its start, its end and its name, and checks nothing."""
    index = parse_index(INDEX_1)
    whole = json.loads(index.archive_document())
    second = whole["segments"][0] | {"segment_no": 8}
    assert len(parse_archive_document(json.dumps(whole).encode()).segments) == 1
    wrongs: tuple[dict[str, Any], ...] = (
        {"segments": []},
        {"segments": [*whole["segments"], second | {"segment_no": 9}]},
        {"segments": [whole["segments"][0] | {"start_ms": 1 << 60}]},
        {"segments": [whole["segments"][0] | {"start_ms": 253_402_300_799_000}]},
        {"run_start_ms": 1 << 60},
        {"end_ms": 1 << 60},
        {"gaps": [whole["gaps"][0] | {"end_ms": 1 << 60}]},
    )
    for wrong in wrongs:
        with pytest.raises(FormatError):
            parse_archive_document(json.dumps(whole | wrong).encode())


def test_marks_of_a_segment_are_only_in_those_that_they_mark() -> None:
    plain = parse_index(INDEX_1).segments[0]
    marked = replace(plain, lost=3, damaged=1, restarted=True)
    assert marked.to_dict() == plain.to_dict() | {"lost": 3, "damaged": 1, "restarted": True}
    assert Segment.of(marked.to_dict()) == marked


def test_unknown_keys_are_ignored() -> None:
    lines = INDEX_1.replace(b'"epoch":1', b'"epoch":1,"later":[1]')
    assert parse_index(lines).header.epoch == 1


def test_every_key_that_is_written_is_described() -> None:
    for record in (Header, Segment, Seal, Track, Gap):
        for key in record.__dataclass_fields__:
            assert f"`{key}`" in DOCS or f'"{key}"' in DOCS, key


def test_names() -> None:
    assert recording_name(1764392400123, 41) == "2025-11-29/050000123Z-41"


def test_init_and_segment_are_these_bytes() -> None:
    """A change of these hashes is a change of format: write it down in docs/formats.md."""
    video = TrackInit(1, "video", "h264", 90_000, AVC1, 854, 480)
    audio = TrackInit(2, "audio", "aac", 48_000, make_box(b"mp4a", bytes(28)))
    init = write_init([video, audio])
    samples = [Sample(6000, 3, True, 0), Sample(6000, 2, False, -3000)]
    segment = write_segment(
        2**32 + 5,
        [
            TrackRun(1, 180_000, samples, [b"abc", b"de"]),
            TrackRun(2, 96_000, [Sample(1024, 1, True, 0)], [b"f"]),
        ],
    )
    assert (len(init), len(segment)) == (1014, 214)
    assert hashlib.sha256(init + segment).hexdigest() == EXPECTED


EXPECTED = "d8df2ec8fa25b4be26563bbc7326064bd203f2a00eb6133cf0f577cb058a22e0"


def test_a_spool_is_laid_out_as_described(tmp_path: Path) -> None:
    spool = fill(tmp_path, runs=2, segments=3)
    spool.close()
    names = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    day = r"s/c/\d{4}-\d\d-\d\d/\d{9}Z-[12]\.(mp4|jsonl)"
    assert [n for n in names if not re.fullmatch(day, n)] == [
        "s/c/camera.json",
        "s/c/gaps.jsonl",
        "s/c/lock",
        "spool.json",
    ]
    state = json.loads((tmp_path / "s/c/camera.json").read_text())
    assert state["kuager"] == "camera/1" and state["record_seq"] == 2
    assert all(f'"{key}"' in DOCS for key in state)
    first = json.loads((tmp_path / "s/c/gaps.jsonl").read_text().splitlines()[0])
    assert first["cause"] == "no_data" and "end_ms" not in first
