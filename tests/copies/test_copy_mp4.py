"""The boxes of a copy: what is changed can be put back, and says what it should."""

from __future__ import annotations

import hashlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from copies.mp4 import (
    ABOUT_BYTES,
    MAX_REFERENCES,
    CopyMetadata,
    Reference,
    common_bases,
    make_init,
    make_proof_room,
    make_sidx,
    read_about,
    rebase,
    sidx_length,
    timescales,
)
from storage.media.fmp4 import (
    Mp4Error,
    Sample,
    TrackRun,
    box_at,
    boxes,
    child,
    make_box,
    parse_init,
    parse_moof,
    write_init,
    write_segment,
)
from tests.support.footage import AUDIO, VIDEO

TIMES = st.integers(0, 2**64 - 1)


@given(TIMES, TIMES, TIMES, TIMES, st.binary(max_size=50))
def test_what_was_taken_from_a_tfdt_can_be_put_back(
    video: int, audio: int, from_video: int, from_audio: int, picture: bytes
) -> None:
    runs = [
        TrackRun(1, video, [Sample(1, len(picture), True, 0)], [picture]),
        TrackRun(2, audio, [Sample(1, 3, True, 0)], [b"abc"]),
    ]
    data = write_segment(7, runs)
    bases = {1: from_video, 2: from_audio}
    moof = rebase(data, bases)
    moved = moof + data[len(moof) :]
    box = box_at(moved, 0, len(moved))
    assert box is not None
    times = [f.decode_time for f in parse_moof(moved, box)]
    assert times == [(video - from_video) % 2**64, (audio - from_audio) % 2**64]
    back = rebase(moved, {track: -base for track, base in bases.items()})
    again = hashlib.sha256(back + moved[len(back) :])
    assert again.digest() == hashlib.sha256(data).digest()


@given(TIMES, st.integers(0, 2**32 - 1))
def test_a_short_tfdt_too(base: int, time: int) -> None:
    tfdt = make_box(b"tfdt", struct.pack(">II", 0, time))
    traf = make_box(b"traf", make_box(b"tfhd", struct.pack(">II", 0, 1)), tfdt)
    data = make_box(b"moof", traf) + make_box(b"mdat", b"x")
    moved = rebase(data, {1: base})
    assert rebase(moved, {1: -base}) == data[: len(moved)]


@pytest.mark.parametrize("data", [b"", b"mdat", make_box(b"mdat"), make_box(b"moof", b"xx")])
def test_what_is_no_segment_is_refused(data: bytes) -> None:
    with pytest.raises(Mp4Error):
        rebase(data, {1: 0})


@given(st.lists(st.builds(Reference, st.integers(1, 2**31 - 1), st.integers(0, 2**32 - 1))))
def test_sidx_is_as_long_as_was_said(rows: list[Reference]) -> None:
    sidx = make_sidx(rows, 5)
    assert len(sidx) == sidx_length(len(rows))
    head = struct.unpack_from(">I4sIIIIIHH", sidx)
    assert head == (len(sidx), b"sidx", 0, 1, 90_000, 5, 0, 0, len(rows))
    for n, row in enumerate(rows):
        length, duration, sap = struct.unpack_from(">III", sidx, 32 + 12 * n)
        assert (length, duration, sap >> 31) == (row.length, row.duration_90k, row.starts_with_key)


def test_a_sidx_holds_no_more_than_16_bits_count() -> None:
    with pytest.raises(Mp4Error):
        make_sidx([Reference(1, 1, True)] * (MAX_REFERENCES + 1), 0)


@given(
    st.dictionaries(st.sampled_from([1, 2]), st.integers(0, 2**50), min_size=1),
    st.sampled_from([8_000, 11_025, 44_100, 48_000]),
)
def test_nothing_begins_before_0(starts: dict[int, int], rate: int) -> None:
    scales = {1: 90_000, 2: rate}
    bases = common_bases(starts, scales)
    assert bases.keys() == scales.keys()
    assert all(starts[track] - bases[track] >= 0 for track in starts)
    # one instant, and the earliest of a track, within one tick of the coarser clock
    assert abs(bases[1] / 90_000 - bases[2] / rate) < 1 / rate + 1e-6
    assert min((starts[t] - bases[t]) / scales[t] for t in starts) < 1 / rate + 2 / 90_000


def test_the_init_says_where_and_when() -> None:
    init = write_init([VIDEO, AUDIO])
    assert timescales(init) == {1: 90_000, 2: 48_000}
    told = CopyMetadata(
        "выборы / s / c", "s/c", 1_764_392_400_000, 900_001, {1: 180_000, 2: 96_000}, {"x": 1}
    )
    made = make_init(init, told)
    found = list(boxes(made, 0, len(made)))
    assert [b.type for b in found] == [b"ftyp", b"meta", b"moov", b"uuid"]
    assert made[: found[0].end] == init[: found[0].end]
    meta, moov, about = found[1:]
    assert parse_init(made[moov.start : moov.end]) == [VIDEO, AUDIO]
    assert about.end - about.body == 16 + ABOUT_BYTES
    assert read_about(made) == {"kuager": "copy/1", "x": 1}
    mvhd = child(made, moov, b"mvhd")
    created, _, scale = struct.unpack_from(">QQI", made, mvhd.body + 4)
    assert (created - 2_082_844_800) * 1000 == 1_764_392_402_000 and scale == 1000
    mehd = child(made, moov, b"mvex", b"mehd")
    assert struct.unpack_from(">Q", made, mehd.body + 4) == (10_001,)
    inside = {b.type: b for b in boxes(made, meta.body + 4, meta.end)}
    assert list(inside) == [b"hdlr", b"suep", b"cstb"]
    cstb = struct.unpack_from(">IIQIQ", made, inside[b"cstb"].body)
    utc = (1_764_392_402_000 + 11_644_473_600_000) * 10_000
    assert cstb == (2, 1, utc, 2, utc)
    assert made[inside[b"suep"].body : inside[b"suep"].end].count(b"s/c\0") == 2
    other = make_init(init, told._replace(bases={1: 0, 2: 0}, duration_90k=2**60))
    assert len(other) == len(made)


def test_an_init_that_is_none_is_refused() -> None:
    told = CopyMetadata("", "", 0, 0, {1: 0, 2: 0}, {})
    with pytest.raises(Mp4Error):
        make_init(make_box(b"ftyp"), told)
    with pytest.raises(Mp4Error):
        make_init(write_init([VIDEO]), told._replace(about={"x": "y" * ABOUT_BYTES}))
    with pytest.raises(Mp4Error):
        read_about(write_init([VIDEO]))


def test_room_for_a_proof() -> None:
    assert len(make_proof_room(5_000)) == 5_000
    assert make_proof_room(5_000)[:8] == struct.pack(">I4s", 5_000, b"uuid")
