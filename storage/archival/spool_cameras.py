"""What the uploader knows of each camera of a spool."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from base.outage import Outage
from config.model import LOW, Config
from storage.archival.pending import PendingUpload
from storage.catalogue.cameras import Name
from storage.catalogue.catalogue import InSpool
from storage.records import is_id
from storage.spool.reader import Key, SpoolReader, SpoolRecording

GIVE_WAY = 3  # cameras in a row whose rows are refused: it is the catalogue

log = structlog.get_logger()


@dataclass(slots=True)
class SpoolCamera:
    """A camera of the spool: what is there, what the catalogue has of it, and what waits."""

    name: Name  # of its journal of gaps; a recording's election is in its header
    reader: SpoolReader
    outage: Outage  # of its rows
    archived: bool = True  # a second stream may leave the spool by its age alone
    known: dict[Key, InSpool] | None = None  # has a row; None: not asked yet
    unsure: bool = False  # whether folders were not listed when it was asked
    unknown: set[Key] = field(default_factory=set)  # whose row is to be written again
    # what waits to be sealed or for a row
    deferred: dict[Key, PendingUpload] = field(default_factory=dict)
    # off the spool, not in every archive; None: not asked
    missing: list[PendingUpload] | None = None
    missing_from: int = 0  # the number from which on the next of these are asked for
    seen: tuple[object, ...] = ()
    gaps_seen: tuple[object, ...] = ()
    # gaps that ended, by number and end: since when that is known
    ended_gaps: dict[tuple[int, int], float] = field(default_factory=dict)
    queued_gaps: dict[int, int] = field(default_factory=dict)  # given to replicators, with ends
    earlier: set[str] = field(default_factory=set)  # elections whose gaps were taken over
    others_s: float = float("-inf")  # when other spools were last asked for
    told: set[str] = field(default_factory=set)  # what was said of it once

    def tell_once(self, text: str, **facts: object) -> None:
        """Say something of the camera, unless it was said before."""
        if text not in self.told:
            self.told.add(text)
            log.warning(text, camera="/".join(self.name[1:]), **facts)

    def enter_again(self, stored: SpoolRecording) -> None:
        """Write the row of a recording again that the catalogue had, and has no longer."""
        if self.known and stored.key in self.known:
            self.known = None  # asked again: more of them may be gone
            self.unknown.add(stored.key)
            self.tell_once(
                "The catalogue no longer knows recordings of this spool that it knew: they are "
                "entered again. If it came back from a copy, `kuager fsck --repair` enters what "
                "only archives have",
                file=str(stored.media),
            )


class SpoolCameras:
    """The cameras of one spool; `spool_id` is the id of the spool to which they belong."""

    def __init__(self, config: Config):
        self.spool, self._election = config.spool, config.election.id
        self._archive_low = config.archive_low
        self.spool_id = ""
        self._cameras: dict[tuple[str, str], SpoolCamera] = {}

    def __len__(self) -> int:
        return len(self._cameras)

    def __iter__(self) -> Iterator[SpoolCamera]:
        return iter(list(self._cameras.values()))

    def get(self, key: tuple[str, str]) -> SpoolCamera | None:
        """Return a camera that is known, by station and camera."""
        return self._cameras.get(key)

    def clear(self) -> None:
        """Forget all that was known: another spool or another database is in place now."""
        self._cameras.clear()

    def directories(self) -> list[tuple[str, Path]]:
        """Return the cameras' directories that are in the spool now, each with its station."""
        return [
            (station.name, directory)
            for station in sorted(_directories(self.spool))
            for directory in sorted(_directories(station))
        ]

    def at(self, station: str, directory: Path) -> SpoolCamera:
        """Return the camera of a directory."""
        key = (station, directory.name)
        if key not in self._cameras:
            outage = Outage(
                "The catalogue refuses rows of a camera; its recordings wait in the spool",
                "The catalogue takes rows of this camera again",
                camera="/".join(key),
            )
            reader = SpoolReader(self.spool, *key)
            archived = self._archive_low or not directory.name.endswith(LOW)
            self._cameras[key] = SpoolCamera((self._election, *key), reader, outage, archived)
        return self._cameras[key]


def _directories(path: Path) -> list[Path]:
    """Return the folders in one that may be a station's or a camera's; others are not ours."""
    try:
        return [p for p in path.iterdir() if is_id(p.name) and p.is_dir()]
    except OSError:
        return []
