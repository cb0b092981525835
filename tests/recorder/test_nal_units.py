"""Pictures out of RTP: ways of packing them, habits of cameras, packets that are missing."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.rtsp.nal_units import MAX_FRAME, SEARCHES, SMALL
from recorder.rtsp.rtp import RtpReceiver
from recorder.rtsp.stream import Channel, MessageStream
from tests.support.packets import (
    AUD,
    FILLER,
    PPS,
    SEI,
    SPS,
    Payload,
    aggregate,
    fragments,
    frames_of,
    marked,
    pictures,
    rtp,
    sample,
    slice_nal,
)

CODECS = ["h264", "h265"]
KEY, OTHER = slice_nal("h264", b"key", key=True), slice_nal("h264", b"other")


def one(payloads: Sequence[Payload], codec: str = "h264") -> bytes:
    """Return the only frame, whole."""
    (frame,) = frames_of(codec, payloads)
    assert not frame.damaged and not frame.lost and not frame.continues
    return bytes(frame.data)


# -- ways of packing -----------------------------------------------------------------------


@pytest.mark.parametrize("codec", CODECS)
def test_single_fragmented_and_aggregated_are_the_same_picture(codec: str) -> None:
    nals = [slice_nal(codec, b"%d" % n * 50, key=True, first=n == 0) for n in range(3)]
    whole = sample(*nals)
    assert one(marked(nals, 5), codec) == whole
    assert one(marked([aggregate(codec, nals)], 5), codec) == whole
    for size in (1, 7, 1000):
        parts = [part for nal in nals for part in fragments(codec, nal, size)]
        assert one(marked(parts, 5), codec) == whole


@pytest.mark.parametrize("codec", CODECS)
def test_key_frames_time_and_arrival(codec: str) -> None:
    payloads = []
    for n in range(4):
        parts = fragments(codec, slice_nal(codec, bytes(90), key=n == 2), 40)
        payloads += [p._replace(arrival_ms=n * 40.0 + k) for k, p in enumerate(marked(parts, n))]
    frames = frames_of(codec, payloads)
    assert [f.key for f in frames] == [False, False, True, False]
    assert [f.pts for f in frames] == [0, 1, 2, 3]
    assert [f.arrival_ms for f in frames] == [0.0, 40.0, 80.0, 120.0], "of the first packet"


def test_a_recovery_point_lets_decoding_begin() -> None:
    recovery = b"\x06\xff\x05\x01?" + b"\x06\x01\x80\x80"  # of type 260, then 6
    assert [f.key for f in frames_of("h264", marked([b"\x06\x06\x01\x80\x80", OTHER], 1))] == [True]
    assert [f.key for f in frames_of("h264", marked([recovery, OTHER], 1))] == [True]
    assert [f.key for f in frames_of("h264", marked([SEI, OTHER], 1))] == [False]
    other = slice_nal("h265", b"other")
    for sei, key in ((b"\x4e\1\x06\x01\x80\x80", True), (b"\x4e\1\x05\x01\x80\x80", False)):
        assert [f.key for f in frames_of("h265", marked([sei, other], 1))] == [key]


def test_user_data_of_zeros_is_no_recovery_point_and_hides_none() -> None:
    """After two zeros a byte is put in that no size counts (H.264 and H.265, 7.4.1)."""
    coded = b"\0\0\3" * 4 + b"\0\0"  # of 10 zeros
    recovery = b"\6\1\xc0\x80"
    for rest, key in ((b"\5" * 6 + b"\6\1\5\5\x80", False), (b"\x50" * 10 + recovery, True)):
        for codec, header in (("h264", b"\x06"), ("h265", b"\x4e\1")):
            sei = header + b"\5\x14" + coded + rest
            frames = frames_of(codec, marked([sei, slice_nal(codec, b"other")], 1))
            assert [f.key for f in frames] == [key]


# -- habits of cameras ---------------------------------------------------------------------


SETS_AND_KEY = [SPS, PPS, KEY]
LONG, SHORT = b"\0\0\0\1", b"\0\0\1"


@pytest.mark.parametrize(
    ("payloads", "nals"),
    [
        ([AUD, SPS, PPS, KEY, FILLER], [AUD, SPS, PPS, KEY, FILLER]),
        (fragments("h264", KEY, 99), [KEY]),  # all of it in one FU
        ([b"\x7c\x85", b"\x7c\x05", *fragments("h264", KEY, 2)], [KEY]),  # empty FUs
        ([b"\x7c\x85" + KEY[1:3], b"\x7c\x05", b"\x7c\x45" + KEY[3:]], [KEY]),
        ([b"\x7c\x85" + KEY[1:3], b"\x5c\x41" + KEY[3:]], [KEY]),  # the type changes
        ([b"\x7c\xa5" + KEY[1:3], b"\x7c\x65" + KEY[3:]], [KEY]),  # reserved bit
        ([aggregate("h264", SETS_AND_KEY) + bytes(3)], SETS_AND_KEY),  # padding in a STAP-A
        ([KEY, b"\x0a"], [KEY, b"\x0a"]),  # end of sequence
        ([b"", KEY], [KEY]),
        ([b"\x1fabc", b"\0abc", KEY], [KEY]),  # types that are none
        ([LONG + KEY], [KEY]),
        ([SHORT + KEY], [KEY]),
        ([SPS + LONG + PPS + SHORT + KEY], SETS_AND_KEY),
        ([aggregate("h264", [SPS + SHORT + PPS, KEY])], SETS_AND_KEY),
        (fragments("h264", SPS + LONG + PPS + SHORT + KEY, 5), SETS_AND_KEY),
    ],
)
def test_habits(payloads: list[bytes], nals: list[bytes]) -> None:
    assert one(marked(payloads, 1)) == sample(*nals)


@pytest.mark.parametrize(
    ("before", "nals"),
    [
        ([Payload(SEI, 1, True)], [SEI, KEY]),
        ([Payload(SPS, 1, True), Payload(PPS, 1, True)], SETS_AND_KEY),
        ([Payload(SPS, 0, False), Payload(PPS, 0, True)], SETS_AND_KEY),
    ],
)
def test_sets_and_sei_that_are_marked_or_of_another_time_belong_to_the_picture(
    before: list[Payload], nals: list[bytes]
) -> None:
    (frame,) = frames_of("h264", [*before, Payload(KEY, 1, True, arrival_ms=9.0)])
    assert (bytes(frame.data), frame.pts, frame.key, frame.damaged) == (
        sample(*nals),
        1,
        True,
        False,
    )


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("times", [(1, 1, 2), (7, 7, 7)])
def test_without_markers_what_comes_before_slices_is_of_the_next_picture(
    codec: str, times: tuple[int, int, int]
) -> None:
    """Also where it has the time of the picture before: sets of another size stood in that one."""
    sets = [SPS, PPS, SEI] if codec == "h264" else [b"\x42\1sps", b"\x44\1pps", b"\x4e\1sei"]
    other, key = slice_nal(codec, b"other"), slice_nal(codec, b"key", key=True)
    more = slice_nal(codec, b"more", first=False)  # some repeat their sets before each slice
    sent = [(other, 0), (other, times[0]), *((s, times[1]) for s in sets), (key, times[2])]
    sent += [*((s, times[2]) for s in sets), (more, times[2]), (other, 9)]
    _, *frames = frames_of(codec, (Payload(data, pts, False) for data, pts in sent))
    assert [bytes(f.data) for f in frames] == [
        sample(other),
        sample(*sets, key),
        sample(*sets, more),
    ]
    assert [f.pts for f in frames] == [times[0], times[2], times[2]]
    assert [(f.continues, f.damaged) for f in frames] == [(False, False)] * 2 + [(True, False)]


def test_start_codes_of_h265() -> None:
    key = slice_nal("h265", b"key", key=True)
    for codes in (b"\0\0\0\1", b"\0\0\1"):
        assert one(marked([codes + b"\x40\1vps" + codes + key], 1), "h265") == sample(
            b"\x40\1vps", key
        )


def test_large_units_are_searched_for_start_codes_until_it_is_known_that_there_are_none() -> None:
    large = slice_nal("h264", b"\xaa" * 2 * SMALL)
    inside = large + b"\0\0\1" + large
    before = [p for n in range(SEARCHES) for p in marked([large], n)]
    assert frames_of("h264", [*before[:-1], *marked([inside], 99)])[-1].data == sample(large, large)
    assert frames_of("h264", [*before, *marked([inside], 99)])[-1].data == sample(inside)
    small = marked([SPS + b"\0\0\1" + PPS], 98)  # it does send them
    assert frames_of("h264", [*before, *small, *marked([inside], 99)])[-1].data.endswith(
        sample(large, large)
    )


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("marker", [False, True])
def test_packets_without_a_payload_end_no_picture(codec: str, marker: bool) -> None:
    """They keep a session alive, or are padding alone, with a time of their own."""
    nals = [slice_nal(codec, bytes([n]) * 90, key=n == 0) for n in range(3)]
    sent = [p for n, nal in enumerate(nals) for p in marked(fragments(codec, nal, 40), n)]
    for at in range(len(sent) + 1):
        frames = frames_of(codec, [*sent[:at], Payload(b"", 99, marker), *sent[at:]])
        assert [bytes(f.data) for f in frames] == [sample(nal) for nal in nals]
        assert not any(f.damaged or f.lost or f.continues for f in frames)


def test_zeros_that_fill_a_picture_are_read_through_once() -> None:
    """An encoder with a constant bit rate fills up with zeros (H.264, B.1.1)."""
    filled = KEY + bytes(3 * MAX_FRAME // 4)
    assert one(marked(fragments("h264", SPS + b"\0\0\1" + filled, 60_000), 1)) == sample(SPS, KEY)


@pytest.mark.parametrize("codec", CODECS)
def test_a_marker_on_every_slice_makes_pieces_of_one_picture(codec: str) -> None:
    slices = [slice_nal(codec, b"%d" % n, first=n == 0) for n in range(3)]
    frames = frames_of(codec, [Payload(s, pts, True) for pts in (1, 2) for s in slices])
    assert [f.continues for f in frames] == [False, True, True] * 2
    assert [bytes(f.data) for f in frames] == [sample(s) for s in slices] * 2
    assert not any(f.damaged for f in frames)


@pytest.mark.parametrize("codec", CODECS)
def test_markers_on_every_packet_end_no_fragmented_picture(codec: str) -> None:
    pictures = [
        [slice_nal(codec, b"%d%d" % (n, k) * 60, first=k == 0) for k in (0, 1)] for n in range(4)
    ]
    sent = [
        Payload(part, n, True)
        for n, slices in enumerate(pictures)
        for nal in slices
        for part in fragments(codec, nal, 50)
    ]
    frames = frames_of(codec, sent)
    assert [bytes(f.data) for f in frames] == [sample(nal) for nals in pictures for nal in nals]
    assert [f.continues for f in frames] == [False, True] * 4
    assert not any(f.damaged for f in frames)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("marks", ["last", "none", "all"])
def test_a_fragmented_unit_whose_end_is_never_said(codec: str, marks: str) -> None:
    nals, at = [slice_nal(codec, b"%d" % n * 60) for n in range(4)], 1 if codec == "h264" else 2
    sent = []
    for n, nal in enumerate(nals):
        parts = [bytearray(part) for part in fragments(codec, nal, 50)]
        for k, part in enumerate(parts):
            part[at] &= ~0x40
            marked = {"last": k == len(parts) - 1, "none": False, "all": True}[marks]
            sent.append(Payload(bytes(part), n, marked, arrival_ms=n * 40.0 + k))
    frames = frames_of(codec, sent)
    assert [(f.pts, f.arrival_ms) for f in frames] == [(n, n * 40.0) for n in range(3)]
    assert [bytes(f.data) for f in frames] == [sample(nal) for nal in nals[:3]]
    assert not any(f.damaged or f.continues for f in frames)


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("with_markers", [True, False])
@pytest.mark.parametrize("slices", [1, 3])
def test_timestamps_that_are_those_of_packets_take_no_picture_apart(
    codec: str, with_markers: bool, slices: int
) -> None:
    """A camera that stamps each packet with the moment at which it is sent."""
    nals = [
        [slice_nal(codec, b"%d%d" % (n, k) * 60, first=k == 0) for k in range(slices)]
        for n in range(4)
    ]
    sent = []
    for n, units in enumerate(nals):
        parts = [part for nal in units for part in fragments(codec, nal, 50)]
        sent += [
            Payload(part, 3_600 * n + 90 * k, with_markers and k == len(parts) - 1)
            for k, part in enumerate(parts)
        ]
    pictures: list[tuple[int, bytes]] = []
    for f in frames_of(codec, sent):
        assert not f.damaged
        if f.continues:
            pictures[-1] = pictures[-1][0], pictures[-1][1] + bytes(f.data)
        else:
            pictures.append((f.pts, bytes(f.data)))
    assert pictures[:3] == [(3_600 * n, sample(*units)) for n, units in enumerate(nals[:3])]
    assert len(pictures) >= 3


@pytest.mark.parametrize("codec", CODECS)
def test_without_markers_time_or_the_next_first_slice_ends_a_picture(codec: str) -> None:
    slices = [slice_nal(codec, b"%d" % n, first=n == 0) for n in range(3)]
    for times in ([1, 2, 3], [7, 7, 7]):
        frames = frames_of(codec, [Payload(s, pts, False) for pts in times for s in slices])
        assert [(f.pts, bytes(f.data)) for f in frames] == [(t, sample(*slices)) for t in times[:2]]
        assert not any(f.damaged or f.continues for f in frames)


@pytest.mark.parametrize("codec", CODECS)
def test_timestamps_that_stand_still_for_b_frames(codec: str) -> None:
    parts = [slice_nal(codec, b"%d" % n) for n in range(4)]
    frames = frames_of(
        codec, [Payload(p, pts, True) for p, pts in zip(parts, (1, 3, 3, 3), strict=True)]
    )
    assert [bytes(f.data) for f in frames] == [sample(p) for p in parts]
    assert not any(f.continues for f in frames)


def test_h265_under_the_name_of_h264_makes_no_picture() -> None:
    """Its units pass for parts of slices: recorded, nobody could decode them."""
    nals = [slice_nal("h265", b"%d" % n * 60, key=n % 25 == 0) for n in range(50)]
    whole = [p for n, nal in enumerate(nals) for p in marked([nal], n)]
    parts = [p for n, nal in enumerate(nals) for p in marked(fragments("h265", nal, 50), n)]
    assert frames_of("h264", whole) == frames_of("h264", parts) == []
    partitions = [b"\x02\x88one", b"\x02\x08two", b"\x03three"]  # H.264, 7.3.2.9
    assert one(marked(partitions, 1)) == sample(*partitions)


def test_a_second_field_belongs_to_its_picture() -> None:
    fields = [OTHER, slice_nal("h264", b"lower")]
    frames = frames_of("h264", [*marked([OTHER], 0), *marked(fields, 1)])
    assert [bytes(f.data) for f in frames] == [sample(OTHER), sample(*fields)]


# -- what is missing -----------------------------------------------------------------------


@pytest.mark.parametrize("codec", CODECS)
def test_a_unit_ends_where_packets_are_missing(codec: str) -> None:
    nal = slice_nal(codec, bytes(range(1, 100)))
    parts = marked(fragments(codec, nal, 20), 1)
    kept = [*parts[:2], parts[3]._replace(lost=1), *parts[4:]]
    (frame,) = frames_of(codec, kept)
    header = 1 if codec == "h264" else 2
    assert frame.data == sample(nal[: header + 40]) and frame.damaged and frame.lost == 1


@pytest.mark.parametrize("codec", CODECS)
def test_where_a_hole_lies(codec: str) -> None:
    """The end of a picture and the beginning of the next, the middle of one, all of one."""
    nals = [slice_nal(codec, b"%d" % n * 60) for n in range(4)]
    sent = [p for n, nal in enumerate(nals) for p in marked(fragments(codec, nal, 20), n)]
    each = len(sent) // 4

    def without(*missing: int) -> list[tuple[int, int, bool]]:
        left, lost = [], 0
        for n, payload in enumerate(sent):
            if n in missing:
                lost += 1
            else:
                left.append(payload._replace(lost=lost))
                lost = 0
        return [(f.pts, f.lost, f.damaged) for f in frames_of(codec, left)]

    assert without(each - 1) == [(0, 1, True), *((n, 0, False) for n in (1, 2, 3))]
    assert without(each) == [
        (0, 0, False),
        (2, 1, False),
        (3, 0, False),
    ]  # nothing of 1 can be read
    assert without(each - 1, each) == [(0, 2, True), (2, 0, False), (3, 0, False)]
    assert without(each + 1) == [(0, 0, False), (1, 1, True), (2, 0, False), (3, 0, False)]
    assert without(*range(each, 2 * each)) == [(0, 0, False), (2, each, False), (3, 0, False)]


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(("marks", "sets"), [(True, 0), (True, 2), (False, 2)])
def test_a_picture_whose_first_slice_is_missing_is_damaged(
    codec: str, marks: bool, sets: int
) -> None:
    """Also where its parameter sets, with the time of the picture before, are there; where all of
    its slices are missing, the next one is whole."""
    slices = [slice_nal(codec, b"%d" % n, first=n == 0) for n in range(3)]
    names = [SPS, PPS] if codec == "h264" else [b"\x42\1sps", b"\x44\1pps"]
    before = [*marked(slices, 0), *marked(slices, 1)]
    of_next = [Payload(name, 1, False) for name in names[:sets]]
    rest = [p._replace(lost=int(n == 0)) for n, p in enumerate(marked(slices[1:], 2))]
    other = [p._replace(lost=3 * (n == 0)) for n, p in enumerate(marked(slices, 3))]
    for sent, expected in ((rest, (2, 1, True, False)), (other, (3, 3, False, False))):
        payloads = [*before, *of_next, *sent, Payload(slices[0], 4, True)]
        frames = frames_of(codec, (p._replace(marker=p.marker and marks) for p in payloads))
        shown = [(f.pts, f.lost, f.damaged, f.continues) for f in frames[1:3]]
        assert shown == [(1, 0, False, False), expected]


@pytest.mark.parametrize("codec", CODECS)
def test_a_stream_that_begins_in_the_midst_of_a_picture(codec: str) -> None:
    """Of a session, or where a camera counts anew: nothing is missing by its numbers."""
    slices = [slice_nal(codec, b"%d" % n, key=True, first=n == 0) for n in range(4)]
    taker, frames = pictures(codec)
    for n, begun in ((0, 2), (1, 0), (2, 1), (3, 0)):
        if n == 2:
            taker.restart()
        for p in marked(slices[begun:], n):
            taker.push(memoryview(p.data), p.pts, p.marker, 0, 0.0)
    assert [(f.key, f.damaged, f.continues) for f in frames] == [
        (True, n % 2 == 0, False) for n in range(4)
    ]


def test_a_picture_that_begins_otherwise_than_others_after_a_hole_is_damaged() -> None:
    def begins(nals: Sequence[bytes], lost: int) -> bool:
        whole = [p for n in range(2) for p in marked([AUD, *SETS_AND_KEY], n)]
        first, *rest = marked(nals, 2)
        return frames_of("h264", [*whole, first._replace(lost=lost), *rest])[-1].damaged

    assert not begins([AUD, *SETS_AND_KEY], 1)
    assert begins(SETS_AND_KEY, 1) and begins([KEY], 3)
    assert not begins(SETS_AND_KEY, 0) and not begins([OTHER], 1)  # none of these was seen yet


def test_a_restart_ends_the_picture_and_is_told_with_the_next() -> None:
    taker, frames = pictures("h264")
    for pts, marker, lost in ((0, True, 0), (1, False, 0), (2, True, 0), (3, False, 2)):
        if pts == 2:
            taker.restart()
        taker.push(memoryview(SPS if pts == 3 else OTHER), pts, marker, lost, 0.0)
    taker.restart()
    taker.push(memoryview(OTHER), 4, True, 0, 0.0)
    told = [(f.pts, f.restarted, f.damaged, f.lost) for f in frames]
    assert told[:3] == [(0, False, False, 0), (1, False, True, 0), (2, True, False, 0)]
    assert told[3:] == [(4, True, False, 2)], "what was lost is told all the same"


@pytest.mark.parametrize(
    "payload",
    [
        b"\x19abc",
        b"\x1a",
        b"\x1dabc",
        b"\x1c",
        b"\x18\0",
        b"\x18\0\x09abc",
        b"\x18\xff\xff",
        b"\x1f",
    ],
)
def test_payloads_that_cannot_be_read_are_counted(payload: bytes) -> None:
    taker, frames = pictures("h264")
    for data, marker in ((payload, False), (OTHER, True)):
        taker.push(memoryview(data), 1, marker, 0, 0.0)
    assert taker.malformed == 1 and [f.data for f in frames] == [sample(OTHER)]


# -- any packets ---------------------------------------------------------------------------

BODIES = st.binary(min_size=1, max_size=60).filter(lambda b: b"\0\0" not in b and b[-1] != 0)


@st.composite
def streams(draw: st.DrawFn) -> tuple[str, list[bytes], list[list[bytes]]]:
    """Return codec, the samples of some pictures and their payloads, packed anyhow."""
    codec = draw(st.sampled_from(CODECS))
    samples, packed = [], []
    for bodies in draw(st.lists(st.lists(BODIES, min_size=1, max_size=4), min_size=1, max_size=8)):
        nals = [slice_nal(codec, b, first=n == 0) for n, b in enumerate(bodies)]
        samples.append(sample(*nals))
        payloads: list[bytes] = []
        while nals:
            how, count = draw(st.integers(0, 2)), draw(st.integers(1, len(nals)))
            if how == 0:
                payloads.append(nals.pop(0))
            elif how == 1:
                payloads += fragments(codec, nals.pop(0), draw(st.integers(1, 80)))
            else:
                payloads.append(aggregate(codec, nals[:count]))
                del nals[:count]
        packed.append(payloads)
    return codec, samples, packed


@given(streams(), st.lists(st.integers(1, 500), min_size=1, max_size=20))
def test_any_packing_in_any_reads_gives_the_pictures(
    stream: tuple[str, list[bytes], list[list[bytes]]], reads: list[int]
) -> None:
    codec, samples, packed = stream
    taker, frames = pictures(codec)
    receiver = RtpReceiver(96, 90_000, taker)
    connection = MessageStream(lambda response: None)
    connection.expect(0, Channel(receiver.push, receiver.is_plausible))
    data, number = bytearray(), itertools.count(65_500)
    for pts, payloads in enumerate(packed):
        for n, payload in enumerate(payloads):
            kind = 96 | (n == len(payloads) - 1) << 7
            packet = rtp(next(number), payload, stamp=pts * 3600, kind=kind)
            data += b"$\0" + len(packet).to_bytes(2, "big") + packet
    sizes = itertools.cycle(reads)
    while data:
        room = connection.buffer()
        size = min(next(sizes), len(data), len(room))
        room[:size] = data[:size]
        connection.advance(size, 0.0)
        del data[:size]
    assert [bytes(f.data) for f in frames] == samples and receiver.counts.lost == 0
    assert not any(f.damaged or f.lost or f.continues for f in frames)


@given(streams(), st.data())
def test_pictures_that_lost_packets_are_those_that_say_so(
    stream: tuple[str, list[bytes], list[list[bytes]]], data: st.DataObject
) -> None:
    codec, samples, packed = stream
    sent = [(pts, p) for pts, payloads in enumerate(packed) for p in marked(payloads, pts)]
    missing = data.draw(st.sets(st.integers(0, len(sent) - 1)))
    left, lost = [], 0
    for n, (_, payload) in enumerate(sent):
        if n in missing:
            lost += 1
        else:
            left.append(payload._replace(lost=lost))
            lost = 0
    hit = {sent[n][0] for n in missing}
    frames = frames_of(codec, left)
    for frame in frames:
        if frame.pts in hit:
            assert len(frame.data) <= len(samples[frame.pts])
            whole = frame.data == samples[frame.pts]  # a part of the next was taken for its end
            assert frame.damaged or frame.lost or whole or frame.pts == 0
        else:
            assert frame.data == samples[frame.pts]
            assert not frame.damaged or frame.pts + 1 in hit
    assert {f.pts for f in frames} >= set(range(len(packed))) - hit
    told = sum(f.lost for f in frames)
    assert told <= len(missing) and (
        lost or not frames or left[-1].pts in hit or told == len(missing)
    )


PAYLOADS = st.lists(
    st.tuples(
        st.one_of(
            st.binary(max_size=30),
            st.sampled_from(
                [b"\x7c\x85ab", b"\x7c\x45ab", b"\x62\x01\x93ab", b"\0\0\1\x65\x88", b"\x7c\x85"]
            ),
        ),
        st.integers(0, 3),
        st.booleans(),
        st.sampled_from([0, 0, 0, 1, 70_000]),
    ),
    max_size=40,
)


@given(st.sampled_from(CODECS), PAYLOADS)
def test_any_payloads_give_samples_that_can_be_read(
    codec: str, payloads: list[tuple[bytes, int, bool, int]]
) -> None:
    for frame in frames_of(codec, (Payload(*p) for p in payloads)):
        at, data = 0, bytes(frame.data)
        while at < len(data):
            size = int.from_bytes(data[at : at + 4], "big")
            assert 0 < size <= len(data) - at - 4
            at += 4 + size
        assert data


@pytest.mark.parametrize("codec", CODECS)
def test_memory_is_bounded_where_a_picture_does_not_end(codec: str) -> None:
    start, *rest = fragments(codec, slice_nal(codec, b"\xaa" * 180_000), 60_000)
    sets = SPS if codec == "h264" else b"\x42\1" + bytes(range(1, 90))
    for endless in ([start] + [rest[0]] * 600, [sets * 400] * 3_000):
        taker, frames = pictures(codec)
        tracemalloc.start()
        try:
            for payload in endless:
                taker.push(memoryview(payload), 1, False, 0, 0.0)
                if frames:
                    assert len(frames.pop().data) <= MAX_FRAME + 65_536
            assert tracemalloc.get_traced_memory()[1] < 3 * MAX_FRAME
        finally:
            tracemalloc.stop()


def test_bytes_are_copied_once() -> None:
    """A large picture takes no more memory than itself while it is put together."""
    nal = slice_nal("h264", b"\xaa" * 1_000_000)
    payloads = marked(fragments("h264", nal, 1_400), 1)
    taker, frames = pictures("h264")
    taker._searches = 0
    tracemalloc.start()
    try:
        for p in payloads:
            taker.push(memoryview(p.data), p.pts, p.marker, 0, 0.0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert frames[0].data == sample(nal) and peak < 1.2 * len(nal)
