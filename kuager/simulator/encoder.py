"""ffmpeg as the camera's encoder: pictures and sound in, RTP packets out on loopback.

The n-th picture has the n-th RTP timestamp, so the time at which it was drawn is known for
every packet, and the relay can stamp it with what the simulated camera believes.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from kuager.simulator.picture import Room, beep

AUDIO_RATES = {"aac": 48_000, "pcmu": 8_000, "pcma": 8_000}
_AUDIO_CODECS = {"aac": "aac", "pcmu": "pcm_mulaw", "pcma": "pcm_alaw"}
_PRIMING = {"aac": 1024, "pcmu": 0, "pcma": 0}  # samples before the first that was given
PACKET = 1200


class _Packets(asyncio.DatagramProtocol):
    def __init__(self, take: Callable[[bytes], None]):
        self._take = take

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._take(data)


class _Child:
    """One ffmpeg with an RTP output; its description and its packets."""

    def __init__(self, command: Sequence[str], take: Callable[[bytes], None]):
        self._command, self._take = command, take
        self._folder = tempfile.TemporaryDirectory(prefix="kuager-sim-")
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self) -> str:
        """Start it; return its session description (RFC 4566)."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: _Packets(self._take), local_addr=("127.0.0.1", 0)
        )
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(1, 8, 4 << 20)  # SOL_SOCKET, SO_RCVBUF: a keyframe comes at once
        port = sock.getsockname()[1]
        # RTCP of ffmpeg goes to a port of its own choice that nobody reads: ours are made here
        sdp = Path(self._folder.name) / "sdp"
        # no holding back: RTP of AAC otherwise waits until 0.7 s of it fill a packet
        output = ["-max_delay", "0", "-sdp_file", str(sdp), "-f", "rtp"]
        output.append(f"rtp://127.0.0.1:{port}?pkt_size={PACKET}&rtcpport=9")
        # a blocking pipe: the drawing thread writes to it
        self.process = subprocess.Popen(  # noqa: ASYNC220
            [*self._command, *output], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        while True:
            if self.process.poll() is not None:
                raise RuntimeError("the simulator's ffmpeg ended at once")
            with contextlib.suppress(FileNotFoundError):
                text = sdp.read_text()
                if "a=rtpmap" in text or re.search(r"m=audio \d+ RTP/AVP [08]\b", text):
                    return text
            await asyncio.sleep(0.02)

    def stop(self) -> None:
        """End it."""
        self._transport.close()
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            if self.process.stdin is not None:
                with contextlib.suppress(BrokenPipeError):
                    self.process.stdin.close()
        self._folder.cleanup()


class Encoder:
    """Draws in a thread of its own, on time, and has ffmpeg encode what it drew.

    `on_video` and `on_audio` take (packet, media time as UTC ms or None).
    """

    def __init__(
        self,
        *,
        ffmpeg: str,
        room: Room,
        size: tuple[int, int],
        fps: float,
        gop: int,
        codec: str,
        bitrate: int,
        bframes: int,
        audio: str | None,
        on_video: Callable[[bytes, float], None],
        on_audio: Callable[[bytes, float], None],
    ):
        self._room, self._fps, self._audio = room, fps, audio
        self._on_video, self._on_audio = on_video, on_audio
        self._drawn: list[float] = []  # UTC ms of each picture; a day is a few MB
        self._sound_start = 0.0
        self._first_video: int | None = None
        self._first_audio: int | None = None
        head = [ffmpeg, "-hide_banner", "-loglevel", "error"]
        video = [*head, "-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{size[0]}x{size[1]}"]
        video += ["-r", f"{fps:g}", "-probesize", "32", "-analyzeduration", "0", "-i", "pipe:0"]
        tune = ["-tune", "zerolatency"] if not bframes else []
        params = f"repeat-headers=1:keyint={gop}:min-keyint={gop}:scenecut=0:bframes={bframes}"
        if bframes:
            params += ":b-adapt=0:rc-lookahead=0:sync-lookahead=0:sliced-threads=1"
        name, flag = ("libx264", "-x264-params") if codec == "h264" else ("libx265", "-x265-params")
        if codec == "h265":
            params = f"repeat-headers=1:keyint={gop}:min-keyint={gop}:scenecut=0:log-level=error"
            params += ":pools=1:frame-threads=1"
        video += ["-c:v", name, "-preset", "ultrafast", *tune, "-threads", "1", flag, params]
        video += ["-b:v", str(bitrate), "-maxrate", str(bitrate), "-bufsize", str(bitrate)]
        video += ["-fps_mode", "passthrough", "-flags", "+global_header", "-flush_packets", "1"]
        self._video = _Child(video, self._video_packet)
        self._sound: _Child | None = None
        if audio:
            sound = [*head, "-f", "s16le", "-ar", str(AUDIO_RATES[audio]), "-ac", "1"]
            sound += ["-probesize", "32", "-analyzeduration", "0", "-i", "pipe:0"]
            sound += ["-c:a", _AUDIO_CODECS[audio], "-flush_packets", "1"]
            sound += ["-flags", "+global_header"] if audio == "aac" else []
            self._sound = _Child(sound, self._audio_packet)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._draw, daemon=True, name="drawing")
        self.sdp: list[str] = []

    async def start(self) -> None:
        """Start encoding; `sdp` then holds a description per track."""
        # x264 says its parameter sets before the first picture, ffmpeg only after it was opened
        self._thread.start()
        self.sdp = [await self._video.start()]
        if self._sound:
            self.sdp.append(await self._sound.start())

    def stop(self) -> None:
        """End drawing and encoding."""
        self._stopping.set()
        self._video.stop()
        if self._sound:
            self._sound.stop()
        self._thread.join(5)

    def _draw(self) -> None:
        while self._video.process is None or (self._sound and self._sound.process is None):
            if self._stopping.wait(0.005):
                return
            if self._video.process is not None and self._sound and self._sound.process is None:
                break  # the description of the picture comes only once pictures come
        video = self._video.process
        assert video is not None and video.stdin is not None
        begun, n, samples = time.time(), 0, 0
        self._sound_start = begun * 1000
        while not self._stopping.is_set():
            due = begun + n / self._fps
            late = time.time() - due
            if late < 0:
                time.sleep(-late)
            elif late > 1:  # a machine that was busy: skip rather than queue
                n += int(late * self._fps)
            now_ms = time.time() * 1000
            picture = self._room.draw(int(now_ms))
            try:
                self._drawn.append(now_ms)
                video.stdin.write(picture)
                video.stdin.flush()
                if self._sound and (sound := self._sound.process) and sound.stdin:
                    rate = AUDIO_RATES[self._audio or ""]
                    if samples == 0:
                        self._sound_start = now_ms
                    wanted = int((now_ms - self._sound_start) * rate / 1000) + 1
                    pcm = beep(samples, wanted - samples, rate, self._sound_start)
                    samples = wanted
                    sound.stdin.write(pcm)
                    sound.stdin.flush()
            except (OSError, ValueError):
                return  # stopped
            n += 1

    def _video_packet(self, packet: bytes) -> None:
        stamp = int.from_bytes(packet[4:8], "big")
        if self._first_video is None:
            self._first_video = stamp
        index = round((stamp - self._first_video & 0xFFFFFFFF) * self._fps / 90_000)
        if index < len(self._drawn):
            self._on_video(packet, self._drawn[index])

    def _audio_packet(self, packet: bytes) -> None:
        stamp = int.from_bytes(packet[4:8], "big")
        if self._first_audio is None:
            self._first_audio = stamp
        assert self._audio is not None
        sample = (stamp - self._first_audio & 0xFFFFFFFF) - _PRIMING[self._audio]
        self._on_audio(packet, self._sound_start + sample * 1000 / AUDIO_RATES[self._audio])
