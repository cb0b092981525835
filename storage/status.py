"""What the processes say of themselves in the spool's `_status/` (docs/formats.md)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import orjson

STATUS_OLD_MS = 10_000  # a status file older than this was written by a process that is gone


class SpoolStatus:
    """What the status files say; read once a second at most."""

    def __init__(self, spool: Path):
        self._directory = spool / "_status"
        self._read_at = float("-inf")
        self._cameras: dict[str, dict[str, Any]] = {}
        self._recorders: dict[int, dict[str, Any]] = {}
        self._uploader: dict[str, Any] | None = None
        self._orders: dict[str, Any] | None = None

    def camera(self, station: str, camera: str) -> dict[str, Any] | None:
        """Return what a living recorder says of a camera."""
        self._refresh()
        return self._cameras.get(f"{station}/{camera}")

    def recorders(self) -> dict[int, dict[str, Any]]:
        """Return what the living recorders say of the spool's disk, by share."""
        self._refresh()
        return self._recorders

    def uploader(self) -> dict[str, Any] | None:
        """Return what a living uploader says."""
        self._refresh()
        return self._uploader

    def orders(self) -> dict[str, Any] | None:
        """Return what a living desk of orders says."""
        self._refresh()
        return self._orders

    def _refresh(self) -> None:
        if time.monotonic() - self._read_at < 1:
            return
        self._read_at = time.monotonic()
        self._cameras, self._recorders, self._uploader, self._orders = {}, {}, None, None
        for path in sorted(self._directory.glob("*.json")):
            try:
                record = orjson.loads(path.read_bytes())
                # a clock that was set back leaves a time to come: that process is gone, too
                if abs(time.time() * 1000 - record["written_ms"]) > STATUS_OLD_MS:
                    continue
                if path.name == "uploader.json":
                    self._uploader = record
                elif path.name == "orders.json":
                    self._orders = record
                else:
                    cameras = record["cameras"].items()
                    self._cameras |= {k: v for k, v in cameras if isinstance(v["state"], str)}
                    self._recorders[int(path.stem.rpartition("-")[2])] = record["spool"]
            except (OSError, ValueError, TypeError, KeyError, AttributeError):
                continue  # being replaced, or not ours
