"""A camera's side of one RTSP connection (RFC 2326), with Digest passwords (RFC 2617)."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
import secrets
import socket
import time
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

from kuager.simulator.camera import Camera

REALM = "Kuager camera simulator"
MAX_UNSENT = 8 << 20  # bytes in a viewer's connection before packets are lost, as cameras do
PORTS_TRIED = 50
METHODS = "OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, TEARDOWN"
_WORDS = {
    200: "OK",
    401: "Unauthorized",
    404: "Not Found",
    461: "Unsupported Transport",
    501: "Not Implemented",
}

Fields = dict[str, str]


class Connection:
    """One client's connection: its requests, and the packets that go to it."""

    def __init__(
        self, cameras: dict[str, Camera], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ):
        """Serve these cameras, each under its name as path."""
        self._cameras, self._reader, self._writer = cameras, reader, writer
        self._nonce = secrets.token_hex(16)
        self._session = secrets.token_hex(8)
        self._camera: Camera | None = None
        self._sends: dict[int, Callable[[bool, bytes], None]] = {}
        self._sockets: list[asyncio.DatagramTransport] = []

    async def serve(self) -> None:
        """Answer requests until the client goes, or speaks no RTSP."""
        try:
            while await self._answer(*await self._request()):
                pass
            self._writer.close()  # politely: with the last answer
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            pass  # it went, or it spoke something else
        finally:
            self.close()

    def close(self) -> None:
        """End the connection and everything that hangs on it."""
        if self._camera is not None:
            self._camera.closers.discard(self.close)
            if self._camera.viewers.pop(self._view, None) is not None:
                self._camera.left()
        for transport in self._sockets:
            transport.close()
        if not self._writer.transport.is_closing():
            self._writer.transport.abort()

    async def _request(self) -> tuple[str, str, Fields]:
        """Return method, address and fields of the next request; raises ValueError."""
        while (first := await self._reader.readexactly(1)) == b"$":  # receiver reports
            head = await self._reader.readexactly(3)
            await self._reader.readexactly(int.from_bytes(head[1:], "big"))
        text = (first + await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        start, *lines = text.split("\r\n")
        method, uri, _ = start.split(" ", 2)
        fields = {
            name.strip().lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        await self._reader.readexactly(int(fields.get("content-length", 0)))
        return method, uri, fields

    async def _answer(self, method: str, uri: str, fields: Fields) -> bool:
        """Answer one request; return False where the connection ends after it."""
        camera = self._cameras.get(unquote(urlsplit(uri).path.strip("/").split("/")[0]))
        cseq = fields.get("cseq", "0")
        if camera is not None and self._camera is None:
            self._camera = camera
            camera.closers.add(self.close)
        if camera is not None and "drop" in camera.faults:
            return False
        if method == "OPTIONS":
            self._reply(cseq, 200, {"Public": METHODS})
        elif camera is None or camera is not self._camera or "no-such-stream" in camera.faults:
            self._reply(cseq, 404)
        elif not self._allowed(camera, method, fields):
            challenge = f'Digest realm="{REALM}", nonce="{self._nonce}"'
            self._reply(cseq, 401, {"WWW-Authenticate": challenge})
        elif method == "DESCRIBE":
            about = await camera.describe()
            self._reply(cseq, 200, {"Content-Base": uri.rstrip("/") + "/"}, about)
        elif method == "SETUP":
            self._reply(cseq, *await self._setup(camera, uri, fields.get("transport", "")))
        elif method == "PLAY":
            await camera.describe()  # awake
            self._reply(cseq, 200, {"Session": self._session, "Range": "npt=now-"})
            begin = time.monotonic() + camera.faults.get("slow-start", 0.0)
            camera.viewers[self._view] = begin
            camera.report()
        elif method in ("GET_PARAMETER", "SET_PARAMETER"):
            self._reply(cseq, 200, {"Session": self._session})
        elif method == "TEARDOWN":
            self._reply(cseq, 200)
            return False
        else:
            self._reply(cseq, 501)
        return True

    def _reply(self, cseq: str, status: int, fields: Fields | None = None, body: str = "") -> None:
        lines = [f"RTSP/1.0 {status} {_WORDS[status]}", f"CSeq: {cseq}"]
        lines += [f"{name}: {value}" for name, value in (fields or {}).items()]
        if body:
            lines += ["Content-Type: application/sdp", f"Content-Length: {len(body.encode())}"]
        self._writer.write(("\r\n".join(lines) + "\r\n\r\n" + body).encode())

    def _allowed(self, camera: Camera, method: str, fields: Fields) -> bool:
        what = camera.what
        if "refuse-password" in camera.faults:
            return False
        if what.user is None:
            return True
        given = dict(re.findall(r'(\w+)="([^"]*)"', fields.get("authorization", "")))

        def md5(text: str) -> str:
            return hashlib.md5(text.encode()).hexdigest()

        secret = md5(f"{what.user}:{REALM}:{what.password}")
        request = md5(f"{method}:{given.get('uri', '')}")
        return given.get("response") == md5(f"{secret}:{self._nonce}:{request}")

    # -- the way of the packets ----------------------------------------------------------

    async def _setup(self, camera: Camera, uri: str, wanted: str) -> tuple[int, Fields]:
        """Make a way for a track; return the status and fields of the answer."""
        match = re.search(r"/track(\d+)/?$", uri)
        number = int(match[1]) if match else 0
        if number >= len(camera.tracks):
            return 404, {}
        if "RTP/AVP/TCP" in wanted:
            match = re.search(r"interleaved=(\d+)", wanted)
            channel = int(match[1]) if match else 2 * number
            self._sends[number] = self._interleaved(channel)
            answer = f"RTP/AVP/TCP;unicast;interleaved={channel}-{channel + 1}"
        elif "multicast" not in wanted and (match := re.search(r"client_port=(\d+)", wanted)):
            port = int(match[1])
            own = await self._pair(port)
            answer = f"RTP/AVP;unicast;client_port={port}-{port + 1};server_port={own}-{own + 1}"
            rtp, rtcp = self._sockets[-2:]
            self._sends[number] = lambda is_rtcp, data: (rtcp if is_rtcp else rtp).sendto(data)
        else:
            return 461, {}
        return 200, {"Transport": answer, "Session": f"{self._session};timeout=60"}

    def _interleaved(self, channel: int) -> Callable[[bool, bytes], None]:
        transport = self._writer.transport

        def send(is_rtcp: bool, data: bytes) -> None:
            if not transport.is_closing() and transport.get_write_buffer_size() < MAX_UNSENT:
                head = b"$" + bytes([channel + is_rtcp]) + len(data).to_bytes(2, "big")
                transport.write(head + data)

        return send

    async def _pair(self, port: int) -> int:
        """Open an even port and the next for RTP and RTCP (RFC 3550, 11); return the even one."""
        host = self._writer.get_extra_info("peername")[0]
        own = self._writer.get_extra_info("sockname")[0]
        for _ in range(PORTS_TRIED):
            opened: list[asyncio.DatagramTransport] = []
            begin = 49152 + 2 * secrets.randbelow(8000)
            # uvloop leaves a transport open that it could not bind
            if not all(is_free(own, begin + n) for n in (0, 1)):
                continue
            with contextlib.suppress(OSError):
                for n in (0, 1):
                    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                        asyncio.DatagramProtocol,
                        local_addr=(own, begin + n),
                        remote_addr=(host, port + n),
                    )
                    opened.append(transport)
                self._sockets += opened
                return begin
            for transport in opened:
                transport.close()
        raise OSError("no two ports side by side are free")

    def _view(self, track: int, is_rtcp: bool, data: bytes) -> None:
        if send := self._sends.get(track):
            send(is_rtcp, data)


def is_free(host: str, port: int) -> bool:
    """Say whether no UDP socket has a port of one of our addresses."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
