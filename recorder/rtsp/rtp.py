"""RTP and RTCP of one track (RFC 3550): payloads in order, and what is missing.

Pure. Packets are views that are valid for the call only; what has to wait is copied.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Protocol

from recorder.rtsp import packets
from recorder.rtsp.packets import HEADER, HEADER_BYTES, PLAIN, RTCP_KINDS, VERSION, signed
from recorder.rtsp.sender_clock import SenderClock
from recorder.source import PacketCounts

MAX_LOST = 3_000  # packets in a row; a longer jump is another count (RFC 3550, A.1)
OUTAGE_MS = 1_000.0  # without a packet, after which more than MAX_LOST may be missing
MAX_LATE = 100  # packets that one may come after its place
MAX_STAMP_STEP = 1 << 22  # of timestamps between neighbours of one count: 46 s of 90 kHz
FAR = 1 << 30  # of timestamps: one is wild, or the camera counts from elsewhere
STATIC = 34  # payload types up to here have a codec of their own (RFC 3551, 6)
COMMON = 20  # holes in a row that the other track's packets fill: one counter counts both
OTHERS = 20  # packets in a row of another payload type: the description named a wrong one
SILENT_MS = 3_000.0  # without a packet of ours: what comes beside it may be what goes on
REMEMBERED = 512  # numbers that were given up, to tell a late packet from a doubled one
WINDOW, WAIT_MS = 64, 100.0  # over UDP a packet is waited for so many others, and so long


class Payloads(Protocol):
    """Who takes the payloads of a track, in order."""

    def push(
        self, payload: memoryview, pts: int, marker: bool, lost: int, arrival_ms: float
    ) -> None:
        """Take a payload, valid until this returns; `lost` packets are missing before it.

        `pts` is its timestamp without the wrap at 32 bits.
        """

    def restart(self) -> None:
        """What comes is another stream: the camera counts anew."""


class _BufferedPacket:
    """A copy of a packet that waits, with what its header says."""

    __slots__ = ("arrival_ms", "header", "packet")

    def __init__(self, packet: memoryview, header: tuple[int, ...], arrival_ms: float):
        self.packet, self.header, self.arrival_ms = bytes(packet), header, arrival_ms


class RtpReceiver:
    """Takes the packets of one track and hands on their payloads, in order."""

    def __init__(
        self,
        payload_type: int,
        clock_rate: int,
        payloads: Payloads,
        on_bye: Callable[[], None] = lambda: None,
    ):
        """`clock_rate` is that of timestamps, per second.

        `on_bye` is told when the camera says that the stream ends.
        """
        self.counts = PacketCounts()
        self.window = 0  # for how many packets one is waited for: over TCP there is no sense in it
        self.beside: RtpReceiver | None = None  # of the camera's other track
        self.static_type: int | None = None  # payload type that has its codec anyway
        self._on_bye = on_bye
        self.payload_type, self._clock_rate = payload_type, clock_rate
        self._payloads = payloads
        self._ssrc: int | None = None
        self._next = 0  # number
        self._stamp = self._pts = 0  # of the newest packet, as it was sent and without the wrap
        self._left: tuple[int, int] | None = None  # the same, before a far step
        self._lost = 0  # packets since the last payload
        self._unsettled = False  # something waits
        self._waiting: dict[int, _BufferedPacket] = {}  # by number
        self._suspect: _BufferedPacket | None = None  # does another stream begin with it?
        self._given_up: dict[int, None] = {}  # numbers
        self._other, self._others = (-1, 0, 0), 0  # payload type, SSRC and next number; how many
        self._again, self._repeats = b"", False  # a packet that came again; do numbers stand still?
        self._candidate: int | None = None  # SSRC that was not plausible
        self._before: tuple[int, int] | None = None  # SSRC and next number of the stream before
        self._foreign: int | None = None  # SSRC of a stream that comes beside ours
        self.foreigners = 0  # its packets, which are strays
        self._common = 0  # holes in a row up to where the other track is
        self.clock = SenderClock(clock_rate)
        self._begun = (0, 0, 0)  # this stream's first number; packets received and lost before it
        self._begun_ms = 0.0  # when it came
        self._reported = (0, 0)  # packets of it received and lost by the last report
        self._jitter = self._stamp_arrival_ms = 0.0  # in ticks; of the newest timestamp

    # -- RTP -----------------------------------------------------------------------------

    def push(self, packet: memoryview, arrival_ms: float) -> None:
        """Take a packet that arrived at `arrival_ms` (UTC); RTCP is understood here too."""
        try:
            header = HEADER(packet)
        except struct.error:
            self.counts.malformed += 1
            return
        head, kind, number, stamp, ssrc = header
        if number == self._next and ssrc == self._ssrc and kind & 0x7F == self.payload_type:
            self._deliver(packet, head, kind, stamp, arrival_ms)
            if self._unsettled:
                self._settle(arrival_ms)
        else:
            self._push_odd(packet, header, arrival_ms)

    def expire(self, now_ms: float) -> None:
        """Wait no longer for packets that are missing too long (UTC ms); over UDP only."""
        while self._waiting and now_ms - self._waiting[self._first()].arrival_ms >= WAIT_MS:
            self._give_up_one()

    def _deliver(
        self, packet: memoryview, head: int, kind: int, stamp: int, arrival_ms: float
    ) -> None:
        """Hand on the payload of the packet whose turn it is."""
        self._next = self._next + 1 & 0xFFFF
        self.counts.received += 1
        if stamp != self._stamp:
            step = signed(stamp - self._stamp, 32)
            if not -FAR < step < FAR:
                step = self._far_step(stamp, step)
            self._pts += step
            self._stamp = stamp
            came = (arrival_ms - self._stamp_arrival_ms) * self._clock_rate / 1000
            self._jitter += (abs(came - step) - self._jitter) / 16  # RFC 3550, A.8, by pictures
            self._stamp_arrival_ms = arrival_ms
        payload = packet[HEADER_BYTES:] if head == PLAIN else packets.payload_of(packet, head)
        if payload is None:
            self.counts.malformed += 1
            self._lost += 1
            return
        lost, self._lost = self._lost, 0
        self._payloads.push(payload, self._pts, kind > 0x7F, lost, arrival_ms)

    def _far_step(self, stamp: int, step: int) -> int:
        """Return a step that may be of either sign: that of a wild timestamp and the one back
        come to what is between its neighbours."""
        left, self._left = self._left, (self._stamp, self._pts)
        if left is not None and abs(back := signed(stamp - left[0], 32)) < FAR:
            self._left = None
            return left[1] + back - self._pts
        return step

    def _deliver_waiting(self, waiting: _BufferedPacket) -> None:
        head, kind, _, stamp, _ = waiting.header
        arrival_ms = max(waiting.arrival_ms, self._stamp_arrival_ms)  # when all before it were here
        self._deliver(memoryview(waiting.packet), head, kind, stamp, arrival_ms)

    def _push_odd(
        self, packet: memoryview, header: tuple[int, int, int, int, int], arrival_ms: float
    ) -> None:
        """Take a packet that is not simply the next one."""
        head, kind, number, stamp, ssrc = header
        if head >> 6 != VERSION:
            self.counts.malformed += 1
            return
        if kind & 0x7F != self.payload_type:
            if kind in RTCP_KINDS:
                self.push_rtcp(packet, arrival_ms)
                return
            self.counts.strays += 1
            if ssrc == self._ssrc and number == self._next:  # of the same count
                self._next = number + 1 & 0xFFFF
            elif self._ssrc is None:
                self._note_other_type(kind & 0x7F, ssrc, number)
            return
        if self._ssrc is None:
            self._begin(ssrc, number, stamp, arrival_ms)
        if ssrc == self._foreign and arrival_ms - self._stamp_arrival_ms < SILENT_MS:
            self.counts.strays += 1
            self.foreigners += 1
            return
        ahead = signed(number - self._next, 16)
        if ahead > 0 and ssrc == self._ssrc and self._is_common(number):
            ahead, self._next = 0, number
        if ahead == 0:  # with another SSRC too: its numbers go on
            self._ssrc = ssrc
            self._deliver(packet, head, kind, stamp, arrival_ms)
            self._settle(arrival_ms)
        elif (
            ssrc != self._ssrc
            or not -MAX_LATE <= ahead <= MAX_LOST
            or abs(signed(stamp - self._stamp, 32)) > MAX_STAMP_STEP
        ):
            self._push_suspect(_BufferedPacket(packet, header, arrival_ms))
        elif ahead == -1 and self._stands_still(packet):
            self._next = number
            self._deliver(packet, head, kind, stamp, arrival_ms)
            self._settle(arrival_ms)
        elif ahead < 0 and not self.window and signed(stamp - self._stamp, 32) > 0:
            # later than all that came: over TCP no packet that was held up, but another count
            self._push_suspect(_BufferedPacket(packet, header, arrival_ms))
        elif ahead < 0 or number in self._waiting:
            self._count_again(number)
        else:
            self._push_ahead(packet, header, arrival_ms)

    def _is_common(self, number: int) -> bool:
        """Say whether the numbers before this one are the other track's: some cameras count both
        tracks by one counter. Over TCP only; that many holes in a row end there is no chance."""
        beside = self.beside
        fits = not self.window and beside is not None and beside._next == number
        if self._common <= COMMON:
            self._common = self._common + 1 if fits else 0
        return fits and self._common > COMMON

    def _stands_still(self, packet: memoryview) -> bool:
        """Say whether a packet with the number of the one before is another one all the same.

        Some cameras count pictures, or nothing. Of three with one number two that differ tell.
        """
        if not self._repeats and not self.window:
            before, self._again = self._again, bytes(packet)
            if before[2:4] == self._again[2:4] and before != self._again:
                self._repeats = True
                self._lost += 1  # the one before was left out
                self.counts.lost += 1
        return self._repeats

    def _note_other_type(self, payload_type: int, ssrc: int, number: int) -> None:
        """Take a payload type for that of the track where nothing else has come: some descriptions
        name another one. One that has another codec, such as the other law of G.711, is not it."""
        self._others = 1 + self._others * (self._other == (payload_type, ssrc, number))
        self._other = payload_type, ssrc, number + 1 & 0xFFFF
        may_be = payload_type > STATIC or payload_type == self.static_type
        if self._others >= OTHERS and may_be:
            self.payload_type = payload_type

    def _begin(self, ssrc: int, number: int, stamp: int, arrival_ms: float) -> None:
        self._pts = stamp if self._ssrc is None else self._pts + signed(stamp - self._stamp, 32)
        self._ssrc, self._next, self._stamp = ssrc, number, stamp
        self._left = None
        self._begun_ms = arrival_ms
        self._begun = number, self.counts.received, self.counts.lost
        self._reported = (0, 0)
        self._jitter, self._stamp_arrival_ms = 0.0, arrival_ms
        self.clock.begin(ssrc, stamp, self._pts)

    def _count_again(self, number: int) -> None:
        if number in self._given_up:
            del self._given_up[number]
            self.counts.late += 1
        else:
            self.counts.doubled += 1

    def _push_ahead(
        self, packet: memoryview, header: tuple[int, int, int, int, int], arrival_ms: float
    ) -> None:
        """Take a packet before which others are missing: wait for them, or no longer."""
        head, kind, number, stamp, _ = header
        while self._waiting and number - self._next & 0xFFFF > self.window:
            self._give_up_one()
        ahead = number - self._next & 0xFFFF
        if 0 < ahead <= self.window:
            self._waiting[number] = _BufferedPacket(packet, header, arrival_ms)
            self._unsettled = True
            self.expire(arrival_ms)
            return
        self._give_up_to(number)
        self._deliver(packet, head, kind, stamp, arrival_ms)
        self._settle(arrival_ms)

    def _first(self) -> int:
        """Return the number of the first packet that waits."""
        return min(self._waiting, key=lambda number: number - self._next & 0xFFFF)

    def _give_up_one(self) -> None:
        """Wait no longer for what is missing before the first packet that waits."""
        self._give_up_to(self._first())
        self._release()

    def _give_up_to(self, number: int) -> None:
        """Wait no longer for what is missing before `number`."""
        missing = number - self._next & 0xFFFF
        self._lost += missing
        self.counts.lost += missing
        for n in range(max(0, missing - REMEMBERED), missing):
            self._given_up[self._next + n & 0xFFFF] = None
        while len(self._given_up) > REMEMBERED:
            del self._given_up[next(iter(self._given_up))]
        self._next = number

    def _release(self) -> None:
        """Hand on what waited for its turn."""
        while (waiting := self._waiting.pop(self._next, None)) is not None:
            self._deliver_waiting(waiting)

    def _settle(self, arrival_ms: float) -> None:
        """After a packet whose turn it was: others may be next, and a suspect was a stray."""
        if self._suspect is not None:
            self._suspect = None
            self.counts.strays += 1
        self._release()
        self.expire(arrival_ms)
        self._unsettled = bool(self._waiting)

    def _push_suspect(self, packet: _BufferedPacket) -> None:
        """Take a packet that does not fit; two in a row that fit each other are a new stream."""
        before = self._suspect
        self._suspect, self._unsettled = packet, True
        if before is None:
            return
        (_, _, number, stamp, ssrc), now = before.header, packet.header
        if now[4] != ssrc or now[2] != (number + 1 & 0xFFFF):
            self.counts.strays += 1
            return
        while self._waiting:
            self._give_up_one()
        self._suspect, self._unsettled = None, False
        if self._is_outage(before):
            self._give_up_to(number)
        else:
            self.counts.restarts += 1
            self._lost = 0
            self.clock.restart()
            self._given_up.clear()
            self._note_foreign(ssrc, number)
            self._begin(ssrc, number, stamp, before.arrival_ms)
            self._payloads.restart()
        self._deliver_waiting(before)
        self._deliver_waiting(packet)

    def _note_foreign(self, ssrc: int, number: int) -> None:
        """Know a stream for another one that comes beside ours, where ours goes on after it.

        Some cameras send on a connection what was for one before it (a session that nobody ended).
        """
        assert self._ssrc is not None
        before, self._before, self._foreign = self._before, (self._ssrc, self._next), None
        goes_on = before is not None and ssrc == before[0] != self._ssrc
        if before is not None and goes_on and number - before[1] & 0xFFFF <= MAX_LOST:
            self._foreign = self._ssrc

    def _is_outage(self, packet: _BufferedPacket) -> bool:
        """Say whether the network lost all that was sent before a packet, more than MAX_LOST.

        Nothing came for as long as timestamps went on, and about as many numbers are missing as
        came in such a time before. A camera that counts anew hardly hits that by chance.
        """
        _, _, number, stamp, ssrc = packet.header
        passed_ms = packet.arrival_ms - self._stamp_arrival_ms
        step_ms = signed(stamp - self._stamp, 32) * 1000 / self._clock_rate
        if ssrc != self._ssrc or passed_ms < OUTAGE_MS or abs(step_ms - passed_ms) > OUTAGE_MS:
            return False
        came = self.counts.received - self._begun[1]
        usual = came * passed_ms / max(OUTAGE_MS, self._stamp_arrival_ms - self._begun_ms)
        return usual / 2 <= number - self._next & 0xFFFF <= usual * 2

    def is_plausible(self, head: memoryview) -> bool:
        """Say whether a packet of this track, or RTCP, can begin with these 12 bytes."""
        if len(head) < HEADER_BYTES:
            return False
        first, kind, _, _, ssrc = HEADER(head)
        if first >> 6 != VERSION or kind & 0x7F != self.payload_type:
            return packets.is_plausible_rtcp(head)
        if self._ssrc is None or ssrc in (self._ssrc, self._candidate):
            return True
        self._candidate = ssrc  # stray bytes do not say the same again
        return False

    # -- RTCP ----------------------------------------------------------------------------

    def push_rtcp(self, packet: memoryview, arrival_ms: float) -> None:
        """Take a compound packet; what is malformed is counted and otherwise ignored.

        RTP is understood here too: some cameras send it where RTCP belongs.
        """
        if len(packet) >= HEADER_BYTES and packet[1] not in RTCP_KINDS:
            self.push(packet, arrival_ms)
            return
        self.counts.rtcp += 1
        at, end = 0, len(packet)
        while at < end:
            if end - at < 4:
                self.counts.malformed += 1
                return
            head, kind, words = packets.RTCP_HEADER(packet, at)
            stop = at + 4 * (words + 1)
            if head >> 6 != VERSION or stop > end:
                self.counts.malformed += 1
                return
            if kind == packets.SENDER_REPORT and stop - at >= 28:
                self.clock.take(packet, at + 4, arrival_ms, self._ssrc, self._stamp, self._pts)
            elif kind == packets.BYE and self._ssrc is not None:
                sources = struct.unpack_from(f">{min(head & 31, words)}I", packet, at + 4)
                if self._ssrc in sources:
                    self._on_bye()
            at = stop

    def receiver_report(self, own_ssrc: int, name: bytes, now_ms: float) -> bytes:
        """Return a compound packet: what came of this track, and who we are.

        `now_ms` is by the clock of arrivals, `name` is the CNAME. Each report tells the share of
        packets that were lost since the one before.
        """
        block = b"" if self._ssrc is None else self._report_block(self._ssrc, now_ms)
        return packets.receiver_report(own_ssrc, name, block)

    def _report_block(self, ssrc: int, now_ms: float) -> bytes:
        first, *before = self._begun
        received, lost = self.counts.received - before[0], self.counts.lost - before[1]
        highest = first + received + lost - 1
        highest += signed(self._next - 1 - highest, 16)  # others of this count passed, too
        newly, newly_lost = received - self._reported[0], lost - self._reported[1]
        self._reported = received, lost
        share = min(255, newly_lost * 256 // max(1, newly + newly_lost))
        lost = share << 24 | min(packets.MOST_LOST, lost)
        jitter = min(0xFFFFFFFF, int(self._jitter))
        newest = self.clock.newest(now_ms)
        return packets.REPORT_BLOCK(ssrc, lost, highest & 0xFFFFFFFF, jitter, *newest)

    def aligned_ms(self, pts: int) -> float | None:
        """Return that by which the two tracks may be aligned.

        None too where reports of either tell whole seconds: their clocks would differ by as much.
        """
        coarse = self.clock.tells_seconds or (self.beside or self).clock.tells_seconds
        return None if coarse else self.clock.camera_ms(pts)
