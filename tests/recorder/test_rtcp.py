"""RTCP: the camera's clock, how late reports come, the end of a stream, and what we report."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.rtsp.packets import NTP_EPOCH_S
from recorder.rtsp.rtp import RtpReceiver
from recorder.source import PacketCounts
from tests.support.packets import EPOCH_MS, SSRC, report, rtp
from tests.support.payloads import Taken, numbers, receive


@pytest.mark.parametrize("stamp", [90_000, (1 << 32) - 90_000])
def test_the_cameras_clock_from_sender_reports(stamp: int) -> None:
    """Also over the wrap of timestamps, a day after the report, and before the first packet."""
    for early in (True, False):
        packets = [rtp(1, stamp=stamp), report(stamp + 180_000, EPOCH_MS)]
        _, _, receiver = receive([])
        assert receiver.clock.camera_ms(stamp) is None
        for packet in packets[::-1] if early else packets:
            if packet[1] == 200:
                receiver.push_rtcp(memoryview(packet), 0.0)
            else:
                receiver.push(memoryview(packet), 0.0)
        assert receiver.clock.camera_ms(stamp) == pytest.approx(EPOCH_MS - 2000, abs=0.01)
        day = 24 * 3600 * 90_000
        assert receiver.clock.camera_ms(stamp + day) == pytest.approx(
            EPOCH_MS - 2000 + 86_400_000, abs=1
        )


def test_a_report_after_hours_counts_from_the_time_that_ran_on() -> None:
    stamps = [n * 1_000_000_000 for n in range(6)]
    taken, _, receiver = receive(rtp(n, stamp=stamp) for n, stamp in enumerate(stamps))
    receiver.push_rtcp(memoryview(report(stamps[-1] - 90, EPOCH_MS)), 0.0)
    assert receiver.clock.camera_ms(taken.all[-1][1]) == pytest.approx(EPOCH_MS + 1, abs=0.01)


def test_clocks_that_are_none_and_the_year_2036() -> None:
    for seconds, known in ((0, False), (86_400, False), (1 << 31, True), ((1 << 32) - 1, True)):
        _, _, receiver = receive([rtp(1)])
        receiver.push_rtcp(memoryview(report(1000, (seconds - NTP_EPOCH_S) * 1000.0)), EPOCH_MS)
        assert (receiver.clock.camera_ms(1000) is not None) is known
    for year in (2036.2, 2037.5):
        utc_ms = (year - 1970) * 365.2425 * 86_400_000
        receiver.push_rtcp(memoryview(report(1000, utc_ms)), utc_ms)
        assert receiver.clock.camera_ms(1000) == pytest.approx(utc_ms, abs=0.01)


def test_reports_of_others_and_of_the_stream_before_say_nothing() -> None:
    _, _, receiver = receive([rtp(1)])
    receiver.push_rtcp(memoryview(report(1000, EPOCH_MS, ssrc=7)), 0.0)
    assert receiver.clock.camera_ms(1000) is None
    receiver.push_rtcp(memoryview(report(1000, EPOCH_MS)), 0.0)
    for number in (9000, 9001):
        receiver.push(memoryview(rtp(number)), 0.0)
    assert receiver.clock.camera_ms(1000) is None, "its timestamps are of another count"


@pytest.mark.parametrize("stamp", [0, 1 << 31, 500_000_000 - 61 * 90_000])
def test_a_report_whose_timestamp_is_that_of_no_picture_gives_no_clock(stamp: int) -> None:
    """Some cameras write 0 there."""
    told = memoryview(report(stamp, EPOCH_MS))
    for early in (True, False):
        _, _, receiver = receive([])
        if early:
            receiver.push_rtcp(told, 0.0)
        receiver.push(memoryview(rtp(1, stamp=500_000_000)), 0.0)
        receiver.push_rtcp(told, 0.0)
        assert receiver.clock.camera_ms(500_000_000) is None
    receiver.push_rtcp(memoryview(report(500_000_000, EPOCH_MS)), 0.0)
    assert receiver.clock.camera_ms(500_000_000) == pytest.approx(EPOCH_MS, abs=0.01)


def test_how_late_a_report_came() -> None:
    """By the camera's clock, whatever that says: only how it changes means anything."""
    _, _, receiver = receive([rtp(1)])
    assert receiver.clock.report_ms is None
    for late_ms in (20.0, 420.0, 20.5):
        said = memoryview(report(1000, EPOCH_MS + 40))
        receiver.push_rtcp(said, EPOCH_MS + 40 + 3_600_000 + late_ms)
        assert receiver.clock.report_ms == pytest.approx(3_600_000 + late_ms, abs=0.01)
    receiver.push_rtcp(memoryview(report(1000, EPOCH_MS, ssrc=7)), EPOCH_MS)
    assert (receiver.clock.report_ms or 0) > 3_600_000, "of another stream"


