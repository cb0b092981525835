"""What docs/formats.md describes as types, validated once: what reads it needs check nothing.

A recording's index is a header line, one line per segment and, when it is finished, a seal.
The same records make the `.json` beside an archived recording. The names of recordings, and so
their paths and keys, are here too.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from typing import Annotated, Any, NamedTuple, Self

import orjson
from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import SchemaValidator

INDEX_FORMAT = "index/1"
ARCHIVE_FORMAT = "recording/1"
REMOVED_FORMAT = "removed/1"
NUMBERS = ("epoch", "run_no", "record_seq", "segment_no", "gap_no")  # that outlive a process
OTHERS, OTHERS_FORMAT = "others.json", "others/1"  # numbers that other spools used
SEGMENT_FLAGS = ("moved_ms", "by_arrival", "lost", "damaged", "restarted")  # of a segment
LONGEST_MS = 600_000  # a recording is about a minute; none lasts longer than this
MOST_WORDS = 300  # letters of a detail
LATEST_MS = 253_402_300_800_000  # the year 10000, which no calendar here can show

_ID = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}(\.low)?")

# Neither a float nor a string nor a boolean is a number here, and a database holds 63 bits.
Number = Annotated[int, Field(strict=True, ge=0, lt=1 << 63)]  # also a length, a duration
TimeMs = Annotated[int, Field(strict=True, ge=0, lt=LATEST_MS)]  # UTC
Signed = Annotated[int, Field(strict=True, gt=-(1 << 63), lt=1 << 63)]
Flag = Annotated[bool, Field(strict=True)]
Sha256 = Annotated[str, Field(pattern=r"^([0-9a-f]{2})*$")]


def sha256_of(data: bytes | memoryview) -> str:
    """Return the SHA-256 in hex."""
    return hashlib.sha256(data).hexdigest()


def is_id(name: str) -> bool:
    """Tell whether a folder may be a station's, a camera's or a second stream's: its name is as ids
    are."""
    return _ID.fullmatch(name) is not None


def recording_name(start_ms: int, record_seq: int) -> str:
    """Return day and name without ending, as in the spool and in archive keys."""
    at = datetime.fromtimestamp(start_ms // 1000, UTC)
    return f"{at:%Y-%m-%d/%H%M%S}{start_ms % 1000:03d}Z-{record_seq}"


def start_of(day: str, clock: str) -> int:
    """Return the start (UTC) that a name says: YYYY-MM-DD and HHMMSSmmm; raises ValueError."""
    at = datetime.strptime(day + clock[:6], "%Y-%m-%d%H%M%S").replace(tzinfo=UTC)
    return int(at.timestamp()) * 1000 + int(clock[6:])


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
    NODE_LOST = "node_lost"


def printable(text: str) -> str:
    """Return words as they can stand on a page, in a database and at a terminal, where they move
    no cursor: on one line, without what cannot be printed."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def plain(text: str) -> str:
    """Return words that may be a camera's, printable and short."""
    shown = printable(text)
    return shown if len(shown) <= MOST_WORDS else f"{shown[:MOST_WORDS]}…"


@dataclass(frozen=True, slots=True)
class Ending:
    """Why nothing is recorded any more: the cause, and a sentence without secrets for operators.

    `remedy` is what they can do, where that is known.
    """

    cause: GapCause
    detail: str
    remedy: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "detail", plain(self.detail))  # it may quote the camera


class FormatError(ValueError):
    """A line or document that docs/formats.md does not allow."""


