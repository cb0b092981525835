"""What is left of a recording whose recorder died, finished by whoever records next."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import structlog

from base.clock import now_ms
from storage.files import replace_file
from storage.index import FormatError, GapCause, Index, Seal, parse_index

log = structlog.get_logger()


def finish(
    base: Path, reason: GapCause = GapCause.RECORDER_CRASHED, *, anew: bool = False
) -> Index | None:
    """Return the sealed index of a recording; seal it first if its recorder died.

    `anew` is for a recording of which the disk refused a write or a flush: what can be read may
    then be in memory only, and counts as flushed; it is written again, to another place.

    None when it has no whole segment: then its files are removed, or set aside where they
    hold bytes that no index line describes.
    """
    media, index_path = base.with_name(base.name + ".mp4"), base.with_name(base.name + ".jsonl")
    try:
        data = index_path.read_bytes()
        index = parse_index(data)
    except FileNotFoundError:
        index = None
    except FormatError as error:
        index = None
        log.error(
            "An index cannot be read; its recording is set aside",
            file=str(index_path),
            why=str(error),
        )
    if index and index.seal and not anew:
        return index
    if index is None or not media.exists():
        for path in (media, index_path):
            if path.exists():
                path.rename(path.with_name(path.name + ".aside"))
        return None
    digest, good = hashlib.sha256(), 0
    with media.open("rb") as file:
        digest.update(file.read(index.header.init_length))
        for segment in index.segments:
            part = file.read(segment.length)
            if hashlib.sha256(part).hexdigest() != segment.sha256:
                break
            digest.update(part)
            good += 1
    lines = data[: index.size].splitlines(keepends=True)
    del index.segments[good:]
    if not index.segments:
        media.unlink()
        index_path.unlink()
        return None
    last = index.segments[-1]
    sealed = index.seal if index.seal and good == index.seal.segments else None
    index.seal = sealed or Seal(
        sealed_ms=now_ms(),
        segments=good,
        length=last.offset + last.length,
        sha256=digest.hexdigest(),
        end_ms=index.end_ms,
        end_reason=reason,
    )
    if anew:
        replace_file(media, media.read_bytes()[: index.seal.length], durable=True)
    else:
        os.truncate(media, index.seal.length)
        with media.open("rb") as file:
            os.fsync(file.fileno())
    replace_file(index_path, b"".join(lines[: good + 1]) + index.seal.to_line(), durable=True)
    log.warning("A recording that was not finished was sealed", file=str(media), segments=good)
    return index


def had_lines(base: Path) -> bool:
    """Say whether an index that was set aside had a header, and so perhaps segments."""
    try:
        return b"\n" in base.with_name(base.name + ".jsonl.aside").read_bytes()
    except FileNotFoundError:
        return False
