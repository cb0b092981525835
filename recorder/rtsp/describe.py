"""DESCRIBE (RFC 2326, 10.2): what a camera streams, or what keeps it from it, for an operator."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from recorder.rtsp.address import Address, base_uri, control_uri
from recorder.rtsp.auth import parse_challenges, strongest
from recorder.rtsp.connection import DEFAULT_USER_AGENT, Connection, Resolver
from recorder.rtsp.description import Description, NoVideo, choose_tracks
from recorder.rtsp.messages import ProtocolError, Response, text_of
from recorder.rtsp.sdp import parse_sdp
from storage.records import Ending, GapCause
from storage.spool.disk import shortage

REDIRECTS = 5
OUT_OF_TURN = (400, 405, 455, 501)  # answers of cameras that want to be asked for OPTIONS first
POWER = "check power, cable and address"
LOGIN = "check user and password in the stations file or the credentials"
BUSY = "close other viewers of this camera, or restart it"
PORT = "check the port, and that RTSP is switched on in the camera"
BASIC = (
    "the camera takes the password by Basic, readable to everyone on the way: "
    "set its RTSP authentication to digest"
)
PATH = "check the path of the address in the camera's manual"


class DescribeFailed(Exception):
    """The camera did not describe its stream; `ending` says what happened, where, what to do."""

    def __init__(self, cause: GapCause, detail: str, remedy: str):
        super().__init__(detail)
        self.ending = Ending(cause, detail, remedy)


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: to connect, to answer, and until an operator is told that a camera is waited for."""

    connect_s: float = 10.0
    answer_s: float = 30.0  # some cameras sleep until they are asked
    waking_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Offer:
    """What a camera offers: where its stream is after all redirects, and what is recorded of it.

    `proof` is how the camera wanted the password proved, such as "Digest SHA-256"; None where it
    did not ask. `track_uris` are the addresses of the recorded tracks, `uri` is that of all of them
    together.
    """

    address: Address
    description: Description
    proof: str | None = None
    track_uris: tuple[str, ...] = ()
    uri: str = ""


async def connect(
    url: str,
    resolver: Resolver,
    *,
    user_agent: str = DEFAULT_USER_AGENT,
    video_track: int | None = None,
    patience: Patience = Patience(),
    on_waking: Callable[[str], None] = lambda text: None,
    clock_ms: Callable[[], float] = lambda: time.time() * 1000,
) -> tuple[Connection, Offer]:
    """Ask the camera what it streams; raises DescribeFailed.

    The connection is kept for the stream; the caller closes it. `video_track` counts from 1.
    `on_waking` is given a sentence where the answer takes long. `clock_ms` (UTC) says when packets
    arrive.
    """
    address = Address.parse(url)
    for _ in range(REDIRECTS + 1):
        connection = Connection(address, resolver, user_agent=user_agent, clock_ms=clock_ms)
        try:
            response = await _ask(connection, patience, on_waking)
            if response.status not in (301, 302, 303, 305, 307, 308):
                return connection, _offer(response, connection, Address.parse(url), video_track)
        except BaseException:
            await connection.close()
            raise
        await connection.close()
        address = _next(response, address)
    raise DescribeFailed(
        GapCause.STREAM_BROKEN,
        f"{address.where} sends from address to address, more than {REDIRECTS} times",
        "write the final address into the stations file",
    )


async def _ask(
    connection: Connection, patience: Patience, on_waking: Callable[[str], None]
) -> Response:
    address, where = connection.address, connection.address.where
    try:
        await connection.open(patience.connect_s)
    except TimeoutError:
        text = f"{where} does not take a connection in {patience.connect_s:g} s"
        raise DescribeFailed(GapCause.UNREACHABLE, text, POWER) from None
    except OSError as error:
        raise _not_connected(address, error) from None
    told = asyncio.get_running_loop().call_later(
        patience.waking_s,
        on_waking,
        f"{where} took the connection and does not answer yet: it may be waking up",
    )
    try:
        headers, answer_s = {"Accept": "application/sdp"}, patience.answer_s
        response = await connection.request("DESCRIBE", address.uri, headers, answer_s)
        if response.status in OUT_OF_TURN:
            with contextlib.suppress(OSError):  # TimeoutError is one
                await connection.request("OPTIONS", address.uri, {}, answer_s)
                response = await connection.request("DESCRIBE", address.uri, headers, answer_s)
        return response
    except TimeoutError:
        text = f"{where} took the connection, but did not answer in {patience.answer_s:g} s"
        raise DescribeFailed(GapCause.NO_DATA, text, "restart the camera") from None
    except ProtocolError as error:
        raise DescribeFailed(
            GapCause.STREAM_BROKEN, f"{where} does not speak RTSP: it sent {error}", PORT
        ) from None
    except ConnectionError:
        raise DescribeFailed(
            GapCause.CLOSED_BY_CAMERA, f"{where} closed the connection without an answer", BUSY
        ) from None
    except OSError as error:  # while it connected again
        raise _not_connected(address, error) from None
    finally:
        told.cancel()


