"""The records that docs/formats.md describes, and their JSON lines.

A recording's index is a header line, one line per segment and, when it is finished, a seal.
The same records make the `.json` beside an archived recording.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import Any, NamedTuple, Self

import orjson

INDEX_FORMAT = "index/1"
ARCHIVE_FORMAT = "recording/1"
NUMBERS = ("epoch", "run_no", "record_seq", "segment_no", "gap_no")  # that outlive a process
OTHERS, OTHERS_FORMAT = "others.json", "others/1"  # numbers that other spools used
LONGEST_MS = 600_000  # a recording is about a minute; none lasts longer than this


class GapCause(StrEnum):
    """Why scheduled time has no recording. The list is closed: docs/formats.md."""

    CONNECTING = "connecting"
    UNREACHABLE = "unreachable"
    REFUSED_PASSWORD = "refused_password"
    NO_SUCH_STREAM = "no_such_stream"
    NO_DATA = "no_data"
    STREAM_BROKEN = "stream_broken"
    CLOSED_BY_CAMERA = "closed_by_camera"
    PARAMETERS_CHANGED = "parameters_changed"
    CLOCK_JUMP = "clock_jump"
    DISK_FULL = "disk_full"
    DISK_FAILED = "disk_failed"
    RECORDER_STOPPED = "recorder_stopped"
    RECORDER_CRASHED = "recorder_crashed"


@dataclass(frozen=True, slots=True)
class Ending:
    """Why nothing is recorded any more: the cause, and a sentence without secrets for operators.

    `remedy` is what they can do, where that is known.
    """

    cause: GapCause
    detail: str
    remedy: str = ""


class FormatError(ValueError):
    """A line or document that docs/formats.md does not allow."""


class _Record:
    """JSON to dataclass and back; unknown keys are ignored, missing ones are an error."""

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Build from parsed JSON; raises FormatError when a key is missing or a cause unknown."""
        known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
        try:
            return cls(**{k: v for k, v in data.items() if k in known})
        except (TypeError, ValueError) as error:
            raise FormatError(f"{cls.__name__}: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]

    def to_line(self) -> bytes:
        """Return the JSON line, with its newline."""
        return orjson.dumps(self.to_dict(), option=orjson.OPT_APPEND_NEWLINE)


@dataclass(frozen=True, slots=True)
class Track(_Record):
    """One track of a recording: `codec` is h264, h265 or aac; sizes in pixels, 0 for audio."""

    id: int
    kind: str
    codec: str
    timescale: int
    width: int = 0
    height: int = 0


@dataclass(frozen=True, slots=True)
class ClockState(_Record):
    """The recorder's clock as its kernel judges it; `error_ms` is the estimated error."""

    synchronized: bool
    error_ms: int | None


@dataclass(frozen=True, slots=True)
class Gap(_Record):
    """Scheduled time without a recording; `end_ms` is None while it lasts."""

    gap_no: int
    start_ms: int
    end_ms: int | None
    cause: GapCause
    detail: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "cause", GapCause(self.cause))


@dataclass(frozen=True, slots=True)
class Header(_Record):
    """First line of an index: what the recording is a part of."""

    election: str
    station: str
    camera: str
    epoch: int
    run_no: int
    record_seq: int
    run_start_ms: int
    init_length: int
    init_sha256: str
    target_duration_s: int
    tracks: tuple[Track, ...]
    transcoded: tuple[str, ...] = ()
    clock: ClockState = ClockState(False, None)
    gaps: tuple[Gap, ...] = ()
    overlaps: bool = False
    kuager: str = INDEX_FORMAT

    def __post_init__(self) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        put("tracks", tuple(_as(Track, t) for t in self.tracks))
        put("gaps", tuple(_as(Gap, g) for g in self.gaps))
        put("clock", _as(ClockState, self.clock))
        put("transcoded", tuple(self.transcoded))


