"""Pictures out of RTP: H.264 (RFC 6184) and H.265 (RFC 7798). Pure.

A picture becomes one frame of NAL units with 4 bytes of length before each (ISO/IEC 14496-15,
5.3 and 8.3), as it was sent: nothing is left out, put in or reordered. Bytes are copied once, from
the packet into the frame.

A NAL unit of which packets are missing ends where the first of them was; what comes of it after
the hole no decoder can read, and it is left out. The frame is kept and marked as damaged. So is
one that begins otherwise than others do, where packets are missing before it.
"""

from __future__ import annotations

import math
import re
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable

from recorder.source import PICTURE_ID, Frame

MAX_FRAME = 16 * 1024 * 1024  # bytes; a larger one is damaged, and ends here
# Some cameras send start codes (ITU-T H.264, annex B) where one NAL unit is due. Small ones are
# always searched for them, large ones until it is clear that this camera sends none.
SMALL = 512  # bytes
SEARCHES = 64  # large NAL units

_START_CODE = re.compile(rb"\x00*\x00\x00\x01")
_LENGTH = struct.Struct(">I").pack_into
_SIZE = struct.Struct(">H").unpack_from
_NO_LENGTH = bytes(4)  # until the NAL unit is whole
_FU_START, _FU_END = 0x80, 0x40
_FIRST_SLICE = 0x80  # first_mb_in_slice is 0, or first_slice_segment_in_pic_flag is 1
_RECOVERY_POINT = 6  # payload type of SEI (H.264, D.2.8; H.265, D.3.8)


