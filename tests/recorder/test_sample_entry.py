"""Tracks made of parameter sets and configurations: read again by us, and played by ffmpeg."""

from __future__ import annotations

import random
import struct
import subprocess
from itertools import pairwise
from pathlib import Path

import ffmpeg as ffmpeg_python
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.parameter_sets import ParameterSets
from recorder.rtsp.aac import AacFrames
from recorder.rtsp.rtp import RtpReceiver
from recorder.sample_entry import sound_track, video_track, with_parameter_sets
from recorder.source import Frame
from storage.media.fmp4 import (
    Sample,
    TrackInit,
    TrackRun,
    box_at,
    parse_init,
    write_init,
    write_segment,
)
from tests.support.packets import PPS, SPS, fragments, marked, pictures, rtp
from tests.support.rtsp_camera import encode, film, nal_units


def kind(codec: str, nal: bytes) -> int:
    return nal[0] & 31 if codec == "h264" else nal[0] >> 1 & 63


def sets_in(codec: str, nals: list[bytes]) -> list[bytes]:
    wanted = (7, 8) if codec == "h264" else (32, 33, 34)
    return list(dict.fromkeys(nal for nal in nals if kind(codec, nal) in wanted))


def played(program: str, track: TrackInit, frames: list[Frame], duration: int, folder: Path) -> int:
    """Return how many frames ffmpeg decodes of a recording of them, without a complaint."""
    init = write_init([track])
    ftyp = box_at(init, 0, len(init))
    assert ftyp is not None and parse_init(init[ftyp.end :]) == [track]
    samples = [Sample(duration, len(f.data), f.key, 0) for f in frames]
    run = TrackRun(track.id, 0, samples, [f.data for f in frames])
    film = folder / "film.mp4"
    film.write_bytes(init + write_segment(1, [run]))
    command = ffmpeg_python.input(str(film)).output("pipe:1", f="framehash").compile(cmd=program)
    said = subprocess.run([*command, "-v", "warning"], capture_output=True, text=True, check=True)
    assert said.stderr == ""
    return sum(line[0].isdigit() for line in said.stdout.splitlines())


@pytest.mark.parametrize(
    ("codec", "size", "options"),
    [
        ("h264", (640, 360), {}),
        ("h264", (322, 242), {"pix_fmt": "yuv422p", "profile:v": "high422"}),
        ("h265", (640, 360), {}),
        ("h265", (322, 242), {"pix_fmt": "yuv420p10le"}),
    ],
)
def test_a_stream_over_rtp_plays_from_the_track_that_its_sets_describe(
    codec: str, size: tuple[int, int], options: dict[str, str], ffmpeg: str, tmp_path: Path
) -> None:
    nals = nal_units(encode(ffmpeg, codec, size, options))
    track = video_track(codec, sets_in(codec, nals))
    assert track is not None and (track.width, track.height) == size
    taker, frames = pictures(codec)
    count, payloads = 0, list[bytes]()
    for nal in nals:
        payloads += [nal] if len(nal) < 1400 else fragments(codec, nal, 1400)
        if kind(codec, nal) in (1, 5) if codec == "h264" else kind(codec, nal) < 32:
            for p in marked(payloads, count * 3600):
                taker.push(memoryview(p.data), p.pts, p.marker, 0, 0.0)
            count, payloads = count + 1, []
    assert [f.pts for f in frames] == [n * 3600 for n in range(count)] and frames[0].key
    assert played(ffmpeg, track, frames, 3600, tmp_path) == count


@pytest.mark.parametrize("rate", [0.001, 0.01, 0.05])
def test_what_lost_no_packet_says_so_and_plays(rate: float, ffmpeg: str, tmp_path: Path) -> None:
    """By segments, from keyframe to keyframe; at random, but the same in every run."""
    units, chance = film(ffmpeg), random.Random(rate)
    taker, frames = pictures("h264")
    receiver = RtpReceiver(96, 90_000, taker)
    sent = list[tuple[int, bytes]]()  # number of the picture, packet
    for n in range(4 * len(units)):
        parts = [p for nal in units[n % len(units)] for p in fragments("h264", nal, 300)]
        for p in marked(parts, n * 3600):
            packet = rtp(len(sent), p.data, stamp=p.pts, kind=96 | p.marker << 7)
            sent.append((n, packet))
    missing = {n for n in range(300, len(sent) - 300) if chance.random() < rate}
    for n, (_, packet) in enumerate(sent):
        if n not in missing:
            receiver.push(memoryview(packet), 0.0)
    assert sum(f.lost for f in frames) == receiver.counts.lost == len(missing)
    segments: dict[int, int] = {}  # by picture: a keyframe that can be read begins one
    number = 0
    for frame in frames:
        number += frame.key
        segments[frame.pts // 3600] = number
    for n in range(4 * len(units)):  # of which nothing is left
        segments.setdefault(n, segments.get(n - 1, 0))
    told = set[int]()
    for before, frame in pairwise(frames):
        if frame.lost or frame.damaged:
            told.add(segments[(frame if frame.damaged else before).pts // 3600])
    assert told == {segments[sent[n][0]] for n in missing}
    whole = [f for f in frames if segments[f.pts // 3600] not in told]
    assert whole
    track = video_track("h264", sets_in("h264", [nal for unit in units for nal in unit]))
    assert track is not None and played(ffmpeg, track, whole, 3600, tmp_path) == len(whole)


def test_what_does_not_suffice_for_a_track() -> None:
    for sets in ([], [SPS], [PPS], [SPS[:4], PPS], [b"", b"\x67", PPS]):
        assert video_track("h264", sets) is None
    track = video_track("h264", [PPS, SPS])
    assert track is not None and with_parameter_sets(track, [PPS]) == track


def test_a_new_size_is_written_into_the_same_entry(ffmpeg: str) -> None:
    small = sets_in("h264", nal_units(encode(ffmpeg, "h264", (320, 240), {})))
    track = video_track("h264", [SPS, PPS])
    assert track is not None
    changed = with_parameter_sets(track, small)
    assert (changed.width, changed.height) == (320, 240)
    assert changed == video_track("h264", small)
    assert ParameterSets.of_entry(changed).nals == tuple(small)


def test_sound_over_rtp_plays(ffmpeg: str, tmp_path: Path) -> None:
    tone = ffmpeg_python.input("sine=sample_rate=44100:duration=1", f="lavfi")
    command = tone.output("pipe:1", f="adts", **{"c:a": "aac"}).compile(cmd=ffmpeg)
    adts = subprocess.run([*command, "-v", "error"], capture_output=True, check=True).stdout
    frames: list[Frame] = []
    taker = AacFrames(frames.append, {"config": "1208"}, 44_100)
    at = count = 0
    while at < len(adts):  # 7 bytes of header; 13 bits of length (ISO/IEC 14496-3, 1.A.2.2)
        size = int.from_bytes(adts[at + 3 : at + 6], "big") >> 5 & 0x1FFF
        head = struct.pack(">HH", 16, size - 7 << 3)
        taker.push(memoryview(head + adts[at + 7 : at + size]), 1024 * count, True, 0, 0.0)
        at, count = at + size, count + 1
    track = sound_track(taker.config, 44_100)
    assert (track.kind, track.codec, track.timescale) == ("audio", "aac", 44_100)
    assert played(ffmpeg, track, frames, 1024, tmp_path) == count


@given(st.lists(st.binary(max_size=40), max_size=4))
def test_any_sets(sets: list[bytes]) -> None:
    for codec in ("h264", "h265"):
        track = video_track(codec, [*sets, SPS, PPS])
        assert track is None or track.width > 0
