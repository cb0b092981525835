"""One simulated camera: its encoder, its faults, and the packets that its viewers get."""

from __future__ import annotations

import asyncio
import os
import random
import re
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from kuager.simulator.encoder import AUDIO_RATES, Encoder
from kuager.simulator.picture import Room

NTP_EPOCH_S = 2_208_988_800  # 1900 to 1970 (RFC 5905, 6)
REPORT_S = 2.0
DEFAULT_DROP_S = 5.0

# name: what it does, with the meaning of its value
FAULTS = {
    "drop": "close all connections and refuse new ones for N seconds (5)",
    "silent": "go on being connected but send nothing",
    "refuse-password": "answer 401 whatever the password",
    "no-such-stream": "answer 404",
    "slow-start": "send the first packet only N seconds after PLAY (5)",
    "ppm": "run media time N parts per million fast",
    "step-clock": "set the camera's clock in sender reports N seconds ahead (3600)",
    "no-reports": "send no sender reports",
    "jump": "jump RTP timestamps by N seconds, once (7200)",
    "resize": "change to 640x360 in mid-stream; clear changes back",
    "wrong-rate": "declare and stamp 25 pictures a second, take 21",
    "lose": "lose N per cent of the packets (5)",
    "reorder": "send N per cent of the packets one later (5)",
    "delay": "delay packets by 0 to N milliseconds (150)",
    "garbage": "send noise instead of pictures",
    "no-keyframe": "send no keyframe for N seconds (60)",
    "b-frames": "change to an encoder with B-frames",
}
_DEFAULTS = {
    "drop": 5.0,
    "slow-start": 5.0,
    "step-clock": 3600.0,
    "jump": 7200.0,
    "lose": 5.0,
    "reorder": 5.0,
    "delay": 150.0,
    "no-keyframe": 60.0,
    "ppm": 2000.0,
}
_ENCODER_FAULTS = {"resize", "wrong-rate", "no-keyframe", "b-frames"}
WRONG_RATE = 21 / 25


@dataclass(frozen=True, slots=True)
class SimCamera:
    """A camera to simulate. `bitrate` in bit/s, `gop_s` seconds between keyframes.

    With `shared` it has no encoder and sends what the camera of that name sends.
    """

    name: str
    angle: str = "ballot-box"
    title: str = "Kuager"
    width: int = 854
    height: int = 480
    fps: float = 15
    gop_s: float = 2
    codec: str = "h264"
    audio: str | None = None
    user: str | None = None
    password: str | None = None
    bframes: int = 0
    bitrate: int = 800_000
    shared: str | None = None


class Track:
    """Media time of one track: what the camera believes, in RTP timestamps."""

    def __init__(self, clock: int):
        self.clock = clock  # Hz
        self.packets = self.bytes = 0
        self.sequence = random.getrandbits(16)
        self.ssrc = random.getrandbits(32)
        self._base = random.getrandbits(30)
        self._from_ms = 0.0
        self._media_ms = 0.0
        self._rate = 1.0

    def stamp(self, utc_ms: float) -> int:
        """Return the RTP timestamp (32 bits) of a moment."""
        media_ms = self._media_ms + (utc_ms - self._from_ms) * self._rate
        return self._base + round(media_ms * self.clock / 1000) & 0xFFFFFFFF

    def change(self, *, rate: float | None = None, jump_s: float = 0.0) -> None:
        """Run at another rate from now on, or jump."""
        now_ms = time.time() * 1000
        if not self._from_ms:
            self._from_ms = now_ms
        self._media_ms += (now_ms - self._from_ms) * self._rate + jump_s * 1000
        self._from_ms = now_ms
        self._rate = self._rate if rate is None else rate

    def report(self, now_s: float) -> bytes:
        """Return a sender report (RFC 3550, 6.4.1) for a camera clock of `now_s`."""
        ntp = int((now_s + NTP_EPOCH_S) * 2**32)
        return b"\x80\xc8\x00\x06" + b"".join(
            n.to_bytes(size, "big")
            for n, size in (
                (self.ssrc, 4),
                (ntp, 8),
                (self.stamp(time.time() * 1000), 4),
                (self.packets & 0xFFFFFFFF, 4),
                (self.bytes & 0xFFFFFFFF, 4),
            )
        )


