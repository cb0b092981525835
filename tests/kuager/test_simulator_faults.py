"""Each fault of the simulated cameras, on the wire: it is what its name says, and nothing else."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuager.simulator.camera import SimCamera
from kuager.simulator.faults import FAULTS, Line, fault_value
from kuager.simulator.server import Simulator
from kuager.simulator.track import Track
from tests.support.waiting import until
from tests.support.wire import Packet, Refused, Wire, play

SMALL: dict[str, Any] = {"width": 320, "height": 180, "bitrate": 300_000, "gop_s": 0.5}
VALUES = {
    "drop": 3600.0,
    "slow-start": 2.0,
    "ppm": 50_000.0,
    "lose": 40.0,
    "reorder": 30.0,
    "delay": 300.0,
    "no-keyframe": 3600.0,
}
ENDED = ("drop", "silent", "refuse-password", "no-such-stream")  # sessions that get nothing more
NEW_ENCODER = ("resize", "wrong-rate", "no-keyframe", "b-frames")
OWN_ENCODER = (
    "no-sound",
    "ppm",
    "jump",
    "from-zero",
    "resize",
    "wrong-rate",
    "no-keyframe",
    "b-frames",
    "sound-late",
    "stall",
    "wild",
    "wild-often",
    "same-time",
    "rate",
)


def ticks(later: int, earlier: int) -> int:
    """Return the signed difference of two RTP timestamps."""
    return (later - earlier + 2**31) % 2**32 - 2**31


def lost(packets: list[Packet]) -> int:
    numbers = {p.sequence for p in packets}
    first = packets[0].sequence  # others may come after it and count before
    steps = [(n - first + 2**15) % 2**16 for n in numbers]
    return max(steps) - min(steps) + 1 - len(numbers)


def in_order(packets: list[Packet]) -> bool:
    return all((b.sequence - a.sequence) % 2**16 < 2**15 for a, b in itertools.pairwise(packets))


def keyframes(wire: Wire, after_s: float, until_s: float = 9e9) -> list[float]:
    """Return when (UTC seconds) keyframes came."""
    return [
        packets[0].arrival_s
        for _, packets in wire.pictures(after_s)
        if packets[0].arrival_s < until_s
        and any(kind == 5 and first for p in packets for kind, _, first in p.nals())
    ]


def rate(wire: Wire, after_s: float) -> float:
    """Return seconds of media time per second, from sender reports: they have no jitter. Those
    count that were sent later, by the clock that they tell, whenever they were read."""
    first, *_, last = [r for r in wire.reports() if r.camera_s > after_s]
    return ticks(last.stamp, first.stamp) / 90_000 / (last.camera_s - first.camera_s)


def ended(wire: Wire, begun_s: float) -> None:
    """Nothing was sent after a moment, whenever what was sent before was read."""
    assert max(wire.taken_s()) <= begun_s
    assert all(r.camera_s <= begun_s for r in wire.reports())


def whole(wire: Wire, begun_s: float) -> None:
    """Nothing is lost or out of order, and keyframes, reports and the connection go on."""
    assert not wire.closed
    assert lost(wire.media()) == 0 and in_order(wire.media())
    assert len(keyframes(wire, begun_s)) >= 4
    assert len(wire.reports(after_s=begun_s)) >= 2
    assert abs(statistics.median(r.camera_s - r.arrival_s for r in wire.reports())) < 0.5


def silent(wire: Wire, begun_s: float) -> None:
    assert not wire.closed
    ended(wire, begun_s)


def closed(wire: Wire, begun_s: float) -> None:
    assert wire.closed
    ended(wire, begun_s)


def ppm(wire: Wire, begun_s: float) -> None:
    assert rate(wire, begun_s) == pytest.approx(1.05, abs=0.001)
    assert usual_step(wire, begun_s + 0.1) == pytest.approx(1.05 * 90_000 / 15, rel=0.003)


def usual_step(wire: Wire, after_s: float) -> float:
    """Return how many ticks pictures are mostly apart: a busy machine leaves some out."""
    stamps = [stamp for stamp, _ in wire.pictures(after_s)]
    return statistics.mode(round(ticks(b, a), -1) for a, b in itertools.pairwise(stamps))


def jump(wire: Wire, begun_s: float) -> None:
    # a busy machine leaves pictures out, there too; how far it jumps the reports tell
    assert [s for s in steps(wire) if abs(s) > 3_500] == [pytest.approx(7200, abs=60)]
    first, *_, last = wire.reports()
    camera_s = last.camera_s - first.camera_s
    assert ticks(last.stamp, first.stamp) / 90_000 - camera_s == pytest.approx(7200, abs=0.01)
    whole(wire, begun_s)


def from_zero(wire: Wire, begun_s: float) -> None:
    stamps = [stamp for stamp, _ in wire.pictures()]
    after = stamps[stamps.index(0, 1) :]
    assert after == sorted(after) and after[-1] < 60 * 90_000
    assert wire.reports()[-1].stamp < 60 * 90_000
    whole(wire, begun_s)


def step_clock(wire: Wire, begun_s: float) -> None:
    reports = wire.reports()
    hours = [round((r.camera_s - r.arrival_s) / 3600) for r in reports]
    assert hours == sorted(hours) and set(hours) <= {0, 1}
    assert len([r for r in reports if r.arrival_s > begun_s]) >= 2 <= hours.count(1)
    first = reports[0]
    for r, hour in zip(reports, hours, strict=True):  # exact, however late it was read
        step_s = r.camera_s - first.camera_s - ticks(r.stamp, first.stamp) / 90_000
        assert step_s == pytest.approx(3600 * (hour - hours[0]), abs=0.01)
    assert rate(wire, begun_s) == pytest.approx(1, abs=0.001)


def no_reports(wire: Wire, begun_s: float) -> None:
    assert wire.reports() and all(r.camera_s <= begun_s for r in wire.reports())
    assert lost(wire.media()) == 0


def resize(wire: Wire, begun_s: float) -> None:
    sizes = {nal for p in wire.media() for kind, nal, _ in p.nals() if kind == 7}
    assert len(sizes) == 2
    whole(wire, begun_s)


def wrong_rate(wire: Wire, begun_s: float) -> None:
    assert usual_step(wire, begun_s + 1.5) == pytest.approx(90_000 / 25, rel=0.03)
    assert rate(wire, begun_s + 0.1) == pytest.approx(21 / 25, abs=0.001)


def lose(wire: Wire, begun_s: float) -> None:
    packets = wire.media(after_s=begun_s)
    assert in_order(packets)
    assert 0.25 < lost(packets) / (lost(packets) + len(packets)) < 0.55


def reorder(wire: Wire, begun_s: float) -> None:
    packets = wire.media(after_s=begun_s)
    assert not in_order(packets)
    assert lost(packets[5:-5]) <= 2  # swapped across the ends that were cut off


def delay(wire: Wire, begun_s: float) -> None:
    assert in_order(wire.media()) and lost(wire.media()) == 0
    late = [
        packets[0].arrival_s - ticks(stamp, wire.media()[0].stamp) / 90_000
        for stamp, packets in wire.pictures(begun_s + 0.5)
    ]
    assert max(late) - min(late) > 0.1


def garbage(wire: Wire, begun_s: float) -> None:
    assert in_order(wire.media()) and lost(wire.media()) == 0
    # the first bit of H.264 is 0; of noise it is 1 in every other packet
    assert not any(p.data[12] & 0x80 for p in wire.media() if p.arrival_s < begun_s)
    noise = wire.media(after_s=begun_s + 0.1)
    assert 0.2 < sum(p.data[12] >> 7 for p in noise) / len(noise) < 0.8


def no_keyframe(wire: Wire, begun_s: float) -> None:
    assert len(keyframes(wire, 0, begun_s)) >= 2
    came = keyframes(wire, begun_s)
    shown = [packets[0].arrival_s for _, packets in wire.pictures()]
    between = [sum(a <= one < b for one in shown) for a, b in itertools.pairwise(came)]
    assert max(between) > 25  # two of the usual: an encoder begins with one, and so does the next


def no_sound(wire: Wire, begun_s: float) -> None:
    assert max(wire.taken_s(2, 48_000)) < begun_s + 0.1  # a frame counts from where it begins
    assert all(r.camera_s <= begun_s for r in wire.reports(3))
    whole(wire, begun_s)


def b_frames(wire: Wire, begun_s: float) -> None:
    def backwards(pictures: list[tuple[int, list[Packet]]]) -> int:
        return sum(ticks(b[0], a[0]) < 0 for a, b in itertools.pairwise(pictures))

    assert backwards([p for p in wire.pictures() if p[1][0].arrival_s < begun_s]) == 0
    assert backwards(wire.pictures(begun_s + 1.5)) > 5
    whole(wire, begun_s)


def steps(wire: Wire, begun_s: float = 0.0) -> list[float]:
    """Return the seconds between the timestamps of pictures that follow each other."""
    pictures = wire.pictures(begun_s)
    return [ticks(b[0], a[0]) / 90_000 for a, b in itertools.pairwise(pictures)]


def late(wire: Wire, begun_s: float) -> None:
    assert in_order(wire.media()) and lost(wire.media()) == 0
    whole(wire, begun_s)


def sound_late(wire: Wire, begun_s: float) -> None:
    shown, sounded = iter(wire.taken_s()), iter(wire.taken_s(2, 48_000))
    newest, behind = 0.0, []  # in the order in which they came, however late they were read
    for p in wire.packets:
        if p.channel == 0:
            newest = max(newest, next(shown))
        elif p.channel == 2:
            behind.append(newest - next(sounded))
    assert statistics.median(behind[len(behind) // 2 :]) > 0.8
    whole(wire, begun_s)


def stall(wire: Wire, begun_s: float) -> None:
    arrivals = [p[0].arrival_s for _, p in wire.pictures()]
    waited = [b - a for a, b in itertools.pairwise(arrivals)]
    assert any(w > 0.7 and s < 0.2 for w, s in zip(waited, steps(wire), strict=True))
    assert all(s > 0 for s in steps(wire))
    first, *_, last = wire.reports()
    behind_s = last.camera_s - first.camera_s - ticks(last.stamp, first.stamp) / 90_000
    assert behind_s == pytest.approx(13 / 15, abs=0.01)  # whole pictures of the 0.9 s
    whole(wire, begun_s)


def wild(wire: Wire, begun_s: float) -> None:
    assert sum(abs(s) > 3_500 for s in steps(wire)) == 2  # there and back
    whole(wire, begun_s)


def wild_often(wire: Wire, begun_s: float) -> None:
    assert sum(abs(s) > 3_500 for s in steps(wire)) >= 2
    whole(wire, begun_s)


def same_time(wire: Wire, begun_s: float) -> None:
    stamps = [p.stamp for p in wire.media()]
    since = stamps.index(stamps[-1])
    assert set(stamps[since:]) == {stamps[-1]} and lost(wire.media()) == 0
    assert len(stamps) - since > 80


def half_rate(wire: Wire, begun_s: float) -> None:
    assert rate(wire, begun_s + 0.1) == pytest.approx(0.5, abs=0.001)
    whole(wire, begun_s)


CHECKS: dict[str, Callable[[Wire, float], None]] = {
    "drop": closed,
    "silent": silent,
    "refuse-password": closed,
    "no-such-stream": closed,
    "slow-start": whole,  # for who is there already
    "ppm": ppm,
    "step-clock": step_clock,
    "no-reports": no_reports,
    "jump": jump,
    "from-zero": from_zero,
    "resize": resize,
    "wrong-rate": wrong_rate,
    "lose": lose,
    "reorder": reorder,
    "late": late,
    "sound-late": sound_late,
    "stall": stall,
    "wild": wild,
    "wild-often": wild_often,
    "same-time": same_time,
    "rate": half_rate,
    "delay": delay,
    "garbage": garbage,
    "no-keyframe": no_keyframe,
    "b-frames": b_frames,
    "no-sound": no_sound,
}


@pytest.mark.slow
async def test_each_fault_on_the_wire() -> None:
    """All at once, each on its own camera; a camera without any is whole throughout."""
    assert set(CHECKS) == set(FAULTS)
    cameras = [
        SimCamera(
            name,
            shared=None if name in OWN_ENCODER else "well",
            audio="aac" if "sound" in name else None,
            **SMALL,
        )
        for name in FAULTS
    ]
    async with Simulator([*cameras, SimCamera("well", **SMALL)]) as simulator:
        wires = {name: await play(simulator.url(name)) for name in simulator.cameras}
        before = {name: simulator.cameras[name]._encoder for name in NEW_ENCODER}
        await until(lambda: all(map(has_begun, wires.values())), every=0.3)
        begun_s = time.time()
        for name in FAULTS:
            simulator.fault(name, name, VALUES.get(name))
        await new_sessions(simulator)
        for name in NEW_ENCODER:  # a busy machine starts them late
            camera = simulator.cameras[name]
            await until(lambda camera=camera: camera._encoder is not before[camera.what.name])  # type: ignore[misc]
        new_s = time.time()
        await until(lambda: has_shown(wires, begun_s, new_s), every=0.3)
        for name in ("drop", "no-keyframe"):  # they end by themselves
            simulator.fault(name, name, 0.1)
            faults = simulator.cameras[name].faults
            await until(lambda faults=faults, name=name: name not in faults)  # type: ignore[misc]
        ended_s = time.time()
        await until(lambda: keyframes(wires["no-keyframe"], ended_s))
        for wire in wires.values():
            await wire.close()
        (await play(simulator.url("drop"))).writer.close()
        for name in FAULTS:
            simulator.clear(name)
        wire = await play(simulator.url("refuse-password"))
        await until(wire.media)
        await wire.close()
    whole(wires["well"], begun_s)
    for name, check in CHECKS.items():
        try:
            check(wires[name], begun_s)
        except (AssertionError, ValueError) as error:
            raise AssertionError(f"{name}: {error}") from error


def has_begun(wire: Wire) -> bool:
    """Say whether enough came before the faults."""
    tracks = range(wire.sdp.count("m="))
    return len(keyframes(wire, 0)) >= 2 and all(
        wire.media(2 * n) and wire.reports(2 * n + 1) for n in tracks
    )


def has_shown(wires: dict[str, Wire], begun_s: float, new_s: float) -> bool:
    """Say whether enough came while they last: pictures of encoders that were new at `new_s`,
    reports, and the ends of what ended."""
    others = [wires[name] for name in wires if name not in ENDED]
    reporting = [wires[name] for name in wires if name not in (*ENDED, "no-reports", "lose")]
    return (
        all(wires[name].closed for name in ENDED if name != "silent")
        and all(len(wires[name].pictures(new_s)) > 40 for name in NEW_ENCODER)
        and all(len(wire.media(after_s=begun_s)) > 100 for wire in others)
        and all(len(w.pictures(begun_s)) > 45 for w in others if w is not wires["same-time"])
        and all(len(wire.reports(after_s=begun_s + 0.1)) >= 3 for wire in reporting)
    )


async def new_sessions(simulator: Simulator) -> None:
    """Sessions that begin while the faults last."""
    for name, status in (("refuse-password", 401), ("no-such-stream", 404)):
        with pytest.raises(Refused, match=str(status)):
            await play(simulator.url(name))
    with pytest.raises((OSError, EOFError)):
        await play(simulator.url("drop"))
    begun_s = time.time()
    slow = await play(simulator.url("slow-start"))
    declared = await play(simulator.url("wrong-rate"))
    assert "a=framerate:25" in declared.sdp
    await until(lambda: slow.packets)
    await slow.close()
    await declared.close()
    assert slow.packets[0].arrival_s - begun_s >= 2


@given(st.integers(0, 60), st.integers(0, 100))
def test_reordering_loses_nothing(count: int, per_cent: int) -> None:
    out: list[tuple[int, bool, bytes]] = []
    line = Line({"reorder": float(per_cent)}, lambda *what: out.append(what))
    sent = [(n % 2, n % 3 == 0, b"%d" % n) for n in range(count + 1)]
    for what in sent:
        line.take(*what)
    assert len(out) in (count, count + 1)  # the last may wait for one to change places with
    for n, what in enumerate(sent[:-2]):  # with its own track, and at most one place off
        assert what in out[max(0, n - 1) : n + 2]


async def test_delay_keeps_order_when_it_changes_and_ends() -> None:
    out: list[int] = []
    faults = {"delay": 50.0}
    line = Line(faults, lambda number, is_rtcp, packet: out.append(int(packet)))
    for n in range(300):
        if n == 100:
            faults["delay"] = 5.0
        elif n == 200:
            faults.clear()
        line.take(0, False, b"%d" % n)
        if n % 20 == 0:
            await asyncio.sleep(0.003)
    await until(lambda: len(out) == 300)
    assert out == list(range(300))


def test_values_that_cannot_be() -> None:
    for name, value in (("x", 1.0), ("drop", -1.0), ("lose", float("nan")), ("ppm", float("inf"))):
        with pytest.raises(ValueError):
            fault_value(name, value)
    assert fault_value("jump", -5.0) == -5.0
    assert fault_value("drop", None) == 5.0


@given(
    st.lists(st.tuples(st.floats(0.5, 2), st.floats(-1e5, 1e5)), max_size=8),
    st.sampled_from([8000, 48000, 90000]),
)
def test_media_time_changes_rate_without_a_step(
    changes: list[tuple[float, float]], clock: int
) -> None:
    track = Track(clock)
    for speed, jump_s in changes:
        now_ms = time.time() * 1000
        before = int.from_bytes(track.timestamp(now_ms), "big")
        track.change(rate=speed, jump_s=jump_s)
        after = int.from_bytes(track.timestamp(now_ms), "big")
        step = (after - before - round(jump_s * clock) + 2**31) % 2**32 - 2**31
        assert abs(step) <= clock * 0.05 + 2  # at most what passed between the two looks
