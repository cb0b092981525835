"""The RTSP face of the simulated cameras (RFC 2326), and the control port for their faults."""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import ClassVar, Self
from urllib.parse import quote, unquote, urlsplit

from aiohttp import web

from kuager.simulator.camera import Camera, SimCamera

REALM = "Kuager camera simulator"
MAX_UNSENT = 8 << 20  # bytes in a viewer's connection before packets are lost, as cameras do


class Simulator:
    """RTSP server and control port for some cameras; an async context manager."""

    def __init__(
        self,
        cameras: Sequence[SimCamera],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        control_port: int | None = None,
        ffmpeg: str = "ffmpeg",
    ):
        """Ports of 0 are chosen by the system; no control port where it is None."""
        self._host, self.port, self.control_port = host, port, control_port
        self.cameras = {c.name: Camera(c, ffmpeg) for c in cameras}
        self._server: asyncio.Server | None = None
        self._runner: web.AppRunner | None = None
        self._reports: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        started = [c for c in self.cameras.values() if c.what.shared is None]
        await asyncio.gather(*(c.start() for c in started))
        for camera in self.cameras.values():
            if camera.what.shared is not None:
                source = self.cameras[camera.what.shared]
                source.followers.append(camera)
                camera.tracks, camera.sdp = source.tracks, source.sdp
        self._server = await asyncio.start_server(self._connected, self._host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        self._reports = [asyncio.create_task(c.report_for_ever()) for c in self.cameras.values()]
        if self.control_port is not None:
            await self._start_control()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in self._reports:
            task.cancel()
        if self._server:
            self._server.close()
        if self._runner:
            await self._runner.cleanup()
        await asyncio.gather(*(c.stop() for c in self.cameras.values()))

    def url(self, name: str) -> str:
        """Return the address of a camera, with its user and password if it asks for them."""
        what = self.cameras[name].what
        login = f"{quote(what.user)}:{quote(what.password or '')}@" if what.user else ""
        return f"rtsp://{login}{self._host}:{self.port}/{quote(name)}"

    def fault(self, name: str, fault: str, value: float | None = None) -> None:
        """Begin a fault of a camera (FAULTS)."""
        self.cameras[name].fault(fault, value)

    def clear(self, name: str, fault: str | None = None) -> None:
        """End one fault of a camera, or all."""
        self.cameras[name].clear(fault)

    # -- control -------------------------------------------------------------------------

    async def _start_control(self) -> None:
        app = web.Application()
        app.add_routes([web.post("/cameras/{name}/fault", self._control)])
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self.control_port)
        await site.start()

    async def _control(self, request: web.Request) -> web.Response:
        camera = self.cameras.get(request.match_info["name"])
        if camera is None:
            text = f"no camera '{request.match_info['name']}'; there are: {', '.join(self.cameras)}"
            return web.Response(status=404, text=text)
        try:
            body = await request.json()
            if body["fault"] == "clear":
                camera.clear()
            else:
                camera.fault(body["fault"], body.get("value"))
        except (ValueError, KeyError, TypeError) as error:
            return web.Response(status=400, text=str(error))
        faults = ", ".join(f"{k} {v:g}" for k, v in camera.faults.items()) or "none"
        return web.Response(text=f"{camera.what.name}: faults now: {faults}")

    # -- RTSP ----------------------------------------------------------------------------

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = _Connection(self.cameras, reader, writer)
        try:
            await connection.serve()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            connection.close()


