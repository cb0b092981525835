"""A copy before it is made: what is in it, how long it is, and what it is called.

A plan is frozen with an order, and the same bytes can be made from it years later.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from functools import cached_property
from typing import Any, Self
from zoneinfo import ZoneInfo

import orjson

from copies.mp4 import sidx_length
from storage.catalogue.cameras import Name
from storage.records import Losses, sha256_of
from storage.spool.reader import Key

PLAN_FORMAT = "copy-plan/1"
PROOF_BYTES, PROOF_BYTES_EACH = 4096, 1024  # room for a proof: for a copy, for each recording


@dataclass(frozen=True, slots=True)
class PlanPart:
    """What one recording gives to a copy: `segments` segments from `first_segment_no` on, which
    are `length` bytes from `offset` of the recording whose hash is `sha256`."""

    record_seq: int
    start_ms: int  # of the recording, as in its name
    sha256: str
    first_segment_no: int
    segments: int
    offset: int
    length: int

    @property
    def key(self) -> Key:
        """Number and start of the recording."""
        return self.record_seq, self.start_ms


@dataclass(frozen=True)
class CopyPlan:
    """One file: one unbroken stretch of one run of one camera.

    `start_ms` and `end_ms` are UTC of its first and last moment; `init` is everything before the
    `sidx`; `bases` is what is taken from each `tfdt`, by track id, in the track's timescale;
    `first_90k` is the time of its first picture on its own time line, normally 0.
    """

    election: str
    station: str
    camera: str
    run_no: int
    start_ms: int
    end_ms: int
    duration_90k: int
    file_name: str
    init: bytes
    bases: Mapping[int, int]
    first_90k: int
    parts: tuple[PlanPart, ...]
    losses: Losses = Losses()  # of all of it

    @property
    def name(self) -> Name:
        """What the catalogue calls the camera."""
        return self.election, self.station, self.camera

    @cached_property
    def segments(self) -> int:
        """Number of segments."""
        return sum(p.segments for p in self.parts)

    @cached_property
    def head_length(self) -> int:
        """Bytes before the first segment."""
        return len(self.init) + sidx_length(self.segments)

    @cached_property
    def proof_length(self) -> int:
        """Bytes after the last segment."""
        return PROOF_BYTES + PROOF_BYTES_EACH * len(self.parts)

    @cached_property
    def length(self) -> int:
        """Bytes of the file."""
        return self.head_length + sum(p.length for p in self.parts) + self.proof_length

    @cached_property
    def etag(self) -> str:
        """Strong entity tag, with its quotes: the same for the same bytes (RFC 9110, 8.8.3)."""
        document = self.to_dict()
        del document["file_name"]
        document.pop("losses", None)
        text = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
        return f'"{sha256_of(text)[:32]}"'

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold; `from_dict` makes the same plan of it."""
        document = {k: getattr(self, k) for k in _PLAIN}
        document["kuager"] = PLAN_FORMAT
        document["init"] = b64encode(self.init).decode()
        document["bases"] = {str(track): base for track, base in self.bases.items()}
        document["parts"] = [list(asdict(p).values()) for p in self.parts]
        return document | ({"losses": self.losses.to_dict()} if self.losses else {})

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Return the plan that `to_dict` told; raises ValueError for another format."""
        if document.get("kuager") != PLAN_FORMAT:
            raise ValueError(f"not a {PLAN_FORMAT}: {document.get('kuager')!r}")
        return cls(
            **{k: document[k] for k in _PLAIN},
            init=b64decode(document["init"]),
            bases={int(track): base for track, base in document["bases"].items()},
            parts=tuple(PlanPart(*values) for values in document["parts"]),
            losses=Losses(**document.get("losses", {})),
        )


_CODED = ("init", "bases", "parts", "losses")
_PLAIN = [f.name for f in fields(CopyPlan) if f.name not in _CODED]


def file_name(name: Name, start_ms: int, end_ms: int, zone: str) -> str:
    """Return the name of a copy in ASCII: election_station_camera_from-to+zone.mp4, local time."""
    start, end = (datetime.fromtimestamp(ms / 1000, ZoneInfo(zone)) for ms in (start_ms, end_ms))
    return "_".join((*name, f"{start:%Y%m%dT%H%M%S}-{end:%Y%m%dT%H%M%S%z}.mp4"))
