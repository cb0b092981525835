"""A worker's cameras: what happens at one of them costs no other anything."""

from __future__ import annotations

import asyncio
from pathlib import Path

from structlog.testing import capture_logs

from recorder.camera_spec import CameraSpec
from recorder.worker import Worker
from storage.spool.disk import claim_spool
from tests.support.waiting import until


async def test_a_fault_at_one_camera_costs_no_other_anything(tmp_path: Path) -> None:
    claim_spool(tmp_path)
    specs = [CameraSpec("e", "s", name, f"rtsp://127.0.0.1/{name}") for name in "abc"]
    worker, ticked = Worker(specs, tmp_path, "ffmpeg"), list[str]()
    for camera in worker.cameras:

        def tick(name: str = camera.spec.camera) -> None:
            if name == "b":
                raise KeyError("a fault of ours")
            ticked.append(name)

        camera.tick = tick  # type: ignore[method-assign]
    with capture_logs() as lines:
        task = asyncio.create_task(worker.run())
        await until(lambda: ticked.count("c") >= 3 or task.done())
        assert not task.done() and ticked.count("a") >= 3
        task.cancel()
        await asyncio.wait({task})
    told = [line["camera"] for line in lines if line["event"] == "A fault of the recorder"]
    assert told == ["s/b"]