class _Pictures(ABC):
    """What both codecs have in common: frames are put together out of NAL units."""

    _header = 0  # bytes of the header of a NAL unit
    _bodiless: tuple[int, ...] = ()  # kinds of NAL units that are a header only
    _before_slices: tuple[int, ...] = ()  # kinds that come before the slices of their picture

    def __init__(
        self,
        on_frame: Callable[[Frame], None],
        camera_ms: Callable[[int], float | None] = lambda pts: None,
    ):
        """`camera_ms` gives the camera's clock (UTC ms) at a timestamp, where it is known."""
        self.malformed = 0  # payloads that cannot be read
        self._on_frame, self._camera_ms = on_frame, camera_ms
        self._pts = 0
        self._sends_markers = False
        self._searches: float = SEARCHES
        self._sent_pts: int | None = None  # of the frame before
        self._sent_marked = False  # it ended with a marker
        self._usual: dict[bool, int] = {}  # kind of NAL unit that frames, key or not, begin with
        self._restarted = False
        self._reset()

    def _reset(self) -> None:
        """Have no frame in hand."""
        self._frame = bytearray()
        self._begun = False  # a packet of it came
        self._arrival_ms = 0.0  # of that packet
        self._nal_at = -1  # where the length of the unfinished NAL unit is to be written
        self._marked = False  # in the midst of that NAL unit: does the frame end there?
        self._has_slice = self._key = self._damaged = False
        self._goes_on = False  # its first slice is not the first of a picture
        self._first_kind = -1  # of its NAL units, where that tells of a hole before them
        self._lost = 0
        self._hole_before = False  # its beginning may be missing

    def restart(self) -> None:
        """What comes is another stream; its first frame says so."""
        # it would have ended with a marker
        self._damaged = self._damaged or (self._sends_markers and not self._marked)
        self._end_frame()
        self._restarted, self._sent_pts = True, None

    # -- the frame in hand ---------------------------------------------------------------

    @property
    def has_begun(self) -> bool:
        """Whether something of a picture came that has not ended."""
        return self._has_slice

    def _place(self, pts: int, lost: int, arrival_ms: float, goes_on: bool) -> None:
        """Say to which frame a payload belongs, before which `lost` packets are missing.

        One that goes on with the NAL unit in hand belongs to it, whatever its timestamp, and what
        the marker of the packet before it said: cameras set either in every packet.
        """
        marked, self._marked = self._marked, False
        if goes_on and self._nal_at >= 0 and not lost:
            return
        if marked and not lost:
            self._end_frame(marked=True)
        if lost:
            self._close_nal()
            self._lost += lost
            self._damaged = self._damaged or self._begun
            self._hole_before = self._hole_before or not self._begun
        if self._begun and pts != self._pts:
            if self._has_slice:
                self._end_frame()
                self._hole_before = lost > 0
            else:  # parameter sets may have the time of the picture before theirs
                if self._damaged and not self._hole_before:  # slices may be missing behind them
                    self._hole_before, self._first_kind = True, -1
                self._begun = self._damaged = False
        if not self._begun:
            self._begun, self._arrival_ms = True, arrival_ms
        self._pts = pts

    def _take_slice(self, key: bool, is_first: bool, arrival_ms: float) -> None:
        """Note a slice; without markers the first one of a picture ends the picture before."""
        if self._has_slice and is_first and not self._sends_markers:
            self._end_frame()
            self._begun, self._arrival_ms = True, arrival_ms
        if not self._has_slice:
            self._has_slice, self._goes_on = True, not is_first
        self._key = self._key or key

    def _take_opening(self, arrival_ms: float) -> None:
        """End the picture before a NAL unit that comes before slices (H.264, 7.4.1.2.3; H.265,
        7.4.2.4.4): some cameras mark no end, and give these the time of that picture.

        Whether this one does the first picture tells."""
        if self._has_slice and not self._sends_markers and self._sent_pts is not None:
            self._end_frame()
            self._begun, self._arrival_ms = True, arrival_ms

    def _take_marker(self) -> None:
        """End the frame; some cameras mark parameter sets and SEI too, which end none.

        In the midst of a NAL unit the next packet tells: some mark every one, others never say
        that a NAL unit ends.
        """
        self._sends_markers = True
        if self._has_slice and self._nal_at >= 0:
            self._marked = True
        elif self._has_slice:
            self._end_frame(marked=True)

    def _end_frame(self, marked: bool = False) -> None:
        self._close_nal()
        if not (self._has_slice and self._frame):
            lost = self._lost
            self._reset()
            self._lost, self._hole_before = lost, lost > 0
            return
        pts = self._pts
        if self._goes_on and self._sent_pts is None:  # the stream begins in its midst
            self._damaged = True
        if self._hole_before:
            is_usual = self._first_kind in (-1, self._usual.get(self._key, self._first_kind))
            self._damaged = self._damaged or self._goes_on or not is_usual
        elif not self._damaged:
            self._usual[self._key] = self._first_kind
        frame = Frame(
            PICTURE_ID,
            pts,
            self._key,
            self._frame,
            self._arrival_ms,
            self._camera_ms(pts),
            self._goes_on and self._is_of_frame_before(pts),
            self._lost,
            self._damaged,
            self._restarted,
        )
        self._sent_pts, self._sent_marked, self._restarted = pts, marked, False
        self._reset()
        self._on_frame(frame)

    def _is_of_frame_before(self, pts: int) -> bool:
        """Say whether a frame that begins in the midst of a picture goes on with the one before.

        Some cameras give each slice a timestamp of its own.
        """
        unmarked = not self._sent_marked and not self._hole_before
        return pts == self._sent_pts or (unmarked and self._sent_pts is not None)

    # -- its NAL units -------------------------------------------------------------------

    @staticmethod
    @abstractmethod
    def _kind(first: int) -> int:
        """Return nal_unit_type by the first byte of a NAL unit."""

    @abstractmethod
    def _note(self, header: bytes, body: memoryview, arrival_ms: float) -> None:
        """Take note of what kind of NAL unit begins; `body` may be its first part only."""

    def _begin_nal(self, header: bytes, body: memoryview, arrival_ms: float) -> None:
        self._close_nal()
        self._note(header, body, arrival_ms)
        if not self._frame:
            self._first_kind = self._kind(header[0])
        self._nal_at = len(self._frame)
        self._frame += _NO_LENGTH + header
        self._frame += body
        self._check_size()

    def _continue_nal(self, body: memoryview) -> None:
        """Take more of a fragmented NAL unit; of one whose beginning is missing nothing is made."""
        if self._nal_at < 0:
            self._damaged = True
            return
        self._frame += body
        if len(self._frame) > MAX_FRAME:
            self._check_size()

    def _add_nal(self, nal: memoryview, arrival_ms: float) -> None:
        self._begin_nal(bytes(nal[: self._header]), nal[self._header :], arrival_ms)
        self._close_nal()

    def _add_all(self, payload: memoryview, at: int, arrival_ms: float) -> None:
        """Take the NAL units of an aggregation packet, each behind 2 bytes of its size."""
        while at + 2 <= len(payload):
            (size,) = _SIZE(payload, at)
            if size == 0:  # padding
                return
            nal = payload[at + 2 : at + 2 + size]
            if len(nal) < max(size, self._header):
                break
            self._add_nal(nal, arrival_ms)
            at += 2 + size
        if at != len(payload):
            self.malformed += 1
            self._damaged = True

    def _close_nal(self) -> None:
        """Write the length of the unfinished NAL unit, where there is one."""
        at, self._nal_at = self._nal_at, -1
        if at < 0:
            return
        frame = self._frame
        size = len(frame) - at - 4
        if size <= self._header and self._kind(frame[at + 4]) not in self._bodiless:
            del frame[at:]  # empty fragments
            return
        if size <= SMALL or self._searches > 0:
            self._searches -= size > SMALL
            if frame.find(b"\0\0\1", at + 4) >= 0:
                self._split(at)
                return
        _LENGTH(frame, at, size)

    def _split(self, at: int) -> None:
        """Make NAL units of what stands between start codes, from `at` on."""
        self._searches = math.inf  # from now on all of them
        data = bytes(self._frame[at + 4 :])
        del self._frame[at:]
        for n, part in enumerate(data.split(b"\0\0\1")):
            # zeros before a start code are of no NAL unit, and none ends with one (H.264, B.1)
            if nal := part.rstrip(b"\0"):
                header, body = nal[: self._header], nal[self._header :]
                if n:  # the first one was noted when it began
                    self._note(header, memoryview(body), self._arrival_ms)
                self._frame += len(nal).to_bytes(4, "big") + nal

    def _check_size(self) -> None:
        if len(self._frame) > MAX_FRAME:
            self.malformed += not self._has_slice
            self._damaged = True
            self._end_frame()


