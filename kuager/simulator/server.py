"""The simulated cameras together: one RTSP server, and a control port for their faults."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Self
from urllib.parse import quote

from aiohttp import web

from kuager.simulator.camera import Camera, SimCamera
from kuager.simulator.rtsp import Connection
from recorder.ffmpeg import find_ffmpeg

HOST = "127.0.0.1"


class Simulator:
    """RTSP server and control port for some cameras; an async context manager."""

    def __init__(
        self,
        cameras: Sequence[SimCamera],
        *,
        port: int = 0,
        control_port: int | None = None,
        ffmpeg: str | None = None,
    ):
        """Ports of 0 are chosen by the system; no control port where it is None.

        Raises ValueError for a name that is there twice, or shared and not there.
        """
        self.port, self.control_port = port, control_port
        program = ffmpeg or find_ffmpeg(None)
        self.cameras: dict[str, Camera] = {}
        for what in sorted(cameras, key=lambda c: c.shared is not None):  # sources first
            if what.name in self.cameras:
                raise ValueError(f"two cameras are called {what.name}")
            source = self.cameras.get(what.shared) if what.shared else None
            if what.shared and (source is None or source.what.shared):
                raise ValueError(f"{what.name}: no camera '{what.shared}' with an encoder")
            self.cameras[what.name] = Camera(what, program, source)
        self._server: asyncio.Server | None = None
        self._runner: web.AppRunner | None = None
        self._connections: dict[asyncio.Task[None], Connection] = {}

    async def __aenter__(self) -> Self:
        try:
            self._server = await asyncio.start_server(self._connected, HOST, self.port)
            self.port = self._server.sockets[0].getsockname()[1]
            if self.control_port is not None:
                await self._start_control()
            await asyncio.gather(*(c.start() for c in self.cameras.values()))
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """End every connection and every encoder."""
        if self._server:
            self._server.close()
        if self._runner:
            await self._runner.cleanup()
        for connection in self._connections.values():
            connection.close()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await asyncio.gather(*(c.stop() for c in self.cameras.values()))

    def url(self, name: str) -> str:
        """Return the address of a camera, with its user and password if it asks for them."""
        what = self.cameras[name].what
        login = ""
        if what.user:
            login = f"{quote(what.user, safe='')}:{quote(what.password or '', safe='')}@"
        return f"rtsp://{login}{HOST}:{self.port}/{quote(name)}"

    def fault(self, name: str, fault: str, value: float | None = None) -> None:
        """Begin a fault of a camera; raises ValueError for one that it cannot have (FAULTS)."""
        self.cameras[name].fault(fault, value)

    def clear(self, name: str, fault: str | None = None) -> None:
        """End one fault of a camera, or all."""
        self.cameras[name].clear(fault)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connection = self._connections[task] = Connection(self.cameras, reader, writer)
        try:
            await connection.serve()
        finally:
            del self._connections[task]

    # -- control -------------------------------------------------------------------------

    async def _start_control(self) -> None:
        app = web.Application()
        app.add_routes([web.post("/cameras/{name}/fault", self._control)])
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, HOST, self.control_port).start()
        self.control_port = self._runner.addresses[0][1]

    async def _control(self, request: web.Request) -> web.Response:
        """Take {"fault": name or "clear", "value": number or null}; answer with what is on."""
        camera = self.cameras.get(request.match_info["name"])
        if camera is None:
            text = f"no camera '{request.match_info['name']}'; there are: {', '.join(self.cameras)}"
            return web.Response(status=404, text=text)
        try:
            body = await request.json()
            if not isinstance(body, dict) or "fault" not in body:
                raise ValueError('wanted: {"fault": name, "value": number or null}')
            if body["fault"] == "clear":
                camera.clear()
            else:
                camera.fault(body["fault"], body.get("value"))
        except (ValueError, TypeError) as error:
            return web.Response(status=400, text=str(error))
        faults = ", ".join(f"{k} {v:g}" for k, v in camera.faults.items()) or "none"
        return web.Response(text=f"{camera.what.name}: faults now: {faults}")
