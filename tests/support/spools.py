"""Spools with valid recordings, made by the real writer; the media are random bytes."""

from __future__ import annotations

import os
from pathlib import Path

from storage.records import ClockState, GapCause, Track
from storage.spool.disk import claim_spool
from storage.spool.numbers import Numbers
from storage.spool.writer import CameraSpool, Run, SegmentInfo

UTC0 = 1_764_392_400_000
TRACKS = (Track(1, "video", "h264", 90_000, 854, 480),)


def fill(
    root: Path,
    station: str = "s",
    camera: str = "c",
    *,
    start_ms: int = UTC0,
    runs: int = 2,
    segments: int = 40,
    sealed: bool = True,
    election: str = "e",
    size: int = 400,
    lost: int = 0,
    floor: Numbers = Numbers(),  # noqa: B008
) -> CameraSpool:
    """Write `runs` runs of 2 s segments of so many bytes, of each of which `lost` packets are
    missing, with a gap of 10 s between, under numbers above `floor`; returns the open spool."""
    claim_spool(root)
    spool = CameraSpool(root, election, station, camera, floor)
    begin = start_ms
    for n in range(runs):
        run = Run(begin, b"\0\0\0\x10ftypiso5" + bytes(4), TRACKS, 2)
        for k in range(segments):
            spool.append(
                run,
                b"\0\0\1\0moof" + os.urandom(size),
                SegmentInfo(
                    tfdt_90k=k * 180_000,
                    duration_90k=180_000,
                    starts_with_key=True,
                    arrival_ms=begin + 2000 * k + 20,
                    camera_ms=None,
                    lost=lost,
                ),
                ClockState(True, 2),
            )
        begin += segments * 2000
        if n < runs - 1:
            spool.seal(GapCause.NO_DATA)
            spool.begin_gap(begin, GapCause.NO_DATA, "no picture for 5 s")
            begin += 10_000
    if sealed:
        spool.seal(GapCause.RECORDER_STOPPED)
    return spool
