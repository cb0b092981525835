"""When a source tells its sink of tracks: what the sample entry says counts from the first picture,
and a camera that repeats it in other words has not changed."""

from __future__ import annotations

import struct

import pytest

from recorder.parameter_sets import ParameterSets
from recorder.sample_entry import video_track
from recorder.tracks import SILENT_MS, TrackTeller
from storage.media.fmp4 import TrackInit
from tests.support.packets import PPS, SPS
from tests.support.sources import Taken

OTHER_SPS = SPS[:3] + bytes([SPS[3] + 1]) + SPS[4:]  # of another level
OTHER_PPS = bytes.fromhex("68ce3c81")
SLICE = b"\x65\x88\x84"


def picture(*nals: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(nal)) + nal for nal in (*nals, SLICE))


def teller(*sets: bytes) -> tuple[TrackTeller, Taken]:
    """Return one that was told the sample entry of these sets, as ffmpeg does, or of none."""
    taken = Taken()
    found = TrackTeller(taken, lambda: 0.0)
    found.video = video_track("h264", sets)
    assert (found.video is not None) == bool(sets)
    return found, taken


def told(taken: Taken) -> list[set[bytes]]:
    """Return the parameter sets that each told track has in its entry."""
    return [set(ParameterSets.of_entry(tracks[0]).nals) for tracks in taken.tracks]


@pytest.mark.parametrize("first", [(), (SPS,), (PPS,), (SPS, PPS), (PPS, SPS)])
@pytest.mark.parametrize("other", [(OTHER_SPS, PPS), (OTHER_SPS,), (SPS, OTHER_PPS), (OTHER_PPS,)])
def test_sets_that_come_in_band_are_compared_with_the_sample_entry(
    first: tuple[bytes, ...], other: tuple[bytes, ...]
) -> None:
    """Also where the first keyframe had none, so that nothing in band came before them."""
    tracks, taken = teller(SPS, PPS)
    assert tracks.takes_picture("h264", True, picture(*first))
    assert told(taken) == [{SPS, PPS}]
    for _ in range(3):
        tracks.takes_picture("h264", False, picture())
    tracks.takes_picture("h264", True, picture(*other))
    kinds = {nal[0] & 0x1F for nal in other}
    assert told(taken)[1:] == [{*other, *(n for n in (SPS, PPS) if n[0] & 0x1F not in kinds)}]


def test_a_camera_that_says_the_same_in_turn_in_several_forms_has_not_changed() -> None:
    forms = ((SPS, PPS), (PPS, SPS), (PPS,), (SPS,), (), (SPS + b"\0\0", PPS), (SPS, PPS, SPS))
    tracks, taken = teller(SPS, PPS)
    for n in range(10 * len(forms)):
        assert tracks.takes_picture("h264", True, picture(*forms[n % len(forms)]))
    assert told(taken) == [{SPS, PPS}]


def test_sets_that_were_lost_stand_until_others_come() -> None:
    """Sent once, in band, and never again: the entry is made of them."""
    tracks, taken = teller()
    assert not tracks.takes_picture("h264", False, picture())
    assert not tracks.takes_picture("h264", True, picture(PPS))
    assert tracks.takes_picture("h264", True, picture(SPS, PPS))
    for _ in range(20):
        assert tracks.takes_picture("h264", True, picture())
    assert told(taken) == [{SPS, PPS}]
    tracks.takes_picture("h264", True, picture(OTHER_SPS, PPS))
    assert told(taken)[1:] == [{OTHER_SPS, PPS}]


def test_a_change_of_the_picture_is_told_with_a_keyframe_only() -> None:
    tracks, taken = teller(SPS, PPS)
    tracks.takes_picture("h264", True, picture())
    tracks.takes_picture("h264", False, picture(OTHER_SPS, PPS))
    assert told(taken) == [{SPS, PPS}]
    tracks.takes_picture("h264", True, picture(OTHER_SPS, PPS))
    assert len(told(taken)) == 2


def test_sound_that_is_promised_and_does_not_come_keeps_no_picture_waiting() -> None:
    now_ms, taken = [0.0], Taken()
    tracks = TrackTeller(taken, lambda: now_ms[0])
    tracks.video = video_track("h264", (SPS, PPS))
    tracks.sound = TrackInit(7, "audio", "aac", 48_000, b"mp4a")
    assert tracks.takes_picture("h264", True, picture())
    assert [[t.kind for t in one] for one in taken.tracks] == [["video"]]
    assert tracks.takes_sound() and tracks.takes_picture("h264", True, picture())
    now_ms[0] += SILENT_MS + 1
    assert tracks.takes_picture("h264", True, picture())
    assert [[t.kind for t in one] for one in taken.tracks] == [
        ["video"],
        ["video", "audio"],
        ["video"],
    ]
