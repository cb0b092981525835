"""Two recorders with one camera list, their uploaders and fsck: what happens to them at random.

`make identity-walk` goes on for longer than tests/storage/test_identity.py does.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import orjson
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from storage.archival.backlog import Blocked
from storage.archival.retention import retire
from storage.archival.uploader import Uploader
from storage.archive.directory import DirectoryArchive
from storage.archive.port import TRACE
from storage.catalogue.archive_ids import identify
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.schema import archived, cameras, catalogue, gaps, recordings, runs
from storage.fsck.check import Fsck
from storage.records import (
    ClockState,
    GapCause,
    Index,
    parse_archive_document,
    parse_index,
)
from storage.spool.disk import claim_spool
from storage.spool.numbers import Numbers
from storage.spool.writer import CameraSpool, Run, SegmentInfo
from tests.support.archiving import BRISK, NOW, configure, later_ms
from tests.support.spools import TRACKS

BEGIN = NOW - 20 * 86_400_000  # long ago: all may leave the spool at once
OWNERS, CAMERAS = ("a", "b"), ("c", "d")
owners, names = st.sampled_from(OWNERS), st.sampled_from(CAMERAS)

Name = tuple[str, str, str]


def read(path: Path) -> Index | None:
    data = path.read_bytes()
    return parse_index(data) if b"\n" in data else None


class Walk(RuleBasedStateMachine):
    """What an index line named is found, under its own camera, whatever happened since."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(prefix="kuager-walk-"))
        self.now_ms = BEGIN
        self.open: dict[tuple[str, str], CameraSpool] = {}
        self.written: dict[str, tuple[Name, str]] = {}  # by hash of a segment: where and by whom
        self.numbers: dict[tuple[str, str, int], str] = {}  # each owner's segment numbers
        self.moved = 0

    @initialize()
    def begin(self) -> None:
        """Set up two machines with one database and one archive."""
        url = f"sqlite:///{self.folder}/k.db"
        one = configure(self.folder, url, "archives: [archive]\n")
        self.archive = DirectoryArchive("archive", self.folder / "archive")
        self.catalogue = self.loop.run_until_complete(Catalogue.open(url))
        self.config = {o: one.model_copy(update={"spool": self.folder / o}) for o in OWNERS}
        for owner in OWNERS:
            claim_spool(self.folder / owner)
        self.uploaders = {o: self._uploader(o) for o in OWNERS}

    def _uploader(self, owner: str) -> Uploader:
        return Uploader(self.config[owner], self.catalogue, [self.archive], pauses=BRISK)

    def teardown(self) -> None:
        """In the end all that is left is archived, has its row, and fsck agrees."""
        if hasattr(self, "archive"):
            for owner in OWNERS:
                for camera in CAMERAS:
                    self._stop(owner, camera)
                self.upload(owner)
            for owner in OWNERS:
                self.repair(owner)
            for owner in OWNERS:
                self.upload(owner)
            self.nothing_is_lost()
            self._rows_are_right(whole=True)
            self.loop.run_until_complete(self.archive.close())
            self.loop.run_until_complete(self.catalogue.close())
        self.loop.close()
        shutil.rmtree(self.folder)

    # -- what happens --------------------------------------------------------------------

    @rule(owner=owners, camera=names, count=st.integers(1, 45))
    def record(self, owner: str, camera: str, count: int) -> None:
        """Record a run of 2 s segments."""
        if (owner, camera) not in self.open:
            floor = Numbers.by_clock(self.now_ms)
            spool = CameraSpool(self.folder / owner, "e", "s", camera, floor)
            self.open[owner, camera] = spool
        spool, begin = self.open[owner, camera], self.now_ms
        run = Run(begin, b"\0\0\0\x10ftypiso5" + bytes(4), TRACKS, 2)
        for k in range(count):
            segment = spool.append(
                run,
                b"\0\0\1\0moof" + os.urandom(60),
                SegmentInfo(
                    tfdt_90k=k * 180_000,
                    duration_90k=180_000,
                    starts_with_key=True,
                    arrival_ms=begin + 2000 * k,
                    camera_ms=None,
                ),
                ClockState(True, 2),
            )
            self.written[segment.sha256] = ("e", "s", camera), owner
            key = owner, camera, segment.segment_no
            assert key not in self.numbers, "a number was used twice"
            self.numbers[key] = segment.sha256
        spool.seal(GapCause.NO_DATA)
        self.now_ms += 2000 * count + 500

    @rule(owner=owners, camera=names)
    def stop(self, owner: str, camera: str) -> None:
        """Stop a recorder; the next rule may start it again."""
        self._stop(owner, camera)

    def _stop(self, owner: str, camera: str) -> None:
        if spool := self.open.pop((owner, camera), None):
            spool.close()

    @rule(seconds=st.sampled_from([1, 60, 700, 4000]))
    def wait(self, seconds: int) -> None:
        """Have time pass."""
        self.now_ms += seconds * 1000

    @rule(owner=owners, camera=names)
    def lose_camera_json(self, owner: str, camera: str) -> None:
        """Lose the numbers of a camera."""
        self._stop(owner, camera)
        (self.folder / owner / "s" / camera / "camera.json").unlink(missing_ok=True)

    @rule(owner=owners)
    def lose_spool(self, owner: str) -> None:
        """Lose a disk, and what only it had."""
        for camera in CAMERAS:
            self._stop(owner, camera)
        there = self._archived()
        self.written = {h: (n, o) for h, (n, o) in self.written.items() if o != owner or h in there}
        shutil.rmtree(self.folder / owner)
        claim_spool(self.folder / owner)
        self.now_ms += 1000  # nobody replaces a disk within a second

    @rule(owner=owners, camera=names)
    def delete_by_hand(self, owner: str, camera: str) -> None:
        """Make room: delete the newest recording of a camera that is stopped."""
        self._stop(owner, camera)
        paths = sorted((self.folder / owner / "s" / camera).glob("*/*.jsonl"), key=seq)
        for path in paths[-1:]:
            there, index = self._archived(), read(path)
            for segment in index.segments if index else ():
                if segment.sha256 not in there:
                    self.written.pop(segment.sha256, None)
            path.unlink()
            path.with_suffix(".mp4").unlink()

    @rule()
    def lose_catalogue(self) -> None:
        """Have another database take the place of the first, with other numbers of cameras."""
        self.loop.run_until_complete(self._another_database())

    async def _another_database(self) -> None:
        self.moved += 1
        async with self.catalogue.pool.work() as connection:
            for table in (archived, recordings, gaps, runs, cameras):
                await connection.execute(sa.delete(table))
            other = [("e", "s", name) for name in ("d", "c", "x")[self.moved % 2 :]]
            await self.catalogue.cameras.make(connection, [("e", "a", str(self.moved)), *other])
            new = sa.update(catalogue).values(id=f"{self.moved:032x}")
            await connection.execute(new)

    @rule(owner=owners)
    def restart_uploader(self, owner: str) -> None:
        """Start an uploader that knows nothing."""
        self.uploaders[owner] = self._uploader(owner)

    @rule(owner=owners)
    def upload(self, owner: str) -> None:
        """Have an uploader do all that is due, and take off its spool what is archived."""
        self.loop.run_until_complete(self._upload(self.uploaders[owner]))

    async def _upload(self, uploader: Uploader) -> None:
        (replicator,) = uploader.replicators.all
        assert await uploader.recognise()
        await uploader.discovery.look()
        for backlog in replicator._backlogs.values():
            while await replicator._take(backlog):
                pass
        waits = [one.why for one in replicator._waiting() if one.blocked is not Blocked.GONE]
        assert not waits, waits  # but for what somebody deleted before it was archived
        await uploader.cleaner.remove()

    @rule(owner=owners)
    def repair(self, owner: str) -> None:
        """Run `kuager fsck --repair --deep` on a machine."""
        self.loop.run_until_complete(self._fsck(owner))

    async def _fsck(self, owner: str) -> None:
        how = {"repair": True, "deep": True, "clock": later_ms}
        fsck = Fsck(self.config[owner], self.catalogue, [self.archive], **how)  # type: ignore[arg-type]
        await identify(self.archive, self.catalogue.archive_ids)
        for name in await fsck.cameras():
            await fsck.check(name)

    @rule(camera=names, share=st.sampled_from([0.1, 0.5, 1.0]))
    def retire(self, camera: str, share: float) -> None:
        """Have the time come of what the archive has of a camera; each leaves its trace."""
        before = {path: index for path, index in self._documents() if index.name[2] == camera}
        self.loop.run_until_complete(
            retire(
                self.catalogue,
                self.archive,
                ("e", "s", camera),
                60,
                share=share,
                clock=lambda: self.now_ms,
            )
        )
        gone = {path: index for path, index in before.items() if not path.exists()}
        for path, index in gone.items():
            assert not path.with_suffix(".mp4").exists()
            told = orjson.loads(path.with_name(path.stem + TRACE).read_bytes())
            assert index.seal is not None and told["sha256"] == index.seal.sha256
        removed = {s.sha256 for index in gone.values() for s in index.segments}
        removed -= self._there().keys()
        self.written = {h: where for h, where in self.written.items() if h not in removed}

    # -- what must be true ---------------------------------------------------------------

    def _archived(self) -> dict[str, Name]:
        """Return by hash the segments of the archive, and under whose name they are."""
        found: dict[str, Name] = {}
        for path, index in self._documents():
            election, station, camera = path.relative_to(self.folder / "archive").parts[:3]
            if path.with_suffix(".mp4").exists():
                found |= {s.sha256: (election, station, camera) for s in index.segments}
        return found

    def _documents(self) -> Iterator[tuple[Path, Index]]:
        for path in (self.folder / "archive").glob("e/s/*/*/*Z-*.json"):
            if "gap" not in path.name and not path.name.endswith(TRACE):
                yield path, parse_archive_document(path.read_bytes())

    def _there(self) -> dict[str, Name]:
        """Return by hash the segments of spools and archive, and under whose name they are."""
        there = self._archived()
        for owner in OWNERS:
            for path in (self.folder / owner).glob("s/*/*/*.jsonl"):
                if index := read(path):
                    there |= {s.sha256: index.name for s in index.segments}
        return there

    @invariant()
    def nothing_is_lost(self) -> None:
        """Each segment is in its spool or in the archive, under its own camera; or its time had
        come."""
        there = self._there()
        lost = [h for h, (name, _) in self.written.items() if there.get(h) != name]
        assert not lost, f"{len(lost)} segments are lost or under another name"

    @invariant()
    def rows_are_right(self) -> None:
        """Whatever the catalogue says of bytes, it says of their own camera."""
        if hasattr(self, "catalogue"):
            self._rows_are_right()

    def _rows_are_right(self, *, whole: bool = False) -> None:
        known = {}
        for _, index in self._documents():
            known[index.identity] = index.name
        found = self.loop.run_until_complete(
            self.catalogue.pool.rows(
                sa.select(cameras.c.camera, recordings).join(
                    cameras, cameras.c.camera_pk == recordings.c.camera_pk
                )
            )
        )
        rows = {(row["camera"], row["record_seq"], row["start_ms"], row["sha256"]) for row in found}
        for camera, *identity in rows:
            name = known.get(tuple(identity))  # type: ignore[call-overload]
            assert name in (None, ("e", "s", camera)), "a row is filed under another camera"
        if whole:
            missing = {(name[2], *identity) for identity, name in known.items()} - rows
            assert not missing, f"{len(missing)} archived recordings have no row"


def seq(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])


def walk(examples: int, steps: int) -> None:
    """Take so many walks of so many steps at most."""
    how = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(Walk, settings=how)


if __name__ == "__main__":
    walk(int(sys.argv[1]), 60)
