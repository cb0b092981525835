"""Everything of an order as one ZIP: stored, of known length, the same bytes every time.

APPNOTE.TXT 6.3.10 (sections below): entries are stored (4.4.5), zip64 (4.5.3) only where a size or
an offset needs it. Once every copy's CRC-32 is known any range can be had; before that the ZIP is
hashed while it is sent, its checksums follow the bytes (4.3.9), and it cannot be resumed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import struct
import zlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from copies.files.readme import readme
from copies.files.virtual import Bytes, VirtualFile

MANIFEST_FORMAT = "copies/1"
MAX32 = 0xFFFFFFFF
UNKNOWN = "0" * 64
CRC_FOLLOWS, UTF8 = 1 << 3, 1 << 11


@dataclass(frozen=True, slots=True)
class Item:
    """A copy in a bundle, with what its pass found, once it was made."""

    file: VirtualFile
    sha256: str | None = None
    crc32: int | None = None


class _Entry(NamedTuple):
    """One entry: bytes, or the copy that they are of; `at` is where its header begins."""

    name: bytes
    length: int
    data: bytes | VirtualFile
    crc32: int
    at: int
    follows: bool  # the checksum follows the bytes

    @property
    def wide(self) -> bool:
        return self.length >= MAX32

    @property
    def head_length(self) -> int:
        return 30 + len(self.name) + 20 * self.wide

    @property
    def whole_length(self) -> int:
        return self.head_length + self.length + self.follows * (24 if self.wide else 16)


def manifest(about: Mapping[str, Any], items: Sequence[Item]) -> bytes:
    """Return manifest.json (docs/copies.md).

    `about` has election, station, from_ms, to_ms and cameras, each with camera, gaps and removed;
    to each the files are added. Hashes that are not known are 64 zeros.
    """
    cameras = [
        {
            **camera,
            "files": [_described(i) for i in items if i.file.plan.camera == camera["camera"]],
        }
        for camera in about["cameras"]
    ]
    said = {"kuager": MANIFEST_FORMAT, **about, "cameras": cameras}
    return json.dumps(said, ensure_ascii=False, indent=1).encode() + b"\n"


def _described(item: Item) -> dict[str, Any]:
    plan = item.file.plan
    keys = ("start_ms", "end_ms", "run_no", "segments", "length")
    return {
        "name": plan.file_name,
        "sha256": item.sha256 or UNKNOWN,
        **{key: getattr(plan, key) for key in keys},
        "first_segment_no": plan.parts[0].first_segment_no,
        "tfdt": {str(track): base for track, base in plan.bases.items()},
        "recordings": [
            {
                key: getattr(part, key)
                for key in ("record_seq", "sha256", "first_segment_no", "segments")
            }
            for part in plan.parts
        ],
    }


def checksums(items: Sequence[Item]) -> bytes:
    """Return SHA256SUMS, as `sha256sum -c` reads it."""
    return b"".join(f"{i.sha256 or UNKNOWN}  {i.file.plan.file_name}\n".encode() for i in items)


class Bundle:
    """The ZIP of all copies of an order; see `manifest` for `about`."""

    content_type = "application/zip"

    def __init__(self, about: Mapping[str, Any], items: Sequence[Item], language: str, zone: str):
        names = [i.file.plan.file_name for i in items]
        if len(set(names)) < len(names):
            raise ValueError("two copies have one name")
        self._about, self._items = about, list(items)
        self.resumable = all(i.sha256 and i.crc32 is not None for i in items)
        self.last_modified_ms = max((i.file.last_modified_ms for i in items), default=0)
        text = readme(about, [i.file.plan for i in items], language, zone)
        self._entries: list[_Entry] = []
        self._add(b"README.txt", text)
        for item in items:
            self._add(item.file.plan.file_name.encode(), item.file, item.crc32)
        self._add_hashes()
        self.length = self._end + sum(map(len, self._directory()))
        tags = [i.file.etag for i in items]
        said = b"".join([text, manifest(about, items), *map(str.encode, tags)])
        self.etag = f'"{hashlib.sha256(said).hexdigest()[:31]}{"z" if self.resumable else "s"}"'

    @property
    def _end(self) -> int:
        """Where the next entry or the directory begins."""
        return self._entries[-1].at + self._entries[-1].whole_length if self._entries else 0

    def _add(self, name: bytes, data: bytes | VirtualFile, crc32: int | None = None) -> None:
        at = self._end
        if isinstance(data, bytes):
            self._entries.append(_Entry(name, len(data), data, zlib.crc32(data), at, False))
        else:
            follows = not self.resumable
            self._entries.append(_Entry(name, data.length, data, crc32 or 0, at, follows))

    def _add_hashes(self) -> None:
        self._add(b"manifest.json", manifest(self._about, self._items))
        self._add(b"SHA256SUMS", checksums(self._items))

    async def read(self, start: int = 0, stop: int | None = None) -> AsyncGenerator[Bytes, None]:
        """Yield the bytes [start, stop) in pieces; raises Unreadable where they cannot be had,
        and ValueError for a range of what cannot be resumed."""
        stop = self.length if stop is None else min(stop, self.length)
        if not self.resumable:
            if (start, stop) != (0, self.length):
                raise ValueError("this ZIP has to be read as a whole yet")
            async for piece in self._read_hashing():
                yield piece
            return
        for entry in self._entries:
            at = entry.at + entry.head_length
            if entry.at < stop and at > start:
                yield self._local(entry)[max(0, start - entry.at) : stop - entry.at]
            first, last = max(start - at, 0), min(stop - at, entry.length)
            if first >= last:
                continue
            if isinstance(entry.data, bytes):
                yield entry.data[first:last]
            else:
                async with aclosing(entry.data.read(first, last)) as pieces:
                    async for piece in pieces:
                        yield piece
        if stop > (at := self._end):
            yield b"".join(self._directory())[max(0, start - at) : stop - at]

    async def _read_hashing(self) -> AsyncGenerator[Bytes, None]:
        """Yield all of it, with the checksums that are found on the way."""
        entries = self._entries[:-2]
        self._entries = []
        for entry in entries:
            yield self._local(entry)
            if isinstance(entry.data, bytes):
                yield entry.data
                self._entries.append(entry)
                continue
            sha, crc = hashlib.sha256(), 0
            async with aclosing(entry.data.read()) as pieces:
                async for piece in pieces:
                    _, crc = await asyncio.gather(
                        asyncio.to_thread(sha.update, piece),
                        asyncio.to_thread(zlib.crc32, piece, crc),
                    )
                    yield piece
            form = "<IIQQ" if entry.wide else "<IIII"
            yield struct.pack(form, 0x08074B50, crc, entry.length, entry.length)
            n = len(self._entries) - 1
            self._items[n] = Item(entry.data, sha.hexdigest(), crc)
            self._entries.append(entry._replace(crc32=crc))
        self._add_hashes()
        for entry in self._entries[-2:]:
            assert isinstance(entry.data, bytes)
            yield self._local(entry) + entry.data
        yield b"".join(self._directory())

    def _local(self, entry: _Entry) -> bytes:
        """Return an entry's local header (4.3.7)."""
        size = 0 if entry.follows else MAX32 if entry.wide else entry.length
        extra = b""
        if entry.wide:
            size = MAX32
            sizes = (0, 0) if entry.follows else (entry.length, entry.length)
            extra = struct.pack("<HHQQ", 1, 16, *sizes)
        head = struct.pack(
            "<IHHHHHIIIHH",
            0x04034B50,
            45 if entry.wide else 20,
            self._flags(entry),
            0,
            *self._time(),
            0 if entry.follows else entry.crc32,
            size,
            size,
            len(entry.name),
            len(extra),
        )
        return head + entry.name + extra

    def _flags(self, entry: _Entry) -> int:
        return UTF8 | (CRC_FOLLOWS if entry.follows else 0)

    def _time(self) -> tuple[int, int]:
        """Return time and date (4.4.6) of the last moment recorded, in UTC."""
        at = datetime.fromtimestamp(self.last_modified_ms / 1000, UTC)
        return (
            at.hour << 11 | at.minute << 5 | at.second // 2,
            max(0, at.year - 1980) << 9 | at.month << 5 | at.day,
        )

    def _directory(self) -> list[bytes]:
        """Return the central directory (4.3.12) and its end (4.3.14 to 4.3.16)."""
        rows = [self._central(entry) for entry in self._entries]
        at, size, count = self._end, sum(map(len, rows)), len(rows)
        if at >= MAX32 or size >= MAX32 or count >= 0xFFFF:
            rows.append(
                struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, count, count, size, at)
            )
            rows.append(struct.pack("<IIQI", 0x07064B50, 0, at + size, 1))
        few, at = min(count, 0xFFFF), min(at, MAX32)
        rows.append(struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, few, few, min(size, MAX32), at, 0))
        return rows

    def _central(self, entry: _Entry) -> bytes:
        # all or nothing: Info-ZIP's unzip misreads an entry that has only some of them in zip64
        wide, extra = entry.wide or entry.at >= MAX32, b""
        if wide:
            extra = struct.pack("<HHQQQ", 1, 24, entry.length, entry.length, entry.at)
        size = MAX32 if wide else entry.length
        version = 45 if wide else 20
        head = struct.pack(
            "<IHHHHHHIIIHHHHHII",
            0x02014B50,
            3 << 8 | version,  # made on Unix, for the mode below
            version,
            self._flags(entry),
            0,
            *self._time(),
            entry.crc32,
            size,
            size,
            len(entry.name),
            len(extra),
            0,
            0,
            0,
            0o100644 << 16,
            MAX32 if wide else entry.at,
        )
        return head + entry.name + extra
