"""What a camera's sessions teach: when to ask it nothing, how long to leave it alone."""

from __future__ import annotations

from recorder.approach import AGAIN_S, PAUSES_S, Approach
from recorder.rtsp.address import Address
from recorder.rtsp.describe import Offer
from recorder.rtsp.description import Description
from storage.records import Ending, GapCause

OFFER = Offer(Address("rtsp://h/"), Description("h264", None))
CLOSED = Ending(GapCause.CLOSED_BY_CAMERA, "")
SILENT = Ending(GapCause.NO_DATA, "")


def described() -> Approach:
    approach = Approach()
    assert approach.remembered() is None and approach.pause_s() == 0
    assert approach.described(OFFER) == 0
    return approach


def test_a_camera_that_refuses_the_second_connection_is_asked_nothing_more() -> None:
    approach = described()
    for pause_s in PAUSES_S:
        approach.ended(CLOSED, pictures=0)
        assert approach.remembered() is OFFER and approach.pause_s() == pause_s
    approach.ended(CLOSED, pictures=0)
    assert approach.remembered() is None and approach.pause_s() == 0  # perhaps it was not that


def test_the_pause_that_worked_is_remembered() -> None:
    approach = described()
    for pictures in (0, 0, 100, 100):
        approach.ended(CLOSED, pictures)
    assert approach.remembered() is OFFER and approach.pause_s() == PAUSES_S[1]
    approach.ended(SILENT, pictures=0)
    assert approach.remembered() is None
    assert approach.described(OFFER) == PAUSES_S[1]


def test_a_camera_that_has_no_fault_is_described_each_time() -> None:
    approach = described()
    for end, pictures in ((CLOSED, 1), (SILENT, 0), (SILENT, 5)):
        approach.ended(end, pictures)
        assert approach.remembered() is None and approach.pause_s() == 0


class Seconds:
    """A clock that is moved by hand."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_sound_is_left_out_for_a_while() -> None:
    clock = Seconds()
    approach = Approach(clock)
    assert approach.takes_sound() and approach.leave_out_sound()
    clock.now += 1
    assert not approach.takes_sound() and not approach.leave_out_sound()
    clock.now += AGAIN_S - 1
    assert approach.takes_sound()


def test_sound_is_left_out_after_two_sessions_in_a_row_that_ended_with_it() -> None:
    approach = Approach()
    assert not approach.sound_broke()
    approach.native_ended(CLOSED, 100)
    assert not approach.sound_broke() and approach.takes_sound()
    assert approach.sound_broke() and not approach.takes_sound()


def test_ffmpeg_is_next_where_the_native_source_had_no_picture() -> None:
    clock = Seconds()
    approach = Approach(clock)
    approach.native_ended(CLOSED, 100)
    approach.native_ended(Ending(GapCause.NO_DATA, "no picture for 16 s"), 100)
    approach.native_ended(Ending(GapCause.RECORDER_STOPPED, "stopped"), 0)
    assert approach.native_failed() is None
    approach.native_ended(Ending(GapCause.STREAM_BROKEN, "no picture"), 0)
    assert approach.native_failed() == "no picture"
    approach.ended(CLOSED, pictures=5)
    assert approach.native_failed() == "no picture"
    clock.now += AGAIN_S
    assert approach.native_failed() is None, "the camera may be another by now"


def test_ffmpeg_is_next_where_a_stream_broke_or_a_fault_was_ours() -> None:
    approach = Approach()
    approach.native_ended(Ending(GapCause.STREAM_BROKEN, "a fault of the recorder"), 100)
    assert approach.native_failed() == "a fault of the recorder"


def test_the_native_source_is_not_blamed_for_what_ffmpeg_cannot_either() -> None:
    approach = Approach()
    approach.native_ended(SILENT, 0)
    approach.ended(SILENT, pictures=0)
    assert approach.native_failed() is None
