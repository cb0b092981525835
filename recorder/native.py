"""The second source: a camera's stream read in this process, without a child.

It takes what it fully understands, H.264 and H.265 with AAC, G.711 or no sound; everything else is
ffmpeg's (recorder/ffmpeg.py). It knows when each packet arrived and which are missing.
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from recorder.rtsp.aac import AacFrames, UnsupportedSound
from recorder.rtsp.client import UNSUPPORTED_TRANSPORT, RefusedError, RtspSession
from recorder.rtsp.connection import Connection
from recorder.rtsp.describe import Offer
from recorder.rtsp.g711 import LAWS, RATE, G711Sound, can_encode
from recorder.rtsp.messages import ProtocolError
from recorder.rtsp.nal_units import H264Pictures, H265Pictures
from recorder.rtsp.picture_size import sprop_sets
from recorder.rtsp.rtp import RtpReceiver
from recorder.rtsp.sdp import Media
from recorder.sample_entry import sound_track, video_track
from recorder.source import Frame, PacketCounts, Sink
from recorder.tracks import TrackTeller
from storage.media.fmp4 import VIDEO_TIMESCALE
from storage.records import Ending, GapCause

FIRST_S = 5.0  # after PLAY, for packets to make a picture: else they are not understood here
FIRST_PACKETS = 50  # that are enough to say so
BYE_S = 1.0  # without a packet, after the camera said that its stream ends: then it does

# what the system says where the network ended a connection, not the camera
_NO_WAY = (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN)

_PICTURES: dict[str, type[H264Pictures] | type[H265Pictures]] = {
    "h264": H264Pictures,
    "h265": H265Pictures,
}


def why_not(
    offer: Offer, keep_audio: bool = True, encodes: Callable[[], bool] = can_encode
) -> str | None:
    """Say what of an offer this source does not understand; None where it takes it.

    `encodes` tells whether G.711 can be encoded again here.
    """
    description = offer.description
    if description.video not in _PICTURES:
        return f"video of codec {description.video}"
    video = description.tracks[0]
    if video.clock_rate not in (0, VIDEO_TIMESCALE):
        return f"video whose timestamps count {video.clock_rate} a second"
    if "SAVP" in video.protocol:  # RFC 3711
        return f"encrypted video ({video.protocol})"
    if video.parameters.get("packetization-mode") == "2":
        return "H.264 in interleaved order"
    if video.parameters.get("sprop-max-don-diff", "0") != "0":
        return "H.265 with decoding order numbers"
    if not keep_audio or description.audio is None:
        return None
    return _why_not_sound(description.tracks[1], encodes)


def _why_not_sound(sound: Media, encodes: Callable[[], bool]) -> str | None:
    if "SAVP" in sound.protocol:
        return f"encrypted sound ({sound.protocol})"
    if sound.encoding in LAWS:
        if sound.clock_rate not in (0, RATE):
            return f"sound of codec {sound.encoding} with {sound.clock_rate} samples a second"
        if sound.channels != 1:
            return f"sound of codec {sound.encoding} with {sound.channels} channels"
        if not encodes():
            return f"sound of codec {sound.encoding} (kuager[g711] would read it)"
        return None
    if sound.encoding != "MPEG4-GENERIC":
        return f"sound of codec {sound.encoding}"
    try:
        AacFrames(lambda frame: None, sound.parameters)
    except UnsupportedSound as error:
        return str(error)
    return None


class NativeSource:
    """One session with a camera over a connection on which it was asked to describe its stream."""

    def __init__(
        self,
        connection: Connection,
        offer: Offer,
        *,
        transport: str = "auto",
        keep_audio: bool = True,
        on_remark: Callable[[str], None] = lambda text: None,
        closed_at: Counter[str] | None = None,
        ticks_ms: Callable[[], float] = lambda: time.monotonic() * 1000,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ):
        """Take an offer for which `why_not` says None; the connection is closed at the end.

        `transport` is tcp, udp, or auto: TCP where the camera takes it. Over an encrypted
        connection it is never UDP, which would not be. `on_remark` is given a sentence for the
        operator on what is left out, `closed_at` is that of `RtspSession`. `ticks_ms` is a clock
        that is never set, `sleep` waits.
        """
        self._connection, self._offer, self._ticks_ms = connection, offer, ticks_ms
        self._on_remark, self._sleep = on_remark, sleep
        self._closed_at = Counter[str]() if closed_at is None else closed_at
        self.sound_broke_it = False  # the session ended where sound was asked for
        self._transport = "tcp" if offer.address.secure else transport
        self._keep_audio = keep_audio and offer.description.audio is not None
        self._bye = asyncio.Event()
        self._has_picture = False
        self._pictures: H264Pictures | H265Pictures | None = None
        self._receivers: list[RtpReceiver] = []

    @property
    def packets(self) -> list[PacketCounts]:
        """Packets of its tracks, the picture first."""
        return [receiver.counts for receiver in self._receivers]

    async def run(self, sink: Sink) -> Ending:
        """Yield into the sink until the session ends; cancelling it ends the session."""
        session = RtspSession(self._connection, self._offer, closed_at=self._closed_at)
        try:
            await self._begin(session, sink)
            return await self._watch(session)
        except RefusedError as refused:
            return self._refusal(refused)
        except (OSError, ProtocolError) as error:  # TimeoutError is one
            return self._broken(error)
        finally:
            await asyncio.shield(asyncio.ensure_future(session.tear_down()))

    async def _begin(self, session: RtspSession, sink: Sink) -> None:
        description = self._offer.description
        video, *sounds = description.tracks if self._keep_audio else description.tracks[:1]
        transcoded = ("audio",) if any(s.encoding in LAWS for s in sounds) else ()
        tracks = TrackTeller(sink, self._ticks_ms, transcoded)
        tracks.video = video_track(
            description.video, sprop_sets(description.video, video.parameters)
        )

        def take_picture(frame: Frame) -> None:
            self._has_picture = True
            if tracks.takes_picture(description.video, frame.key, frame.data):
                sink.on_frame(frame._replace(report_ms=self._receivers[0].clock.report_ms))

        def take_sound(frame: Frame) -> None:
            if tracks.takes_sound():
                sink.on_frame(frame)

        pictures = _PICTURES[description.video](take_picture, partial(self._camera_ms, 0))
        self._pictures = pictures
        self._receivers = [
            RtpReceiver(video.payload_type or 0, VIDEO_TIMESCALE, pictures, on_bye=self._bye.set)
        ]
        await self._set_up(session, 0)
        for audio in sounds:
            camera_ms = self._aligned_ms
            sound: AacFrames | G711Sound
            if audio.encoding in LAWS:
                sound = G711Sound(take_sound, audio.encoding, camera_ms)
            else:
                sound = AacFrames(take_sound, audio.parameters, audio.clock_rate, camera_ms)
            tracks.sound = sound_track(sound.config, sound.clock_rate)
            beside = RtpReceiver(audio.payload_type or 0, sound.clock_rate, sound)
            beside.beside, self._receivers[0].beside = self._receivers[0], beside
            beside.static_type = audio.static_type
            self._receivers.append(beside)
            try:
                await self._set_up(session, 1)
            except RefusedError as refused:
                self._on_remark(f"the camera offers sound and refuses it ({refused.status})")
            except (OSError, ProtocolError):
                self.sound_broke_it = True
                raise
        await session.play()

    async def _set_up(self, session: RtspSession, track: int) -> None:
        receiver = self._receivers[track]
        if self._transport != "udp":
            try:
                await session.set_up(track, receiver)
                self._transport = "tcp"
                return
            except RefusedError as refused:
                if refused.status != UNSUPPORTED_TRANSPORT or self._transport == "tcp":
                    raise
            self._transport = "udp"
        await session.set_up_udp(track, receiver)

    def _camera_ms(self, track: int, pts: int) -> float | None:
        return self._receivers[track].clock.camera_ms(pts)

    def _aligned_ms(self, pts: int) -> float | None:
        return self._receivers[1].aligned_ms(pts)

    async def _watch(self, session: RtspSession) -> Ending:
        """Wait for the end of what plays."""
        where = self._offer.address.where
        closed = asyncio.ensure_future(self._connection.ended())
        alive = asyncio.ensure_future(session.keep_alive())
        bye = asyncio.ensure_future(self._no_more_comes())
        first = asyncio.ensure_future(self._not_understood())
        reports = asyncio.ensure_future(session.report())
        tasks: set[asyncio.Future[Any]] = {closed, alive, bye, first, reports}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if first.done():
                if (why := first.result()) is not None:
                    return Ending(GapCause.STREAM_BROKEN, f"{where} {why}")
                await asyncio.wait(tasks - {first}, return_when=asyncio.FIRST_COMPLETED)
            if self._bye.is_set():
                return Ending(GapCause.CLOSED_BY_CAMERA, f"{where} says that its stream ends")
            if alive.done() and alive.exception() is None:
                text = f"{where} has forgotten the session (454)"
                return Ending(GapCause.CLOSED_BY_CAMERA, text)
            return self._broken(await closed)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _no_more_comes(self) -> None:
        """Wait until the camera says that its stream ends, and sends no more of it.

        Some say so of a stream that goes on.
        """
        counts = self._receivers[0].counts
        while True:
            await self._bye.wait()
            came = counts.received
            await self._sleep(BYE_S)
            if came == counts.received:
                return
            self._bye.clear()

    async def _not_understood(self) -> str | None:
        """Wait for the first picture; return what is wrong where packets come and make none.

        Or where most are no part of one, as where a camera numbers them at random, or sends
        another codec than it says. A large one takes long on a slow link. What another stream
        beside ours sends says nothing of ours, however much it is.
        """
        receiver, pictures = self._receivers[0], self._pictures
        assert pictures is not None
        counts = receiver.counts
        while True:
            await self._sleep(FIRST_S)
            unread = counts.malformed + pictures.malformed
            strays = counts.strays - receiver.foreigners
            came = counts.received + strays + counts.malformed
            odd = strays + unread
            is_known = self._has_picture or pictures.has_begun
            if came >= FIRST_PACKETS and (not is_known or odd > came / 2):
                return (
                    f"sends packets that make no picture: of {came}, {strays} are not of "
                    f"its video, {unread} cannot be read"
                )
            if self._has_picture:
                return None

    def _broken(self, error: Exception | None) -> Ending:
        where = self._offer.address.where
        if isinstance(error, ProtocolError):
            return Ending(GapCause.STREAM_BROKEN, f"the stream of {where} broke: it sent {error}")
        if isinstance(error, OSError) and error.errno in _NO_WAY:
            text = f"the connection to {where} broke: {error.strerror}"
            return Ending(GapCause.UNREACHABLE, text)
        if isinstance(error, TimeoutError):
            return Ending(GapCause.NO_DATA, f"{where} described its stream and does not begin it")
        if error is None or isinstance(error, ConnectionError):
            return Ending(GapCause.CLOSED_BY_CAMERA, f"{where} closed the connection")
        if isinstance(error, OSError):
            text = f"the stream of {where} broke: {error.strerror or error}"
            return Ending(GapCause.STREAM_BROKEN, text)
        return Ending(GapCause.STREAM_BROKEN, f"a fault of the recorder: {error!r}")

    def _refusal(self, refused: RefusedError) -> Ending:
        """Say what it means that the camera refuses what it has described."""
        where, status = self._offer.address.where, refused.status
        if status in (401, 403):
            text = f"{where} refuses this user the stream that it described ({status})"
            return Ending(GapCause.REFUSED_PASSWORD, text)
        if status in (404, 410):
            return Ending(GapCause.NO_SUCH_STREAM, f"{where} has no such stream ({status})")
        if status in (453, 503):
            text = f"{where} is busy: it takes no more viewers now ({status})"
            return Ending(GapCause.STREAM_BROKEN, text, "close other viewers of this camera")
        if status == UNSUPPORTED_TRANSPORT:
            text = f"{where} does not send its stream over {self._transport.upper()} (461)"
            return Ending(GapCause.STREAM_BROKEN, text, "set 'transport' to auto")
        return Ending(GapCause.STREAM_BROKEN, f"{where} answers {status} to {refused.method}")
