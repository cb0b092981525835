"""The uploader's memory with large recordings: `make bench-upload-memory`.

A minute of eight cameras of 20 Mbit/s, 150 MB each, goes to two archives at once. Prints the peak
of `kuager upload` (ru_maxrss).
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from storage.records import ClockState, Track
from storage.spool.disk import claim_spool
from storage.spool.numbers import Numbers
from storage.spool.writer import CameraSpool, Run, SegmentInfo

CAMERAS, SEGMENTS, SEGMENT_BYTES = 8, 30, 5_000_000
STATIONS = "stations: [{id: s, number: '1', cameras: [{id: c0, url: 'rtsp://127.0.0.1/c'}]}]\n"
KUAGER = """\
election: {id: e, name: E, date: 2026-11-29, time_zone: UTC,
  windows: [{from: 2020-01-01T00:00, to: 2090-01-01T00:00}]}
stations: stations.yaml
spool: spool
rewind: 2d
archives: [{name: near, url: near}, {name: far, url: far}]
"""


def main() -> None:
    """Fill a spool, upload it, print."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "stations.yaml").write_text(STATIONS)
        (root / "kuager.yaml").write_text(KUAGER)
        claim_spool(root / "spool")
        data, begin = os.urandom(SEGMENT_BYTES), int(time.time() * 1000) - 600_000
        track = Track(1, "video", "h264", 90_000, 1920, 1080)
        for n in range(CAMERAS):
            spool = CameraSpool(root / "spool", "e", "s", f"c{n}", Numbers())
            run = Run(begin, b"\0\0\0\x10ftypiso5" + bytes(4), (track,), 2)
            for k in range(SEGMENTS):
                spool.append(
                    run,
                    data,
                    SegmentInfo(
                        tfdt_90k=k * 180_000,
                        duration_90k=180_000,
                        starts_with_key=True,
                        arrival_ms=begin,
                        camera_ms=None,
                    ),
                    ClockState(True, 2),
                )
            spool.seal(None)
            spool.close()
        command = [sys.executable, "-m", "kuager", "upload", "--config", str(root / "kuager.yaml")]
        begun = time.monotonic()
        subprocess.run(command, check=True)
        took_s = time.monotonic() - begun
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    total = 2 * CAMERAS * SEGMENTS * SEGMENT_BYTES / 1e9
    print(
        f"{total / 1e9:.1f} GB to two archives in {took_s:.0f} s, at most {peak:.0f} MB of memory"
    )


if __name__ == "__main__":
    main()