def _not_connected(address: Address, error: OSError) -> DescribeFailed:
    where = address.where
    if isinstance(error, ssl.SSLError):
        text = f"{where} does not speak TLS: {(error.reason or 'broken').replace('_', ' ').lower()}"
        return DescribeFailed(
            GapCause.UNREACHABLE, text, "check the port, or write rtsp:// instead of rtsps://"
        )
    if isinstance(error, socket.gaierror):
        text = f"{address.host} is not found: the name server does not know it or does not answer"
        return DescribeFailed(
            GapCause.UNREACHABLE, text, "check the name, or write the camera's number instead"
        )
    if short := shortage(error):  # the camera was not even asked
        text = f"no connection to {where} can be opened: {short}"
        return DescribeFailed(GapCause.STREAM_BROKEN, text, "")
    if error.errno == errno.ECONNREFUSED:
        return DescribeFailed(GapCause.UNREACHABLE, f"{where} refuses the connection", PORT)
    what = os.strerror(error.errno).lower() if error.errno else "no connection"
    return DescribeFailed(GapCause.UNREACHABLE, f"{where}: {what}", POWER)


def _next(response: Response, address: Address) -> Address:
    location = response.get("location") or ""
    with contextlib.suppress(ValueError):
        if location:
            return address.redirected(location)
    raise DescribeFailed(
        GapCause.STREAM_BROKEN,
        f"{address.where} sends to another address ({response.status}) that is not an RTSP address",
        "write the final address into the stations file",
    )


def _offer(
    response: Response, connection: Connection, asked: Address, video_track: int | None
) -> Offer:
    address = connection.address
    if response.status != 200:
        raise _refusal(response, connection, asked)
    try:
        session = parse_sdp(text_of(response.body))
        description = choose_tracks(session, video_track)
    except NoVideo as error:
        text = f"{address.where}: {error}"
        raise DescribeFailed(GapCause.NO_SUCH_STREAM, text, error.remedy) from None
    base = base_uri(response, address.uri)
    if session.control not in ("", "*"):
        base = control_uri(base, session.control)
    login = connection.authenticator
    proof = login.challenge.name if login else None
    if proof == "Basic" and not address.secure:
        description = replace(description, remarks=(*description.remarks, BASIC))
    uris = tuple(control_uri(base, track.control) for track in description.tracks)
    return Offer(address, description, proof, uris, base)


def _refusal(response: Response, connection: Connection, asked: Address) -> DescribeFailed:
    """Say why there is no description. No path in it: some cameras have their password there."""
    where, status = connection.address.where, response.status
    if status == 401:
        return _unauthorized(response, connection, asked)
    if status == 403:
        text = f"{where} forbids this user the stream (403)"
        return DescribeFailed(
            GapCause.REFUSED_PASSWORD, text, "check in the camera what this user may see"
        )
    if status in (404, 410):
        return DescribeFailed(
            GapCause.NO_SUCH_STREAM, f"{where} has no such stream ({status})", PATH
        )
    if status in (453, 503):
        text = f"{where} is busy: it takes no more viewers now ({status})"
        return DescribeFailed(GapCause.STREAM_BROKEN, text, BUSY)
    said = f"{where} answers {status} to DESCRIBE"
    remedy = "restart the camera" if status >= 500 else PATH
    return DescribeFailed(GapCause.STREAM_BROKEN, said, remedy)


def _unauthorized(response: Response, connection: Connection, asked: Address) -> DescribeFailed:
    where = connection.address.where
    challenges = parse_challenges(response.all("www-authenticate"))
    if connection.address.credentials is None and asked.credentials is not None:
        text = f"{asked.where} sends on to {where}, which asks for a password (401)"
        remedy = f"write the address at {where} into the stations file, if you trust it"
    elif connection.address.credentials is None:
        text = f"{where} asks for a password and none is configured (401)"
        remedy = LOGIN
    elif strongest(challenges) is None:
        ways = ", ".join(dict.fromkeys(challenge.name for challenge in challenges)) or "none named"
        text = f"{where} wants the password in a way that is not known here (401): {ways}"
        remedy = "set the camera's RTSP authentication to digest"
    else:
        text, remedy = f"{where} refuses user name or password (401)", LOGIN
    return DescribeFailed(GapCause.REFUSED_PASSWORD, text, remedy)