class H264Pictures(_Pictures):
    """Takes the payloads of RFC 6184, not interleaved, and gives frames."""

    _header = 1
    _bodiless = 10, 11  # end of sequence, of stream
    _before_slices = 6, 7, 8, 9  # SEI, SPS, PPS, access unit delimiter

    @staticmethod
    def _kind(first: int) -> int:
        return first & 0x1F

    def push(
        self, payload: memoryview, pts: int, marker: bool, lost: int, arrival_ms: float
    ) -> None:
        """Take the next payload, before which `lost` packets are missing.

        `pts` is its timestamp, `arrival_ms` when it arrived (UTC). One without a payload is only
        to keep the session alive, or padding: whatever its time, it ends no picture.
        """
        if not payload and not lost:
            return
        if lost or pts != self._pts or self._marked or not self._begun:
            goes_on = len(payload) > 1 and payload[0] & 0x1F == 28 and not payload[1] & _FU_START
            self._place(pts, lost, arrival_ms, goes_on)
        first = payload[0] if payload else 0
        kind = first & 0x1F
        if kind == 28 and len(payload) > 1:  # FU-A, 5.8
            fu = payload[1]
            if fu & _FU_START:
                header = bytes((first & 0xE0 | fu & 0x1F,))
                self._begin_nal(header, payload[2:], arrival_ms)
            else:
                self._continue_nal(payload[2:])
            if fu & _FU_END:
                self._close_nal()
        elif 0 < kind < 24 or (kind == 0 and _START_CODE.match(payload)):
            self._add_nal(payload, arrival_ms)
        elif kind == 24:  # STAP-A, 5.7.1
            self._add_all(payload, 1, arrival_ms)
        elif payload:
            self.malformed += 1
        if marker:
            self._take_marker()

    def _note(self, header: bytes, body: memoryview, arrival_ms: float) -> None:
        """Table 7-1 of H.264. All that H.265 sends looks like no slice, or like a part of one (2)
        that never begins a picture: where it is sent under this name, it makes none."""
        kind = self._kind(header[0])
        if kind in self._before_slices:
            self._take_opening(arrival_ms)
        is_first = not body or body[0] & _FIRST_SLICE > 0
        if kind in (1, 5) or (kind == 2 and (is_first or self._has_slice)):
            self._take_slice(kind == 5, is_first, arrival_ms)
        elif kind == 6 and _has_recovery_point(body):
            self._key = True  # decoding may begin here: intra refresh


