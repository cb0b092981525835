"""ffmpeg as the camera's encoder: pictures and sound in, RTP packets out on loopback.

The n-th picture has the n-th RTP timestamp, so the time at which it was drawn is known for
every packet, and the relay can stamp it with what the simulated camera believes.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import re
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import ffmpeg

from kuager.simulator.picture import Room, beep

AUDIO_RATES = {"aac": 48_000, "pcmu": 8_000, "pcma": 8_000}
VIDEO_RATE = 90_000
_AUDIO_CODECS = {"aac": "aac", "pcmu": "pcm_mulaw", "pcma": "pcm_alaw"}
_PRIMING = {"aac": 1024, "pcmu": 0, "pcma": 0}  # samples before the first that was given
PACKET = 1200
START_S = 20.0
REMEMBERED = 1024  # pictures whose time of drawing is known: more than an encoder holds back


class _Packets(asyncio.DatagramProtocol):
    def __init__(self, take: Callable[[bytes, int], None]):
        self._take = take
        self._last: int | None = None
        self._total = 0

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        stamp = int.from_bytes(data[4:8], "big")
        if self._last is not None:  # 32 bits begin anew after 13 hours
            self._total += (stamp - self._last + 2**31 & 0xFFFFFFFF) - 2**31
        self._last = stamp
        self._take(data, self._total)


class _Child:
    """One ffmpeg with an RTP output; `take` gets its packets and their media time from 0.

    `reads` says what is written to it, `encodes` what it makes of that, as options of ffmpeg.
    """

    def __init__(
        self,
        program: str,
        reads: Mapping[str, object],
        encodes: Mapping[str, object],
        take: Callable[[bytes, int], None],
    ):
        self._program, self._reads, self._encodes, self._take = program, reads, encodes, take
        self._folder = tempfile.TemporaryDirectory(prefix="kuager-sim-")
        self._sdp = Path(self._folder.name) / "sdp"
        self._transport: asyncio.DatagramTransport | None = None
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Start it; it waits for what is written to it."""
        loop = asyncio.get_running_loop()
        opening = asyncio.ensure_future(
            loop.create_datagram_endpoint(lambda: _Packets(self._take), local_addr=("127.0.0.1", 0))
        )
        try:
            transport, _ = await asyncio.shield(opening)
        except asyncio.CancelledError:  # uvloop would leave it open
            self._transport, _ = await opening
            raise
        self._transport = transport
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)  # keyframes come at once
        port = sock.getsockname()[1]
        command = (
            ffmpeg.input("pipe:0", probesize=32, analyzeduration=0, **self._reads)
            .output(
                # ffmpeg's own RTCP goes where nobody reads it: ours is made by the camera
                f"rtp://127.0.0.1:{port}?pkt_size={PACKET}&rtcpport=9",
                f="rtp",
                # no holding back: RTP of AAC otherwise waits until 0.7 s of it fill a packet
                flush_packets=1,
                max_delay=0,
                sdp_file=str(self._sdp),
                **self._encodes,
            )
            .compile(cmd=[self._program, "-hide_banner", "-loglevel", "error"])
        )
        # a blocking pipe: the drawing thread writes to it
        self._process = subprocess.Popen(  # noqa: ASYNC220
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # a whole picture at once, where the kernel allows it
            fcntl.fcntl(self._process.stdin, fcntl.F_SETPIPE_SZ, 1 << 20)

    async def description(self) -> str:
        """Return its session description (RFC 4566); it has one once it got something."""
        assert self._process is not None
        async with asyncio.timeout(START_S):
            while True:
                if self._process.poll() is not None:
                    raise RuntimeError("the simulator's ffmpeg ended at once")
                with contextlib.suppress(FileNotFoundError):
                    text = self._sdp.read_text()
                    if "a=rtpmap" in text or re.search(r"m=audio \d+ RTP/AVP [08]\b", text):
                        return text
                await asyncio.sleep(0.02)

    def write(self, data: bytes | memoryview) -> None:
        """Write to it, waiting until it takes it; raises OSError or ValueError when it ended."""
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(data)
        self._process.stdin.flush()

    async def stop(self) -> None:
        """End it."""
        if self._transport is not None:
            self._transport.close()
        if self._process is not None:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)

    def close(self) -> None:
        """Free what is left of it, once nothing is written to it any more."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        self._folder.cleanup()


@dataclass(frozen=True, slots=True)
class Encoding:
    """What is made of the pictures: `size` in pixels, `gop` pictures from keyframe to keyframe,
    `bitrate` in bit/s; `audio` is a codec."""

    size: tuple[int, int]
    fps: float
    gop: int
    codec: str
    bitrate: int
    bframes: int
    audio: str | None


class Encoder:
    """Draws in a thread of its own, on time, and has ffmpeg encode what it drew.

    `on_video` and `on_audio` take (packet, when it was drawn or sounded in UTC ms).
    """

    def __init__(
        self,
        program: str,
        room: Room,
        encoding: Encoding,
        on_video: Callable[[bytes, float], None],
        on_audio: Callable[[bytes, float], None],
    ):
        """`program` is an ffmpeg."""
        size, fps, audio = encoding.size, encoding.fps, encoding.audio
        self._room, self._fps, self._audio = room, fps, audio
        self._on_video, self._on_audio = on_video, on_audio
        self._drawn_ms = [0.0] * REMEMBERED
        self._sound_start_ms = 0.0
        pictures = {"f": "rawvideo", "pix_fmt": "yuv420p", "s": f"{size[0]}x{size[1]}"}
        encoded = _codec_options(encoding.codec, encoding.gop, encoding.bframes) | {
            "b:v": encoding.bitrate,
            "maxrate": encoding.bitrate,
            "bufsize": encoding.bitrate,
            "fps_mode": "passthrough",
            "flags": "+global_header",
        }
        self._video = _Child(program, pictures | {"r": f"{fps:g}"}, encoded, self._video_packet)
        self._sound: _Child | None = None
        if audio:
            samples = {"f": "s16le", "ar": AUDIO_RATES[audio], "ac": 1}
            encoded = {"c:a": _AUDIO_CODECS[audio]}
            encoded |= {"flags": "+global_header"} if audio == "aac" else {}
            self._sound = _Child(program, samples, encoded, self._audio_packet)
        self._children = [c for c in (self._video, self._sound) if c is not None]
        self._stopping = threading.Event()
        self._stall_s = 0.0  # before the next picture
        self._thread = threading.Thread(target=self._draw, daemon=True, name="drawing")
        self.sdp: list[str] = []

    async def start(self) -> None:
        """Start encoding; `sdp` then holds a description per track."""
        for child in self._children:
            await child.start()
        self._thread.start()
        self.sdp = [await child.description() for child in self._children]

    async def stop(self) -> None:
        """End drawing and encoding; also after a start that failed."""
        self._stopping.set()
        for child in self._children:
            await child.stop()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)
        for child in self._children:
            child.close()

    def stall(self, seconds: float) -> None:
        """Take no picture for so long."""
        self._stall_s = seconds

    def _draw(self) -> None:
        begun, due_no, drawn, samples = time.time(), 0, 0, 0
        rate = AUDIO_RATES.get(self._audio or "", 0)
        self._sound_start_ms = begun * 1000
        with contextlib.suppress(OSError, ValueError):  # stopped
            while True:
                late_s = time.time() - begun - due_no / self._fps
                stall_s, self._stall_s = self._stall_s, 0.0
                if self._stopping.wait(max(0.0, -late_s) + stall_s):
                    return
                late_s = max(0.0, late_s) + stall_s
                due_no += int(late_s * self._fps + 0.001)  # a busy machine skips, queues nothing
                now_ms = (begun + due_no / self._fps) * 1000  # cameras take pictures regularly
                self._drawn_ms[drawn % REMEMBERED] = now_ms
                self._video.write(self._room.draw(int(now_ms)).data)
                if self._sound:
                    wanted = int((now_ms - self._sound_start_ms) * rate / 1000) + 1
                    self._sound.write(beep(samples, wanted - samples, rate, self._sound_start_ms))
                    samples = wanted
                due_no += 1
                drawn += 1

    def _video_packet(self, packet: bytes, media: int) -> None:
        picture = round(media * self._fps / VIDEO_RATE)
        self._on_video(packet, self._drawn_ms[picture % REMEMBERED])

    def _audio_packet(self, packet: bytes, media: int) -> None:
        assert self._audio is not None
        sample = media - _PRIMING[self._audio]
        self._on_audio(packet, self._sound_start_ms + sample * 1000 / AUDIO_RATES[self._audio])


def _codec_options(codec: str, gop: int, bframes: int) -> dict[str, object]:
    """Return ffmpeg's options for a cheap encoder that sends each picture at once."""
    params = f"repeat-headers=1:keyint={gop}:min-keyint={gop}:scenecut=0:bframes={bframes}"
    if codec == "h265":
        name, own = "libx265", "x265-params"
        # without threads of its own, to which it gives a low priority; closed GOPs, as of cameras
        params += ":log-level=error:pools=none:wpp=0:frame-threads=1:open-gop=0"
    else:
        name, own = "libx264", "x264-params"
    if bframes:
        params += ":b-adapt=0:rc-lookahead="
        # x265 wants to look further than its B-frames reach
        params += "0:sync-lookahead=0:sliced-threads=1" if codec == "h264" else f"{bframes + 1}"
    options = {"c:v": name, "preset": "ultrafast", "threads": 1, own: params}
    return options if bframes else options | {"tune": "zerolatency"}