class Record:
    """JSON to dataclass and back; unknown keys are ignored, missing ones are an error."""

    __slots__ = ()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a JSON object; raises FormatError where it is not one of these."""
        try:
            return _validator(cls).validate_json(data)  # type: ignore[no-any-return, arg-type]
        except ValidationError as error:
            raise _format_error(cls, error) from None

    @classmethod
    def of(cls, values: Mapping[str, object]) -> Self:
        """Take over a parsed JSON object or a row of the catalogue; raises FormatError."""
        try:
            return _validator(cls).validate_python(values)  # type: ignore[no-any-return, arg-type]
        except ValidationError as error:
            raise _format_error(cls, error) from None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]

    def to_json(self) -> bytes:
        """Return the JSON object."""
        return orjson.dumps(self)

    def to_line(self) -> bytes:
        """Return the JSON line, with its newline."""
        return orjson.dumps(self.to_dict(), option=orjson.OPT_APPEND_NEWLINE)


@cache
def _validator(cls: type[Record]) -> SchemaValidator:
    return TypeAdapter(cls).validator  # type: ignore[return-value]


def _format_error(cls: type[Record], error: ValidationError) -> FormatError:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    return FormatError(f"{cls.__name__}: {where}: {first['msg']}" if where else str(first["msg"]))


@dataclass(frozen=True, slots=True)
class Track(Record):
    """One track of a recording: `codec` is h264, h265 or aac; sizes in pixels, 0 for audio."""

    id: Number
    kind: str
    codec: str
    timescale: Number
    width: Number = 0
    height: Number = 0


@dataclass(frozen=True, slots=True)
class ClockState(Record):
    """The recorder's clock as its kernel judges it; `error_ms` is the estimated error."""

    synchronized: Flag
    error_ms: Number | None


@dataclass(frozen=True, slots=True)
class Gap(Record):
    """Scheduled time without a recording; `end_ms` is None while it lasts."""

    gap_no: Number
    start_ms: TimeMs
    end_ms: TimeMs | None
    cause: GapCause
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Header(Record):
    """First line of an index: what the recording is a part of."""

    election: str
    station: str
    camera: str
    epoch: Number
    run_no: Number
    record_seq: Number
    run_start_ms: TimeMs
    init_length: Number
    init_sha256: Sha256
    target_duration_s: Number
    tracks: tuple[Track, ...]
    transcoded: tuple[str, ...] = ()
    clock: ClockState = ClockState(False, None)
    gaps: tuple[Gap, ...] = ()
    overlaps: Flag = False
    first_run_no: Number = 0  # of a second stream: the run of the first on whose time line it is
    kuager: str = INDEX_FORMAT

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object; what only second streams have is only in theirs."""
        record = asdict(self)
        if not self.first_run_no:
            del record["first_run_no"]
        return record

    @property
    def run(self) -> tuple[int, str]:
        """What tells its run from others of the camera: its start, and its init."""
        return self.run_start_ms, self.init_sha256

    @property
    def line_no(self) -> int:
        """The number of the time line: that of the run, or of the first stream's."""
        return self.first_run_no or self.run_no


