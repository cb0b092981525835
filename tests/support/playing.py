"""What a scripted camera plays: a few pictures and sound as interleaved packets."""

from __future__ import annotations

from tests.support.packets import (
    EPOCH_MS,
    PPS,
    SPS,
    fragments,
    packed,
    report,
    rtp,
    sample,
    slice_nal,
)
from tests.support.rtsp_camera import H264, Dialogue, Request, Script, sdp_of, usual

AAC = (
    "m=audio 0 RTP/AVP 97\r\na=rtpmap:97 MPEG4-GENERIC/48000/1\r\n"
    "a=fmtp:97 mode=AAC-hbr;config=1188;sizelength=13;indexlength=3;indexdeltalength=3"
)
SDP = sdp_of(H264, AAC)
KEY = slice_nal("h264", b"key" * 300, key=True)
OTHER = slice_nal("h264", b"other" * 300)


def wrapped(channel: int, packet: bytes) -> bytes:
    return b"$" + bytes([channel]) + len(packet).to_bytes(2, "big") + packet


def film(count: int = 4, channels: tuple[int, int] = (0, 2), between: bytes = b"") -> bytes:
    """Return interleaved packets: pictures, the first one a key, with sets; sound and reports."""
    out, number = [], 0
    for n in range(count):
        parts = (
            [SPS, PPS, *fragments("h264", KEY, 400)] if n == 0 else fragments("h264", OTHER, 400)
        )
        for k, part in enumerate(parts):
            kind = 96 | (k == len(parts) - 1) << 7
            out.append(wrapped(channels[0], rtp(number, part, stamp=n * 3600, kind=kind)))
            number += 1
        out.append(wrapped(channels[0] + 1, report(n * 3600, EPOCH_MS + n * 40)))
        sound = rtp(n, packed(b"sound %d" % n), stamp=n * 1920, kind=97 | 0x80, ssrc=5)
        out.append(wrapped(channels[1], sound))
    return between.join(out) + between


PICTURES = [sample(SPS, PPS, KEY), sample(OTHER), sample(OTHER), sample(OTHER)]
SOUND = [b"sound %d" % n for n in range(4)]


def plays(data: bytes, before: Script = usual, early: bool = False) -> Script:
    """Return a script that sends data after the answer to PLAY, or before it."""

    async def script(dialogue: Dialogue, request: Request) -> bool:
        if await before(dialogue, request):
            return True
        if request.method != "PLAY":
            return False
        if early:
            dialogue.send(data)
        dialogue.answer(
            request, "200 OK", "Session: 12345678", "RTP-Info: ;url=;seq=x;;rtptime=-1;"
        )
        if not early:
            dialogue.send(data)
        return True

    return script


def answers(method: str, *headers: str, status: str = "200 OK", times: int = 99) -> Script:
    """Return a script that answers a method with these headers."""
    left = [times]

    async def script(dialogue: Dialogue, request: Request) -> bool:
        if request.method != method or not left[0]:
            return False
        left[0] -= 1
        track = request.uri.rsplit("track", 1)[-1]
        dialogue.answer(request, status, *(h.replace("N", track) for h in headers))
        return True

    return script
