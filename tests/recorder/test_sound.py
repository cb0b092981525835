"""Sound beside the picture: whatever its timestamps and its reports say, it is kept and in step."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.rtsp.aac import AacConfig
from recorder.rtsp.g711 import RATE, G711Sound, can_encode
from recorder.sample_entry import sound_track
from recorder.segmenter import Segmenter
from recorder.source import Frame
from tests.support.frames import UTC0, VIDEO, check

LASTS_MS = 1024 / 48
AUDIO = sound_track(AacConfig.parse(bytes.fromhex("1188")), 48_000)
HOUR_MS = 3_600_000.0


def heard(
    stamp: Callable[[int, float], float],
    *,
    seconds: float = 40,
    late: Callable[[int], float] = lambda n: 30.0,
    skip: Callable[[float], bool] = lambda taken_ms: False,
    picture_clock: Callable[[float], float] | None = None,
    sound_clock: Callable[[float], float] | None = None,
) -> tuple[dict[int, float], int]:
    """Record pictures and sound; return by how much frames are beside their picture, in ms, by
    their number, and how many were sent.

    `stamp` gives the timestamp in ms of a frame by its number and when it was taken; the clocks
    give the camera's at a moment, as reports say it then, with the picture and with sound.
    """
    frames, numbers = [], list[int]()
    for n in range(int(seconds * 25)):
        taken = n * 40.0
        clock = None if picture_clock is None else HOUR_MS + taken + picture_clock(taken)
        frames.append(Frame(1, 900_000 + n * 3_600, n % 50 == 0, b"v", UTC0 + taken + 30, clock))
    for n in range(int(seconds * 1000 / LASTS_MS)):
        taken = n * LASTS_MS
        if skip(taken):
            continue
        clock = None if sound_clock is None else HOUR_MS + taken + sound_clock(taken)
        data, pts = n.to_bytes(4, "big"), round(stamp(n, taken) * 48)
        frames.append(Frame(2, pts, True, data, UTC0 + taken + late(n), clock))
        numbers.append(n)
    segmenter = Segmenter([VIDEO, AUDIO])
    drafts = [d for f in sorted(frames, key=lambda f: f.arrival_ms) for d in segmenter.push(f)]
    drafts += segmenter.finish()
    check(segmenter, drafts)
    assert segmenter.run_start_ms is not None
    found: dict[int, float] = {}
    for run in (run for draft in drafts for run in draft.runs if run.track_id == 2):
        at = run.decode_time
        for sample, sent in zip(run.samples, run.data, strict=True):
            number = int.from_bytes(sent, "big")
            placed = segmenter.run_start_ms + at / 48 - UTC0 - 30
            assert number not in found
            found[number] = placed - number * LASTS_MS
            at += sample.duration
    return found, len(numbers)


def test_sound_that_is_right_is_all_there_and_in_step() -> None:
    found, sent = heard(lambda n, taken: 10_000 + taken)
    assert len(found) >= sent - 3
    assert max(map(abs, found.values())) < 25


@pytest.mark.parametrize(
    "stamp",
    [
        lambda n, taken: 5_000.0,  # all alike
        lambda n, taken: 5_000 + n / 48,  # a tick apart
        lambda n, taken: 5_000 + taken / 3,  # as if it were of 16 kHz
        lambda n, taken: 5_000 + taken * 2,
        lambda n, taken: 5_000 + taken * 3,
        lambda n, taken: 5_000 - taken,  # backwards
        lambda n, taken: random.Random(n).uniform(0, 1e6),
        lambda n, taken: 10_000 + taken // 200 * 200,  # of packets of several frames
    ],
)
def test_timestamps_that_say_nothing_cost_no_sound(stamp: Callable[[int, float], float]) -> None:
    """Frames follow each other, as they come."""
    found, sent = heard(stamp)
    assert len(found) >= sent - 60, "a second at most, until it shows"
    settled = {n: off for n, off in found.items() if n * LASTS_MS > 3_000}
    assert max(map(abs, settled.values())) < 220


@pytest.mark.parametrize("by", [-60_000, -10_000, 700, 60_000])
def test_timestamps_that_jump_cost_no_sound(by: float) -> None:
    found, sent = heard(lambda n, taken: 10_000 + taken + (by if taken > 15_000 else 0))
    assert len(found) >= sent - 10
    assert max(map(abs, found.values())) < 160


def elsewhere(n: int, taken: float) -> float:
    """Timestamps that have nothing to do with those of the picture."""
    return HOUR_MS + taken


@pytest.mark.parametrize("held_ms", [0, 400, 2_000])
def test_sound_before_the_first_report_is_placed_by_what_was_not_held_back(held_ms: int) -> None:
    """The first frames come at once: a camera's cache, or a network that was busy."""
    found, sent = heard(elsewhere, late=lambda n: 30 + max(0.0, held_ms - n * LASTS_MS))
    assert len(found) >= sent - 3
    assert max(map(abs, found.values())) < 25


def test_sound_that_a_busy_network_holds_back_stays_in_step() -> None:
    def late(n: int) -> float:
        return 30 + max(0.0, 16_000 - n * LASTS_MS) * (n * LASTS_MS > 15_000)

    found, sent = heard(elsewhere, late=late)
    assert len(found) >= sent - 3
    assert max(map(abs, found.values())) < 25


