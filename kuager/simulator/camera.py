"""One simulated camera: its encoder, its faults, and the packets that its viewers get."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from kuager.simulator.encoder import AUDIO_RATES, VIDEO_RATE, Encoder, Encoding
from kuager.simulator.faults import (
    ENCODER_FAULTS,
    MEDIA_FAULTS,
    ONCE,
    TIMED,
    Line,
    Send,
    fault_value,
)
from kuager.simulator.film import Film
from kuager.simulator.picture import Room
from kuager.simulator.scene import ANGLES
from kuager.simulator.track import Track

REPORT_S = 2.0
WRONG_RATE = (21, 25)  # pictures a second: taken, declared
RESIZED = (640, 360)
WILD_EVERY = 40  # pictures


@dataclass(frozen=True, slots=True)
class SimCamera:
    """A camera to simulate. `bitrate` in bit/s, `gop_s` seconds between keyframes.

    - `shared`: it has no encoder and sends what the camera of that name sends, with its codec,
      size and sound; so it has no faults of media time or of the encoder.
    - `film_s`: the encoder runs that long; then what it made is repeated, at no cost. Its
      burned-in time is then old. It has no sound.
    - `lazy`: it encodes only while somebody watches.
    Raises ValueError for what cannot be.
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
    film_s: float = 0
    lazy: bool = False

    def __post_init__(self) -> None:
        for what, value, allowed in (
            ("angle", self.angle, ANGLES),
            ("codec", self.codec, ("h264", "h265")),
            ("audio", self.audio, (None, *AUDIO_RATES)),
        ):
            if value not in allowed:
                raise ValueError(f"{self.name}: {what} {value!r} is none of {allowed}")
        if self.width % 2 or self.height % 2:
            raise ValueError(f"{self.name}: width and height must be even")
        if self.film_s and self.audio:
            raise ValueError(f"{self.name}: a film has no sound")


