"""RTP: the order of packets, what is missing, another stream."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.rtsp.rtp import (
    COMMON,
    MAX_LOST,
    OTHERS,
    REMEMBERED,
    SILENT_MS,
    WAIT_MS,
    WINDOW,
    RtpReceiver,
)
from recorder.source import PacketCounts
from tests.support.packets import EPOCH_MS, SSRC, report, rtp
from tests.support.payloads import Taken, numbers, receive


def test_packets_in_order_over_the_wrap_of_numbers() -> None:
    taken, counts, _ = receive(rtp(n, b"x") for n in range(65_530, 65_546))
    assert len(taken.all) == 16 and counts == PacketCounts(received=16)


@pytest.mark.parametrize(
    ("packet", "body"),
    [
        (rtp(1, b"\0\0\0\1\0\0\0\2body", head=0x82), b"body"),  # sources
        (rtp(1, b"\xbe\xde\0\1\x10\xff\0\0body", head=0x90), b"body"),  # extension
        (rtp(1, b"\xbe\xde\0\0body", head=0x90), b"body"),
        (rtp(1, b"body\0\0\3", head=0xA0), b"body"),  # padding
        (rtp(1, b"\0\0\0\1\xbe\xde\0\1....body\1", head=0xB1), b"body"),
        (rtp(1, b"\4\4\4\4", head=0xA0), b""),
        (rtp(1, b"\xbe\xde\0\2....", head=0x90), None),
        (rtp(1, b"\xbe\xde", head=0x90), None),
        (rtp(1, b"\0\0\0\1", head=0x82), None),
        (rtp(1, b"body\0", head=0xA0), None),
        (rtp(1, b"body\xff", head=0xA0), None),
        (rtp(1, b"", head=0xA0), None),
    ],
)
def test_sources_extension_and_padding(packet: bytes, body: bytes | None) -> None:
    taken, counts, _ = receive([rtp(0), packet, rtp(2)])
    if body is None:
        assert taken.bodies() == numbers(0, 2) and counts.malformed == 1
        assert taken.all[1][3] == 1, "what cannot be read is missing"
    else:
        assert taken.bodies() == [b"0", body, b"2"] and counts == PacketCounts(received=3)


def test_what_is_missing_is_told_once() -> None:
    taken, counts, _ = receive(map(rtp, (65_534, 65_535, 2, 3, 7)))
    assert [lost for *_, lost in taken.all] == [0, 0, 2, 0, 3]
    assert counts == PacketCounts(received=5, lost=5)


def test_late_and_doubled_packets_are_told_apart_and_given_to_nobody() -> None:
    taken, counts, _ = receive(map(rtp, (1, 2, 5, 3, 5, 3, 4, 6, 1)))
    assert taken.bodies() == numbers(1, 2, 5, 6)
    assert counts == PacketCounts(received=4, lost=2, late=2, doubled=3)


@pytest.mark.parametrize(
    "again",
    [
        [rtp(n, stamp=5) for n in (1000, 1001, 1002)],
        [rtp(n, stamp=5, ssrc=7) for n in (1000, 1001, 1002)],
        # by chance just behind the count before: time tells
        [rtp(n, stamp=2_000_000_000) for n in (49_998, 49_999, 50_000)],
    ],
)
def test_a_camera_that_counts_anew(again: list[bytes]) -> None:
    before = [rtp(n, stamp=900_000_000) for n in (49_999, 50_000, 50_001)]
    taken, counts, _ = receive([*before, *again])
    assert taken.bodies()[3] == b"restart" and len(taken.all) == 7
    assert [pts for _, pts, *_ in taken.all[4:]] == [int.from_bytes(again[0][4:8], "big")] * 3
    assert all(lost == 0 for *_, lost in taken.all)
    assert counts == PacketCounts(received=6, restarts=1)


def busy(receiver: RtpReceiver, pictures: Iterable[int], shift: int = 0, ssrc: int = SSRC) -> None:
    """Push pictures of 100 packets each, 25 a second; `shift` moves the numbers."""
    for picture in pictures:
        for part in range(100):
            number = 60_000 + 100 * picture + part + shift
            packet = rtp(number, b"x", stamp=3_600 * picture, ssrc=ssrc)
            receiver.push(memoryview(packet), 40.0 * picture)


@pytest.mark.parametrize("pictures", [31, 60, 300])
@pytest.mark.parametrize("window", [0, WINDOW])
def test_an_outage_of_the_network_is_no_camera_that_counts_anew(pictures: int, window: int) -> None:
    """Above 20 Mbit/s a second and a half without the network is more than MAX_LOST."""
    taken = Taken()
    receiver = RtpReceiver(96, 90_000, taken)
    receiver.window = window
    busy(receiver, range(100))
    busy(receiver, range(100 + pictures, 200 + pictures))
    assert (receiver.counts.lost, receiver.counts.restarts) == (100 * pictures, 0)
    assert len(taken.all) == 20_000 and sum(lost for *_, lost in taken.all) == 100 * pictures
    assert taken.all[-1][1] == 3_600 * (199 + pictures)


@pytest.mark.parametrize(
    ("shift", "ssrc", "pause"),
    [(20_000, SSRC, 60), (0, 7, 60), (5_000, SSRC, 0)],
)
def test_a_camera_that_counts_anew_after_a_pause_is_no_outage(
    shift: int, ssrc: int, pause: int
) -> None:
    """Its numbers are others, or those of another stream, or there was no pause."""
    taken = Taken()
    receiver = RtpReceiver(96, 90_000, taken)
    busy(receiver, range(100))
    busy(receiver, range(100 + pause, 200 + pause), shift, ssrc)
    assert (receiver.counts.restarts, receiver.counts.lost) == (1, 0)


def test_time_runs_on_over_its_wrap_where_a_camera_counts_anew() -> None:
    stamps = [(1 << 32) - 3_600, 0, 3_600]
    again = [rtp(n, stamp=7_200 + 3_600 * n) for n in (0, 1)]
    taken, _, _ = receive([*(rtp(n + 900, stamp=s) for n, s in enumerate(stamps)), *again])
    assert [pts for body, pts, *_ in taken.all if body != b"restart"] == [
        (1 << 32) + 3_600 * n for n in range(-1, 4)
    ]


@pytest.mark.parametrize("pictures", [1, 3])
def test_numbers_that_stand_still(pictures: int) -> None:
    """Cameras that count nothing, or pictures: over TCP all of it is there, in order."""
    sent = [rtp(7 + n, b"%d" % (10 * n + k)) for n in range(pictures) for k in range(5)]
    taken, counts, _ = receive(sent)
    expected = [10 * n + k for n in range(pictures) for k in range(5)]
    assert taken.bodies() == numbers(0, *expected[2:])
    assert counts == PacketCounts(received=len(sent) - 1, lost=1, doubled=1)
    assert [lost for *_, lost in taken.all] == [0, 1, *[0] * (len(sent) - 3)]
    assert receive(sent, window=WINDOW)[1].received == pictures
    thrice = [packet for packet in sent[::5] for _ in range(3)]
    assert receive(thrice)[1] == PacketCounts(received=pictures, doubled=2 * pictures)


def test_a_payload_type_that_the_description_does_not_name() -> None:
    """Only where nothing of the track has come, and what comes is one stream."""
    odd = [rtp(n, b"%d" % n, kind=35) for n in range(OTHERS + 5)]
    taken, counts, _ = receive(odd)
    assert taken.bodies() == numbers(*range(OTHERS, OTHERS + 5))
    assert counts == PacketCounts(received=5, strays=OTHERS)
    other_law = [rtp(n, kind=8) for n in range(50)]
    strangers = [rtp(n, kind=35, ssrc=n) for n in range(50)]
    for others in ([rtp(99, b"99"), *odd], odd[::2], strangers, other_law):
        assert receive(others)[2].payload_type == 96
    receiver = RtpReceiver(97, 8_000, Taken())
    receiver.static_type = 8  # that of its codec, which the description calls 97
    for packet in other_law:
        receiver.push(memoryview(packet), 0.0)
    assert receiver.counts.received == 50 - OTHERS


def test_one_packet_of_another_stream_is_a_stray() -> None:
    for odd in (rtp(30_000), rtp(9, ssrc=7), rtp(9, stamp=1 << 31)):
        taken, counts, _ = receive([rtp(1), odd, rtp(2), odd, rtp(3)])
        assert taken.bodies() == numbers(1, 2, 3) and counts == PacketCounts(received=3, strays=2)


@pytest.mark.parametrize("window", [0, WINDOW])
def test_another_stream_beside_ours_is_left_out(window: int) -> None:
    """What was sent of it before ours went on is told as another stream; later ones are strays."""
    taken = Taken()
    receiver = RtpReceiver(96, 90_000, taken)
    receiver.window = window

    def push(ssrc: int, picture: int) -> None:
        for part in range(3):
            packet = rtp(1_000 * ssrc + 3 * picture + part, b"%d" % ssrc, stamp=picture, ssrc=ssrc)
            receiver.push(memoryview(packet), 40.0 * picture)

    for picture in range(50):
        push(1, picture)
        push(40, picture)
    assert (taken.bodies().count(b"1"), taken.bodies().count(b"40")) == (150, 3)
    assert receiver.counts == PacketCounts(received=153, strays=147, restarts=2)
    silent = 49 + int(SILENT_MS / 40)
    for picture in range(50, silent):  # ours has ended, or its scene stands still
        push(40, picture)
    assert receiver.counts.restarts == 2
    push(40, silent)
    assert receiver.counts.restarts == 3 and taken.bodies().count(b"40") == 6


@pytest.mark.parametrize("loses", [False, True])
def test_numbers_that_both_tracks_have_in_common(loses: bool) -> None:
    """After a second of them no picture is cut where a packet of sound was; what is missing is told
    all the same."""
    picture, sound = Taken(), Taken()
    one, other = RtpReceiver(96, 90_000, picture), RtpReceiver(97, 8_000, sound)
    one.beside, other.beside = other, one
    for number in range(65_000, 67_000):
        if loses and number == 66_500:
            continue
        track, kind = (other, 97) if number % 5 == 0 else (one, 96)
        track.push(memoryview(rtp(number, kind=kind)), 0.0)
    lost = [int(body) for body, _, _, lost in picture.all if lost]
    assert lost == [*range(65_006, 65_006 + 5 * COMMON, 5), *([66_501] if loses else [])]


def test_numbers_of_two_tracks_that_are_alike_hide_no_loss() -> None:
    one, other = RtpReceiver(96, 90_000, Taken()), RtpReceiver(97, 8_000, Taken())
    one.beside, other.beside = other, one
    for number in range(3_000):
        other.push(memoryview(rtp(number, kind=97)), 0.0)
        if number % 10:
            one.push(memoryview(rtp(number + number // 7)), 0.0)
    assert one.counts.lost > 600 and other.counts.lost == 0


def test_an_ssrc_that_changes_while_the_numbers_go_on_is_the_same_stream() -> None:
    taken, counts, _ = receive(rtp(n, ssrc=n) for n in range(5))
    assert taken.bodies() == numbers(0, 1, 2, 3, 4) and counts == PacketCounts(received=5)


def test_other_payload_types_are_passed_over() -> None:
    other = [rtp(2, kind=50), rtp(77, kind=97, ssrc=3)]
    taken, counts, _ = receive([rtp(1), *other, rtp(3)])
    assert taken.bodies() == numbers(1, 3) and counts == PacketCounts(received=2, strays=2)


@pytest.mark.parametrize("begin", [0, 1, (1 << 32) - 5_000, 1 << 31])
def test_timestamps_run_on_over_their_wrap_both_ways(begin: int) -> None:
    steps = [0, 3000, 9000, -6000, 3000, 3000, 2_000_000, -1_990_000]
    stamps = list(itertools.accumulate(steps, initial=begin))[1:]
    taken, _, _ = receive(rtp(n, stamp=stamp) for n, stamp in enumerate(stamps))
    assert [pts for _, pts, *_ in taken.all] == stamps


def test_thirteen_hours_of_time_and_more() -> None:
    step = 40 * 90_000
    taken, _, _ = receive(rtp(n, stamp=n * step) for n in range(3_000))
    assert [pts for _, pts, *_ in taken.all] == [n * step for n in range(3_000)]


# -- over UDP ------------------------------------------------------------------------------


@given(st.permutations(range(12)), st.integers(0, 65_535))
def test_packets_that_overtake_each_other_are_put_in_order(order: list[int], begin: int) -> None:
    sent = [begin, *(begin + 1 + n for n in order)]
    taken, counts, _ = receive((rtp(n, b"%d" % n) for n in sent), WINDOW)
    assert taken.bodies() == numbers(*range(begin, begin + 13))
    assert counts == PacketCounts(received=13)


@pytest.mark.slow
@given(
    lost=st.sets(st.integers(1, 298), max_size=40),
    doubled=st.sets(st.integers(0, 299), max_size=20),
    delays=st.lists(st.integers(0, 25), min_size=300, max_size=300),
)
def test_lost_reordered_and_doubled_packets(
    lost: set[int], doubled: set[int], delays: list[int]
) -> None:
    """Each packet comes at most 50 later than it was sent; the first and the last ones in time."""
    sent = [(n + delays[n] * (20 < n < 270), n) for n in range(300) if n not in lost]
    sent += [(n + 30 * (20 < n < 270), n) for n in doubled - lost]
    taken, counts, receiver = receive((rtp(n) for _, n in sorted(sent)), WINDOW)
    receiver.expire(WAIT_MS)
    assert taken.bodies() == numbers(*(n for n in range(300) if n not in lost))
    assert sum(missing for *_, missing in taken.all) == counts.lost == len(lost)
    assert counts.doubled == len(doubled - lost) and counts.late == counts.strays == 0


def test_a_packet_is_waited_for_only_so_long() -> None:
    taken, counts, receiver = receive(map(rtp, (1, 3, 4)), WINDOW, arrival_ms=5.0)
    receiver.expire(5.0 + WAIT_MS - 1)
    assert taken.bodies() == numbers(1)
    receiver.expire(5.0 + WAIT_MS)
    assert taken.bodies() == numbers(1, 3, 4) and taken.arrivals == [5.0] * 3
    receiver.push(memoryview(rtp(2)), 200.0)
    assert counts == PacketCounts(received=3, lost=1, late=1)


@pytest.mark.parametrize("order", [(1, 3, 2, 4), (1, 4, 3, 2)])
def test_pictures_that_overtake_each_other_come_when_it_is_their_turn(
    order: tuple[int, ...],
) -> None:
    """At a few pictures a second nothing comes in between; arrivals that go back would say that
    the recorder's clock was set."""
    taken, _, receiver = receive([], WINDOW)
    for n, number in enumerate(order):
        receiver.push(memoryview(rtp(number, stamp=number * 18_000)), 200.0 * n)
    receiver.expire(5_000.0)
    assert taken.bodies() == numbers(1, 2, 3, 4)
    assert taken.arrivals == sorted(taken.arrivals)
    assert taken.arrivals[1] == 200.0 * order.index(2), "it came no later than it did"