def test_g711_before_the_first_report_is_in_step() -> None:
    """Its encoder gives a frame three frames after its first sample was taken."""
    if not can_encode():
        pytest.skip("PyAV is missing: pip install av")
    frames: list[Frame] = []
    sound = G711Sound(frames.append, "PCMU")
    begin, packet = 123_456_789, RATE // 50
    for n in range(500):
        arrival_ms = UTC0 + (n + 1) * 20 + 30  # when its last sample was taken
        sound.push(memoryview(bytes(packet)), begin + n * packet, False, 0, arrival_ms)
    shown = [
        Frame(1, 900_000 + n * 3_600, n % 50 == 0, b"v", UTC0 + n * 40 + 30) for n in range(250)
    ]
    segmenter = Segmenter([VIDEO, sound_track(sound.config, RATE)])
    sent = sorted([*frames, *shown], key=lambda f: f.arrival_ms)
    drafts = [d for f in sent for d in segmenter.push(f)]
    assert segmenter.run_start_ms is not None
    runs = [run for draft in drafts for run in draft.runs if run.track_id == 2]
    assert len(runs) > 2
    for run in runs:
        first = next(f for f in frames if f.data is run.data[0])
        placed_ms = segmenter.run_start_ms + run.decode_time * 1000 / RATE - UTC0 - 30
        assert abs(placed_ms - (first.pts - begin) * 1000 / RATE) < 50


@pytest.mark.parametrize("picture_ms", [300, 900])
def test_a_camera_whose_pictures_come_late_is_in_step_by_its_clock(picture_ms: int) -> None:
    """It encodes a picture for longer than its sound."""
    found, sent = heard(
        elsewhere,
        picture_clock=lambda taken: 0.0,
        sound_clock=lambda taken: 0.0,
        late=lambda n: 30.0 - picture_ms,  # both are said to arrive 30 ms after they were taken
    )
    assert len(found) >= sent - picture_ms / LASTS_MS - 3
    assert max(map(abs, found.values())) < 25


def test_first_reports_that_were_wrong_are_not_believed_when_both_say_otherwise() -> None:
    """A busy camera's first ones of picture and sound are of moments that do not agree."""
    found, sent = heard(
        elsewhere,
        picture_clock=lambda taken: -3_500.0 * (taken < 6_000),
        sound_clock=lambda taken: -3_000.0 * (taken < 7_000),
    )
    assert len(found) >= sent - 30
    settled = [off for n, off in found.items() if n * LASTS_MS > 9_000]
    assert max(map(abs, settled)) < 60


def test_sound_that_pauses_is_where_it_was() -> None:
    """It is sent only while somebody speaks."""

    def silent(taken: float) -> bool:
        return taken % 4_000 > 2_500

    found, sent = heard(lambda n, taken: 10_000 + taken, skip=silent)
    assert len(found) >= sent - 3
    assert max(map(abs, found.values())) < 25


@pytest.mark.parametrize("by", [-4_000, -1_000, 1_000, 2_000, 7_000, 3_600_000])
@pytest.mark.parametrize("first", ["picture", "sound"])
@pytest.mark.parametrize("apart_ms", [200, 5_000])
def test_a_clock_of_the_camera_that_is_set(by: float, first: str, apart_ms: float) -> None:
    """One track's report says so before the other's: meanwhile they seem to be apart."""

    def clock(at: float) -> Callable[[float], float]:
        return lambda taken: by if taken >= at else 0.0

    clocks = {
        first: clock(15_000),
        "picture" if first == "sound" else "sound": clock(15_000 + apart_ms),
    }
    found, sent = heard(
        lambda n, taken: 77_777 + taken,
        picture_clock=clocks["picture"],
        sound_clock=clocks["sound"],
    )
    assert len(found) >= sent - 3
    assert max(map(abs, found.values())) < 60


def test_sound_that_begins_to_count_anew_is_in_step_again() -> None:
    found, sent = heard(
        lambda n, taken: 77_777 + taken + (5_555_555 if taken > 15_000 else 0),
        picture_clock=lambda taken: 0.0,
        sound_clock=lambda taken: 0.0,
        late=lambda n: 700.0,
    )
    assert len(found) >= sent - 40
    assert max(map(abs, found.values())) < 60


@pytest.mark.slow
@given(st.integers(0, 2**32))
def test_any_sound_is_bounded_by_when_it_came(seed: int) -> None:
    chance = random.Random(seed)
    rate, wild = chance.choice([0, 0.3, 1, 1, 1, 1.1, 4]), chance.choice([0, 0, 0.01, 0.3])
    jumps = {chance.randrange(2_000): chance.uniform(-1e5, 1e5) for _ in range(chance.randrange(4))}
    delay, gaps = chance.uniform(0, 400), chance.choice([0, 0.1])

    def stamp(n: int, taken: float) -> float:
        jumped = sum(by for at, by in jumps.items() if n >= at)
        return taken * rate + jumped + chance.uniform(-1e5, 1e5) * (chance.random() < wild)

    found, _ = heard(
        stamp,
        seconds=20,
        late=lambda n: 30 + random.Random(n).uniform(0, delay),
        skip=lambda taken: random.Random(taken // 300).random() < gaps,
    )
    for off in found.values():
        assert -8_000 <= off <= delay + 200
