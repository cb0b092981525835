"""What can be wrong with a camera, and the bad line between a camera and its viewers."""

from __future__ import annotations

import asyncio
import math
import os
import random
from collections import deque
from collections.abc import Callable

# name: what it does, with the meaning of its value
FAULTS = {
    "drop": "close all connections and refuse new ones for N seconds (5)",
    "silent": "go on being connected but send nothing",
    "refuse-password": "answer 401 whatever the password",
    "no-such-stream": "answer 404",
    "slow-start": "send the first packet only N seconds after PLAY (5)",
    "ppm": "run media time N parts per million fast (2000)",
    "step-clock": "set the camera's clock in sender reports N seconds ahead (3600)",
    "no-reports": "send no sender reports",
    "jump": "jump RTP timestamps by N seconds, once (7200)",
    "from-zero": "count RTP timestamps from 0 again, once",
    "resize": "change to 640x360 in mid-stream; clear changes back",
    "wrong-rate": "declare and stamp 25 pictures a second, take 21",
    "lose": "lose N per cent of the packets (5)",
    "reorder": "send N per cent of the packets one later (5)",
    "late": "send everything N milliseconds later (200)",
    "sound-late": "send sound N milliseconds later than pictures (1000)",
    "stall": "take no picture for N seconds, once, and count timestamps on by picture (0.9)",
    "wild": "send one picture with a timestamp N seconds off, once (3600)",
    "wild-often": "send every 40th picture with a timestamp N seconds off (3600)",
    "same-time": "stamp all pictures alike, or N ticks of 1/90000 s apart (0)",
    "rate": "stamp pictures as if N times as much time passed (0.5)",
    "delay": "delay packets by 0 to N milliseconds, in order (150)",
    "garbage": "send noise instead of pictures",
    "no-keyframe": "send no keyframe for N seconds (60)",
    "b-frames": "change to an encoder with B-frames",
    "no-sound": "promise sound and send none",
}
_DEFAULTS = {
    "drop": 5.0,
    "slow-start": 5.0,
    "ppm": 2000.0,
    "step-clock": 3600.0,
    "jump": 7200.0,
    "lose": 5.0,
    "reorder": 5.0,
    "delay": 150.0,
    "no-keyframe": 60.0,
    "late": 200.0,
    "sound-late": 1000.0,
    "stall": 0.9,
    "wild": 3600.0,
    "wild-often": 3600.0,
    "rate": 0.5,
}
MEDIA_FAULTS = {
    "ppm",
    "jump",
    "from-zero",
    "wrong-rate",
    "rate",
    "stall",
    "wild",
    "wild-often",
    "same-time",
}  # of the packets' timestamps
ONCE = {"jump", "from-zero", "stall", "wild"}  # there is nothing to clear
ENCODER_FAULTS = {"resize", "wrong-rate", "no-keyframe", "b-frames"}
SIGNED = {"ppm", "step-clock", "jump", "wild", "wild-often"}
TIMED = {"drop", "no-keyframe"}  # these end by themselves after their value in seconds

Send = Callable[[int, bool, bytes], None]  # number of the track, is it RTCP, packet


def fault_value(name: str, value: float | None) -> float:
    """Return the value of a fault, its usual one for None; raises ValueError for a wrong one."""
    if name not in FAULTS:
        raise ValueError(f"no fault '{name}'; there are: {', '.join(FAULTS)}")
    amount = _DEFAULTS.get(name, 0.0) if value is None else float(value)
    if not math.isfinite(amount) or (amount < 0 and name not in SIGNED):
        raise ValueError(f"{name}: {value} cannot be; it means: {FAULTS[name]}")
    return amount


class Line:
    """The way from a camera to its viewers, as bad as its faults make it."""

    def __init__(self, faults: dict[str, float], send: Send):
        """`faults` is looked at for every packet and may change."""
        self._faults, self._send = faults, send
        self._held: tuple[int, bool, bytes] | None = None  # changes place with the next
        self._queue: deque[tuple[float, tuple[int, bool, bytes]]] = deque()  # and when it is due
        self._timer: asyncio.TimerHandle | None = None

    def take(self, number: int, is_rtcp: bool, packet: bytes) -> None:
        """Send a packet on, or spoil it, or keep it for a while."""
        later_ms = self._faults.get("late", 0.0)
        if number == 1:
            later_ms += self._faults.get("sound-late", 0.0)
        if later_ms:
            loop = asyncio.get_running_loop()
            loop.call_later(later_ms / 1000, self._take, number, is_rtcp, packet)
        else:
            self._take(number, is_rtcp, packet)

    def _take(self, number: int, is_rtcp: bool, packet: bytes) -> None:
        faults = self._faults
        if not faults and not self._queue and self._held is None:
            self._send(number, is_rtcp, packet)
            return
        if number == 1 and "no-sound" in faults:
            return
        if "silent" in faults or random.random() * 100 < faults.get("lose", 0.0):
            return
        if "garbage" in faults and not is_rtcp:
            packet = packet[:12] + os.urandom(len(packet) - 12)
        held, self._held = self._held, None
        if held is None and random.random() * 100 < faults.get("reorder", 0.0):
            self._held = (number, is_rtcp, packet)
            return
        self._pass((number, is_rtcp, packet))
        if held is not None:
            self._pass(held)

    def close(self) -> None:
        """Forget what is still on the way."""
        self._held = None
        self._queue.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _pass(self, what: tuple[int, bool, bytes]) -> None:
        delay_s = self._faults.get("delay", 0.0) / 1000
        if not delay_s and not self._queue:
            self._send(*what)
            return
        now = asyncio.get_running_loop().time()
        # as a queue in the network does it: later, but not one before the other
        last = self._queue[-1][0] if self._queue else 0.0
        self._queue.append((max(last, now + random.uniform(0, delay_s)), what))
        if len(self._queue) == 1:
            self._wait()

    def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(self._queue[0][0], self._release)

    def _release(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._queue and self._queue[0][0] <= now + 0.001:
            self._send(*self._queue.popleft()[1])
        if self._queue:
            self._wait()