def test_what_waits_is_handed_on_before_another_stream() -> None:
    taken, counts, _ = receive([*map(rtp, (1, 3)), rtp(500, ssrc=7), rtp(501, ssrc=7)], WINDOW)
    assert taken.bodies() == [b"1", b"3", b"restart", b"500", b"501"]
    assert counts == PacketCounts(received=4, lost=1, restarts=1)


PACKETS = st.lists(
    st.one_of(
        st.builds(
            rtp,
            st.integers(0, 40) | st.integers(0, 65_535),
            st.binary(max_size=20),
            stamp=st.sampled_from([0, 3000, 1 << 31]),
            ssrc=st.sampled_from([SSRC, 7]),
            kind=st.sampled_from([96, 224, 97, 200, 203]),
            head=st.sampled_from([0x80, 0x80, 0x90, 0xA1, 0xBF, 0x40]),
        ),
        st.binary(max_size=60),
    ),
    max_size=60,
)


@given(PACKETS, st.sampled_from([0, WINDOW]))
def test_any_packets_are_taken_and_little_is_kept(packets: list[bytes], window: int) -> None:
    taken, counts, receiver = receive(packets, window)
    for packet in packets:
        receiver.push_rtcp(memoryview(packet), 0.0)
        assert receiver.is_plausible(memoryview(packet[:12])) in (True, False)
    assert len(receiver._waiting) <= window and len(receiver._given_up) <= REMEMBERED
    receiver.expire(WAIT_MS)
    assert not receiver._waiting
    told = sum(missing for *_, missing in taken.all)
    assert counts.lost <= len(packets) * MAX_LOST and told <= counts.lost + counts.malformed


def test_what_can_begin_a_packet_after_stray_bytes() -> None:
    _, _, receiver = receive([])
    assert receiver.is_plausible(memoryview(rtp(1))), "nothing is known yet"
    receiver.push(memoryview(rtp(1)), 0.0)
    assert receiver.is_plausible(memoryview(rtp(9)[:12]))
    assert receiver.is_plausible(memoryview(report(0, EPOCH_MS)[:12]))
    for odd in (rtp(1, kind=97), rtp(1, head=0x40), rtp(1)[:11], b""):
        assert not receiver.is_plausible(memoryview(odd[:12]))
    assert not receiver.is_plausible(memoryview(rtp(1, ssrc=7)))
    assert receiver.is_plausible(memoryview(rtp(2, ssrc=7))), "it comes again: a new stream"
