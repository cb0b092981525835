"""Parameter sets made bit by bit: what they mean, and what is none."""

from __future__ import annotations

import pytest

from recorder.parameter_sets import (
    MAX_SET,
    MAX_SETS,
    ParameterSets,
    parameter_sets,
    read_sps,
)
from recorder.sample_entry import video_track, with_parameter_sets
from tests.support.packets import PPS, SPS, sample


def ue(value: int) -> str:
    """Return an Exp-Golomb code (H.264, 9.1) as bits."""
    code = f"{value + 1:b}"
    return "0" * (len(code) - 1) + code


def nal(header: bytes, bits: str) -> bytes:
    """Return a NAL unit with emulation prevention (H.264 and H.265, 7.3.1.1)."""
    bits += "1"
    bits += "0" * (-len(bits) % 8)
    out = bytearray(header)
    for at in range(0, len(bits), 8):
        byte = int(bits[at : at + 8], 2)
        if byte <= 3 and out[-2:] == b"\0\0":
            out.append(3)
        out.append(byte)
    return bytes(out)


def h264_sps(
    depth: int = 0, chroma: int = 1, number: int = 0, frames: int = 0, high: int = 352
) -> bytes:
    """Return an SPS of the High profile, 640 wide; `frames` is log2_max_frame_num_minus4."""
    bits = ue(number) + ue(chroma) + ("0" if chroma == 3 else "") + ue(depth) + ue(depth) + "00"
    bits += ue(frames) + ue(0) + ue(0) + ue(1) + "0" + ue(39) + ue(high // 16 - 1) + "1100"
    return nal(b"\x67\x64\x00\x1e", bits)


# what stands between the bit depths and the VUI, in ways that encoders write it (H.265, 7.3.2.2.1)
_PLAIN = ue(4) + "1" + ue(4) + ue(2) + ue(0) + ue(0) + ue(3) + ue(0) + ue(3) + ue(0) + ue(0)
_SETS = ue(2) + ue(1) + ue(1) + ue(0) + "1" + ue(0) + "1" + "1" + "0" + ue(0) + "1" + "00" + "1"
_LISTS = "11" + "".join(
    "0" + ue(0) if (size, n) != (2, 3) else "1" + ue(3) + ue(5) * 64
    for size in range(4)
    for n in range(2 if size == 3 else 6)
)
MIDDLES = {
    "plain": _PLAIN + "0" + "01" + "0" + ue(0) + "0" + "10",
    "everything": _PLAIN
    + _LISTS
    + "11"
    + "1"
    + "01110111"
    + ue(0)
    + ue(2)
    + "0"
    + _SETS
    + "1"
    + ue(1)
    + "00000001"
    + "1"
    + "10",
}


def h265_sps(
    vui: str = "0", *, width: int = 640, depth: int = 0, middle: str = "plain", layers: int = 0
) -> bytes:
    """Return an SPS of the Main profile; `vui` begins with vui_parameters_present_flag."""
    bits = "0000" + f"{layers:03b}" + "1" + "01" * 48
    bits += "00" * 8 if layers else ""
    bits += ue(0) + ue(1) + ue(width) + ue(360) + "0" + ue(depth) + ue(depth)
    return nal(b"\x42\x01", bits + MIDDLES[middle] + vui + "0")


VPS, OTHER_VPS = nal(b"\x40\1", "0000" + "1" * 40), nal(b"\x40\1", "0000" + "10" * 20)
H265_PPS = nal(b"\x44\1", ue(0) + ue(0) + "1" * 20)
TIMING = "1" + "0" * 10 + "1" + "0" * 31 + "1" + "0" * 20


@pytest.mark.parametrize("middle", MIDDLES)
def test_forms_of_h265_that_differ_in_what_decodes_nothing_mean_the_same(middle: str) -> None:
    sets = ParameterSets("h265", (VPS, h265_sps(middle=middle), H265_PPS))
    for again in (
        sample(VPS, h265_sps(TIMING, middle=middle), H265_PPS),
        sample(OTHER_VPS, h265_sps(middle=middle), H265_PPS),
        sample(h265_sps("1" + "01" * 30, middle=middle) + b"\0"),
    ):
        assert sets.changed_by(again) is None


@pytest.mark.parametrize("middle", MIDDLES)
def test_another_picture_of_h265_is_a_change(middle: str) -> None:
    sets = ParameterSets("h265", (VPS, h265_sps(middle=middle), H265_PPS))
    for other in (h265_sps(width=1280, middle=middle), h265_sps(depth=2, middle=middle)):
        changed = sets.changed_by(sample(other))
        assert changed is not None and set(changed.nals) == {VPS, other, H265_PPS}
    (unlike,) = (h265_sps(middle=name) for name in MIDDLES if name != middle)
    assert sets.changed_by(sample(unlike)) is not None


def test_what_an_sps_says() -> None:
    assert read_sps("h264", h264_sps())[1:3] == (640, 352)
    for middle in MIDDLES:
        assert read_sps("h265", h265_sps(middle=middle, depth=2))[:5] == (0, 640, 360, 1, (2, 2))


def test_a_set_that_cannot_be_read_to_its_end_describes_the_picture_all_the_same() -> None:
    one, other = h265_sps()[:22], h265_sps(depth=2)[:22]
    assert video_track("h265", [VPS, one, H265_PPS]) is not None
    sets = ParameterSets("h265", (VPS, one, H265_PPS))
    assert sets.changed_by(sample(one)) is None and sets.changed_by(sample(other)) is not None


def test_a_picture_has_the_size_that_came_with_it_whatever_the_number_of_its_set() -> None:
    """A camera that changes its size may count its sets up; those of before stay in force."""
    small, large = h264_sps(), h264_sps(number=1, high=704)
    track = video_track("h264", [small, PPS])
    changed = ParameterSets("h264", (small, PPS)).changed_by(sample(large, PPS))
    assert track is not None and changed is not None
    track = with_parameter_sets(track, changed.nals)
    assert (track.width, track.height) == (640, 704)
    assert set(ParameterSets.of_entry(track).nals) == {small, large, PPS}


JUNK: list[tuple[str, list[bytes]]] = [
    ("h264", [h264_sps(depth=300), PPS]),
    ("h264", [h264_sps(chroma=4_000), PPS]),
    ("h264", [h264_sps(number=32), PPS]),
    ("h264", [h264_sps(frames=1 << 33), PPS]),
    ("h264", [h264_sps(), nal(b"\x68", ue(256))]),
    ("h264", [h264_sps(), b"\x68" + bytes(MAX_SET)]),
    ("h265", [VPS, h265_sps(depth=300), H265_PPS]),
    ("h265", [VPS, h265_sps(), nal(b"\x44\1", ue(64))]),
    ("h265", [VPS, h265_sps()[:20], H265_PPS]),
]


@pytest.mark.parametrize(("codec", "sets"), JUNK)
def test_sets_that_are_none_describe_nothing(codec: str, sets: list[bytes]) -> None:
    assert video_track(codec, sets) is None


@pytest.mark.parametrize(("codec", "sets"), JUNK)
def test_sets_that_are_none_change_nothing_and_stay_out_of_the_entry(
    codec: str, sets: list[bytes]
) -> None:
    good = [SPS, PPS] if codec == "h264" else [VPS, h265_sps(), H265_PPS]
    junk = [one for one in sets if one not in (PPS, H265_PPS, VPS, h264_sps(), h265_sps())]
    track = video_track(codec, good)
    assert track is not None and video_track(codec, [*junk, *good]) == track
    assert with_parameter_sets(track, [*good, *junk]) == track
    assert ParameterSets.of_entry(track).changed_by(sample(*junk)) is None


@pytest.mark.parametrize("as_sps", [True, False])
def test_the_number_of_sets_is_bounded(as_sps: bool) -> None:
    """A camera that counts their ids up, keyframe by keyframe."""
    sets = ParameterSets("h264", (SPS, PPS))
    for number in range(600):
        one = h264_sps(number=number) if as_sps else nal(b"\x68", ue(number) + "1" * 9)
        sets = sets.changed_by(sample(one)) or sets
    assert len(sets.nals) <= 32 + 256


def test_sets_of_one_picture_are_bounded() -> None:
    """Each is read bit by bit, and the other cameras wait for it."""
    picture = sample(SPS, PPS, *(h264_sps(frames=n) + bytes(2_000) for n in range(1_000)))
    sets = parameter_sets("h264", picture)
    assert sets[:2] == (SPS, PPS) and len(sets) == MAX_SETS
