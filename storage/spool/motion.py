"""What the pictures of a camera take, step by step: by that it is told when something moved.

A picture that is like the one before it takes few bytes: what a segment has beside its first
picture, which is whole, grows with what moves. Nothing is decoded.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass, field

from storage.media.fmp4 import FIRST_SAMPLE_BYTES, Mp4Error, first_sample_size
from storage.records import Index
from storage.spool.reader import SpoolRecording

STEP_MS = 10_000
KEPT = 16_384  # recordings whose steps are in memory, about 0.5 kB each

Steps = dict[int, float]  # bytes beside the first pictures, by number of STEP_MS since 1970


@dataclass(slots=True)
class Motion:
    """What was read of recordings that are whole."""

    _kept: OrderedDict[str, Steps] = field(default_factory=OrderedDict)

    def add(self, steps: Steps, stored: SpoolRecording, index: Index) -> None:
        """Add what a recording took to steps; nothing of one whose bytes are gone or spoilt."""
        for step, size in self._of(stored, index).items():
            steps[step] = steps.get(step, 0.0) + size

    def _of(self, stored: SpoolRecording, index: Index) -> Steps:
        key = str(stored.base)
        if (found := self._kept.get(key)) is not None:
            return found
        try:
            found = _read(stored, index)
        except (OSError, Mp4Error):
            return {}
        if index.seal is not None:
            self._kept[key] = found
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return found


def _read(stored: SpoolRecording, index: Index) -> Steps:
    steps: Steps = {}
    file = os.open(stored.media, os.O_RDONLY)
    try:
        for segment in index.segments:
            head = os.pread(file, FIRST_SAMPLE_BYTES, segment.offset)
            rest = segment.length - first_sample_size(head)
            step = segment.start_ms // STEP_MS
            steps[step] = steps.get(step, 0.0) + rest
    finally:
        os.close(file)
    return steps
