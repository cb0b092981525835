"""Reads the time that the simulated camera burned into its picture."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import ffmpeg as ffmpeg_python
import numpy as np
from numpy.typing import NDArray

from kuager.simulator.picture import BLOCKS, STRIP_HEIGHT
from storage.media.fmp4 import boxes, parse_init, parse_moof
from tests.support.waiting import BOUND_S


def read_strip(grey: NDArray[np.uint8]) -> int | None:
    """Return the burned UTC milliseconds of a grey picture, None when it has no readable strip."""
    height, width = grey.shape
    rows = grey[1 : max(2, round(height * STRIP_HEIGHT) - 2)].mean(axis=0)
    edges = np.linspace(0, width, BLOCKS + 1)
    first = np.round(edges[:-1] + width / BLOCKS * 0.3).astype(int)  # the middle of each block
    last = np.maximum(np.round(edges[:-1] + width / BLOCKS * 0.7).astype(int), first + 1)
    before = np.concatenate(([0.0], rows.cumsum()))
    blocks = [int(b) for b in (before[last] - before[first]) / (last - first) > 120]
    return read_bits(blocks)


def read_bits(blocks: list[int]) -> int | None:
    """Return the time that blocks say, None when they are not a strip."""
    if len(blocks) != BLOCKS or blocks[:2] != [1, 0] or blocks[-2:] != [0, 1]:
        return None
    word = int("".join(map(str, blocks[2:-2])), 2)
    utc_ms = word >> 8
    return utc_ms if sum(utc_ms.to_bytes(6, "big")) & 0xFF == word & 0xFF else None


@dataclass(frozen=True)
class Picture:
    """One decoded picture: its time on the file's time line, and what is burned into it."""

    media_s: float
    burned_ms: int | None


def presentation_times(data: bytes) -> list[float]:
    """Return the presentation times of the video samples of a recording, sorted, in seconds."""
    times: list[float] = []
    scale, video = 90_000, 1
    for box in boxes(data, 0, len(data)):
        if box.type == b"moov":
            track = next(t for t in parse_init(data[box.start : box.end]) if t.kind == "video")
            scale, video = track.timescale, track.id
        elif box.type == b"moof":
            for fragment in parse_moof(data, box):
                if fragment.track_id == video:
                    at = fragment.decode_time
                    for sample in fragment.samples:
                        times.append((at + sample.cts) / scale)
                        at += sample.duration
    return sorted(times)


def pictures(path: Path, ffmpeg: str, expect_errors: bool = False) -> list[Picture]:
    """Decode a recording and read every picture; fails on a decoding error."""
    times = presentation_times(path.read_bytes())
    # else it counts in the file's guessed frame rate and complains of pictures close together
    timing = {"fps_mode": "passthrough", "enc_time_base": "1/90000"}
    grey = {"f": "image2pipe", "c:v": "pgm", "pix_fmt": "gray"}
    video = ffmpeg_python.input(str(path))["v"].output("pipe:1", **timing, **grey)
    command = video.compile(cmd=[ffmpeg, "-nostdin", "-v", "repeat+error"])
    out = subprocess.run(command, capture_output=True, timeout=BOUND_S)
    if not expect_errors:
        assert out.stderr == b"", out.stderr.decode()
        assert out.returncode == 0
    greys = _pgms(out.stdout)
    if not expect_errors:
        assert len(greys) == len(times)
    return [Picture(t, read_strip(g)) for t, g in zip(times, greys, strict=False)]


def _pgms(data: bytes) -> list[NDArray[np.uint8]]:
    found, pos = [], 0
    while data[pos : pos + 2] == b"P5":
        head = data[pos : pos + 40].split(b"\n", 3)
        width, height = map(int, head[1].split())
        pos += sum(len(h) + 1 for h in head[:3])
        found.append(np.frombuffer(data, np.uint8, width * height, pos).reshape(height, width))
        pos += width * height
    return found


def beeps(path: Path, ffmpeg: str) -> list[float]:
    """Return when the beeps begin, in seconds on the file's time line."""
    data, rate = path.read_bytes(), 8000
    first_s = None
    for box in boxes(data, 0, len(data)):
        if box.type == b"moov":
            track = next(t for t in parse_init(data[box.start : box.end]) if t.kind == "audio")
        elif box.type == b"moof" and first_s is None:
            found = [f for f in parse_moof(data, box) if f.track_id == track.id]
            first_s = found[0].decode_time / track.timescale if found else None
    assert first_s is not None, "no audio"
    sound = ffmpeg_python.input(str(path))["a"].output("pipe:1", ac=1, ar=rate, f="s16le")
    command = sound.compile(cmd=[ffmpeg, "-nostdin", "-v", "error"])
    out = subprocess.run(command, capture_output=True, timeout=BOUND_S, check=True)
    window = rate // 200  # 5 ms
    samples = np.frombuffer(out.stdout, "<i2").astype(np.float64)
    energy = np.abs(samples[: len(samples) // window * window]).reshape(-1, window).mean(axis=1)
    loud = energy > 0.3 * energy.max()
    begins = np.flatnonzero(loud[1:] & ~loud[:-1]) + 1
    return [first_s + b * window / rate for b in begins]


def av_offsets(path: Path, ffmpeg: str) -> dict[float, float]:
    """Return for each beep, by its second, how many seconds it comes after its moment's pictures.

    A beep begins at a full UTC second; the pictures around it say when that is. A beep at the
    very beginning or end, which may have been cut, does not count, and the time of the first
    picture of a session is often a guess of ffmpeg's.
    """
    shown = [(p.media_s, p.burned_ms) for p in pictures(path, ffmpeg) if p.burned_ms is not None]
    media_s, burned_ms = np.array(shown, np.float64).T
    offsets = {}
    for at in beeps(path, ffmpeg):
        if media_s[1] + 0.2 < at < media_s[-1] - 0.2:
            utc_ms = float(np.interp(at, media_s, burned_ms))
            offsets[at] = ((utc_ms + 500) % 1000 - 500) / 1000
    return offsets