Viewer = Callable[[int, bool, bytes], None]  # track, is it RTCP, packet


class Camera:
    """Runs one simulated camera; viewers are called with every packet."""

    def __init__(self, what: SimCamera, ffmpeg: str):
        self.what = what
        self._ffmpeg = ffmpeg
        self.faults: dict[str, float] = {}
        self.viewers: dict[Viewer, float] = {}  # and when packets may begin
        self.closers: set[Callable[[], None]] = set()
        self.followers: list[Camera] = []  # cameras that share this one's packets
        self.sdp = ""
        self.tracks = [Track(90_000)]
        if what.audio:
            self.tracks.append(Track(AUDIO_RATES[what.audio]))
        for track in self.tracks:
            track.change()
        self._encoder: Encoder | None = None
        self._held: bytes | None = None
        self._queue: deque[tuple[float, int, bytes]] = deque()  # delayed packets, with when
        self._timers: set[asyncio.TimerHandle] = set()
        self._changing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Start the encoder; it runs whether anybody watches or not, as cameras do."""
        if self.what.shared is None:
            await self._encode()

    async def stop(self) -> None:
        """End everything."""
        for task in self._tasks:
            task.cancel()
        for timer in self._timers:
            timer.cancel()
        self.close_viewers()
        if self._encoder:
            await asyncio.to_thread(self._encoder.stop)

    def close_viewers(self) -> None:
        """Close all connections."""
        for close in list(self.closers):
            close()

    # -- encoding ------------------------------------------------------------------------

    async def _encode(self) -> None:
        async with self._changing:
            if self._encoder:
                await asyncio.to_thread(self._encoder.stop)
            w, faults = self.what, self.faults
            size = (640, 360) if "resize" in faults else (w.width, w.height)
            fps = 21 if "wrong-rate" in faults else w.fps
            gop = 100_000 if "no-keyframe" in faults else max(1, round(fps * w.gop_s))
            self._encoder = Encoder(
                ffmpeg=self._ffmpeg,
                room=Room(w.angle, w.title, *size),
                size=size,
                fps=fps,
                gop=gop,
                codec=w.codec,
                bitrate=w.bitrate,
                bframes=2 if "b-frames" in faults else w.bframes,
                audio=w.audio,
                on_video=lambda packet, at: self._packet(0, packet, at),
                on_audio=lambda packet, at: self._packet(1, packet, at),
            )
            await self._encoder.start()
            self.sdp = self._describe(25 if "wrong-rate" in faults else fps)

    def _describe(self, fps: float) -> str:
        """Return the camera's session description, made of the encoder's."""
        assert self._encoder is not None
        out = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", f"s={self.what.name}", "c=IN IP4 0.0.0.0"]
        out += ["t=0 0", "a=control:*"]
        for n, text in enumerate(self._encoder.sdp):
            media = re.findall(r"(?m)^(?:m=|a=rtpmap|a=fmtp).*$", text)
            kind = media[0][2:].split()[0]
            payload = media[0].split()[-1]
            out += [f"m={kind} 0 RTP/AVP {payload}", *(line.strip() for line in media[1:])]
            if kind == "video":
                out.append(f"a=framerate:{fps:g}")
            out.append(f"a=control:track{n}")
        return "\r\n".join(out) + "\r\n"

    # -- faults --------------------------------------------------------------------------

    def fault(self, name: str, value: float | None = None) -> None:
        """Begin a fault; raises ValueError for one that is not known."""
        if name not in FAULTS:
            raise ValueError(f"no fault '{name}'; there are: {', '.join(FAULTS)}")
        amount = _DEFAULTS.get(name, 0.0) if value is None else float(value)
        if name == "jump":
            for track in self.tracks:
                track.change(jump_s=amount)
            return
        self.faults[name] = amount
        if name == "drop":
            self.close_viewers()
            self._later(amount, lambda: self.faults.pop("drop", None))
        elif name in ("refuse-password", "no-such-stream"):
            self.close_viewers()
        elif name == "no-keyframe":
            self._later(amount, lambda: self.clear("no-keyframe"))
        self._apply(name)

    def clear(self, name: str | None = None) -> None:
        """End one fault, or all."""
        names = [name] if name else list(self.faults)
        for one in names:
            if self.faults.pop(one, None) is not None:
                self._apply(one)

    def _apply(self, name: str) -> None:
        if name in ("ppm", "wrong-rate"):
            rate = 1 + self.faults.get("ppm", 0) / 1e6
            if "wrong-rate" in self.faults:
                rate *= WRONG_RATE
            for track in self.tracks:
                track.change(rate=rate)
        if name in _ENCODER_FAULTS and self.what.shared is None:
            task = asyncio.ensure_future(self._encode())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _later(self, seconds: float, call: Callable[[], object]) -> None:
        def run() -> None:
            self._timers.discard(timer)
            call()

        timer = asyncio.get_running_loop().call_later(seconds, run)
        self._timers.add(timer)

    # -- relaying ------------------------------------------------------------------------

    def _packet(self, number: int, packet: bytes, at_ms: float) -> None:
        """Stamp a packet of the encoder with this camera's numbers and send it."""
        track = self.tracks[number]
        stamped = b"".join(
            (
                packet[:2],
                track.sequence.to_bytes(2, "big"),
                track.stamp(at_ms).to_bytes(4, "big"),
                track.ssrc.to_bytes(4, "big"),
                packet[12:],
            )
        )
        track.sequence = track.sequence + 1 & 0xFFFF
        track.packets += 1
        track.bytes += len(packet) - 12
        self._spoil(number, stamped)
        for follower in self.followers:
            follower._spoil(number, stamped)

    def _spoil(self, number: int, packet: bytes) -> None:
        faults = self.faults
        if not faults:
            self._send(number, packet)
            return
        if "silent" in faults or random.random() * 100 < faults.get("lose", 0):
            return
        if "garbage" in faults:
            packet = packet[:12] + os.urandom(len(packet) - 12)
        if "reorder" in faults:
            if self._held is None and random.random() * 100 < faults["reorder"]:
                self._held = packet
                return
            self._deliver(number, packet)
            if self._held is not None:
                held, self._held = self._held, None
                self._deliver(number, held)
            return
        self._deliver(number, packet)

    def _deliver(self, number: int, packet: bytes) -> None:
        if "delay" not in self.faults and not self._queue:
            self._send(number, packet)
            return
        now = asyncio.get_running_loop().time()
        # as a queue in the network does it: later, but not one before the other
        late = random.uniform(0, self.faults.get("delay", 0.0)) / 1000
        due = max(self._queue[-1][0] if self._queue else 0.0, now + late)
        self._queue.append((due, number, packet))
        if len(self._queue) == 1:
            self._later(due - now, self._release)

    def _release(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._queue and self._queue[0][0] <= now + 0.001:
            _, number, packet = self._queue.popleft()
            self._send(number, packet)
        if self._queue:
            self._later(self._queue[0][0] - now, self._release)

    def _send(self, number: int, packet: bytes, rtcp: bool = False) -> None:
        now = time.monotonic()
        for viewer, begin in list(self.viewers.items()):
            if now >= begin:
                viewer(number, rtcp, packet)

    async def report_for_ever(self) -> None:
        """Send sender reports every two seconds."""
        while True:
            self.report()
            await asyncio.sleep(REPORT_S)

    def report(self) -> None:
        """Send a sender report per track now."""
        if "no-reports" in self.faults or "silent" in self.faults:
            return
        now_s = time.time() + self.faults.get("step-clock", 0.0)
        for number, track in enumerate(self.tracks):
            self._send(number, track.report(now_s), rtcp=True)
