"""Everything of an order as one ZIP: stored, of known length, the same bytes every time.

APPNOTE.TXT 6.3.10 (sections below): entries are stored (4.4.5), zip64 (4.5.3) only where a size or
an offset needs it. The CRC-32 of every copy is known before, so that any range can be had.
"""

from __future__ import annotations

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
from storage.records import sha256_of

MANIFEST_FORMAT = "copies/1"
MAX32 = 0xFFFFFFFF
UNKNOWN = "0" * 64
UTF8 = 1 << 11  # the names are in UTF-8 (4.4.4)


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

    @property
    def wide(self) -> bool:
        return self.length >= MAX32

    @property
    def head_length(self) -> int:
        return 30 + len(self.name) + 20 * self.wide

    @property
    def whole_length(self) -> int:
        return self.head_length + self.length


def manifest(about: Mapping[str, Any], items: Sequence[Item]) -> bytes:
    """Return manifest.json (docs/copies.md).

    `about` has election, station, from_ms, to_ms and cameras, each with camera, gaps, removed and
    unscheduled, and what people call all of these; to each camera the files are added. Hashes that
    are not known are 64 zeros.
    """
    cameras = [
        {
            **camera,
            "files": [_described(i) for i in items if i.file.plan.camera == camera["camera"]],
        }
        for camera in about["cameras"]
    ]
    document = {"kuager": MANIFEST_FORMAT, **about, "cameras": cameras}
    return json.dumps(document, ensure_ascii=False, indent=1).encode() + b"\n"


def _described(item: Item) -> dict[str, Any]:
    plan = item.file.plan
    keys = ("start_ms", "end_ms", "run_no", "segments", "length")
    return {
        "name": plan.file_name,
        "sha256": item.sha256 or UNKNOWN,
        **{key: getattr(plan, key) for key in keys},
        **plan.losses.to_dict(),
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


def checksums(items: Sequence[Item], texts: Mapping[str, bytes]) -> bytes:
    """Return SHA256SUMS of copies and of other files by name, as `sha256sum -c` reads it."""
    sums = {i.file.plan.file_name: i.sha256 or UNKNOWN for i in items}
    sums |= {name: sha256_of(text) for name, text in texts.items()}
    return "".join(f"{sha256}  {name}\n" for name, sha256 in sums.items()).encode()


class Bundle:
    """The ZIP of all copies of an order; see `manifest` for `about`."""

    content_type = "application/zip"

    def __init__(self, about: Mapping[str, Any], items: Sequence[Item], language: str, zone: str):
        """Raises ValueError where the pass over a copy was not made yet."""
        names = [i.file.plan.file_name for i in items]
        if len(set(names)) < len(names):
            raise ValueError("two copies have one name")
        self.last_modified_ms = max((i.file.last_modified_ms for i in items), default=0)
        text = readme(about, [i.file.plan for i in items], language, zone)
        self._entries: list[_Entry] = []
        self._add(b"README.txt", text)
        for item in items:
            if item.sha256 is None or item.crc32 is None:
                raise ValueError(f"{item.file.plan.file_name} was not read through yet")
            self._add(item.file.plan.file_name.encode(), item.file, item.crc32)
        manifest_json = manifest(about, items)
        self._add(b"manifest.json", manifest_json)
        texts = {"README.txt": text, "manifest.json": manifest_json}
        self._add(b"SHA256SUMS", checksums(items, texts))
        self.length = self._end + sum(map(len, self._directory()))
        tags = [i.file.etag.encode() for i in items]
        content = b"".join([text, manifest_json, *tags])
        self.etag = f'"{sha256_of(content)[:31]}z"'

    @property
    def _end(self) -> int:
        """Where the next entry or the directory begins."""
        return self._entries[-1].at + self._entries[-1].whole_length if self._entries else 0

    def _add(self, name: bytes, data: bytes | VirtualFile, crc32: int | None = None) -> None:
        length = len(data) if isinstance(data, bytes) else data.length
        if isinstance(data, bytes):
            crc32 = zlib.crc32(data)
        assert crc32 is not None
        self._entries.append(_Entry(name, length, data, crc32, self._end))

    async def read(self, start: int = 0, stop: int | None = None) -> AsyncGenerator[Bytes, None]:
        """Yield the bytes [start, stop) in pieces; raises Unreadable where they cannot be had."""
        stop = self.length if stop is None else min(stop, self.length)
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

    def _local(self, entry: _Entry) -> bytes:
        """Return an entry's local header (4.3.7)."""
        size, extra = entry.length, b""
        if entry.wide:
            size, extra = MAX32, struct.pack("<HHQQ", 1, 16, entry.length, entry.length)
        head = struct.pack(
            "<IHHHHHIIIHH",
            0x04034B50,
            45 if entry.wide else 20,
            UTF8,
            0,
            *self._time(),
            entry.crc32,
            size,
            size,
            len(entry.name),
            len(extra),
        )
        return head + entry.name + extra

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
            UTF8,
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
