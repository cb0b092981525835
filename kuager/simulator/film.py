"""A film in place of an encoder, so that one machine can play a hundred cameras."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from itertools import count

from kuager.simulator.encoder import Encoder


class Film:
    """Encodes some frames once, in real time, then sends their packets again and again.

    Media time goes on from one showing to the next; the burned-in time is that of the first.
    """

    def __init__(
        self,
        encoder: Callable[[Callable[[bytes, float], None]], Encoder],
        frames: int,
        fps: float,
        on_video: Callable[[bytes, float], None],
    ):
        """`frames` is whole keyframe intervals. `encoder` makes one for what takes its packets."""
        self._encoder = encoder(self._keep)
        self._frames, self._fps, self._on_video = frames, fps, on_video
        self._shots: dict[float, list[bytes]] = {}  # by when they were drawn, as they came
        self._full = asyncio.Event()
        self._showing: asyncio.Task[None] | None = None
        self.sdp: list[str] = []

    async def start(self) -> None:
        """Make the film and begin to show it."""
        await self._encoder.start()
        self.sdp = self._encoder.sdp
        await self._full.wait()
        await self._encoder.stop()
        self._showing = asyncio.create_task(self._show())

    async def stop(self) -> None:
        """End it."""
        if self._showing is not None:
            self._showing.cancel()
        await self._encoder.stop()

    def _keep(self, packet: bytes, at_ms: float) -> None:
        if at_ms not in self._shots and len(self._shots) == self._frames:
            self._full.set()  # this is the next keyframe
        if not self._full.is_set():
            self._shots.setdefault(at_ms, []).append(packet)

    async def _show(self) -> None:
        rank = {at: n for n, at in enumerate(sorted(self._shots))}  # B-frames come out of order
        begun = time.time()
        for showing in count():
            for n, (at, packets) in enumerate(self._shots.items()):
                before = showing * self._frames
                await asyncio.sleep(begun + (before + n) / self._fps - time.time())
                shown_ms = (begun + (before + rank[at]) / self._fps) * 1000
                for packet in packets:
                    self._on_video(packet, shown_ms)
