"""Processes that kill themselves (SIGKILL) just before, in or just after a step of the order of
truth: `python -m tests.support.dying uploader CONFIG STEP WHEN`, `python -m tests.support.dying
remover CONFIG STEP WHEN`, `python -m tests.support.dying writer SPOOL STEP WHEN`. What runs is the
real uploader, the real removal from an archive and the real writer of the spool; only the step is
watched.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import storage.spool.recording
import storage.spool.writer
from config.load import load
from storage.archival.retention import retire
from storage.archival.uploader import Uploader
from storage.archive.directory import DirectoryArchive
from storage.archive.factory import open_archive
from storage.archive.s3 import S3Archive
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.holds import Holds
from storage.catalogue.recordings import RecordingRows
from storage.records import ClockState
from storage.spool.numbers import Numbers
from storage.spool.writer import CameraSpool, Run, SegmentInfo
from tests.support.archiving import BRISK
from tests.support.s3 import SECRET
from tests.support.spools import TRACKS, UTC0

NTH = 2  # the step is let through once, so that there is a before and an after


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _trap(owner: Any, name: str, when: str, match: Callable[..., bool]) -> None:
    """Have the NTH call of a function that matches be the last thing this process does."""
    original, seen = getattr(owner, name), 0

    def is_it(*args: Any, **kwargs: Any) -> bool:
        nonlocal seen
        seen += (found := match(*args, **kwargs))
        return found and seen == NTH

    if inspect.iscoroutinefunction(original):

        @functools.wraps(original)
        async def trapped(*args: Any, **kwargs: Any) -> Any:
            now = is_it(*args, **kwargs)
            if now and when == "before":
                _die()
            result = await original(*args, **kwargs)
            if now:
                _die()
            return result

    else:

        @functools.wraps(original)
        def trapped(*args: Any, **kwargs: Any) -> Any:
            now = is_it(*args, **kwargs)
            if now and when == "before":
                _die()
            if now and when == "half":  # of the bytes are written
                os.write(args[0], args[1][: len(args[1]) // 2])
                _die()
            result = original(*args, **kwargs)
            if now:
                _die()
            return result

    setattr(owner, name, trapped)


def _ends(ending: str) -> Callable[..., bool]:
    return lambda self, key, *_, **__: key.endswith(ending) and not key.startswith("_")


def _in_spool(ending: str) -> Callable[..., bool]:
    return lambda path, **_: path.suffix == ending and "/spool/" in str(path)


def _always(*_: Any, **__: Any) -> bool:
    return True


def _line_with(key: bytes) -> Callable[..., bool]:
    return lambda fd, data: data[:1] == b"{" and key in data and b'"election"' not in data


ARCHIVES = (DirectoryArchive, S3Archive)
UPLOADER: dict[str, list[tuple[Any, str, Callable[..., bool]]]] = {
    "row": [(RecordingRows, "put_recordings", _always)],
    "put": [(a, "put", _ends(".mp4")) for a in ARCHIVES],
    "commit": [(a, "put", _ends(".json")) for a in ARCHIVES],
    "verify": [(a, "sha256", _ends(".json")) for a in ARCHIVES],
    "archived_row": [(RecordingRows, "mark_archived", _always)],
    "removal_of_bytes": [(Path, "unlink", _in_spool(".mp4"))],
    "removal_of_index": [(Path, "unlink", _in_spool(".jsonl"))],
    "removed_row": [(RecordingRows, "mark_removed", _always)],
}
REMOVER: dict[str, list[tuple[Any, str, Callable[..., bool]]]] = {
    "trace": [(DirectoryArchive, "put", _ends(".removed.json"))],
    "removing_row": [(Holds, "begin_removal", _always)],
    "removal_of_bytes": [(DirectoryArchive, "remove", _ends(".mp4"))],
    "removal_of_description": [(DirectoryArchive, "remove", _ends(".json"))],
    "removed_row": [(Holds, "end_removal", _always)],
}
WRITER: dict[str, tuple[Any, str, Callable[..., bool]]] = {
    "numbers": (storage.spool.writer, "replace_file", _always),
    "segment_bytes": (storage.spool.recording, "write_all", lambda fd, data: data[4:8] == b"moof"),
    "index_line": (storage.spool.recording, "write_all", _line_with(b'"segment_no"')),
    "seal_line": (storage.spool.recording, "write_all", _line_with(b'"sealed_ms"')),
    "flush_of_the_directory": (storage.spool.recording, "fsync_directory", _always),
}


async def upload(config_path: Path) -> None:
    """Run the uploader of a configuration."""
    config = load(config_path, {"SECRET": SECRET})
    catalogue = await Catalogue.open(config.database_url)
    archives = [open_archive(a) for a in config.archives]
    await Uploader(config, catalogue, archives, pauses=BRISK).run()


async def remove(config_path: Path) -> None:
    """Remove all recordings of station s, camera c, from the archive of a configuration."""
    config = load(config_path, {"SECRET": SECRET})
    catalogue = await Catalogue.open(config.database_url)
    archive = open_archive(config.archives[0])
    await retire(catalogue, archive, ("e", "s", "c"), 60, share=1)


def write(spool_path: Path, begin_ms: int, segments: int = 70) -> None:
    """Record a run of 2 s segments that rotates into several recordings; print what is live."""
    spool = CameraSpool(spool_path, "e", "s", "c", Numbers())
    run = Run(begin_ms, b"\0\0\0\x10ftypiso5" + bytes(4), TRACKS, 2)
    for k in range(segments):
        segment = spool.append(
            run,
            (416).to_bytes(4, "big") + b"moof" + os.urandom(408),
            SegmentInfo(
                tfdt_90k=k * 180_000,
                duration_90k=180_000,
                starts_with_key=True,
                arrival_ms=begin_ms + 2000 * k,
                camera_ms=None,
            ),
            ClockState(True, 2),
        )
        print(segment.segment_no, segment.sha256, flush=True)
    spool.seal(None)
    with contextlib.suppress(OSError):
        spool.close()


def main(role: str, path: str, step: str, when: str) -> None:
    """Set the trap and work until it snaps."""
    traps = {"uploader": UPLOADER, "remover": REMOVER}.get(role, {}).get(step) or [WRITER[step]]
    for owner, name, match in traps:
        _trap(owner, name, when, match)
    if role == "uploader":
        asyncio.run(upload(Path(path)))
    elif role == "remover":
        asyncio.run(remove(Path(path)))
    else:
        write(Path(path), UTC0)


if __name__ == "__main__":
    main(*sys.argv[1:])