class Camera:
    """Runs one simulated camera; viewers are called with every packet."""

    def __init__(self, what: SimCamera, ffmpeg: str, source: Camera | None = None):
        """With a `source`, another camera, it sends the packets of that."""
        self.what = what
        self.source: Camera = source or self
        self.faults: dict[str, float] = {}
        self.viewers: dict[Send, float] = {}  # and when (monotonic) packets may begin
        self.closers: set[Callable[[], None]] = set()
        self.tracks = [Track(VIDEO_RATE)]
        if what.audio:
            self.tracks.append(Track(AUDIO_RATES[what.audio]))
        self._sdp = ""
        self._followers: list[Camera] = []  # cameras that share this one's packets
        if source is not None:
            self.tracks = source.tracks
            source._followers.append(self)
        self._ffmpeg = ffmpeg
        self._encoder: Encoder | Film | None = None
        self._line = Line(self.faults, self._send)
        self._ends: dict[str, asyncio.TimerHandle] = {}  # of faults that end by themselves
        self._changing = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Start the encoder; it runs whether anybody watches or not, as cameras do."""
        if self.source is self:
            if not self.what.lazy:
                async with self._changing:  # who asks meanwhile, waits
                    await self._encode()
            self._spawn(self._report_for_ever())

    async def stop(self) -> None:
        """End everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for timer in self._ends.values():
            timer.cancel()
        self.close_viewers()
        self._line.close()
        if self._encoder:
            await self._encoder.stop()

    def close_viewers(self) -> None:
        """Close all connections."""
        for close in list(self.closers):
            close()

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- encoding ------------------------------------------------------------------------

    async def describe(self) -> str:
        """Return the session description; a lazy camera wakes for it."""
        source = self.source
        async with source._changing:
            if source._encoder is None:
                await source._encode()
            return source._sdp

    def left(self) -> None:
        """Be told that a viewer went: a lazy camera without any stops encoding."""
        source = self.source
        if source.what.lazy and not any(c.viewers for c in (source, *source._followers)):
            source._spawn(source._rest())

    async def _rest(self) -> None:
        async with self._changing:
            if self._encoder and not any(c.viewers for c in (self, *self._followers)):
                encoder, self._encoder = self._encoder, None
                await encoder.stop()

    async def _change(self) -> None:
        async with self._changing:
            if self._encoder:
                await self._encoder.stop()
                await self._encode()

    async def _encode(self) -> None:
        """Start an encoder as the faults of now have it."""
        w, faults = self.what, self.faults
        size = RESIZED if "resize" in faults else (w.width, w.height)
        taken, declared = WRONG_RATE if "wrong-rate" in faults else (w.fps, w.fps)
        gop = 100_000 if "no-keyframe" in faults else max(1, round(taken * w.gop_s))

        def encoder(on_video: Callable[[bytes, float], None]) -> Encoder:
            bframes = 2 if "b-frames" in faults else w.bframes
            return Encoder(
                self._ffmpeg,
                Room(w.angle, w.title, *size),
                Encoding(size, taken, gop, w.codec, w.bitrate, bframes, w.audio),
                on_video=on_video,
                on_audio=lambda packet, at: self._packet(1, packet, at),
            )

        def show(packet: bytes, at_ms: float) -> None:
            self._packet(0, packet, at_ms)

        frames = gop * max(1, round(w.film_s / w.gop_s))
        self._encoder = Film(encoder, frames, taken, show) if w.film_s else encoder(show)
        await self._encoder.start()
        self._sdp = self._description(self._encoder.sdp, declared)

    def _description(self, encoders: list[str], fps: float) -> str:
        """Return the camera's session description, made of the encoder's."""
        out = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", f"s={self.what.name}", "c=IN IP4 0.0.0.0"]
        out += ["t=0 0", "a=control:*"]
        for n, text in enumerate(encoders):
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
        """Begin a fault, or give it another value; raises ValueError for what cannot be."""
        amount = fault_value(name, value)
        if self.source is not self and name in MEDIA_FAULTS | ENCODER_FAULTS:
            raise ValueError(f"{name}: {self.what.name} sends the packets of another camera")
        if self.what.film_s and name in ENCODER_FAULTS | {"stall"}:
            raise ValueError(f"{name}: {self.what.name} shows a film")
        if name in ONCE:
            self._once(name, amount)
            return
        self.faults[name] = amount
        if timer := self._ends.pop(name, None):
            timer.cancel()
        if name in TIMED:
            loop = asyncio.get_running_loop()
            self._ends[name] = loop.call_later(amount, self.clear, name)
        if name in ("drop", "refuse-password", "no-such-stream"):
            self.close_viewers()
        self._apply(name)

    def _once(self, name: str, amount: float) -> None:
        if name == "wild":
            self.tracks[0].wild(amount, 1)
        elif name == "jump":
            for track in self.tracks:
                track.change(jump_s=amount)
        elif name == "from-zero":
            for track in self.tracks:
                track.from_zero()
        elif isinstance(self._encoder, Encoder):
            stall_s = int(amount * self.what.fps + 0.001) / self.what.fps  # whole pictures
            self._encoder.stall(stall_s)
            # between the picture before and the one after
            self.tracks[0].jump_at((time.time() + stall_s / 2) * 1000, -stall_s)

    def clear(self, name: str | None = None) -> None:
        """End one fault, or all."""
        for one in [name] if name else list(self.faults):
            if timer := self._ends.pop(one, None):
                timer.cancel()
            if self.faults.pop(one, None) is not None:
                self._apply(one)

    def _apply(self, name: str) -> None:
        rate = 1 + self.faults.get("ppm", 0.0) / 1e6
        if name == "ppm":
            for track in self.tracks[1:]:
                track.change(rate=rate)
        if name in ("ppm", "wrong-rate", "rate"):  # the sound of such a camera is right
            taken, declared = WRONG_RATE if "wrong-rate" in self.faults else (1, 1)
            rate *= self.faults.get("rate", 1.0)
            self.tracks[0].change(rate=rate * taken / declared)
        if name == "wild-often":
            self.tracks[0].wild(
                self.faults.get(name, 0.0), WILD_EVERY if name in self.faults else 0
            )
        if name == "same-time":
            self.tracks[0].same_time(self.faults.get(name))
        if name in ENCODER_FAULTS:
            self._spawn(self._change())

    # -- relaying ------------------------------------------------------------------------

    def _packet(self, number: int, packet: bytes, at_ms: float) -> None:
        """Stamp a packet of the encoder with this camera's numbers and send it."""
        stamped = self.tracks[number].stamp(packet, at_ms)
        self._line.take(number, False, stamped)
        for follower in self._followers:
            follower._line.take(number, False, stamped)

    def _send(self, number: int, is_rtcp: bool, packet: bytes) -> None:
        now = time.monotonic()
        for viewer, begin in list(self.viewers.items()):
            if now >= begin:
                viewer(number, is_rtcp, packet)

    async def _report_for_ever(self) -> None:
        while True:
            for camera in (self, *self._followers):
                camera.report()
            await asyncio.sleep(REPORT_S)

    def report(self) -> None:
        """Send a sender report per track now."""
        if "no-reports" not in self.faults:
            for number, track in enumerate(self.tracks):
                report = track.report(self.faults.get("step-clock", 0.0))
                self._line.take(number, True, report)