@pytest.mark.parametrize("fraction", [0, 999_999])
def test_a_clock_of_whole_seconds_aligns_nothing(fraction: int) -> None:
    """Or with microseconds where 2**-32 s belong: each report is off by up to a second, and sound
    was torn to and fro by that."""
    _, _, picture = receive([rtp(1)])
    _, _, sound = receive([rtp(1)])
    sound.beside, picture.beside = picture, sound
    whole, fine = EPOCH_MS + fraction * 1000 / 2**32, EPOCH_MS + 5_040.0
    for said, is_fine in ((whole, False), (whole + 1_000, False), (fine, True), (whole, True)):
        picture.push_rtcp(memoryview(report(1000, said)), EPOCH_MS + 9_000)
        assert picture.clock.camera_ms(1000) == pytest.approx(said, abs=0.01), (
            "what the camera says"
        )
        assert (picture.clock.report_ms is not None) is is_fine
        sound.push_rtcp(memoryview(report(1000, EPOCH_MS + 40)), 0.0)
        assert (sound.aligned_ms(1000) is not None) is is_fine
    alone = receive([rtp(1)])[2]
    alone.push_rtcp(memoryview(report(1000, fine)), 0.0)
    assert alone.aligned_ms(1000) == alone.clock.camera_ms(1000)


def test_bye_and_rtcp_between_the_pictures() -> None:
    taken, byes = Taken(), list[str]()
    receiver = RtpReceiver(96, 90_000, taken, on_bye=lambda: byes.append("bye"))
    for packet in (rtp(1), report(1000, EPOCH_MS), rtp(2)):
        receiver.push(memoryview(packet), 0.0)
    assert taken.bodies() == numbers(1, 2) and receiver.clock.camera_ms(1000) is not None
    for ssrc, said in ((7, []), (SSRC, ["bye"])):
        receiver.push_rtcp(memoryview(struct.pack(">BBHII", 0x82, 203, 2, 3, ssrc)), 0.0)
        assert byes == said
    assert receiver.counts == PacketCounts(received=2)


@pytest.mark.parametrize(
    "data",
    [
        b"abc",
        b"\x80",
        b"\x00\xc8\x00\x00",
        report(1, 1)[:40],
        report(1, 1) + b"..",
        b"\x9f\xcb\x00\x05",
    ],
)
def test_malformed_rtcp_is_counted(data: bytes) -> None:
    _, counts, receiver = receive([rtp(1)])
    receiver.push_rtcp(memoryview(data), 0.0)
    assert counts.malformed == 1


def blocks(report: bytes) -> list[tuple[int, ...]]:
    """Take a compound packet apart: return its report blocks, all other fields being right."""
    head, kind, words, ssrc = struct.unpack_from(">BBHI", report)
    assert (head >> 6, kind, ssrc) == (2, 201, 7)
    count = head & 31
    assert words == 1 + 6 * count
    at = 4 * (words + 1)
    assert struct.unpack_from(">BBHI", report, at) == (0x81, 202, 3, 7)
    assert report[at + 8 :] == b"\1\4name\0\0" and len(report) % 4 == 0
    return [struct.unpack_from(">IIIIII", report, 8 + 24 * n) for n in range(count)]


@given(st.integers(0, 65_535), st.lists(st.booleans(), max_size=300), st.integers(0, 300))
def test_a_receiver_report_says_what_came(first: int, between: list[bool], split: int) -> None:
    receiver, passed = RtpReceiver(96, 90_000, Taken()), 0
    halves = [True, *between[:split], True], [*between[split:], True]
    for half in halves:
        for n, comes in enumerate(half, passed):
            if comes:
                receiver.push(memoryview(rtp(first + n, stamp=n * 3600)), n * 40.0)
        passed += len(half)
        told = receiver.receiver_report(7, b"name", 0.0)
        ((ssrc, lost, highest, jitter, *report_times),) = blocks(told)
        assert (ssrc, highest, jitter, report_times) == (SSRC, first + passed - 1, 0, [0, 0])
        missing = len(half) - sum(half)
        assert lost >> 24 == 256 * missing // len(half)
        assert lost & 0xFFFFFF == receiver.counts.lost
    assert receiver.counts.lost == sum(len(half) - sum(half) for half in halves)


def test_a_receiver_report_names_the_last_sender_report() -> None:
    receiver = RtpReceiver(96, 90_000, Taken())
    assert blocks(receiver.receiver_report(7, b"name", 0.0)) == []
    receiver.push(memoryview(rtp(65_535)), 1000.0)
    receiver.push_rtcp(memoryview(report(0, EPOCH_MS + 500)), 2000.0)
    receiver.push(memoryview(rtp(0, stamp=1000 + 90_000)), 2100.0)  # 100 ms late
    ((_, _, highest, jitter, last, ago),) = blocks(receiver.receiver_report(7, b"name", 2500.0))
    assert highest == 65_536 and jitter == 9_000 // 16 and ago == 65_536 // 2
    seconds = EPOCH_MS // 1000 + NTP_EPOCH_S
    assert last == (seconds & 0xFFFF) << 16 | 0x8000


def test_a_receiver_report_begins_anew_with_another_stream() -> None:
    receiver = RtpReceiver(96, 90_000, Taken())
    for number in (1, 2, 5):
        receiver.push(memoryview(rtp(number)), 0.0)
    for number in (30_000, 30_001):
        receiver.push(memoryview(rtp(number, ssrc=9)), 0.0)
    ((ssrc, lost, highest, *_),) = blocks(receiver.receiver_report(7, b"name", 0.0))
    assert (ssrc, lost, highest) == (9, 0, 30_001)
