"""The port between a camera and the recorder: tracks, then frames, then a reason.

Nothing above this file knows of child processes or of RTSP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from storage.media.fmp4 import TrackInit
from storage.records import Ending

PICTURE_ID, SOUND_ID = 1, 2  # of the tracks of every source


class Frame(NamedTuple):
    """One access unit, or more of one. `pts` in the track's timescale, `arrival_ms` in UTC.

    `pts` is the camera's timestamp, whatever it is worth (docs/time.md). Of lost packets a source
    knows only where it reads the packets itself. Those that are missing before a frame that is not
    damaged are of frames before it.
    """

    track_id: int
    pts: int
    key: bool
    data: bytes | bytearray
    arrival_ms: float
    camera_ms: float | None = None  # the camera's own clock, from RTCP sender reports
    continues: bool = False  # more of the picture of the frame before
    lost: int = 0  # packets that are missing since the frame before, in it or before it
    damaged: bool = False  # some of them are missing in it: it is not whole
    restarted: bool = False  # the camera began its stream anew with it
    report_ms: float | None = None  # arrival of the newest sender report less the camera's clock


@dataclass(slots=True)
class PacketCounts:
    """Packets of a track since its session began.

    `lost` were missing when it was their turn; those of them that came afterwards are `late`.
    `strays` are of another stream or payload type, `malformed` are no RTP or RTCP, `rtcp` are all
    packets of it.
    """

    received: int = 0
    lost: int = 0
    late: int = 0
    doubled: int = 0
    strays: int = 0
    malformed: int = 0
    restarts: int = 0
    rtcp: int = field(default=0, compare=False)

    @property
    def came(self) -> int:
        """All that the camera sent."""
        return self.received + self.late + self.doubled + self.strays + self.malformed + self.rtcp


class Sink(Protocol):
    """Who takes what a source yields; called from the event loop, must not block."""

    def on_tracks(self, tracks: Sequence[TrackInit], transcoded: tuple[str, ...]) -> None:
        """Take the codec configuration, before the first frame and before one that changes it."""

    def on_frame(self, frame: Frame) -> None:
        """Take one frame, in decode order within its track."""


class Source(Protocol):
    """A session with a camera."""

    @property
    def packets(self) -> Sequence[PacketCounts]:
        """Packets of its tracks, the picture first; none where it does not see packets."""
        ...

    async def run(self, sink: Sink) -> Ending:
        """Yield into the sink until the session ends; cancelling it ends the session."""
        ...