@dataclass(frozen=True, slots=True)
class Segment(_Record):
    """One line per segment: where it is in time and in the file, and its hash."""

    segment_no: int
    start_ms: int
    tfdt_90k: int
    duration_90k: int
    offset: int
    length: int
    sha256: str
    starts_with_key: bool
    arrival_ms: int | None  # None where the line was spoilt, and made again from the bytes
    camera_ms: int | None = None
    moved_ms: int = 0
    by_arrival: bool = False
    lost: int = 0  # packets that are missing, of picture and sound
    damaged: int = 0  # pictures that are not whole
    restarted: bool = False  # the camera began its stream anew: how much is missing nobody knows

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object; what marks a segment is only in those that it marks."""
        record = asdict(self)
        for mark in ("moved_ms", "by_arrival", "lost", "damaged", "restarted"):
            if not record[mark]:
                del record[mark]
        return record

    @property
    def end_ms(self) -> int:
        """UTC end, within a millisecond (the next segment's start_ms is exact)."""
        return self.start_ms + self.duration_90k // 90


@dataclass(frozen=True, slots=True)
class Losses:
    """What did not come of a stretch of footage, as far as it is known (docs/formats.md)."""

    lost: int = 0  # packets of picture and sound
    damaged: int = 0  # pictures that are not whole
    restarted: bool = False  # the camera began its stream anew, and more may be missing

    @classmethod
    def of(cls, segments: Iterable[Segment]) -> Losses:
        """Return that of segments."""
        each = (cls(s.lost, s.damaged, s.restarted) for s in segments)
        return sum(each, start=cls())

    def __add__(self, other: Losses) -> Losses:
        """Return that of both stretches."""
        restarted = self.restarted or other.restarted
        return Losses(self.lost + other.lost, self.damaged + other.damaged, restarted)

    def __bool__(self) -> bool:
        """Whether anything is missing."""
        return self != Losses()

    def to_dict(self) -> dict[str, int | bool]:
        """Return what is missing; empty where nothing is."""
        return {key: value for key, value in asdict(self).items() if value}


@dataclass(frozen=True, slots=True)
class Seal(_Record):
    """Last line of a finished index; `end_reason` is None where the run goes on."""

    sealed_ms: int
    segments: int
    length: int
    sha256: str
    end_ms: int
    end_reason: GapCause | None = None

    def __post_init__(self) -> None:
        if self.end_reason is not None:
            object.__setattr__(self, "end_reason", GapCause(self.end_reason))


class Identity(NamedTuple):
    """Which recording of a camera: a number alone may have been given to other bytes."""

    record_seq: int
    start_ms: int  # with the number it makes the name
    sha256: str

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """Return that of a row of the catalogue."""
        return cls(row["record_seq"], row["start_ms"], row["sha256"])


@dataclass(slots=True)
class Index:
    """A whole index: header, segments so far, and the seal once it is finished."""

    header: Header
    segments: list[Segment] = field(default_factory=list)
    seal: Seal | None = None
    size: int = 0  # bytes of the file that were read as whole lines

    @property
    def start_ms(self) -> int:
        """UTC start of the first segment."""
        return self.segments[0].start_ms

    @property
    def end_ms(self) -> int:
        """UTC end of the last segment so far."""
        if not self.segments:
            return self.header.run_start_ms
        last = self.segments[-1]
        return self.header.run_start_ms + (last.tfdt_90k + last.duration_90k) // 90

    @property
    def name(self) -> tuple[str, str, str]:
        """Election, station and camera."""
        return self.header.election, self.header.station, self.header.camera

    @property
    def identity(self) -> Identity:
        """Which recording of its camera it is; only a sealed one has a hash."""
        if self.seal is None:
            raise FormatError("an unsealed recording has no hash")
        return Identity(self.header.record_seq, self.start_ms, self.seal.sha256)

    def feed(self, data: bytes) -> None:
        """Take more bytes of the file; what follows the last newline is left for the next time.

        `data` starts at `self.size`. Raises FormatError for a line that cannot be one.
        """
        whole = data[: data.rfind(b"\n") + 1]
        for line in whole.splitlines():
            if self.seal is not None:
                raise FormatError("a line after the seal")
            record = _parse(line)
            if "sealed_ms" in record:
                self.seal = Seal.from_dict(record)
            else:
                self.segments.append(Segment.from_dict(record))
        self.size += len(whole)

    def archive_document(self) -> bytes:
        """Return the `.json` that stands beside the recording in the archive."""
        if self.seal is None:
            raise FormatError("an unsealed recording has no archive document")
        return orjson.dumps(
            self.header.to_dict()
            | self.seal.to_dict()
            | {"kuager": ARCHIVE_FORMAT, "segments": [s.to_dict() for s in self.segments]}
        )


def parse_index(data: bytes) -> Index:
    """Read an index file; raises FormatError when even the header is not there."""
    end = data.find(b"\n") + 1
    if end == 0:
        raise FormatError("no header line")
    record = _parse(data[:end])
    if record.get("kuager") != INDEX_FORMAT:
        raise FormatError(f"not a {INDEX_FORMAT}: {record.get('kuager')!r}")
    index = Index(Header.from_dict(record), size=end)
    index.feed(data[end:])
    return index


def parse_archive_document(data: bytes) -> Index:
    """Read the `.json` of an archived recording."""
    record = _parse(data)
    if record.get("kuager") != ARCHIVE_FORMAT:
        raise FormatError(f"not a {ARCHIVE_FORMAT}: {record.get('kuager')!r}")
    segments = [Segment.from_dict(s) for s in record["segments"]]
    seal = Seal.from_dict(record | {"segments": len(segments)})
    return Index(Header.from_dict(record | {"kuager": INDEX_FORMAT}), segments, seal, len(data))


def _as(cls: Any, value: Any) -> Any:
    return cls.from_dict(value) if isinstance(value, dict) else value


def _parse(line: bytes) -> dict[str, Any]:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise FormatError(f"not JSON: {error}") from None
    if not isinstance(record, dict):
        raise FormatError("not a JSON object")
    return record
