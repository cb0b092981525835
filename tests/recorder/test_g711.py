"""G.711: its samples, holes that become silence, and what the encoder makes of it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
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
    """Gives samples back as they came, a frame later, as the real one."""

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


@pytest.mark.parametrize("step", [LONGEST_HOLE + 1, -8_000, 1 << 40])
def test_time_that_jumps_begins_anew(step: int) -> None:
    sound, frames = taken()
    for n in range(20):
        at = n * 160 + (step if n >= 10 else 0)
        sound.push(memoryview(bytes([LOUD]) * 160), at, False, 0, n * 20.0)
    assert frames[0].pts == 0
    for n in range(20, 40):
        sound.push(memoryview(bytes([LOUD]) * 160), n * 160 + step, False, 0, n * 20.0)
    assert frames[1].pts == 1_600 + step and len(samples(frames)) == len(frames) * FRAME_SAMPLES


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
    assert len(frames) >= 100 * 160 // FRAME_SAMPLES - 2
    steps = {b.pts - a.pts for a, b in pairwise(frames)}
    assert steps == {FRAME_SAMPLES} and all(f.data for f in frames)
    # what an encoder puts before the first sample
    assert frames[0].pts == 9_000 - FRAME_SAMPLES
