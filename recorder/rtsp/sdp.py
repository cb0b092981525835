"""Session descriptions (RFC 8866) with what RTSP adds (RFC 2326, appendix C), read leniently.

Lines that are not understood are passed over: cameras write many.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from storage.records import plain

# payload types that need no rtpmap (RFC 3551, 6)
_STATIC = {0: "PCMU", 3: "GSM", 4: "G723", 8: "PCMA", 9: "G722", 10: "L16", 11: "L16", 14: "MPA"}
_STATIC |= {18: "G729", 26: "JPEG", 31: "H261", 32: "MPV", 33: "MP2T", 34: "H263"}
# parameters of one codec alone (RFC 6184, 8.1; RFC 7798, 7.1): they name it where nothing else does
_TELLING = {"packetization-mode": "H264", "sprop-parameter-sets": "H264", "sprop-sps": "H265"}
_DIRECTIONS = ("sendrecv", "recvonly", "sendonly", "inactive")
_RTPMAP = re.compile(r"(\d{1,3})\s+([^\s/]+)\s*(?:/\s*(\d{1,9}))?\s*(?:/\s*(\d{1,3}))?")
_FMTP = re.compile(r"(\d{1,3})\s+(.*)")


@dataclass(slots=True)
class Media:
    """One medium of a description, by its first payload type, as is usual."""

    kind: str  # "video", "audio", "application" and others
    payload_type: int | None = None
    is_alone: bool = False  # no other payload type: whatever its attributes are said of is this one
    protocol: str = ""  # in upper case: RTP/AVP, RTP/SAVP
    encoding: str = ""  # name of the codec in upper case; "" where it is not said
    clock_rate: int = 0  # of timestamps, per second; 0 where it is not said
    channels: int = 1  # of sound (RFC 8866, 6.6)
    parameters: dict[str, str] = field(default_factory=dict)  # of fmtp; names in lower case
    direction: str = "sendrecv"
    control: str = ""
    size: tuple[int, int] | None = None  # width and height, where an attribute says them

    @property
    def static_type(self) -> int | None:
        """The payload type that has this codec whatever is said of it; None where none has."""
        return next((n for n, codec in _STATIC.items() if codec == self.encoding), None)


@dataclass(slots=True)
class SessionDescription:
    """All media, in their order, and the control address of all of them together."""

    media: list[Media] = field(default_factory=list)
    control: str = ""
    direction: str = "sendrecv"


def parse_sdp(text: str) -> SessionDescription:
    """Read a description; what is not understood is left out, so this never fails."""
    session = SessionDescription()
    for line in text.replace("\0", "").splitlines():  # some send the end of a string of C, too
        key, _, value = line.strip().partition("=")
        if key == "m":
            session.media.append(_media(value, session.direction))
        elif key == "a":
            name, _, value = value.partition(":")
            if not session.media:
                _session_attribute(session, name.lower(), value.strip())
            else:
                _attribute(session.media[-1], name.lower(), value.strip())
    for media in session.media:
        told = [codec for name, codec in _TELLING.items() if name in media.parameters]
        if told and media.kind == "video" and not media.encoding:
            media.encoding = told[0]
    return session


def _media(value: str, direction: str) -> Media:
    kind, *rest = value.split() or [""]
    media = Media(kind.lower(), direction=direction)
    media.protocol = rest[1].upper() if len(rest) > 1 else ""
    if len(rest) > 2 and rest[2].isascii() and rest[2].isdigit():  # port, protocol, first format
        media.payload_type = int(rest[2][:9])
        media.encoding = _STATIC.get(media.payload_type, "")
        media.is_alone = len(rest) == 3
    return media


def _session_attribute(session: SessionDescription, name: str, value: str) -> None:
    if name == "control":
        session.control = value
    elif name in _DIRECTIONS:
        session.direction = name


def _attribute(media: Media, name: str, value: str) -> None:
    if name in _DIRECTIONS:
        media.direction = name
    elif name == "control":
        media.control = value
    elif name == "rtpmap" and (found := _RTPMAP.match(value)):
        if media.payload_type is None:
            media.payload_type = int(found[1])
        guess = media.is_alone and not media.encoding
        if guess or int(found[1]) == media.payload_type:
            media.encoding = plain(found[2]).upper()
            media.clock_rate = int(found[3] or 0)
            media.channels = int(found[4] or 1)
    elif name == "fmtp" and (found := _FMTP.match(value)):
        if media.is_alone or int(found[1]) == media.payload_type:
            for parameter in found[2].split(";"):
                key, _, text = parameter.partition("=")
                # some cameras put values into quotes
                media.parameters.setdefault(key.strip().lower(), text.strip(' \t"'))
    elif name in ("framesize", "x-dimensions") and (
        size := re.search(r"(?:^|\s)(\d{1,5})[-,x]\s*(\d{1,5})$", value)
    ):
        media.size = int(size[1]), int(size[2])  # 3GPP TS 26.234, 5.3.3.2; QuickTime
