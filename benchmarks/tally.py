"""What a recorder wrote of some cameras, counted, and how late it is."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from storage.records import FormatError, Index, parse_index
from storage.spool.status_records import RecorderStatus

STATION = "s"


@dataclass
class Tally:
    """Of one camera; `apart` counts segments that do not join the one before."""

    segments: int = 0
    apart: int = 0
    lost: int = 0  # packets
    damaged: int = 0  # pictures
    bytes: int = 0
    runs: set[int] = field(default_factory=set)
    end: tuple[int, int] = (0, 0)  # run and tfdt after the last segment

    def add(self, index: Index) -> None:
        """Count a recording; they come in order."""
        run_no = index.header.run_no
        self.runs.add(run_no)
        for s in index.segments:
            self.apart += self.end[0] == run_no and self.end[1] != s.tfdt_90k
            self.end = run_no, s.tfdt_90k + s.duration_90k
            self.segments += 1
            self.lost += s.lost
            self.damaged += s.damaged
            self.bytes += s.length


class SpoolTally:
    """Counts the recordings of cameras, each once it is sealed."""

    def __init__(self, spool: Path, names: Collection[str], remove: bool = False):
        """Recordings that were counted are removed from the disk where `remove` says so."""
        self._spool, self._remove = spool, remove
        self.cameras = {name: Tally() for name in names}
        self._counted: set[Path] = set()

    def read(self) -> None:
        """Count what was sealed since the last time."""
        for name, tally in self.cameras.items():
            found = []
            for path in (self._spool / STATION / name).glob("*/*.jsonl"):
                if path in self._counted or b"\n" not in (data := path.read_bytes()):
                    continue
                if (index := parse_index(data)).seal is not None:
                    found.append((index.header.record_seq, path, index))
            for _, path, index in sorted(found, key=lambda one: one[0]):
                self._counted.add(path)
                tally.add(index)
                if self._remove:
                    path.with_suffix(".mp4").unlink()
                    path.unlink()

    @property
    def runs(self) -> int:
        """How many runs all cameras have."""
        return sum(len(t.runs) for t in self.cameras.values())

    @property
    def apart(self) -> int:
        """How many segments do not join the one before."""
        return sum(t.apart for t in self.cameras.values())

    @property
    def lost(self) -> int:
        """How many packets were lost."""
        return sum(t.lost for t in self.cameras.values())

    def __str__(self) -> str:
        """Say what matters of all of them."""
        segments = sum(t.segments for t in self.cameras.values())
        return (
            f"runs {self.runs} of {len(self.cameras)} cameras, segments {segments:,}, "
            f"that do not join: {self.apart}, packets lost: {self.lost}"
        )


def sealed(spool: Path, names: Collection[str]) -> SpoolTally:
    """Return the tally of a recorder that has ended."""
    tally = SpoolTally(spool, names)
    tally.read()
    return tally


def oldest_ms(spool: Path, names: Collection[str]) -> float:
    """Return how long ago the newest segment ended of the camera that is the most behind, by what
    the recorders say; infinite where one has none."""
    ages = dict.fromkeys(names, math.inf)
    for path in (spool / "_status").glob("recorder-*.json"):
        try:
            status = RecorderStatus.parse(path.read_bytes())
        except (OSError, FormatError):  # it is being replaced
            continue
        for key, camera in status.cameras.items():
            name = key.rpartition("/")[2]
            if name in ages and camera.recorded_ms is not None:
                ages[name] = status.written_ms - camera.recorded_ms
    return max(ages.values())
