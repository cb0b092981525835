"""What is tried next: nothing waits for another's failure, and nothing is given up."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from base.backoff import Backoff, pause_s
from storage.archival.backlog import ARCHIVE_S, AWAY, RECORDING_S, Backlog, Blocked, Job


class Time:
    """Seconds that pass when somebody waits."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def job(number: int, camera: str = "c") -> Job:
    return Job(f"{camera}-{number}", ("e", "s", camera), number, 1)


def work(
    backlog: Backlog, time: Time, refused: set[str], seconds: float, away_until_s: float = 0.0
) -> dict[str, float]:
    """Work like four workers of an archive that takes no time; return when each was archived."""
    done: dict[str, float] = {}
    until_s = time.now_s + seconds
    while time.now_s < until_s and len(backlog):
        taken = [one for one in (backlog.take() for _ in range(4)) if one is not None]
        for one in taken:
            if one.key in refused or time.now_s < away_until_s:
                backlog.failed(one, "no")
            else:
                backlog.succeeded(one)
                done[one.key] = time.now_s
        if not taken:
            time.now_s += 0.5
    return done


def test_of_eighty_others_eighty_are_archived() -> None:
    for bad in (1, 3, 40, 400):
        time = Time()
        backlog = Backlog(clock=time)
        for number in range(bad):
            backlog.add(job(number))  # the oldest of all
        others = [job(1000 + n, camera=f"d{n % 5}") for n in range(80)]
        for one in others:
            backlog.add(one)
        done = work(backlog, time, {job(n).key for n in range(bad)}, 60)
        assert len(done) == 80
        assert len(backlog) == bad


def test_refused_recordings_of_a_camera_do_not_hold_up_its_newer_ones() -> None:
    time = Time()
    backlog = Backlog(clock=time)
    for number in range(120):
        backlog.add(job(number))
    refused = {job(n).key for n in range(100)}
    assert len(work(backlog, time, refused, 1200)) == 20
    backlog.add(job(500))
    assert len(work(backlog, time, refused, 60)) == 1


def test_an_archive_that_is_away_is_asked_by_one_at_a_time_and_gets_all_when_it_is_back() -> None:
    time = Time()
    backlog = Backlog(clock=time)
    for number in range(300):
        backlog.add(job(number, camera=f"c{number % 3}"))
    tries = 0
    while time.now_s < 1200:
        taken = [one for one in (backlog.take() for _ in range(4)) if one is not None]
        assert tries < AWAY or len(taken) <= 1
        for one in taken:
            tries += 1
            backlog.failed(one, "away")
        time.now_s += 0.5
    assert backlog.is_away and tries < 1200 / ARCHIVE_S[-1] + 20
    done = work(backlog, time, set(), 60)
    assert len(done) == 300 and not len(backlog) and not backlog.is_away
    assert max(done.values()) - 1200 <= ARCHIVE_S[-1] + 1


def test_an_archive_that_was_away_gets_the_oldest_first() -> None:
    """But for one of those that were tried while it was away: it shows that it is back."""
    time = Time()
    backlog = Backlog(clock=time)
    for number in range(100):
        backlog.add(job(number))
    first, *others = work(backlog, time, set(), 600, away_until_s=120)
    assert others == [job(n).key for n in range(100) if job(n).key != first]


def test_one_refused_recording_is_not_an_archive_that_is_away() -> None:
    time = Time()
    backlog = Backlog(clock=time)
    backlog.add(job(1, camera="d"))
    work(backlog, time, set(), 1)
    backlog.add(job(2))
    work(backlog, time, {job(2).key}, 300)
    assert not backlog.is_away and len(backlog) == 1


def test_what_is_held_counts_and_is_not_tried_before_it_is_added() -> None:
    time = Time()
    backlog = Backlog(clock=time)
    backlog.defer(job(1), Blocked.UNSEALED, "no seal")
    backlog.defer(job(2), Blocked.NO_ROW, "no row")
    assert len(backlog) == 2 and backlog.take() is None
    backlog.add(job(1))
    backlog.forget(job(1).key)  # no longer deferred
    backlog.forget(job(2).key)
    assert list(work(backlog, time, set(), 1)) == [job(1).key] and not len(backlog)


def test_what_is_unfit_is_tried_again_by_its_own_back_off() -> None:
    time = Time()
    backlog = Backlog(clock=time)
    backlog.add(job(1))
    tried = []
    while time.now_s < 1000:
        if one := backlog.take():
            tried.append(time.now_s)
            assert backlog.unfit(one, Blocked.UNREADABLE, "EIO") == (len(tried) == 1)
        time.now_s += 1.0
    pauses = [b - a for a, b in pairwise(tried)]
    assert pauses == list(RECORDING_S)[: len(pauses)] and len(pauses) == 5


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from("cde"), st.booleans()), max_size=60),
    st.floats(0, 300),
    st.integers(0, 3),
)
def test_whatever_fails_all_that_can_be_archived_is(
    recordings: list[tuple[int, str, bool]], away_s: float, late: int
) -> None:
    time = Time()
    backlog = Backlog(clock=time)
    jobs = {(job(n, c)).key: (job(n, c), bad) for n, c, bad in recordings}
    refused = {key for key, (_, bad) in jobs.items() if bad}
    for one, _ in jobs.values():
        backlog.add(one)
    done = work(backlog, time, refused, away_s + 600, away_until_s=away_s)
    assert done.keys() == jobs.keys() - refused
    for number in range(late):
        backlog.add(job(1000 + number, "x"))
    assert len(work(backlog, time, refused, 120)) == late
    assert {one.key for one in backlog} == refused  # nothing is given up
    assert done.keys() <= work(backlog, time, set(), 1800).keys() | done.keys()
    assert not len(backlog)


def test_a_back_off_ends_with_its_last_pause() -> None:
    assert [pause_s((1, 2, 5), n) for n in range(5)] == [0, 1, 2, 5, 5]
    again = Backoff((1, 2))
    assert [again.failed() for _ in range(3)] == [1, 2, 2]
    again.succeeded()
    assert again.failed() == 1
