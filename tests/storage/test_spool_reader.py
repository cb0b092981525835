"""The reader of a spool, while it is written, torn, repaired, removed or full of rubbish."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.records import GapCause, Header, Segment
from storage.spool import reader as reader_module
from storage.spool.gaps import GapReader
from storage.spool.numbers import Numbers
from storage.spool.reader import SpoolReader
from storage.spool.writer import CameraSpool, SegmentInfo
from streaming.media.playlist import entries, playlist
from tests.support.spools import UTC0, fill

FAR = 10**15


def numbers(view: SpoolReader, count: int = 10_000) -> list[int]:
    view.refresh()
    return [s.segment_no for _, s in view.live(count)]


def between(view: SpoolReader, from_ms: int, to_ms: int) -> list[tuple[Header, Segment]]:
    return [(index.header, s) for index, some in view.stretch(from_ms, to_ms) for s in some]


def indexes(spool: Path) -> list[Path]:
    return sorted((spool / "s" / "c").glob("*/*.jsonl"))


def test_what_is_in_a_folder_that_cannot_be_listed_is_not_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = fill(tmp_path, sealed=False)
    view, listdir, refused = SpoolReader(tmp_path, "s", "c"), os.listdir, set[Path]()
    before = numbers(view)
    (day,) = {path.parent for path in indexes(tmp_path)}

    def listed(path: Path) -> list[str]:
        if path in refused:
            raise OSError(errno.EIO, "Input/output error")
        return listdir(path)

    monkeypatch.setattr(os, "listdir", listed)
    for folder in (day, day.parent):
        refused |= {folder}
        view._scan()
        assert view.unlisted == {folder} and numbers(view) == before
        refused.clear()
        monkeypatch.setattr(reader_module, "SCAN_S", -1.0)
        assert numbers(view) == before and not view.unlisted
        monkeypatch.undo()
        monkeypatch.setattr(os, "listdir", listed)
    spool.seal(None)
    spool.close()


def test_a_reader_sees_each_segment_when_it_is_written(tmp_path: Path) -> None:
    view = SpoolReader(tmp_path, "s", "c")
    assert numbers(view) == []  # no spool yet
    spool = fill(tmp_path, runs=1, segments=3, sealed=False)
    assert numbers(view) == [1, 2, 3]
    for n in range(4, 80):  # over rotations
        _append(spool, n)
        assert numbers(view, 4) == [n - 3, n - 2, n - 1, n]
    assert numbers(view) == numbers(SpoolReader(tmp_path, "s", "c")) == list(range(1, 80))
    assert len(indexes(tmp_path)) > 2
    spool.seal(None)
    spool.close()


def _append(spool: CameraSpool, number: int) -> None:
    run = spool._run
    assert run is not None
    spool.append(
        run,
        os.urandom(40),
        SegmentInfo(
            tfdt_90k=(number - 1) * 180_000,
            duration_90k=180_000,
            starts_with_key=True,
            arrival_ms=UTC0,
            camera_ms=None,
        ),
        _clock(),
    )


def _clock() -> Any:
    from storage.records import ClockState

    return ClockState(True, 1)


def test_looking_up_by_number_run_and_time(tmp_path: Path) -> None:
    fill(tmp_path, runs=3, segments=70).close()
    view = SpoolReader(tmp_path, "s", "c")
    view.refresh()
    for number in range(1, 211):
        found = view.find(number)
        assert found and found[2].segment_no == number
        assert found[0].media.stat().st_size >= found[2].offset + found[2].length
    assert view.find(0) is None and view.find(211) is None
    for run_no in (1, 2, 3):
        found_init = view.init(run_no)
        assert found_init and found_init[1].run_no == run_no
    assert view.init(0) is None and view.init(4) is None
    everything = between(view, 0, FAR)
    assert [s.segment_no for _, s in everything] == list(range(1, 211))
    for _, s in everything[::17]:
        assert [x.segment_no for _, x in between(view, s.start_ms, s.start_ms + 1)] == [
            s.segment_no
        ]
    (one, two) = view.gaps(0, FAR)
    assert view.gaps(one.start_ms, one.start_ms + 1) == [one]
    assert view.gaps(one.end_ms or 0, two.start_ms) == []


def test_few_indexes_are_read_for_one_segment(tmp_path: Path) -> None:
    fill(tmp_path, runs=1, segments=1500).close()
    view = SpoolReader(tmp_path, "s", "c")
    view.refresh()
    assert view.find(700)
    assert view.loaded < 300
    between(view, 0, FAR)
    assert view.loaded == 1500
    view.trim()
    assert view.loaded <= 60
    assert view.find(3) and len(between(view, 0, FAR)) == 1500


def test_files_vanish(tmp_path: Path) -> None:
    fill(tmp_path, runs=1, segments=120).close()
    view = SpoolReader(tmp_path, "s", "c")
    view.refresh()
    oldest = indexes(tmp_path)[0]
    oldest.with_suffix(".mp4").unlink()
    oldest.unlink()
    left = [s.segment_no for _, s in between(view, 0, FAR)]
    assert left[-1] == 120 and left == list(range(left[0], 121)) and left[0] > 1
    assert view.find(1) is None and view.find(left[0])


def test_a_recorder_that_died_and_its_repair(tmp_path: Path) -> None:
    """Half a line is not there; a repaired index is a new file, perhaps with fewer lines."""
    spool = fill(tmp_path, runs=1, segments=9, sealed=False)
    view = SpoolReader(tmp_path, "s", "c")
    assert numbers(view) == list(range(1, 10))
    (path,) = indexes(tmp_path)
    with path.open("ab") as file:
        file.write(b'{"segment_no":10,"start')
    assert numbers(view) == list(range(1, 10))
    media = path.with_suffix(".mp4")
    os.truncate(media, media.stat().st_size - 1)  # lost with the power: line 9 has no bytes
    spool.close()
    again = CameraSpool(tmp_path, "e", "s", "c", Numbers())
    assert numbers(view) == list(range(1, 9)) == numbers(SpoolReader(tmp_path, "s", "c"))
    ((_, index),) = view.recordings()
    assert index.seal and index.seal.end_reason is GapCause.RECORDER_CRASHED
    again.close()


def test_a_number_whose_recording_came_to_nothing_is_used_again(tmp_path: Path) -> None:
    fill(tmp_path, runs=1, segments=3).close()
    view = SpoolReader(tmp_path, "s", "c")
    (path,) = indexes(tmp_path)
    state = orjson.loads((tmp_path / "s/c/camera.json").read_bytes())
    day = path.parent.name
    for name in ("235959001Z-2", "235959002Z-2"):  # the first has no files
        view.refresh()
        new = state | {"record_seq": 2, "recording": f"{day}/{name}"}
        _replace(tmp_path / "s/c/camera.json", orjson.dumps(new))
        assert numbers(view) == [1, 2, 3]
    text = path.read_bytes().replace(b'"record_seq":1', b'"record_seq":2')
    for n, m in ((3, 6), (2, 5), (1, 4)):
        text = text.replace(b'"segment_no":%d,' % n, b'"segment_no":%d,' % m)
    (path.parent / "235959002Z-2.jsonl").write_bytes(text)
    assert numbers(view) == [1, 2, 3, 4, 5, 6]


def _replace(path: Path, data: bytes) -> None:
    path.with_suffix(".tmp").write_bytes(data)
    path.with_suffix(".tmp").replace(path)


def test_a_bad_line_is_said_once_and_the_lines_before_it_stay(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path, runs=2, segments=5, sealed=False).close()
    first, *_, second = indexes(tmp_path)
    view = SpoolReader(tmp_path, "s", "c")
    assert numbers(view) == list(range(1, 11))
    lines = second.read_bytes().splitlines(keepends=True)
    with second.open("ab") as file:
        file.write(lines[-1].replace(b'"segment_no":10', b'"segment_no":11') + b"rubbish\n")
    for _ in range(5):
        assert numbers(view) == list(range(1, 12)) == numbers(SpoolReader(tmp_path, "s", "c"))
    lost = first.read_bytes().count(b'"segment_no"')
    first.write_bytes(b"rubbish\n" + first.read_bytes())
    assert numbers(SpoolReader(tmp_path, "s", "c")) == list(range(1 + lost, 12))
    text = capsys.readouterr().out
    assert text.count("cannot be read") == 1 + 5 + 2  # every reader says it once


@pytest.mark.slow
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_rubbish_harms_nothing_else(tmp_path: Path, data: st.DataObject) -> None:
    """Any bytes in any file: no method raises, and what is listed can be put into a playlist."""
    root = tmp_path / str(time.monotonic_ns())
    fill(root, runs=2, segments=4).close()
    files = [*indexes(root), root / "s/c/camera.json", root / "s/c/gaps.jsonl"]
    path = data.draw(st.sampled_from(files))
    text = path.read_bytes()
    view = SpoolReader(root, "s", "c")
    if data.draw(st.booleans()):
        view.refresh()
    at = data.draw(st.integers(0, len(text)))
    cut = data.draw(st.integers(0, 20))
    values = [b"null", b"-1", b"1e9", b"[]", b"{}", b'"x"', b"99999999999999999999", b"\n", b"\xff"]
    new = data.draw(st.one_of(st.binary(max_size=6), st.sampled_from(values)))
    if data.draw(st.booleans()):  # a whole value, so that it stays JSON
        colons = [n for n, byte in enumerate(text) if text[n : n + 1] == b":" and byte]
        at = data.draw(st.sampled_from(colons)) + 1
        cut = min(n for n in (text.find(b",", at), text.find(b"}", at)) if n >= 0) - at
    path.write_bytes(text[:at] + new + text[at + cut :])
    for _ in range(2):
        view.refresh()
        live = view.live(3)
        everything = between(view, 0, FAR)
        if live:
            list(playlist(entries(live)))
        if everything:
            list(playlist(entries(everything)))
        list(view.recordings())
        view.gaps(0, FAR)
        view.open_gap()
        for n in range(10):
            view.find(n)
            view.init(n)


class Counted(dict[Any, Any]):
    """What a reader has, with how often all of it was looked at."""

    count = 0

    def values(self) -> Any:
        self.count += 1
        return super().values()


def test_what_is_in_memory_is_counted_where_it_changed(tmp_path: Path) -> None:
    """It is asked of all cameras every two seconds, each of which has 1,440 recordings a day."""
    spool = fill(tmp_path, runs=1, segments=80, sealed=False)
    view = SpoolReader(tmp_path, "s", "c")
    assert len(numbers(view)) == 80
    stored = view._stored = Counted(view._stored)
    assert [view.loaded for _ in range(5)] == [80] * 5
    assert stored.count == 1
    _append(spool, 81)
    assert len(numbers(view)) == 81 and view.loaded == 81
    view.trim()
    assert view.loaded < 81
    assert len(numbers(view)) == view.loaded == 81
    spool.seal(None)
    spool.close()


def test_a_journal_of_many_gaps_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A web process reads it while it serves live video, whenever the camera comes or goes."""
    spool = fill(tmp_path, runs=1, segments=1)
    view, other = SpoolReader(tmp_path, "s", "c"), SpoolReader(tmp_path, "s", "c")
    journal = spool.directory / "gaps.jsonl"
    for n in range(50):
        spool.begin_gap(UTC0 + 10_000 * n, GapCause.UNREACHABLE)
        spool.end_gap(UTC0 + 10_000 * n + 5_000)
    assert len(view.all_gaps()) == 50
    read, take = list[bytes](), GapReader._take

    def counted(self: GapReader, line: bytes) -> None:
        read.append(line)
        take(self, line)

    monkeypatch.setattr(GapReader, "_take", counted)
    spool.begin_gap(UTC0 + 600_000, GapCause.NO_DATA)
    with journal.open("ab") as file:
        file.write(b'{"gap_no":51,"end')  # torn
    assert view.open_gap() is not None and view.all_gaps() == view.all_gaps()
    assert len(read) == 1
    os.truncate(journal, journal.stat().st_size - 17)
    spool.end_gap(UTC0 + 700_000)
    assert view.open_gap() is None and len(read) == 2
    assert view.all_gaps() == other.all_gaps() and len(view.all_gaps()) == 51
    data = journal.read_bytes().replace(b'"unreachable"', b'"stream_broken"')
    journal.write_bytes(data)  # another journal in the same file
    assert {gap.cause for gap in view.all_gaps()} == {GapCause.STREAM_BROKEN, GapCause.NO_DATA}
    journal.unlink()
    assert view.all_gaps() == [] and view.open_gap() is None
    spool.close()
