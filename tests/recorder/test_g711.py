"""G.711: its samples, holes that become silence, and what the encoder makes of it."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.rtsp.aac import AacConfig
from recorder.rtsp.g711 import (
    FRAME_SAMPLES,
    LONGEST_HOLE,
    AacEncoder,
    G711Sound,
    _a_law,
    _mu_law,
    can_encode,
)
from recorder.source import Frame

LOUD = 0x80  # the largest sample of mu-law


class Encoder(AacEncoder):
    """Gives samples back as they came, a frame later; the real one is two late."""

    def __init__(self) -> None:
        self.config = AacConfig.parse(bytes.fromhex("1588"))
        self._ahead: list[tuple[bytes, int]] = []

    def encode(self, samples: bytes, pts: int) -> Iterator[tuple[bytes, int]]:
        self._ahead.append((samples, pts))
        if len(self._ahead) > 1:
            yield self._ahead.pop(0)


def taken() -> tuple[G711Sound, list[Frame]]:
    frames: list[Frame] = []
    return G711Sound(frames.append, "PCMU", encoder=Encoder()), frames


def samples(frames: list[Frame]) -> list[float]:
    data = b"".join(bytes(f.data) for f in frames)
    return list(struct.unpack(f"={len(data) // 4}f", data))


@pytest.mark.parametrize(
    ("code", "mu", "a"),
    [
        (0x00, -32_124, -5_504),
        (0x80, 32_124, 5_504),
        (0xFF, 0, 848),
        (0x7F, 0, -848),
        (0xD5, 716, 8),
        (0x55, -716, -8),
        (0x2A, -5_372, -32_256),
        (0xAA, 5_372, 32_256),
    ],
)
def test_samples_of_codes(code: int, mu: int, a: int) -> None:
    assert (_mu_law(code), _a_law(code)) == (mu, a)


@given(st.lists(st.integers(1, 1_200), min_size=4, max_size=20))
def test_packets_of_any_length_give_frames_of_one(sizes: list[int]) -> None:
    sound, frames = taken()
    at = 5_000
    for n, size in enumerate(sizes):
        sound.push(memoryview(bytes([n % 2 * LOUD]) * size), at, False, 0, float(n))
        at += size
    count = max(0, sum(sizes) // FRAME_SAMPLES - 1)  # the encoder is one ahead
    assert [f.pts for f in frames] == [5_000 + n * FRAME_SAMPLES for n in range(count)]
    expected = [(1 if n % 2 else -1) for n, size in enumerate(sizes) for _ in range(size)]
    found = [1 if s > 0 else -1 for s in samples(frames)]
    assert found == expected[: len(found)] and len(found) == count * FRAME_SAMPLES


def test_what_is_missing_is_silence_and_told() -> None:
    sound, frames = taken()
    loud = memoryview(bytes([LOUD]) * 160)
    for n in range(40):
        if n not in (3, 4):
            sound.push(loud, n * 160, False, 2 * (n == 5), n * 20.0)
    heard = samples(frames)
    assert all(s == 0 for s in heard[480:800]) and all(s > 0.9 for s in heard[:480] + heard[800:])
    assert [f.lost for f in frames] == [2, *[0] * (len(frames) - 1)]


def ramp(stamps: Iterable[int], arrivals: Iterable[float], lost: int = 0) -> list[Frame]:
    """Push packets of 160 samples, all of one packet alike, and return the frames."""
    sound, frames = taken()
    for n, (stamp, arrival_ms) in enumerate(zip(stamps, arrivals, strict=True)):
        sound.push(memoryview(bytes([LOUD - n % 100]) * 160), stamp, False, lost, arrival_ms)
        lost = 0
    return frames


STEADY_ARRIVALS = [n * 20.0 for n in range(60)]
HEARD = samples(ramp([n * 160 for n in range(60)], STEADY_ARRIVALS))
ALL = samples(ramp([n * 160 for n in range(80)], [n * 20.0 for n in range(80)]))


@pytest.mark.parametrize("step", [LONGEST_HOLE + 1, 800, -800, -8_000, 1 << 40])
def test_time_that_jumps_costs_no_sound(step: int) -> None:
    stamps = [n * 160 + (step if n >= 10 else 0) for n in range(60)]
    frames = ramp(stamps, STEADY_ARRIVALS)
    assert samples(frames) == HEARD
    assert [f.pts for f in frames] == [
        n * FRAME_SAMPLES + step * (n > 0) for n in range(len(frames))
    ]


@given(st.lists(st.integers(-160, 160), min_size=60, max_size=60))
def test_timestamps_of_a_clock_that_is_not_that_of_the_samples(off: list[int]) -> None:
    """A camera that stamps with the time of day, read to some milliseconds."""
    frames = ramp([1_000 + n * 160 + late for n, late in enumerate(off)], STEADY_ARRIVALS)
    assert samples(frames) == HEARD
    assert all(abs(f.pts - 1_000 - n * FRAME_SAMPLES) <= 320 for n, f in enumerate(frames))


@pytest.mark.parametrize("step", [0, 1, 20, 320, 1_800, 160_000])
def test_timestamps_that_count_something_else(step: int) -> None:
    """Of 90 kHz, in ms, all alike: nothing is made silence of, nothing is lost."""
    assert samples(ramp([n * step for n in range(60)], STEADY_ARRIVALS)) == HEARD


@pytest.mark.parametrize("pause_ms", [100, 500, 1_000])
def test_a_camera_that_sends_no_silence(pause_ms: int) -> None:
    stamps = [n * 160 + (pause_ms * 8 if n >= 10 else 0) for n in range(60)]
    arrivals = [n * 20.0 + (pause_ms if n >= 10 else 0) for n in range(60)]
    frames = ramp(stamps, arrivals)
    heard, silent = samples(frames), pause_ms * 8
    assert not any(heard[1_600 : 1_600 + silent])
    assert heard[:1_600] + heard[1_600 + silent :] == ALL[: len(heard) - silent]
    assert [f.pts for f in frames] == [n * FRAME_SAMPLES for n in range(len(frames))]


def test_after_a_long_pause_time_begins_anew() -> None:
    pause_ms = 5_000
    stamps = [n * 160 + (pause_ms * 8 if n >= 10 else 0) for n in range(60)]
    arrivals = [n * 20.0 + (pause_ms if n >= 10 else 0) for n in range(60)]
    frames = ramp(stamps, arrivals)
    heard, begun = samples(frames), 2 * FRAME_SAMPLES
    assert heard[:1_600] == HEARD[:1_600] and not any(heard[1_600:begun])
    assert heard[begun:] == ALL[1_600 : 1_600 + len(heard) - begun]
    later = [41_600 + n * FRAME_SAMPLES for n in range(len(frames) - 2)]
    assert [f.pts for f in frames] == [0, FRAME_SAMPLES, *later]


def test_a_frame_arrived_with_its_last_sample() -> None:
    """However much later the encoder gives it."""
    frames = ramp([n * 160 for n in range(60)], STEADY_ARRIVALS)
    assert [f.arrival_ms for f in frames] == [
        ((n + 1) * FRAME_SAMPLES - 1) // 160 * 20.0 for n in range(len(frames))
    ]


def test_payloads_that_are_none_or_too_long() -> None:
    sound, frames = taken()
    sound.push(memoryview(b""), 0, False, 0, 0.0)
    sound.push(memoryview(bytes(8_001)), 0, False, 0, 0.0)
    assert sound.malformed == 1 and not frames
    sound.restart()
    for n in range(20):
        sound.push(memoryview(bytes(160)), n * 160, False, 0, 0.0)
    assert frames[0].restarted and not any(f.restarted for f in frames[1:])


def test_the_real_encoder() -> None:
    if not can_encode():
        pytest.skip("PyAV is missing: pip install av")
    frames: list[Frame] = []
    sound = G711Sound(frames.append, "PCMA")
    assert (sound.config.rate, sound.config.channels) == (8_000, 1)
    for n in range(100):
        sound.push(memoryview(bytes([n, 255 - n]) * 80), 9_000 + n * 160, False, 0, n * 20.0)
    came = [(n * FRAME_SAMPLES - 1) // 160 * 20.0 for n in range(1, len(frames))]
    assert [f.arrival_ms for f in frames[1:]] == came
    assert len(frames) >= 100 * 160 // FRAME_SAMPLES - 2
    steps = {b.pts - a.pts for a, b in pairwise(frames)}
    assert steps == {FRAME_SAMPLES} and all(f.data for f in frames)
    # what an encoder puts before the first sample
    assert frames[0].pts == 9_000 - FRAME_SAMPLES
