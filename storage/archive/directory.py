"""A directory as an archive."""

from __future__ import annotations

import contextlib
import errno
import glob
import hashlib
import os
import threading
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

from base.durable import fsync_directory, make_directory, write_all
from storage.archive.blocking import CHUNK, P, T, Threads, opened
from storage.archive.port import (
    MARKER_KEY,
    TRACE,
    AnotherArchive,
    ArchiveConflict,
    ArchiveError,
    Entry,
    Fault,
    ObjectNotFound,
    Put,
    UnreadableSource,
    compare_ids,
    parse_marker,
)

RESERVE, RESERVE_BYTES = "_kuager/reserve", 1 << 16
_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def _flushed(path: Path, flags: int = 0) -> Iterator[int]:
    """Open a file to be written, and flush it; what cannot be written to its end is removed."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | flags, 0o644)
    try:
        yield fd
        os.fsync(fd)
        # so that it is read back from the disk and not from memory
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)


class DirectoryArchive(Threads):
    """A directory: written beside, flushed, linked into place; what is there is not replaced.

    `mount`: where its disk is mounted; nothing is written while none is. A file of RESERVE_BYTES
    keeps room for a trace: without it nothing could be removed from a disk that is full.
    """

    buckets: tuple[str, ...] = ("",)
    refuses_to_replace = True

    def __init__(self, name: str, root: Path, mount: Path | None = None):
        super().__init__()
        self.name, self._root, self._mount = name, root, mount
        self.expected_id: str | None = None

    def bucket_of(self, key: str) -> str:
        """See Archive."""
        return ""

    async def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await super()._run(work, *args, **kwargs)
        except OSError as error:
            raise ArchiveError(f"{self._root}: {error.strerror}", Fault.DISK) from None

    async def check_id(self) -> None:
        """See Archive."""
        await self._run(self._check_id)

    async def check_lock(self) -> None:
        """See Archive: none can be wanted of a directory."""

    def _check_id(self) -> None:
        if self._mount is not None and not os.path.ismount(os.path.realpath(self._mount)):
            raise AnotherArchive(f"no disk is mounted at {self._mount}: mount it")
        if self.expected_id is not None:
            try:
                found = parse_marker((self._root / MARKER_KEY).read_bytes(), str(self._root))
            except FileNotFoundError:
                found = None
            compare_ids(found, self.expected_id, str(self._root))

    @property
    def server_time(self) -> tuple[int, float] | None:
        """See Archive: a directory has the clock of this machine."""
        return None

    async def put(
        self,
        key: str,
        data: bytes | Path,
        sha256: str,
        locked_until_ms: int | None = None,
        *,
        replace: bool = False,
    ) -> Put:
        """See Archive."""
        await self._run(self._put, self._root / key, data, sha256, replace)
        return Put("", "", await self.etag(key) or "")

    def _put(self, path: Path, data: bytes | Path, sha256: str, replace: bool) -> None:
        self._check_id()
        self._have_reserve()  # first: what comes now may take all the room that a removal gave
        make_directory(path.parent, parents=True)
        beside = self._write(path, data, sha256)
        try:
            if replace:
                beside.replace(path)  # there is one at every moment
            else:
                os.link(beside, path)
        except FileExistsError:
            if self._sha256(path) != sha256:
                raise ArchiveConflict(f"{path} exists and holds other bytes") from None
        except FileNotFoundError:  # who put an object there meanwhile took it for one of the dead
            if self._sha256(path) != sha256:
                raise
        finally:
            beside.unlink(missing_ok=True)
        for left in path.parent.glob(f".{glob.escape(path.name)}.*.new"):
            left.unlink(missing_ok=True)  # of a process that was killed: no list would show it
        fsync_directory(path.parent)

    def _write(self, path: Path, data: bytes | Path, sha256: str) -> Path:
        """Write a new file that is to be linked to `path`, and flush it; return where it is."""
        # of nobody else: processes of two containers, or machines, may have the same number
        beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.new")
        try:
            with _flushed(beside, os.O_CREAT | os.O_TRUNC) as fd:
                self._copy(data, fd, sha256)
        except OSError as error:
            if error.errno not in _FULL or not path.name.endswith(TRACE):
                raise
            return self._write_in_reserve(data, sha256)
        return beside

    def _write_in_reserve(self, data: bytes | Path, sha256: str) -> Path:
        """Write a trace into the room that was kept for it; return where it is."""
        beside = self._own("trace")
        try:
            (self._root / RESERVE).rename(beside)
        except FileNotFoundError:
            raise OSError(errno.ENOSPC, "no room is left, nor a reserve for traces") from None
        with _flushed(beside) as fd:
            self._copy(data, fd, sha256)
            os.ftruncate(fd, os.lseek(fd, 0, os.SEEK_CUR))
        return beside

    def _have_reserve(self) -> None:
        """Keep room for a trace, where none is kept and the disk has some."""
        path = self._root / RESERVE
        if path.parent.exists() and not path.exists():
            new = self._own("reserve")
            with contextlib.suppress(OSError):
                with _flushed(new, os.O_CREAT | os.O_TRUNC) as fd:
                    write_all(fd, os.urandom(RESERVE_BYTES))
                new.rename(path)

    def _own(self, what: str) -> Path:
        """Return a name beside the reserve that no other process or thread has."""
        own = f"{what}.{os.getpid()}.{threading.get_ident()}"
        return (self._root / RESERVE).with_name(own)

    def _copy(self, data: bytes | Path, fd: int, sha256: str) -> None:
        digest = hashlib.sha256()
        with opened(data) as file:
            while piece := file.read(CHUNK):
                digest.update(piece)
                write_all(fd, piece)
        if isinstance(data, Path) and digest.hexdigest() != sha256:
            raise UnreadableSource(f"{data} changed while it was copied to {self._root}")

    async def get(
        self, key: str, offset: int = 0, length: int | None = None, *, bucket: str = ""
    ) -> bytes:
        """See Archive."""

        def read() -> bytes:
            try:
                with (self._root / key).open("rb") as file:
                    file.seek(offset)
                    return file.read() if length is None else file.read(length)
            except FileNotFoundError:
                raise ObjectNotFound(key) from None

        return await self._run(read)

    async def sha256(self, key: str, *, bucket: str = "") -> str | None:
        """See Archive."""
        return await self._run(self._sha256, self._root / key)

    def _sha256(self, path: Path) -> str | None:
        try:
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            return None

    async def etag(self, key: str, *, bucket: str = "") -> str | None:
        """See Archive."""

        def stamp() -> str | None:
            try:
                found = (self._root / key).stat()
            except FileNotFoundError:
                return None
            return f"{found.st_ino}-{found.st_size}-{found.st_mtime_ns}"

        return await self._run(stamp)

    async def version_id(self, key: str, *, bucket: str = "") -> str | None:
        """See Archive."""
        return None

    async def entries(self, prefix: str) -> AsyncIterator[Entry]:
        """See Archive."""
        directories = [self._root / prefix]
        while directories:
            found, below = await self._run(self._list, directories.pop())
            for entry in found:
                yield entry
            directories += reversed(below)

    async def below(self, prefix: str) -> list[str]:
        """See Archive."""
        _, below = await self._run(self._list, self._root / prefix)
        return [path.name for path in below]

    def _list(self, directory: Path) -> tuple[list[Entry], list[Path]]:
        """Return the files and the directories in one, sorted."""
        try:
            with os.scandir(directory) as scan:
                items = sorted(scan, key=lambda item: item.name)
        except (FileNotFoundError, NotADirectoryError):
            return [], []
        found = []
        for item in items:
            if item.is_file() and not item.name.startswith("."):
                with contextlib.suppress(FileNotFoundError):  # it went meanwhile, and no other
                    stat = item.stat()
                    key = Path(item.path).relative_to(self._root).as_posix()
                    found.append(Entry(key, "", stat.st_size, stat.st_mtime_ns // 1_000_000))
        return found, [Path(i.path) for i in items if i.is_dir()]

    async def remove(self, key: str, *, bucket: str = "", version_id: str | None = None) -> None:
        """See Archive."""

        def unlink() -> None:
            path = self._root / key
            path.unlink(missing_ok=True)
            if path.parent.exists():
                fsync_directory(path.parent)
            self._have_reserve()

        await self._run(unlink)