class H265Pictures(_Pictures):
    """Takes the payloads of RFC 7798, without decoding order numbers, and gives frames."""

    _header = 2
    _bodiless = 36, 37  # end of sequence, of bitstream
    _before_slices = 32, 33, 34, 35, 39  # VPS, SPS, PPS, access unit delimiter, SEI

    @staticmethod
    def _kind(first: int) -> int:
        return first >> 1 & 0x3F

    def push(
        self, payload: memoryview, pts: int, marker: bool, lost: int, arrival_ms: float
    ) -> None:
        """Take the next payload, as `H264Pictures.push`."""
        if not payload and not lost:
            return
        if lost or pts != self._pts or self._marked or not self._begun:
            is_fu = len(payload) > 2 and payload[0] >> 1 & 0x3F == 49
            self._place(pts, lost, arrival_ms, is_fu and not payload[2] & _FU_START)
        kind = payload[0] >> 1 & 0x3F if payload else 63
        if kind == 49 and len(payload) > 2:  # FU, 4.4.3
            fu = payload[2]
            if fu & _FU_START:
                header = bytes((payload[0] & 0x81 | (fu & 0x3F) << 1, payload[1]))
                self._begin_nal(header, payload[3:], arrival_ms)
            else:
                self._continue_nal(payload[3:])
            if fu & _FU_END:
                self._close_nal()
        elif kind == 48:  # AP, 4.4.2
            self._add_all(payload, 2, arrival_ms)
        elif kind < 48 and len(payload) > 1:
            self._add_nal(payload, arrival_ms)
        elif payload:
            self.malformed += 1
        if marker:
            self._take_marker()

    def _note(self, header: bytes, body: memoryview, arrival_ms: float) -> None:
        """Table 7-1 of H.265. A temporal id of 0 is none: a start code begins so."""
        kind = self._kind(header[0])
        if kind in self._before_slices:
            self._take_opening(arrival_ms)
        if kind < 32 and len(header) > 1 and header[1] & 7:
            is_first = not body or body[0] & _FIRST_SLICE > 0
            self._take_slice(16 <= kind <= 23, is_first, arrival_ms)
        elif kind == 39 and _has_recovery_point(body):  # a prefix SEI
            self._key = True


def _has_recovery_point(sei: bytes | memoryview) -> bool:
    """Look through the messages of an SEI NAL unit without its header.

    H.264, 7.3.2.3.1, and H.265, 7.3.5.
    """
    sei = bytes(sei[:SMALL]).replace(b"\0\0\3", b"\0\0")  # emulation prevention, 7.3.1.1 of both
    at, end = 0, len(sei)
    while at + 2 < end:
        values = []
        for _ in range(2):  # type, size
            value = 0
            while at < end and sei[at] == 0xFF:
                value, at = value + 255, at + 1
            values.append(value + (sei[at] if at < end else 0))
            at += 1
        if values[0] == _RECOVERY_POINT:
            return True
        at += values[1]
    return False