class _Connection:
    """One client's connection."""

    def __init__(
        self,
        cameras: dict[str, Camera],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ):
        self._cameras, self._reader, self._writer = cameras, reader, writer
        self._nonce = secrets.token_hex(16)
        self._session = secrets.token_hex(8)
        self._camera: Camera | None = None
        self._sends: dict[int, Callable[[bool, bytes], None]] = {}
        self._sockets: list[asyncio.DatagramTransport] = []

    async def serve(self) -> None:
        """Answer requests until the client goes."""
        while True:
            first = await self._reader.readexactly(1)
            if first == b"$":  # the client's receiver reports
                head = await self._reader.readexactly(3)
                await self._reader.readexactly(int.from_bytes(head[1:], "big"))
                continue
            head = first + await self._reader.readuntil(b"\r\n\r\n")
            text = head.decode("latin-1")
            method, uri, _ = text.split("\r\n", 1)[0].split(" ", 2)
            fields = {
                k.strip().lower(): v.strip()
                for k, _, v in (line.partition(":") for line in text.split("\r\n")[1:])
            }
            if length := int(fields.get("content-length", 0)):
                await self._reader.readexactly(length)
            if not await self._answer(method, uri, fields):
                return

    async def _answer(self, method: str, uri: str, fields: dict[str, str]) -> bool:
        name = unquote(urlsplit(uri).path.strip("/").split("/")[0])
        camera = self._cameras.get(name)
        reply = _Reply(self._writer, fields.get("cseq", "0"))
        if method == "OPTIONS":
            reply.send(200, {"Public": "OPTIONS, DESCRIBE, SETUP, PLAY, GET_PARAMETER, TEARDOWN"})
        elif camera is None or "no-such-stream" in camera.faults:
            reply.send(404)
        elif "drop" in camera.faults:
            return False
        elif not self._allowed(camera, method, fields):
            challenge = f'Digest realm="{REALM}", nonce="{self._nonce}"'
            reply.send(401, {"WWW-Authenticate": challenge})
        elif method == "DESCRIBE":
            reply.send(200, {"Content-Base": uri.rstrip("/") + "/"}, camera.sdp)
        elif method == "SETUP":
            await self._setup(camera, uri, fields, reply)
        elif method == "PLAY":
            self._play(camera, reply)
        elif method in ("GET_PARAMETER", "SET_PARAMETER"):
            reply.send(200, {"Session": self._session})
        elif method == "TEARDOWN":
            reply.send(200)
            return False
        else:
            reply.send(501)
        return True

    def _allowed(self, camera: Camera, method: str, fields: dict[str, str]) -> bool:
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

    async def _setup(self, camera: Camera, uri: str, fields: dict[str, str], reply: _Reply) -> None:
        number = int(uri[-1]) if uri[-1:].isdigit() and "track" in uri else 0
        wanted = fields.get("transport", "")
        if number >= len(camera.tracks):
            reply.send(404)
            return
        if "interleaved" in wanted or "RTP/AVP/TCP" in wanted:
            match = re.search(r"interleaved=(\d+)", wanted)
            channel = int(match[1]) if match else 2 * number
            self._sends[number] = self._interleaved(channel)
            answer = f"RTP/AVP/TCP;unicast;interleaved={channel}-{channel + 1}"
        elif match := re.search(r"client_port=(\d+)", wanted):
            port = int(match[1])
            host = self._writer.get_extra_info("peername")[0]
            own = self._writer.get_extra_info("sockname")[0]
            loop = asyncio.get_running_loop()
            ports = []
            for offset in (0, 1):
                transport, _ = await loop.create_datagram_endpoint(
                    asyncio.DatagramProtocol, local_addr=(own, 0), remote_addr=(host, port + offset)
                )
                self._sockets.append(transport)
                ports.append(transport.get_extra_info("sockname")[1])
            rtp, rtcp = self._sockets[-2:]
            self._sends[number] = lambda is_rtcp, data: (rtcp if is_rtcp else rtp).sendto(data)
            answer = (
                f"RTP/AVP;unicast;client_port={port}-{port + 1};server_port={ports[0]}-{ports[1]}"
            )
        else:
            reply.send(461)
            return
        reply.send(200, {"Transport": answer, "Session": f"{self._session};timeout=60"})

    def _interleaved(self, channel: int) -> Callable[[bool, bytes], None]:
        def send(is_rtcp: bool, data: bytes) -> None:
            transport = self._writer.transport
            if not transport.is_closing() and transport.get_write_buffer_size() < MAX_UNSENT:
                head = b"$" + bytes([channel + is_rtcp]) + len(data).to_bytes(2, "big")
                transport.write(head + data)

        return send

    def _play(self, camera: Camera, reply: _Reply) -> None:
        self._camera = camera
        begin = time.monotonic() + camera.faults.get("slow-start", 0.0)
        reply.send(200, {"Session": self._session, "Range": "npt=now-"})
        camera.viewers[self._view] = begin
        camera.closers.add(self.close)
        camera.report()

    def _view(self, track: int, is_rtcp: bool, data: bytes) -> None:
        if send := self._sends.get(track):
            send(is_rtcp, data)

    def close(self) -> None:
        """End the connection and everything that hangs on it."""
        if self._camera is not None:
            self._camera.viewers.pop(self._view, None)
            self._camera.closers.discard(self.close)
        for transport in self._sockets:
            transport.close()
        if not self._writer.transport.is_closing():
            self._writer.transport.abort()


class _Reply:
    """Answers one request."""

    _WORDS: ClassVar = {
        200: "OK",
        401: "Unauthorized",
        404: "Not Found",
        461: "Unsupported Transport",
    }

    def __init__(self, writer: asyncio.StreamWriter, cseq: str):
        self._writer, self._cseq = writer, cseq

    def send(self, status: int, fields: dict[str, str] | None = None, body: str = "") -> None:
        lines = [f"RTSP/1.0 {status} {self._WORDS.get(status, 'Not Implemented')}"]
        lines += [f"CSeq: {self._cseq}", *(f"{k}: {v}" for k, v in (fields or {}).items())]
        if body:
            lines += ["Content-Type: application/sdp", f"Content-Length: {len(body.encode())}"]
        self._writer.write(("\r\n".join(lines) + "\r\n\r\n" + body).encode())
