"""One DESCRIBE of our own before ffmpeg starts: it tells in a second what ffmpeg would not say.

RTSP: RFC 2326. Digest: RFC 2617 and 7616 (MD5, SHA-256). SDP: RFC 4566.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import ssl
from base64 import b64encode
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from storage.index import GapCause

MAX_RESPONSE = 64 * 1024
USER_AGENT = "Kuager"
_CODECS = {
    "H264": "h264",
    "H265": "h265",
    "HEVC": "h265",
    "JPEG": "mjpeg",
    "MPEG4-GENERIC": "aac",
    "MP4A-LATM": "aac",
    "PCMU": "pcmu",
    "PCMA": "pcma",
}
_STATIC_PAYLOADS = {0: "pcmu", 8: "pcma", 26: "mjpeg"}  # RFC 3551, section 6


class DescribeFailed(Exception):
    """The camera did not describe its stream; `cause` is from the closed list."""

    def __init__(self, cause: GapCause, detail: str):
        super().__init__(detail)
        self.cause, self.detail = cause, detail


@dataclass(frozen=True, slots=True)
class Description:
    """What the camera offers: lower-case codec names, None for a kind that it has not."""

    video: str | None
    audio: str | None


async def describe(url: str, timeout_s: float) -> Description:
    """Ask the camera what it streams.

    Raises DescribeFailed with what an operator can act on; the text never holds a password.
    """
    target = urlsplit(url)
    where = f"{target.hostname}:{_port(target)}"
    try:
        async with asyncio.timeout(timeout_s):
            return parse_sdp(await _describe(target))
    except TimeoutError:
        raise DescribeFailed(
            GapCause.UNREACHABLE, f"{where} did not answer in {timeout_s:g} s"
        ) from None
    except ssl.SSLError as error:
        raise DescribeFailed(GapCause.UNREACHABLE, f"{where}: TLS: {error.reason}") from None
    except (asyncio.IncompleteReadError, ConnectionResetError, BrokenPipeError):
        raise DescribeFailed(
            GapCause.UNREACHABLE, f"{where} closed the connection without an answer"
        ) from None
    except OSError as error:
        raise DescribeFailed(
            GapCause.UNREACHABLE, f"{where}: {error.strerror or 'no connection'}"
        ) from None
    except (ValueError, asyncio.LimitOverrunError):
        raise DescribeFailed(
            GapCause.STREAM_BROKEN, f"{where} does not answer in the words of RTSP"
        ) from None


def _port(target: SplitResult) -> int:
    return target.port or (322 if target.scheme == "rtsps" else 554)


async def _describe(target: SplitResult) -> str:
    tls = ssl.create_default_context() if target.scheme == "rtsps" else None
    if tls is not None:  # cameras have certificates of their own making, as ffmpeg assumes too
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(
        target.hostname, _port(target), ssl=tls, limit=MAX_RESPONSE
    )
    try:
        host = target.netloc.rpartition("@")[2]
        uri = target._replace(netloc=host).geturl()
        authorization = ""
        for attempt in (1, 2):
            writer.write(
                f"DESCRIBE {uri} RTSP/1.0\r\nCSeq: {attempt}\r\nUser-Agent: {USER_AGENT}\r\n"
                f"Accept: application/sdp\r\n{authorization}\r\n".encode()
            )
            status, challenges, body = await _response(reader)
            if status == 401 and attempt == 1 and target.username is not None:
                authorization = _authorize(challenges, target, uri)
                continue
            break
        if status == 200:
            return body
        raise _refusal(status, target)
    finally:
        writer.close()


def _refusal(status: int, target: SplitResult) -> DescribeFailed:
    if status in (401, 403):
        if target.username is None:
            text = f"the camera asks for a password and none is configured ({status})"
        else:
            text = f"the camera refuses user name or password ({status})"
        return DescribeFailed(GapCause.REFUSED_PASSWORD, text)
    if status in (404, 454):
        # not its path: some cameras have their password in it
        return DescribeFailed(GapCause.NO_SUCH_STREAM, f"the camera has no such stream ({status})")
    return DescribeFailed(GapCause.STREAM_BROKEN, f"the camera answers {status} to DESCRIBE")


async def _response(reader: asyncio.StreamReader) -> tuple[int, list[str], str]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    match = re.match(r"RTSP/1\.\d (\d{3})", head)
    if match is None:
        raise ValueError("not RTSP")
    challenges: list[str] = re.findall(r"(?im)^WWW-Authenticate:\s*(.*?)\s*$", head)
    length = re.search(r"(?im)^Content-Length:\s*(\d+)", head)
    size = int(length.group(1)) if length else 0
    if size > MAX_RESPONSE:
        raise ValueError("too long")
    return int(match.group(1)), challenges, (await reader.readexactly(size)).decode("latin-1")


def _authorize(challenges: list[str], target: SplitResult, uri: str) -> str:
    user, password = unquote(target.username or ""), unquote(target.password or "")
    for challenge in challenges:
        if challenge.lower().startswith("digest"):
            return f"Authorization: {_digest(challenge, user, password, uri)}\r\n"
    token = b64encode(f"{user}:{password}".encode()).decode()
    return f"Authorization: Basic {token}\r\n"


def _digest(challenge: str, user: str, password: str, uri: str) -> str:
    fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    fields |= dict(re.findall(r"(\w+)=([^\s\",]+)", challenge))
    sha = fields.get("algorithm", "MD5").upper() == "SHA-256"

    def digest(text: str) -> str:
        return (hashlib.sha256 if sha else hashlib.md5)(text.encode()).hexdigest()

    realm, nonce = fields.get("realm", ""), fields.get("nonce", "")
    secret, request = digest(f"{user}:{realm}:{password}"), digest(f"DESCRIBE:{uri}")
    values = {"username": user, "realm": realm, "nonce": nonce, "uri": uri}
    tail = ""
    if "auth" in re.split(r"[,\s]+", fields.get("qop", "")):
        cnonce = secrets.token_hex(8)
        values["cnonce"] = cnonce
        response = digest(f"{secret}:{nonce}:00000001:{cnonce}:auth:{request}")
        tail = ", qop=auth, nc=00000001"
    else:
        response = digest(f"{secret}:{nonce}:{request}")
    values["response"] = response
    if "opaque" in fields:
        values["opaque"] = fields["opaque"]
    if sha:
        tail += ", algorithm=SHA-256"
    return "Digest " + ", ".join(f'{k}="{v}"' for k, v in values.items()) + tail


def parse_sdp(sdp: str) -> Description:
    """Return the first video and audio codec of a session description."""
    found: dict[str, str] = {}
    kind = ""
    for line in sdp.splitlines():
        if line.startswith("m="):
            kind, _, rest = line[2:].partition(" ")
            payload = rest.split()[-1] if rest.strip() else ""
            if payload.isdigit() and int(payload) in _STATIC_PAYLOADS:
                found.setdefault(kind, _STATIC_PAYLOADS[int(payload)])
        elif line.startswith("a=rtpmap:") and " " in line:
            name = line.split(" ", 1)[1].split("/")[0].strip().upper()
            found.setdefault(kind, _CODECS.get(name, name.lower()))
    if "video" not in found:
        raise DescribeFailed(GapCause.NO_SUCH_STREAM, "the camera's stream has no video")
    return Description(found["video"], found.get("audio"))