@dataclass(frozen=True, slots=True)
class Segment(Record):
    """One line per segment: where it is in time and in the file, and its hash."""

    segment_no: Number
    start_ms: TimeMs
    tfdt_90k: Number
    duration_90k: Number
    offset: Number
    length: Number
    sha256: Sha256
    starts_with_key: Flag
    arrival_ms: Signed | None  # None where the line was spoilt, and made again from the bytes
    camera_ms: Signed | None = None
    moved_ms: Signed = 0
    by_arrival: Flag = False
    lost: Number = 0  # packets that are missing, of picture and sound
    damaged: Number = 0  # pictures that are not whole
    restarted: Flag = False  # the camera began its stream anew: how much is missing nobody knows

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object; what marks a segment is only in those that it marks."""
        record = {name: getattr(self, name) for name in self.__slots__}
        for mark in SEGMENT_FLAGS:
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
class Seal(Record):
    """Last line of a finished index; `end_reason` is None where the run goes on."""

    sealed_ms: TimeMs
    segments: Number
    length: Number
    sha256: Sha256
    end_ms: TimeMs
    end_reason: GapCause | None = None


@dataclass(frozen=True, slots=True)
class Marker(Record):
    """What tells one spool, archive or database from another in its place: an id of 32 hex digits.

    `kuager` is `spool/1`, `archive/1` or `catalogue/1`.
    """

    kuager: str
    id: str


@dataclass(frozen=True, slots=True)
class Trace(Record):
    """`.removed.json`: a recording that was removed from an archive, when and why."""

    kuager: str
    election: str
    station: str
    camera: str
    record_seq: Number
    epoch: Number
    run_no: Number
    first_segment_no: Number
    segments: Number
    start_ms: TimeMs
    end_ms: TimeMs
    bytes: Number
    sha256: Sha256
    overlaps: Flag
    removed_ms: TimeMs
    reason: str

    @property
    def name(self) -> tuple[str, str, str]:
        """Election, station and camera."""
        return self.election, self.station, self.camera

    @property
    def identity(self) -> Identity:
        """Which recording of its camera it was."""
        return Identity(self.record_seq, self.start_ms, self.sha256)


@dataclass(frozen=True, slots=True)
class ArchivedGap(Record):
    """An object that tells of an ended gap: whose it is, and which."""

    kuager: str
    election: str
    station: str
    camera: str
    gap_no: Number
    start_ms: TimeMs
    end_ms: TimeMs
    cause: GapCause
    detail: str = ""

    @property
    def name(self) -> tuple[str, str, str]:
        """Election, station and camera."""
        return self.election, self.station, self.camera

    @property
    def gap(self) -> Gap:
        """The gap."""
        return Gap(self.gap_no, self.start_ms, self.end_ms, self.cause, self.detail)


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
    def archive_key(self) -> str:
        """The key of the recording in the archive, without ending (docs/formats.md)."""
        return "/".join((*self.name, recording_name(self.start_ms, self.header.record_seq)))

    @property
    def identity(self) -> Identity:
        """Which recording of its camera it is; only a sealed one has a hash."""
        if self.seal is None:
            raise FormatError("an unsealed recording has no hash")
        return Identity(self.header.record_seq, self.start_ms, self.seal.sha256)

    def feed(self, data: bytes) -> None:
        """Take more bytes of the file; what follows the last newline is left for the next time.

        `data` starts at `self.size`. Raises FormatError for a line that cannot be one, or does not
        follow the one before it; the lines before it are taken.
        """
        whole = data[: data.rfind(b"\n") + 1]
        for line in whole.splitlines():
            if self.seal is not None:
                raise FormatError("a line after the seal")
            if b'"sealed_ms":' in line:
                self.seal = Seal.parse(line)
            else:
                self.add(Segment.parse(line))
        self.size += len(whole)

    def add(self, segment: Segment) -> None:
        """Take the next segment; raises FormatError for one that does not follow."""
        before = self.segments[-1].segment_no if self.segments else segment.segment_no - 1
        if segment.segment_no != before + 1 or segment.end_ms >= LATEST_MS:
            raise FormatError(f"line {len(self.segments) + 2} is not a segment that could be")
        self.segments.append(segment)

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
    index = Index(_header(Header.parse(data[:end]), INDEX_FORMAT), size=end)
    index.feed(data[end:])
    return index


def parse_archive_document(data: bytes) -> Index:
    """Read the `.json` of an archived recording; raises FormatError."""
    try:
        document = orjson.loads(data)
        segments = [Segment.of(segment) for segment in document["segments"]]
    except (orjson.JSONDecodeError, TypeError, KeyError) as error:
        raise FormatError(f"not a {ARCHIVE_FORMAT}: {error}") from None
    if not segments:
        raise FormatError("a recording without a segment")
    header = _header(Header.of(document), ARCHIVE_FORMAT)
    index = Index(replace(header, kuager=INDEX_FORMAT), size=len(data))
    for segment in segments:
        index.add(segment)
    index.seal = Seal.of(document | {"segments": len(segments)})
    return index


def _header(header: Header, kuager: str) -> Header:
    if header.kuager != kuager:
        raise FormatError(f"not a {kuager}: {header.kuager!r}")
    return header
