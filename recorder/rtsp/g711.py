"""G.711 out of RTP (RFC 3551, 4.5.14), encoded again as AAC, which all players know.

The encoder is that of PyAV, which is imported where a camera needs it and nowhere else: it takes
18 MB of a process once, and 0.7 MB for each camera.
"""

from __future__ import annotations

import importlib.util
import struct
from collections import deque
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache
from typing import Any

from recorder.rtsp.aac import AacConfig
from recorder.source import SOUND_ID, Frame

RATE = 8_000  # samples and ticks a second
BIT_RATE = 32_000
FRAME_SAMPLES = 1_024
IN_ENCODER = 3  # frames, with the one that it gives
LONGEST_HOLE = RATE  # samples that are missing and made silence; after more, time begins anew
STEADY = RATE // 25  # samples by which a clock beside that of the samples may be off
MAX_PAYLOAD = RATE  # samples in a packet; cameras send 20 to 100 ms
LAWS = ("PCMU", "PCMA")


def can_encode() -> bool:
    """Whether PyAV is installed; does not import it."""
    return importlib.util.find_spec("av") is not None


def _mu_law(code: int) -> int:
    """ITU-T G.711, table 2a: 16-bit sample of a code."""
    code = ~code & 0xFF
    size = ((code & 0x0F) << 3) + 0x84 << (code >> 4 & 7)
    return 0x84 - size if code & 0x80 else size - 0x84


def _a_law(code: int) -> int:
    """ITU-T G.711, table 1a: 16-bit sample of a code."""
    code ^= 0x55
    size, segment = (code & 0x0F) << 4, code >> 4 & 7
    size = size + 8 if segment == 0 else size + 0x108 << segment - 1
    return size if code & 0x80 else -size


@cache
def _floats(law: str) -> list[bytes]:
    """Return the samples of all codes as 32-bit floats from -1 to 1, in the machine's order."""
    sample = _mu_law if law == "PCMU" else _a_law
    return [struct.pack("=f", sample(code) / 32_768) for code in range(256)]


class AacEncoder:
    """Makes AAC of 1,024 samples at a time."""

    def __init__(self) -> None:
        """Raises ImportError without PyAV."""
        import av

        self._av, self._context = av, av.CodecContext.create("aac", "w")
        self._context.sample_rate, self._context.bit_rate = RATE, BIT_RATE
        self._context.layout, self._context.format = "mono", "fltp"
        self._context.time_base, self._context.thread_count = Fraction(1, RATE), 1
        self._context.open()
        self.config = AacConfig.parse(bytes(self._context.extradata or b""))

    def encode(self, samples: bytes, pts: int) -> Iterator[tuple[bytes, int]]:
        """Take 1,024 floats that begin at `pts`; yield frames of AAC and when each begins.

        The encoder is two frames ahead of what it gives; the first it gives is before the samples.
        """
        frame: Any = self._av.AudioFrame("fltp", "mono", FRAME_SAMPLES)
        frame.sample_rate, frame.pts, frame.time_base = RATE, pts, Fraction(1, RATE)
        frame.planes[0].update(samples)
        for packet in self._context.encode(frame):
            yield bytes(packet), pts if packet.pts is None else packet.pts


class G711Sound:
    """Takes payloads of G.711 and gives frames of AAC, with their timestamps."""

    def __init__(
        self,
        on_frame: Callable[[Frame], None],
        law: str,
        camera_ms: Callable[[int], float | None] = lambda pts: None,
        encoder: AacEncoder | None = None,
    ):
        """`law` is PCMU or PCMA. Raises ImportError without PyAV."""
        self.malformed = 0  # payloads that cannot be read
        self._encoder = AacEncoder() if encoder is None else encoder
        self.config, self.clock_rate = self._encoder.config, RATE
        self._on_frame, self._camera_ms, self._table = on_frame, camera_ms, _floats(law)
        self._silence = self._table[0xFF if law == "PCMU" else 0xD5]
        self._samples = bytearray()  # that are not encoded yet, as floats
        self._next: int | None = None  # timestamp of the sample after them
        self._arrival_ms = 0.0  # of the last packet
        # of frames in the encoder: the timestamp, and the arrival of the last sample
        self._came: deque[tuple[int, float]] = deque(maxlen=IN_ENCODER)
        self._lost, self._restarted = 0, False

    def restart(self) -> None:
        """What comes is another stream; its first frame says so."""
        self._next, self._restarted = None, True

    def push(
        self, payload: memoryview, pts: int, marker: bool, lost: int, arrival_ms: float
    ) -> None:
        """Take the next payload, before which `lost` packets are missing: they become silence."""
        self._lost += lost
        if not 0 < len(payload) <= MAX_PAYLOAD:
            self.malformed += len(payload) > 0  # one without a payload keeps the session alive
            return
        begin = self._begin(pts, lost, arrival_ms)
        self._samples += b"".join(map(self._table.__getitem__, payload))
        self._next, self._arrival_ms = begin + len(payload), arrival_ms
        self._encode(arrival_ms)

    def _begin(self, pts: int, lost: int, arrival_ms: float) -> int:
        """Return the timestamp of the first sample of a payload, after the silence before it.

        Samples follow each other. Timestamps that say otherwise, though nothing is missing and
        nothing was silent, are of another clock or rate, or jumped.
        """
        if self._next is None:
            self._samples.clear()
            return pts
        hole, passed = pts - self._next, (arrival_ms - self._arrival_ms) * RATE / 1000
        is_pause = hole > STEADY and passed > hole / 2
        if hole > 0 and (lost or is_pause):
            long = hole > LONGEST_HOLE
            # to the end of a frame where time begins anew after it
            silent = -len(self._samples) // 4 % FRAME_SAMPLES if long else hole
            self._samples += self._silence * silent
            if long:
                self._next += silent
                self._encode(self._arrival_ms)
            return pts
        return self._next if abs(hole) <= STEADY else pts

    def _encode(self, arrival_ms: float) -> None:
        assert self._next is not None
        while len(self._samples) >= 4 * FRAME_SAMPLES:
            begin = self._next - len(self._samples) // 4
            taken = bytes(self._samples[: 4 * FRAME_SAMPLES])
            del self._samples[: 4 * FRAME_SAMPLES]
            self._came.append((begin, arrival_ms))
            for data, at in self._encoder.encode(taken, begin):
                came_ms = next((ms for first, ms in self._came if first == at), arrival_ms)
                self._send(data, at, came_ms)

    def _send(self, data: bytes, pts: int, arrival_ms: float) -> None:
        lost, restarted = self._lost, self._restarted
        self._lost, self._restarted = 0, False
        self._on_frame(
            Frame(
                SOUND_ID,
                pts,
                True,
                data,
                arrival_ms,
                self._camera_ms(pts),
                lost=lost,
                restarted=restarted,
            )
        )
