"""All archives of the configuration: each has its own replicator, and gets what the others have."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import structlog

from config.model import Config
from storage.archival.backlog import Blocked
from storage.archival.pending import PendingUpload, PermanentUploadError
from storage.archival.replicator import Pauses, Replicator
from storage.archival.verified_archive import VerifiedArchive
from storage.archive.port import Archive, ArchiveError, ObjectNotFound
from storage.catalogue.cameras import Name
from storage.catalogue.catalogue import Catalogue, InSpool
from storage.records import FormatError, Index
from storage.spool.reader import SpoolRecording

log = structlog.get_logger()


class Replicators:
    """The replicators of all archives, in the order of the configuration."""

    def __init__(
        self,
        config: Config,
        catalogue: Catalogue,
        archives: Sequence[Archive],
        pauses: Pauses,
        on_catalogue_error: Callable[[Exception], None],
    ):
        """`archives` are those of the configuration, in its order."""
        self._needed = config.archives_needed
        self.all = tuple(
            Replicator(
                VerifiedArchive(settings, archive, catalogue),
                config.spool,
                pauses,
                on_catalogue_error,
                self._fetch,
            )
            for settings, archive in zip(config.archives, archives, strict=True)
        )

    @property
    def is_idle(self) -> bool:
        """Whether all that waits was tried and failed, or the archive takes nothing."""
        return all(replicator.is_idle for replicator in self.all)

    @property
    def is_done(self) -> bool:
        """Whether nothing waits."""
        return all(replicator.is_done for replicator in self.all)

    @property
    def blocked(self) -> Iterator[tuple[str, PendingUpload]]:
        """The recordings that cannot be archived now, each with the archive's name."""
        return ((replicator.name, one) for replicator in self.all for one in replicator.blocked())

    def add(
        self,
        name: Name,
        stored: SpoolRecording,
        done: dict[str, tuple[str, str]],
        retired: Collection[str] = (),
        length: int | None = None,
    ) -> None:
        """Have a recording archived wherever it neither is (`done`) nor was until its time came."""
        length = length_of(stored) if length is None else length
        for replicator in self.all:
            if replicator.name not in done and replicator.name not in retired:
                replicator.add(PendingUpload.of(name, stored, length, done))

    def defer(self, pending: PendingUpload, blocked: Blocked, why: str) -> None:
        """Count a recording that cannot be archived until it is given to `add`."""
        for replicator in self.all:
            replicator.defer(pending, blocked, why)

    def forget(self, pending: PendingUpload) -> None:
        """Count a recording that is deferred no longer."""
        for replicator in self.all:
            replicator.forget(pending)

    def have_untried(self, pending: Collection[PendingUpload]) -> bool:
        """Say whether one of these recordings waits for an archive, and did not fail."""
        return any(r.has_untried(one) for r in self.all for one in pending)

    def are_enough(self, row: InSpool) -> bool:
        """Say whether enough archives have a recording for it to leave the spool; of those that
        had it until its time came one is enough only where no other is to keep it."""
        ours = {replicator.name for replicator in self.all}
        there = row.archives.keys() & ours
        if len(there | (row.retired & ours)) < self._needed:
            return False
        return bool(there) or row.retired >= ours

    async def _fetch(self, pending: PendingUpload, to: Path) -> Index:
        """Write a recording that the spool no longer has to a file, from an archive that has it.

        Raises PermanentUploadError where none has it, ArchiveError where one that should cannot be
        asked.
        """
        away: ArchiveError | None = None
        key = "/".join((*pending.camera, pending.stored.name))
        for replicator in self.all:
            if replicator.name in pending.done:
                bucket = pending.done[replicator.name][0]
                try:
                    return await replicator.archive.fetch(key, bucket, to)
                except (ObjectNotFound, FormatError) as error:
                    log.error(
                        "A recording cannot be had from an archive",
                        archive=replicator.name,
                        recording=pending.key,
                        why=str(error),
                    )
                except ArchiveError as error:
                    away = error
        text = f"{pending.stored.media} is gone from the spool, and no other archive has it now"
        raise PermanentUploadError(Blocked.GONE, f"{text}: {away}" if away else text)


def length_of(stored: SpoolRecording) -> int:
    """Return the length of a recording's `.mp4` in bytes; 0 where it cannot be had, which is
    found out and said when it is read."""
    try:
        return stored.media.stat().st_size
    except OSError:
        return 0
