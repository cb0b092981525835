"""ffmpeg's pipes taken apart, the camera's clock, and parameter sets compared by meaning."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.demux import PROOF, Demuxer, _CameraClock
from recorder.parameter_sets import ParameterSets, begins
from recorder.source import Frame
from storage.media.fmp4 import Sample, TrackInit, TrackRun, write_init, write_segment
from tests.support.frames import VIDEO

SPS = bytes.fromhex("6742c01eda0280bfe5c044000003000400000300f03c58ba80")
PPS = bytes.fromhex("68ce3c80")


def sample(*nals: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(n)) + n for n in nals)


@pytest.mark.parametrize(
    "again",
    [
        sample(PPS, SPS),
        sample(PPS),
        sample(SPS),
        sample(b"\x65\x88"),
        sample(SPS + b"\0\0", PPS),
        sample(bytes([SPS[0] & 0x1F]) + SPS[1:], bytes([PPS[0] & 0x1F]) + PPS[1:]),
    ],
)
def test_sets_that_mean_the_same_change_nothing(again: bytes) -> None:
    assert ParameterSets("h264", (SPS, PPS)).changed_by(again) is None


def test_another_set_changes_the_picture_and_the_others_stay() -> None:
    other = bytes.fromhex("68ce3c81")
    changed = ParameterSets("h264", (SPS, PPS)).changed_by(sample(other))
    assert changed is not None and set(changed.nals) == {SPS, other}
    assert ParameterSets("h264", ()).changed_by(sample(SPS, PPS)) is not None


@settings(max_examples=100, deadline=None)
@given(nals=st.lists(st.binary(min_size=1, max_size=40), max_size=4))
def test_any_sets(nals: list[bytes]) -> None:
    for codec in ("h264", "h265"):
        ParameterSets(codec, (SPS, PPS)).changed_by(sample(*nals))


@settings(max_examples=100, deadline=None)
@given(
    read_late=st.lists(st.floats(0, 900), min_size=60, max_size=60),
    written_late=st.lists(st.floats(0, 900), min_size=60, max_size=60),
)
def test_our_own_clock_is_never_taken_for_the_cameras(
    read_late: list[float], written_late: list[float]
) -> None:
    """However late a busy machine writes and reads: what is stamped at writing is ours."""
    clock, written, read_before = _CameraClock(), 0.0, 0.0
    for n, (late, stamped_late) in enumerate(zip(read_late, written_late, strict=True)):
        written = max(written, n * 40.0 + stamped_late)
        read = max(read_before, written + late)
        # at once with the one before where that was still to be read
        age = read - read_before if written > read_before else 0.0
        assert clock.at(n * 40.0, clock.check(written, read, age)) is None
        read_before = read


@pytest.mark.parametrize("wrong_ms", [0, -500, 3_600_000, -3_600_000])
def test_the_cameras_clock_is_known_after_some_pictures(wrong_ms: float) -> None:
    clock, found = _CameraClock(), None
    for n in range(PROOF + 5):
        reference = clock.check(n * 40 + wrong_ms, n * 40 + 85, 40)
        found = clock.at(n * 40, reference)
    assert found == (PROOF + 4) * 40 + wrong_ms


class Nobody:
    def on_tracks(self, tracks: Sequence[TrackInit], transcoded: tuple[str, ...]) -> None: ...

    def on_frame(self, frame: Frame) -> None: ...


@settings(max_examples=100, deadline=None)
@given(parts=st.lists(st.binary(max_size=60), max_size=10))
def test_any_bytes_end_the_stream_or_wait_for_more(parts: list[bytes]) -> None:
    demuxer = Demuxer(Nobody(), 3, 1, ())
    for part in parts:
        demuxer.feed(part, 0.0, 0.0)
        demuxer.feed_sound(part, 0.0, 0.0)


def test_a_fault_of_ours_ends_the_stream_and_no_picture_comes_twice() -> None:
    class Broken(Nobody):
        def __init__(self) -> None:
            self.taken: list[bytes] = []

        def on_frame(self, frame: Frame) -> None:
            self.taken.append(bytes(frame.data))
            if len(self.taken) == 2:
                raise RuntimeError("no room")

    sink, samples = Broken(), [Sample(3600, 8, True, 0)]
    demuxer = Demuxer(sink, 3, 1, ())
    pictures = [sample(b"\x65\x88%02d" % n) for n in range(4)]
    film = [
        write_segment(n, [TrackRun(1, n * 3600, samples, [data])])
        for n, data in enumerate(pictures)
    ]
    with pytest.raises(RuntimeError):
        demuxer.feed(write_init([VIDEO]) + b"".join(film[:3]), 0.0, 0.0)
    demuxer.feed(film[3], 40.0, 40.0)
    assert sink.taken == pictures[:2]
    assert demuxer.end is not None and "fault of the recorder" in demuxer.end.detail


def test_what_is_of_another_codec_than_the_camera_says_is_no_picture() -> None:
    class Kept(Nobody):
        def __init__(self) -> None:
            self.taken: list[Frame] = []

        def on_frame(self, frame: Frame) -> None:
            self.taken.append(frame)

    sink = Kept()
    pictures = [sample(nal) for nal in (b"\x02\1h265", b"\x26\1h265", b"\x06sei", b"\x41\x88h264")]
    pictures += [sample(b"\x41\x08more"), sample(b"\x06sei")]
    demuxer = Demuxer(sink, 3, 1, ())
    demuxer.feed(write_init([VIDEO]), 0.0, 0.0)
    for n, data in enumerate(pictures):
        samples = [Sample(3600, len(data), False, 0)]
        demuxer.feed(write_segment(n, [TrackRun(1, n * 3600, samples, [data])]), 0.0, 0.0)
    assert [f.data for f in sink.taken] == pictures[3:], "of H.264 all of it is taken"
    assert [f.continues for f in sink.taken] == [False, True, False]
    assert begins("h265", pictures[0]) is False and begins("h265", sample(b"\x40\1vps")) is None
