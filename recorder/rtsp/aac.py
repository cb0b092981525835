"""AAC out of RTP (RFC 3640, modes AAC-hbr and AAC-lbr, not interleaved). Pure.

A frame of which packets are missing cannot be decoded: it is left out, and the next one says how
many packets were lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from recorder.bits import Bits
from recorder.source import SOUND_ID, Frame

MAX_HEADERS = 4096  # bits of a packet's AU headers, those of 256 frames; cameras send a few
MOST_OF_FILE = 64  # frames of a packet without AU headers
MAX_FRAME = 8191  # bytes; AAC-hbr can say no more (RFC 3640, 3.3.6)

# ISO/IEC 14496-3, table 1.18
_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
_GENERAL_AUDIO = (1, 2, 3, 4, 6, 7, 17, 19, 20, 21, 22, 23)  # object types, 1.6.2.1
_WITH_EXTENSION = (5, 29)  # SBR, PS
_NOT_READ = (
    "ctsdeltalength",
    "dtsdeltalength",
    "randomaccessindication",
    "streamstateindication",
    "auxiliarydatasizelength",
    "constantsize",
)
# bits of AU-size, AU-Index and AU-Index-delta where fmtp does not say them (3.3.6, 3.3.5)
_BITS = {"sizelength": 13, "indexlength": 3, "indexdeltalength": 3}
_LOW_RATE_BITS = {"sizelength": 6, "indexlength": 2, "indexdeltalength": 2}


class UnsupportedSound(ValueError):
    """Sound that is not read here; the text says why."""


@dataclass(frozen=True, slots=True)
class AacConfig:
    """What an AudioSpecificConfig says (ISO/IEC 14496-3, 1.6.2.1); `rate` is in Hz."""

    data: bytes
    rate: int
    channels: int
    frame_samples: int

    @classmethod
    def parse(cls, data: bytes) -> AacConfig:
        """Read a configuration; raises UnsupportedSound."""
        try:
            bits = Bits(data)
            kind, rate, channels = _object_type(bits), _rate(bits), bits.u(4)
            if kind in _WITH_EXTENSION:  # frames are of the core below
                _rate(bits)
                kind = _object_type(bits)
            if kind not in _GENERAL_AUDIO or not rate or not channels:
                raise UnsupportedSound(f"AAC of object type {kind} with {channels} channels")
            return cls(data, rate, channels, 960 if bits.u(1) else 1024)
        except IndexError:
            raise UnsupportedSound("an AAC configuration that ends early") from None


def _object_type(bits: Bits) -> int:
    kind = bits.u(5)
    return 32 + bits.u(6) if kind == 31 else kind


def _rate(bits: Bits) -> int:
    index = bits.u(4)
    if index == 15:
        return bits.u(24)
    return _RATES[index] if index < len(_RATES) else 0


class AacFrames:
    """Takes the payloads of RFC 3640 and gives frames; of each the timestamp is told."""

    def __init__(
        self,
        on_frame: Callable[[Frame], None],
        parameters: Mapping[str, str],
        clock_rate: int = 0,
        camera_ms: Callable[[int], float | None] = lambda pts: None,
    ):
        """`parameters` are those of fmtp, `clock_rate` that of timestamps, per second.

        One of 0 is that of the samples, as is usual (4.1). Raises UnsupportedSound.
        """
        self.malformed = 0  # payloads that cannot be read
        self._on_frame, self._camera_ms = on_frame, camera_ms
        self._size_bits, self._index_bits, self._delta_bits = _header_bits(parameters)
        try:
            self.config = AacConfig.parse(bytes.fromhex(parameters.get("config", "")))
        except ValueError as error:
            raise UnsupportedSound(str(error)) from None
        self.clock_rate = clock_rate or self.config.rate
        self._frame_ticks = self.config.frame_samples * self.clock_rate / self.config.rate
        self._fragment = bytearray()
        self._fragment_size = 0  # of the whole frame; 0 for none
        self._fragment_pts = 0
        self._lost, self._restarted = 0, False

    def restart(self) -> None:
        """What comes is another stream; its first frame says so."""
        self._fragment_size, self._restarted = 0, True

    def push(
        self, payload: memoryview, pts: int, marker: bool, lost: int, arrival_ms: float
    ) -> None:
        """Take the next payload, before which `lost` packets are missing.

        `pts` is its timestamp, `arrival_ms` when it arrived (UTC).
        """
        if lost:
            self._lost += lost
            self._fragment_size = 0
        sizes = self._sizes(payload)
        if not sizes:
            frames = frames_of_file(bytes(payload))
            self.malformed += not frames
            for n, data in enumerate(frames):
                self._send(data, pts + round(n * self._frame_ticks), arrival_ms)
            return
        at = 2 + (int.from_bytes(payload[:2], "big") + 7) // 8
        if len(sizes) == 1 and (sizes[0] > len(payload) - at or self._fragment_size):
            self._add_fragment(payload[at:], sizes[0], pts, arrival_ms)
            return
        self._fragment_size = 0
        for n, size in enumerate(sizes):
            if at + size > len(payload):
                self.malformed += 1
                return
            if size:
                data = without_adts(bytes(payload[at : at + size]))
                self._send(data, pts + round(n * self._frame_ticks), arrival_ms)
            at += size

    def _sizes(self, payload: memoryview) -> list[int]:
        """Return the sizes of the frames by the AU headers (3.2.1); none: it cannot be read."""
        bits = int.from_bytes(payload[:2], "big")
        size = (bits + 7) // 8
        if len(payload) < 2 + size or bits > MAX_HEADERS:
            return []
        value, left = int.from_bytes(payload[2 : 2 + size], "big") >> 8 * size - bits, bits
        sizes = []
        index_bits = self._index_bits
        while left >= self._size_bits + index_bits:
            left -= self._size_bits
            sizes.append(value >> left & (1 << self._size_bits) - 1)
            left -= index_bits
            if value >> left & (1 << index_bits) - 1:  # interleaved
                return []
            index_bits = self._delta_bits
        return sizes

    def _add_fragment(self, data: memoryview, size: int, pts: int, arrival_ms: float) -> None:
        """Take a part of one frame; all parts say how large it is (3.2.3.1)."""
        if not self._fragment_size or (size, pts) != (self._fragment_size, self._fragment_pts):
            self._fragment = bytearray()
            self._fragment_size, self._fragment_pts = size, pts
        self._fragment += data
        if len(self._fragment) > min(size, MAX_FRAME):
            self.malformed += 1
            self._fragment_size = 0
        elif len(self._fragment) == size:
            self._fragment_size = 0
            self._send(without_adts(bytes(self._fragment)), pts, arrival_ms)

    def _send(self, data: bytes, pts: int, arrival_ms: float) -> None:
        frame = Frame(
            SOUND_ID,
            pts,
            True,
            data,
            arrival_ms,
            self._camera_ms(pts),
            lost=self._lost,
            restarted=self._restarted,
        )
        self._lost, self._restarted = 0, False
        self._on_frame(frame)


def without_adts(frame: bytes) -> bytes:
    """Return a frame without the header of a file that some cameras leave before it.

    The header (ISO/IEC 14496-3, 1.A.2.2.1) says how long both are; no frame begins so by itself.
    """
    if len(frame) < 7 or frame[0] != 0xFF or frame[1] & 0xF6 != 0xF0 or frame[6] & 3:
        return frame
    size, head = int.from_bytes(frame[3:6], "big") >> 5 & 0x1FFF, 7 if frame[1] & 1 else 9
    return frame[head:] if size == len(frame) > head else frame


def frames_of_file(data: bytes) -> list[bytes]:
    """Return frames that come as a file has them, one after the other, without their headers; none
    where this is something else. Some cameras send them so, and nothing before them.
    """
    frames: list[bytes] = []
    at = 0
    while at < len(data) and len(frames) < MOST_OF_FILE:
        size = int.from_bytes(data[at + 3 : at + 6], "big") >> 5 & 0x1FFF
        frame = data[at : at + size]
        if len(frame) < size or (bare := without_adts(frame)) is frame:
            return []
        frames.append(bare)
        at += size
    return frames


def _header_bits(parameters: Mapping[str, str]) -> list[int]:
    """Return the bits of AU-size, AU-Index and AU-Index-delta; raises UnsupportedSound."""
    usual = _LOW_RATE_BITS if parameters.get("mode", "").lower() == "aac-lbr" else _BITS
    try:
        more = [name for name in _NOT_READ if int(parameters.get(name) or 0)]
        found = [int(parameters.get(name) or bits) for name, bits in usual.items()]
    except ValueError:
        raise UnsupportedSound("AAC whose description cannot be read") from None
    if more or not 0 < found[0] <= 16 or not all(0 <= bits <= 16 for bits in found[1:]):
        raise UnsupportedSound("AAC whose packets have more in them than the sizes of frames")
    return found
