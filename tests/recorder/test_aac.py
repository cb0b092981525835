"""AAC out of RTP, its configurations, and what is not read here."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.rtsp.aac import (
    MAX_FRAME,
    AacConfig,
    AacFrames,
    UnsupportedSound,
    without_adts,
)
from recorder.source import Frame
from tests.support.packets import Payload, packed

USUAL = {"mode": "AAC-hbr", "config": "1188", "sizelength": "13", "indexlength": "3"}
LOW_RATE = {"mode": "AAC-lbr", "config": "1188"}


def frames_of(
    payloads: Iterable[Payload], parameters: Mapping[str, str] = USUAL, clock: int = 48_000
) -> tuple[list[Frame], int]:
    frames: list[Frame] = []
    taker = AacFrames(frames.append, parameters, clock)
    for p in payloads:
        taker.push(memoryview(p.data), p.pts, p.marker, p.lost, p.arrival_ms)
    return frames, taker.malformed


def test_frames_one_by_one_and_several_in_a_packet() -> None:
    frames, _ = frames_of(
        [Payload(packed(b"a" * 9), 5, True), Payload(packed(b"b", b"cc"), 2053, True, 1, 7.0)]
    )
    assert [(f.pts, bytes(f.data), f.lost) for f in frames] == [
        (5, b"a" * 9, 0),
        (2053, b"b", 1),
        (3077, b"cc", 0),
    ]
    assert frames[1].arrival_ms == 7.0 and all(f.key and f.track_id == 2 for f in frames)


def test_a_clock_that_is_not_that_of_the_sound() -> None:
    frames, _ = frames_of([Payload(packed(b"a", b"b", b"c"), 0, True)], clock=90_000)
    assert [f.pts for f in frames] == [0, 1920, 3840]


def test_headers_of_other_lengths() -> None:
    assert frames_of([Payload(b"\0\x08\x0cabc", 0, True)], LOW_RATE)[0][0].data == b"abc"
    long = USUAL | {"sizelength": "16", "indexlength": "0", "indexdeltalength": "0"}
    both = b"\0\x20\0\1\0\2abb"
    assert [f.data for f in frames_of([Payload(both, 0, True)], long)[0]] == [b"a", b"bb"]


def adts(frame: bytes, checked: bool = False) -> bytes:
    """Return a frame as a file has it (ISO/IEC 14496-3, 1.A.2.2.1), with a checksum or without."""
    size = len(frame) + (9 if checked else 7)
    head = 0xFFF0 << 40 | (not checked) << 40 | 0x4C << 32 | 0x80 << 24 | size << 13 | 0x1FFC
    return head.to_bytes(7, "big") + bytes(2 * checked) + frame


@pytest.mark.parametrize("checked", [True, False])
def test_headers_of_a_file_are_left_out(checked: bool) -> None:
    frame = bytes(range(1, 200)) * 5
    whole = adts(frame, checked)
    sent = [Payload(packed(adts(b"a", checked), adts(b"bb" * 50, checked)), 0, True)]
    sent += [
        Payload(packed(part, whole=len(whole)), 2048, False) for part in (whole[:500], whole[500:])
    ]
    assert [bytes(f.data) for f in frames_of(sent)[0]] == [b"a", b"bb" * 50, frame]
    assert [f.data for f in frames_of([Payload(whole, 0, True)])[0]] == [frame]
    several, malformed = frames_of([Payload(adts(b"a", checked) + whole, 5, True)])
    assert [(f.data, f.pts) for f in several] == [(b"a", 5), (frame, 5 + 1024)] and not malformed
    assert frames_of([Payload(whole + b"\xff\xf1", 0, True)]) == ([], 1)
    for odd in (whole + b"more", b"\xff\xf1" + bytes(9), whole[:6]):
        assert without_adts(odd) == odd


def test_a_frame_in_fragments() -> None:
    frame = bytes(range(200)) * 5
    parts = [packed(frame[at : at + 400], whole=1000) for at in (0, 400, 800)]
    sent = [Payload(part, 9, n == 2) for n, part in enumerate(parts)]
    after = Payload(packed(b"next"), 1033, True)
    assert [bytes(f.data) for f in frames_of([*sent, after])[0]] == [frame, b"next"]
    left = [sent[0], sent[2]._replace(lost=1), after]
    assert [(bytes(f.data), f.lost) for f in frames_of(left)[0]] == [(b"next", 1)]
    assert [bytes(f.data) for f in frames_of([sent[0], after])[0]] == [b"next"]


def test_a_restart_is_told_with_the_next_frame() -> None:
    frames: list[Frame] = []
    taker = AacFrames(frames.append, USUAL, 48_000)
    taker.restart()
    for pts in (1, 2):
        taker.push(memoryview(packed(b"a")), pts, True, 0, 0.0)
    assert [f.restarted for f in frames] == [True, False]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\0\0",
        b"\0\x10",
        b"\xff\xffabc",
        packed(b"a", index=1),
        packed(b"a") + b"",
        b"\0\x08\1a",
    ],
)
def test_payloads_that_cannot_be_read(data: bytes) -> None:
    frames, malformed = frames_of([Payload(data, 0, True), Payload(packed(b"ok"), 1024, True)])
    assert frames[-1].data == b"ok" and malformed == (data != packed(b"a"))


@pytest.mark.parametrize(
    ("config", "rate", "channels", "samples"),
    [
        ("1188", 48_000, 1, 1024),
        ("1210", 44_100, 2, 1024),
        ("1408", 16_000, 1, 1024),
        ("140c", 16_000, 1, 960),
        ("2b920800", 22_050, 2, 1024),  # SBR over 22.05 kHz
        ("17805dc008", 48_000, 1, 1024),  # the rate in 24 bits
    ],
)
def test_configurations(config: str, rate: int, channels: int, samples: int) -> None:
    found = AacConfig.parse(bytes.fromhex(config))
    assert (found.rate, found.channels, found.frame_samples) == (rate, channels, samples)


@pytest.mark.parametrize(
    "parameters",
    [
        USUAL | {"config": ""},
        USUAL | {"config": "zz"},
        USUAL | {"config": "11"},
        USUAL | {"config": "1180"},  # channels said elsewhere
        USUAL | {"config": "f8e21000"},  # ELD
        USUAL | {"sizelength": "0"},
        USUAL | {"sizelength": "many"},
        USUAL | {"sizelength": "99"},
        USUAL | {"indexlength": "-1"},
        USUAL | {"ctsdeltalength": "8"},
        USUAL | {"constantsize": "120"},
    ],
)
def test_sound_that_is_not_read_here(parameters: dict[str, str]) -> None:
    with pytest.raises(UnsupportedSound):
        AacFrames(lambda frame: None, parameters, 48_000)


@given(
    st.lists(
        st.tuples(
            st.binary(max_size=40)
            | st.builds(lambda b, n: packed(b, whole=n), st.binary(max_size=9), st.integers(0, 20)),
            st.integers(0, 2),
            st.booleans(),
            st.integers(0, 1),
        ),
        max_size=20,
    )
)
def test_any_payloads(payloads: list[tuple[bytes, int, bool, int]]) -> None:
    for parameters in (USUAL, LOW_RATE, USUAL | {"sizelength": "1", "indexdeltalength": "0"}):
        frames, _ = frames_of((Payload(*p) for p in payloads), parameters)
        assert all(f.data for f in frames)


def test_memory_is_bounded() -> None:
    taker = AacFrames(lambda frame: None, USUAL | {"sizelength": "16", "indexlength": "0"}, 48_000)
    part = b"\0\x10\xff\xff" + bytes(1000)
    tracemalloc.start()
    try:
        for _ in range(1000):
            taker.push(memoryview(part), 0, False, 0, 0.0)
        assert tracemalloc.get_traced_memory()[1] < 4 * MAX_FRAME
    finally:
        tracemalloc.stop()


def test_a_packet_of_more_frames_than_any_camera_sends_is_not_read() -> None:
    """65,535 headers of a bit each would hold up all other cameras for half a second."""
    tiny = {**USUAL, "sizelength": "1", "indexlength": "0", "indexdeltalength": "0"}
    data = (65_535).to_bytes(2, "big") + b"\xff" * 8_192 + b"x" * 50_000
    assert frames_of([Payload(data, 0, True)], tiny) == ([], 1)
    few = packed(*[b"%03d" % n for n in range(256)])
    assert len(frames_of([Payload(few, 0, True)])[0]) == 256
