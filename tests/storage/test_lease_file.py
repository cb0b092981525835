"""What a machine of several records: the file that says it, and the numbers under a lease."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.load import load
from recorder.camera_spec import camera_specs
from recorder.worker import finish_others
from storage.records import GapCause
from storage.spool.lease_file import (
    FRESH_MS,
    LEASES,
    SHARDS,
    CameraLease,
    Holdings,
    Lease,
    Leases,
    LeaseWatch,
    read_leases,
    shard_of,
    write_leases,
)
from storage.spool.numbers import CLOCK_2020_S, LEASE_NUMBERS, Numbers
from storage.spool.reader import SpoolReader
from tests.support.config_files import write
from tests.support.spool_files import UTC0, check_files, indexes, open_spool, run_at
from tests.support.spool_files import write as record
from tests.support.spools import fill
from tests.support.waiting import BOUND_S

EPOCH = UTC0 // 1000 - CLOCK_2020_S
LEASE = Numbers.by_lease(EPOCH, UTC0)


def test_cameras_are_spread_over_all_shards() -> None:
    found = [shard_of(f"s{n // 4:05d}/c{n % 4}") for n in range(40_000)]
    counts = [found.count(shard) for shard in range(SHARDS)]
    assert sum(counts) == 40_000 and min(counts) > 40 and max(counts) < 125
    assert shard_of("s117/entrance") == 192  # for ever: it says who has a camera


def test_only_cameras_of_leases_are_recorded_each_in_one_share(tmp_path: Path) -> None:
    config = load(write(tmp_path), {})
    names = {spec.name for spec in camera_specs(config, 0, 1)}
    one = next(iter(sorted(names)))
    lease = Lease(shard_of(one), EPOCH, UTC0, lost_ms=UTC0 - 9_000, accounted={one: UTC0 - 60_000})
    shares = [camera_specs(config, n, 3, {lease.shard: lease}) for n in range(3)]
    found = [spec for share in shares for spec in share]
    assert one in {spec.name for spec in found}
    assert {spec.name for spec in found} == {n for n in names if shard_of(n) == lease.shard}
    (spec,) = [spec for spec in found if spec.name == one]
    missing = (UTC0 - 60_000, GapCause.NODE_LOST)
    assert spec.lease == CameraLease(EPOCH, UTC0, missing=missing)
    assert camera_specs(config, 0, 1, {}) == []
    # a session ends for another epoch, and for nothing else that a lease says
    for changed in (replace(lease, accounted={}, alone=False), replace(lease, epoch=EPOCH + 1)):
        (later,) = [s for s in camera_specs(config, 0, 1, {lease.shard: changed}) if s.name == one]
        assert spec != later and spec.has_same_session(later) is (changed.epoch == EPOCH)


def test_while_two_machines_have_a_camera_its_second_stream_waits(tmp_path: Path) -> None:
    """Many cameras take few sessions at a time: both machines need one for the first stream."""
    table = "station_id,camera_id,url,low_url\ns,c,rtsp://10.0.0.1/1,rtsp://10.0.0.1/2\n"
    config = load(write(tmp_path, stations_csv=table), {})
    lease = Lease(shard_of("s/c"), EPOCH, UTC0)

    def recorded(lease: Lease) -> list[str]:
        return [spec.name for spec in camera_specs(config, 0, 1, {lease.shard: lease})]

    assert recorded(lease) == ["s/c", "s/c.low"]
    assert recorded(replace(lease, given=True)) == ["s/c"]  # the machine that lets go
    assert recorded(replace(lease, alone=False)) == ["s/c"]  # the one that begins


def test_what_a_lease_says_of_the_time_before_it() -> None:
    def missing(**more: object) -> tuple[int, GapCause] | None:
        return CameraLease.of(Lease(1, EPOCH, UTC0, **more), "s/c").missing  # type: ignore[arg-type]

    assert missing() is None
    assert missing(lost_ms=UTC0 - 8_000) == (UTC0 - 8_000, GapCause.NODE_LOST)
    known = {"s/c": UTC0 - 70_000}
    assert missing(lost_ms=UTC0 - 8_000, accounted=known) == (UTC0 - 70_000, GapCause.NODE_LOST)
    assert missing(lost_ms=0) == (0, GapCause.RECORDER_STOPPED)  # nobody had it before
    assert missing(lost_ms=0, accounted=known) == (UTC0 - 70_000, GapCause.RECORDER_STOPPED)


async def test_a_recorder_waits_for_what_is_true_now_and_follows_it(tmp_path: Path) -> None:
    old = Lease(1, 5, UTC0, accounted={"s/c": 3})
    write_leases(tmp_path, Leases(UTC0 - FRESH_MS - 1, (old,)), durable=True)
    assert read_leases(tmp_path) == Leases(UTC0 - FRESH_MS - 1, (old,))
    looked = asyncio.Event()

    def clock() -> int:
        looked.set()
        return UTC0

    watch = LeaseWatch(tmp_path, 0.01, clock)
    first = asyncio.create_task(watch.first(BOUND_S))
    await looked.wait()
    assert not first.done()
    new = Lease(2, 6, UTC0, alone=False)
    write_leases(tmp_path, Leases(UTC0, (new,)), durable=False)
    assert await first == {2: new}
    newer = asyncio.create_task(watch.newer())
    (tmp_path / "_status" / LEASES).write_bytes(b"{")  # says nothing
    await asyncio.sleep(0)
    write_leases(tmp_path, Leases(UTC0, ()), durable=False)
    assert await newer == {}


def test_a_renewal_leaves_on_the_disk_what_was_flushed(tmp_path: Path) -> None:
    """A new file that is not flushed may be empty after a loss of power (XFS), also where it
    replaced a flushed one: without its database a machine then recorded nothing."""
    path = tmp_path / "_status" / LEASES
    lease = Lease(1, EPOCH, UTC0)
    write_leases(tmp_path, Leases(UTC0, (lease,)), durable=True)
    flushed = path.stat().st_ino
    write_leases(tmp_path, Leases(UTC0 + 1500, (lease,)), durable=False)
    assert path.stat().st_ino == flushed
    assert read_leases(tmp_path) == Leases(UTC0 + 1500, (lease,))
    other = Lease(2, EPOCH, UTC0)  # as many bytes: a reader has to see that they are others
    write_leases(tmp_path, Leases(UTC0 + 1500, (other,)), durable=False)
    assert path.stat().st_ino != flushed and read_leases(tmp_path) == Leases(UTC0 + 1500, (other,))
    path.unlink()
    write_leases(tmp_path, Leases(UTC0, ()), durable=False)
    assert read_leases(tmp_path) == Leases(UTC0)


def test_a_shard_that_there_is_not_is_no_shard(tmp_path: Path) -> None:
    """One bit of a digit is enough: the role `node` ended with each round, started anew or not."""
    lease = Lease(1, EPOCH, UTC0)
    write_leases(tmp_path, Leases(UTC0, (lease, replace(lease, shard=900))), durable=True)
    found = read_leases(tmp_path)
    assert found is not None and found.by_shard == {1: lease}


async def test_without_a_word_what_was_recorded_last_is_recorded(tmp_path: Path) -> None:
    lease = Lease(1, 5, UTC0)
    write_leases(tmp_path, Leases(UTC0 - 86_400_000, (lease,)), durable=True)
    assert await LeaseWatch(tmp_path, 0.001, lambda: UTC0).first(0.003) == {1: lease}
    assert await LeaseWatch(tmp_path / "none", 0.001, lambda: UTC0).first(0.003) == {}


def test_a_duty_ends_where_nobody_renews_the_lease(tmp_path: Path) -> None:
    """Its role `node` hangs or is gone: another machine may have the duty by now."""
    at_ms, camera = UTC0, "s/c"
    holdings = Holdings(tmp_path, True, lambda: at_ms)
    assert not holdings.has_duty() and not holdings.has(camera)
    held = Lease(0, 5, UTC0), Lease(shard_of(camera), 5, UTC0)
    write_leases(tmp_path, Leases(UTC0, held), durable=False)
    assert holdings.has_duty()
    at_ms += FRESH_MS + 1
    assert not holdings.has_duty()
    assert holdings.has(camera), "it is recorded all the same"
    write_leases(tmp_path, Leases(at_ms, held), durable=False)
    assert holdings.has_duty()
    given = Lease(0, 6, UTC0, alone=False)  # the machine before still has it
    write_leases(tmp_path, Leases(at_ms, (given,)), durable=False)
    assert not holdings.has_duty()
    assert Holdings(tmp_path, False).has_duty()


@given(
    epochs=st.lists(st.integers(1 << 20, (1 << 30) - 1), min_size=2, max_size=2, unique=True),
    passed=st.lists(st.integers(0, 90 * 86_400), min_size=2, max_size=2),
)
def test_numbers_of_two_epochs_never_meet(epochs: list[int], passed: list[int]) -> None:
    """However long each records, with a segment a second: three months of it."""
    ranges = []
    for epoch, seconds in zip(epochs, passed, strict=True):
        first = Numbers.by_lease(epoch, (CLOCK_2020_S + epoch) * 1000)
        later = Numbers.by_lease(epoch, (CLOCK_2020_S + epoch + seconds) * 1000)
        assert later.segment_no == first.segment_no + seconds < 2**53
        assert later.clock_s == epoch + seconds
        ranges.append((first.segment_no, later.segment_no))
    (_, last), (first_no, end) = sorted(ranges)
    assert last < first_no and end < (max(epochs) + 1) * LEASE_NUMBERS


def test_a_camera_begins_at_its_lease_and_goes_on_under_it(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, LEASE)
    record(spool, run_at(UTC0), 0, 3)
    spool.begin_gap(UTC0 + 6_000, GapCause.NO_DATA)
    spool.seal(GapCause.NO_DATA)
    spool.close()
    again = open_spool(tmp_path, Numbers.by_lease(EPOCH, UTC0 + 60_000))
    assert again.numbers.epoch == EPOCH
    assert again.numbers.segment_no == LEASE.segment_no + 3
    again.end_gap(UTC0 + 60_000)
    record(again, run_at(UTC0 + 60_000), 0, 2)
    again.seal(None)
    again.close()
    (gap,) = indexes(tmp_path)[-1].header.gaps
    assert gap.gap_no == LEASE.gap_no + 1
    # after a while without a recording numbers are above the time that has passed, not the epoch
    late = open_spool(tmp_path, Numbers.by_lease(EPOCH, UTC0 + 3_600_000))
    assert late.numbers.epoch == EPOCH
    assert late.numbers.segment_no == LEASE.segment_no + 3_600
    late.close()
    # another lease, another stretch
    other = open_spool(tmp_path, Numbers.by_lease(EPOCH + 90, UTC0 + 90_000))
    begin = Numbers.by_lease(EPOCH + 90, UTC0 + 90_000)
    assert replace(other.numbers, gap_no=begin.gap_no, target_duration_s=0) == begin
    other.close()
    check_files(tmp_path, holes=True)


@pytest.mark.parametrize("lost", ["camera.json", "all"])
def test_files_that_are_lost_under_a_lease_repeat_no_number(tmp_path: Path, lost: str) -> None:
    spool = open_spool(tmp_path, LEASE)
    record(spool, run_at(UTC0), 0, 30)
    spool.seal(None)
    spool.close()
    for path in sorted(tmp_path.rglob("*"), reverse=True):
        if path.is_file() and (lost == "all" or path.name == lost):
            path.unlink()
    again = open_spool(tmp_path, Numbers.by_lease(EPOCH, UTC0 + 60_000))
    assert again.numbers.epoch == EPOCH and again.numbers.segment_no >= LEASE.segment_no + 60
    again.close()


def test_a_spool_from_before_leases_goes_on_under_one_and_back(tmp_path: Path) -> None:
    fill(tmp_path).close()
    leased = open_spool(tmp_path, LEASE)
    assert leased.numbers.epoch == EPOCH and leased.numbers.record_seq == LEASE.record_seq
    record(leased, run_at(UTC0 + 900_000), 0)
    leased.seal(None)
    leased.close()
    alone = open_spool(tmp_path, Numbers.by_clock(UTC0 + 7_200_000))
    assert alone.numbers.segment_no == leased.numbers.segment_no
    assert alone.numbers.epoch > leased.numbers.epoch
    alone.close()


def test_what_is_left_of_cameras_that_others_record_is_finished(tmp_path: Path) -> None:
    config = load(write(tmp_path), {})
    mine, *others = camera_specs(config, 0, 1)
    for spec in (mine, *others):
        fill(config.spool, spec.station, spec.camera, sealed=False, election=spec.election).close()
    (open_, *_) = others
    spool = fill(
        config.spool, open_.station, open_.camera, start_ms=UTC0 + 600_000, election=open_.election
    )
    spool.begin_gap(UTC0 + 900_000, GapCause.UNREACHABLE)
    spool.close()
    finish_others([mine, *others], [mine], config.spool)
    for spec in (mine, *others):
        reader = SpoolReader(config.spool, spec.station, spec.camera)
        reader.refresh()
        newest = reader.newest()
        assert newest is not None and (newest.seal is None) is (spec is mine)
        assert reader.open_gap() is None
