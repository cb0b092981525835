"""The first source: one ffmpeg child per camera, as a transport of frames.

ffmpeg speaks RTSP, puts packets in order and gives whole frames; everything that evidence rests
on is done by us. The camera's URL goes to its standard input, so no password is in the process
list; its words are redacted before anyone sees them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import time
from collections import deque
from collections.abc import Callable
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import ffmpeg

from config.secrets import redact_text
from recorder.demux import PTS_SHIFT, Demuxer
from recorder.pipe import ReadPipe, pipe_with
from recorder.rtsp.connection import DEFAULT_USER_AGENT
from recorder.rtsp.description import Description
from recorder.rtsp.messages import bytes_of
from recorder.source import PacketCounts, Sink
from storage.records import Ending, GapCause

PIPE_BYTES = 1 << 20  # of kernel memory, so that a burst is few reads
MAX_LINE = 64 * 1024  # bytes; a longer line of ffmpeg's is not kept
OLDEST = (5, 1)
STOP_S = 2.0
# A camera may sleep until it is asked. Our deadlines are shorter: at its own, ffmpeg would hand
# out what it holds back.
SOCKET_TIMEOUT_US = 30_000_000
# nothing else of ours is a child's business: secrets of the configuration are in the environment
ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "TMPDIR")
LATENCY_FRAMES = 3  # by which a picture shows after it arrived, measured (docs/time.md)
REFERENCE_RIGHT = (6, 0)  # before it, `prft` is of the next picture (docs/time.md)
# Timestamps as they came. ffmpeg would make up others where time does not run forward, so decode
# times are made here that always do, and presentation times lie far after them (recorder/demux.py).
# Decode times follow one wild timestamp by 20 s at most, and no presentation time lies further
# from them than a composition offset can say: ffmpeg takes time far before the first for time
# that began anew, 13 hours later.
_FARTHEST = 900_000_000
_TIMESTAMPS = (
    f"setts=pts=min(max(PTS\\,-{PTS_SHIFT})\\,if(N\\,PREV_OUTDTS)+{_FARTHEST})+{PTS_SHIFT}"
    ":dts=if(N\\,max(PREV_OUTDTS+1\\,min(PTS\\,PREV_OUTDTS+20/TB))\\,max(PTS\\,0))"
)
COPIED_VIDEO = {"h264", "h265"}
_DECODER = re.compile(r"\[(h264|hevc|mjpeg|aac|pcm_\w+) @")  # of its probing: never the reason
_NOISE = re.compile(
    r"deprecated|Last message repeated|Timestamps are unset|DTS|non monoton|pts has no value"
    r"|PRFT|Broken pipe",
    re.I,
)


class FfmpegMissing(RuntimeError):
    """No ffmpeg that will do; the text says how to get one."""


def find_ffmpeg(configured: Path | None) -> str:
    """Return the ffmpeg to run: the configured one, else the system's, else the wheel's.

    Raises FfmpegMissing when there is none of version 5.1 or later.
    """
    import imageio_ffmpeg

    if configured is not None:
        found = shutil.which(str(configured))
        if found is None:
            raise FfmpegMissing(f"ffmpeg: {configured} is not a program that can be run")
        version = ffmpeg_version(found)
        if version < OLDEST:
            raise FfmpegMissing(f"ffmpeg: {configured} is older than 5.1 or not an ffmpeg")
        return found
    system = shutil.which("ffmpeg")
    if system and ffmpeg_version(system) >= OLDEST:
        return system
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError:
        raise FfmpegMissing(
            "no ffmpeg 5.1 or later: install one (apt-get install ffmpeg) "
            "or set 'ffmpeg' in kuager.yaml"
        ) from None


@cache
def ffmpeg_version(program: str) -> tuple[int, int]:
    """Return (major, minor) of an ffmpeg; (0, 0) for what does not say so."""
    import subprocess

    try:
        said = subprocess.run([program, "-version"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return 0, 0
    match = re.match(r"ffmpeg version n?(\d+)\.(\d+)", said.stdout)
    if match:
        return int(match[1]), int(match[2])
    return (99, 0) if said.stdout.startswith("ffmpeg version") else (0, 0)  # built from git


class FfmpegSource:
    """One session with a camera through an ffmpeg child."""

    def __init__(
        self,
        program: str,
        url: str,
        description: Description,
        *,
        transport: str = "auto",
        keep_audio: bool = True,
        clock_ms: Callable[[], float] = lambda: time.time() * 1000,
        user_agent: str = DEFAULT_USER_AGENT,
        proof: str | None = None,
    ):
        """`url` may hold a password; it is passed on by a pipe and never logged.

        `proof` is how the camera wants the password proved (recorder.rtsp.describe.Offer).
        """
        self._user_agent, self._proof = user_agent, proof
        self._program, self._url, self._transport = program, url, transport
        self._description = description
        self._audio = description.audio if keep_audio else None
        self._clock_ms = clock_ms
        self._said: deque[str] = deque(maxlen=20)
        self._unfinished = b""  # the beginning of a line
        self._played = False  # something of the stream came
        self.transcoded = tuple(
            kind
            for kind, codec, copied in (
                ("video", description.video, description.video in COPIED_VIDEO),
                ("audio", self._audio, self._audio == "aac"),
            )
            if codec and not copied
        )

    @property
    def packets(self) -> tuple[PacketCounts, ...]:
        """None: ffmpeg does not tell what the network did."""
        return ()

    def arguments(self, sound: int) -> list[str]:
        """Return the argument list of the child; it holds no secret.

        The picture goes to its standard output, sound to the descriptor `sound`: on one pipe the
        picture would wait for the sound.
        """
        camera = ffmpeg.input(
            "pipe:0",
            f="concat",
            safe=0,
            protocol_whitelist="file,rtsp,rtsps,rtp,tcp,udp,tls,crypto,pipe,fd",
            analyzeduration=500_000,
            fpsprobesize=0,
        )
        fragments: dict[str, object] = {
            "f": "mp4",
            "flush_packets": 1,
            "avoid_negative_ts": "disabled",
            "use_editlist": 0,
            # frag_discont: the first fragment says its time too
            "movflags": "empty_moov+default_base_moof+frag_every_frame+skip_trailer+frag_discont",
        }
        if self._description.video in COPIED_VIDEO:
            tag = "hvc1" if self._description.video == "h265" else "avc1"
            # what comes before the first keyframe shows that the camera sends
            options: dict[str, object] = {"c:v": "copy", "tag:v": tag, "copyinkf:v": None}
        else:
            options = {"c:v": "libx264", "preset": "veryfast", "tune": "zerolatency"}
            # each picture once, at its own time: a frame rate here is a guess, often 90,000
            options |= {"fps_mode": "passthrough", "enc_time_base": "1/90000", "level:v": "5.1"}
            options |= {"pix_fmt": "yuv420p", "force_key_frames": "expr:gte(t,n_forced*2)"}
        options |= {"bsf:v": _TIMESTAMPS, "video_track_timescale": 90_000}
        options |= {"write_prft": "wallclock", **fragments}
        seen = camera[f"v:{self._description.video_index}"]
        outputs = [ffmpeg.output(seen, "pipe:1", **options)]
        if self._audio:
            encoded = {"c:a": "aac", "ar": 48_000, "b:a": 64_000}
            options = {"c:a": "copy"} if self._audio == "aac" else dict(encoded)
            options |= {"bsf:a": _TIMESTAMPS, **fragments}
            outputs.append(
                ffmpeg.output(
                    camera[f"a:{self._description.audio_index}"], f"pipe:{sound}", **options
                )
            )
        program = [self._program, "-hide_banner", "-nostats", "-loglevel", "warning", "-nostdin"]
        return list(ffmpeg.merge_outputs(*outputs).compile(cmd=program))

    def _playlist(self) -> bytes:
        url, agent = (t.replace("'", "'\\''") for t in (self._url, self._user_agent))
        lines = ["ffconcat version 1.0", f"file '{url}'"]
        if self._transport == "auto":
            lines += ["option rtsp_transport tcp+udp", "option rtsp_flags prefer_tcp"]
        else:
            lines += [f"option rtsp_transport {self._transport}"]
        # what is not recorded is not asked for: a camera may refuse it, or stay silent
        kinds = "video+audio" if self._audio else "video"
        lines += [f"option allowed_media_types {kinds}", f"option user_agent '{agent}'"]
        if self._url.startswith("rtsps:"):  # nobody vouches for the certificates of cameras
            lines += ["option tls_verify 0"]
        # short probes: the codecs are known; what they guess of frame rates is not used
        lines += [f"option timeout {SOCKET_TIMEOUT_US}", "option analyzeduration 1000000"]
        lines += ["option fpsprobesize 0"]
        return bytes_of("\n".join(lines) + "\n")

    async def run(self, sink: Sink) -> Ending:
        """Yield into the sink until the stream ends; cancelling ends the child."""
        ahead = int(ffmpeg_version(self._program) < REFERENCE_RIGHT)
        demuxer = Demuxer(sink, LATENCY_FRAMES, ahead, self.transcoded)
        ended = asyncio.Event()

        def feed(data: memoryview) -> None:
            self._played = True
            try:
                demuxer.feed(data, self._clock_ms(), time.monotonic() * 1000)
            finally:
                if demuxer.end is not None:
                    ended.set()

        def feed_sound(data: memoryview) -> None:
            demuxer.feed_sound(data, self._clock_ms(), time.monotonic() * 1000)

        with contextlib.ExitStack() as opened:
            playlist = pipe_with(self._playlist())
            opened.callback(os.close, playlist)
            media = ReadPipe(feed, ended.set, PIPE_BYTES)
            opened.callback(media.close)
            sound = ReadPipe(feed_sound)
            opened.callback(sound.close)
            words = ReadPipe(self._listen)
            opened.callback(words.close)
            child = await asyncio.create_subprocess_exec(
                *self.arguments(sound.writing),
                stdin=playlist,
                stdout=media.writing,
                stderr=words.writing,
                pass_fds=(sound.writing,),
                env={n: os.environ[n] for n in ENVIRONMENT if n in os.environ},
            )
            media.child_has_it()
            sound.child_has_it()
            words.child_has_it()
            try:
                await ended.wait()
                with contextlib.suppress(TimeoutError):  # it may have ended by itself: how?
                    await asyncio.wait_for(child.wait(), 0.2)
                code = child.returncode
                words.drain()
            finally:
                media.close()
                await _stop(child)
        return demuxer.end or self._verdict(code)

    def _listen(self, data: memoryview) -> None:
        *lines, rest = (self._unfinished + bytes(data)).split(b"\n")
        self._unfinished = rest[:MAX_LINE]
        for line in (line for line in lines if len(line) < MAX_LINE):
            text = redact_text(line.decode("utf-8", "replace").strip())
            if text and not _NOISE.search(text) and not _DECODER.match(text):
                self._said.append(re.sub(r"^\[[^\]]*\] ", "", text))

    def _verdict(self, code: int | None) -> Ending:
        """Say why the stream ended: ffmpeg's exit status says nothing, its words little."""
        if code is not None and code < 0:
            return Ending(GapCause.STREAM_BROKEN, f"ffmpeg was ended by signal {-code}")
        said = " ".join(self._said)
        where = urlsplit(self._url).hostname
        if status := re.search(r"(?:method (\w+) failed: |\b)([45]\d\d) ", said):
            return self._refusal(status[1], int(status[2]))
        if found := re.search(r"Connection refused|No route to host|unreachable|timed out", said):
            return Ending(GapCause.UNREACHABLE, f"{where}: {found[0].lower()}")
        if re.search(r"Invalid data|Error opening|error|Unsupported", said):
            what = "broke" if self._played else "was described, but ffmpeg cannot take it"
            text = f"the stream of {where} {what}: {_reason(self._said[-1])}"
            return Ending(GapCause.STREAM_BROKEN, text)
        return Ending(
            GapCause.CLOSED_BY_CAMERA, f"the stream of {where} ended, no reason was given"
        )

    def _refusal(self, method: str | None, status: int) -> Ending:
        """Say what it means that the camera refuses to ffmpeg what it has described to us."""
        where = urlsplit(self._url).hostname
        if status == 401 and self._proof not in (None, "Basic", "Digest MD5"):
            return Ending(
                GapCause.STREAM_BROKEN,
                f"{where} wants the password proved by {self._proof}, which ffmpeg cannot (401)",
                "let the camera take MD5 digests too",
            )
        if status == 401:
            text = f"{where} refuses user name or password to ffmpeg, after it described its stream"
            return Ending(GapCause.REFUSED_PASSWORD, f"{text} (401)")
        if status == 403:
            return Ending(GapCause.REFUSED_PASSWORD, f"{where} forbids the stream (403)")
        if status == 404:
            return Ending(GapCause.NO_SUCH_STREAM, f"{where} has no such stream (404)")
        asked = f" to {method}" if method else ""
        return Ending(GapCause.STREAM_BROKEN, f"{where} answers {status}{asked}")

    @property
    def refused_setup(self) -> bool:
        """Whether the camera described a track and then refused to set it up."""
        return any("method SETUP failed" in line for line in self._said)


def _reason(line: str) -> str:
    """Return what is left of ffmpeg's last words without the names of its parts."""
    return re.sub(r"^(?:pipe:0|Error opening input files?[^:]*): ", "", line)


async def _stop(child: asyncio.subprocess.Process) -> None:
    """End the child: politely, then not. Shielded, so that a cancelled session leaves none."""

    async def stop() -> None:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.terminate()
            try:
                async with asyncio.timeout(STOP_S):
                    await child.wait()
            except TimeoutError:
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
                await child.wait()

    await asyncio.shield(asyncio.ensure_future(stop()))
