"""The status files of the processes as types (docs/formats.md): who writes one, and who reads it.

A file may come from another version of Kuager. So what a reader can do without has a default, and
a word of a list that may have grown is any string.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from typing_extensions import TypedDict  # pydantic reads typing's from Python 3.12 on

from storage.records import Record

HEARTBEAT = ".heartbeat"  # ending of the file that is flushed
UPLOADER, PICTURES, ORDERS = "uploader.json", "pictures.json", "orders.json"
SUPERVISOR, RELOAD = "supervisor.json", "reload.json"
NODE = "node.json"  # all of it: storage/spool/node_map.py
PEER = "peer-"  # beginning of the names of files that say what other machines said
# the kinds of work of the role `orders`: to hash files, to send letters, to end and to tidy up what
# is over, to ask providers, to count what is owed back and what is open
WORK = ("hash", "letter", "end", "tidy", "ask", "owed", "count")
UNKNOWN = "unknown"  # the state of a camera of which no recorder tells


@dataclass(slots=True, kw_only=True)
class Status(Record):
    """What every status file says; `written_ms` is by the clock of its writer."""

    kuager: str = ""
    pid: int = 0
    written_ms: int


@dataclass(slots=True)
class ClockStatus(Record):
    """The clock of a recorder's machine; `doubt` says why it is not followed now."""

    synchronized: bool
    doubt: str | None = None


@dataclass(slots=True)
class DiskStatus(Record):
    """What a recorder knows of the spool's disk; `hours_left` counts all recorders."""

    bytes_per_s: int = 0  # that it writes itself
    free_bytes: int | None = None
    hours_left: float | None = None
    waiting_bytes: int = 0  # in memory
    slow_s: float = 0.0  # the longest write since the disk began to be slow
    cause: str | None = None  # why recording pauses
    detail: str | None = None


@dataclass(slots=True)
class CameraStatus(Record):
    """What a recorder says of a camera; it counts since it was started."""

    state: str = UNKNOWN
    since_ms: int = 0
    cause: str | None = None
    detail: str | None = None
    segment_no: int = 0
    bytes: int = 0
    frames: int = 0
    runs: int = 0
    retries: int = 0
    recorded_ms: int | None = None  # the end of the newest segment
    packets: int = 0  # that arrived; 0 by ffmpeg, which does not tell
    packets_lost: int = 0
    packets_late: int = 0  # of these, that came when nobody waited for them any more
    packets_doubled: int = 0


@dataclass(slots=True)
class RecorderProcess(Status):
    """What a recorder says besides its cameras."""

    kuager: str = "status/1"
    clock: ClockStatus | None = None
    spool: DiskStatus = field(default_factory=DiskStatus)


@dataclass(slots=True)
class RecorderStatus(RecorderProcess):
    """What `_status/recorder-{n}.json` says, by "station/camera"; `low`: of second streams."""

    cameras: dict[str, CameraStatus] = field(default_factory=dict)
    low: dict[str, CameraStatus] = field(default_factory=dict)


class StateOnly(TypedDict, total=False):
    """What every web process asks every second, of thousands of cameras."""

    state: str


@dataclass(slots=True)
class RecorderStates(RecorderProcess):
    """The same file, of each camera only its state, which is read in a third of the time."""

    cameras: dict[str, StateOnly] = field(default_factory=dict)


class PeerState(StateOnly, total=False):
    """The same of a camera of another machine, and since when it is not recorded, and why."""

    since_ms: int
    cause: str


@dataclass(slots=True)
class PeerStates(Status):
    """What `_status/peer-{spool}.json` says: how the cameras of another machine are."""

    kuager: str = "peer/1"
    name: str = ""  # the machine's
    cameras: dict[str, PeerState] = field(default_factory=dict)


@dataclass(slots=True)
class NodeStatus(Status):
    """What `_status/node.json` says besides machines and shards."""

    kuager: str = "node/1"


@dataclass(slots=True)
class Heartbeat(Status):
    """What `_status/recorder-{n}.heartbeat` says: the recorder was at work on these cameras."""

    kuager: str = "heartbeat/1"
    cameras: list[str] = field(default_factory=list)


@dataclass(slots=True)
class ArchiveStatus(Record):
    """What the uploader says of one archive; it counts since it was started."""

    ok: bool = True
    last_error: str | None = None
    fault: str | None = None  # its kind
    archive_id: str | None = None
    backlog_recordings: int = 0
    backlog_bytes: int = 0
    blocked: dict[str, int] = field(default_factory=dict)  # of them, by reason
    oldest_unarchived_ms: int | None = None
    archived_total: int = 0
    archived_bytes_total: int = 0
    failures_total: int = 0
    verification_failures_total: int = 0
    clock_offset_ms: float | None = None  # this machine's clock ahead of the archive's
    overdue_recordings: int | None = None  # whose time has come, and that are still there


@dataclass(slots=True)
class UploaderStatus(Status):
    """What `_status/uploader.json` says."""

    kuager: str = "status/2"
    removed_total: int = 0
    retired_total: int = 0
    catalogue_ok: bool = True
    catalogue_error: str | None = None
    catalogue_fault: str | None = None  # its kind
    clock_synchronized: bool = True
    clock_doubt: str | None = None
    archives: dict[str, ArchiveStatus] = field(default_factory=dict)


@dataclass(slots=True)
class OrdersStatus(Status):
    """What `_status/orders.json` says."""

    kuager: str = "orders/1"
    states: dict[str, int] = field(default_factory=dict)
    unhashed_files: int = 0
    unhashed_bytes: int = 0
    failed_files: int = 0  # of them, those that could not be read when they were last tried
    hash_failures_total: int = 0
    letters_waiting: int = 0
    oldest_letter_ms: int | None = None
    letters_sent_total: int = 0
    letter_failures_total: int = 0
    refunds_due: int = 0
    overdue: int = 0  # orders that should have ended an hour ago: what they hold is kept
    failing: int = 0  # kinds of work that fail now
    failing_work: list[str] = field(default_factory=list)  # which
    checkouts_open: int = 0
    provider_failures_total: int = 0


@dataclass(slots=True)
class PicturesStatus(Status):
    """What `_status/pictures.json` says."""

    kuager: str = "pictures/1"
    oldest_ms: int | None = None
    made_total: int = 0
    failures_total: int = 0
    cpu_seconds_total: float = 0.0
    left_out: list[str] = field(default_factory=list)


@dataclass(slots=True)
class HttpStatus(Status):
    """What `_status/web-{n}.http` says: what a web process counted, as name, labels and value."""

    kuager: str = "http/1"
    process: str = ""
    samples: list[tuple[str, dict[str, str], float]] = field(default_factory=list)


@dataclass(slots=True)
class ReloadStatus(Status):
    """What `_status/reload.json` says: how the newest reload of the supervisor ended."""

    kuager: str = "reload/1"
    path: str = ""  # of the kuager.yaml that is read
    number: int = 0  # of reloads since it started; 0 is the start itself
    taken: bool = True
    lines: tuple[str, ...] = ()


@dataclass(slots=True)
class ProcessStatus(Record):
    """What the supervisor says of a process."""

    up: bool
    starts: int = 0


@dataclass(slots=True)
class SupervisorStatus(Status):
    """What `_status/supervisor.json` says, by the names of processes."""

    kuager: str = "supervisor/1"
    version: str | None = None
    processes: dict[str, ProcessStatus] = field(default_factory=dict)
