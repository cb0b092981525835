"""Recordings and gaps of a station's cameras in a stretch of time, as JSON."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext, suppress
from functools import partial

import orjson
from aiohttp import web

from base.i18n.causes import describe_cause, describe_removal
from base.i18n.format import format_time
from base.i18n.gettext import N_, gettext
from base.intervals import Cover
from config.model import Camera, Station
from storage.catalogue.cameras import Name
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.database import CatalogueError
from storage.catalogue.rows import ArchivedRow, TimelineRow
from storage.cluster.peers import Unreachable
from storage.records import FormatError, Gap, Losses
from storage.shown import Shown
from storage.spool.node_map import MachineEntry
from storage.spool.numbers import lease_of
from storage.spool.reader import Key
from streaming.api.stations import takes
from streaming.context import CONTEXT, AppContext
from streaming.http.negotiation import checked_language, language_of
from streaming.http.parameters import time_ms
from streaming.http.responses import json_response
from streaming.http.scheduler import SCHEDULER
from streaming.stations.messages import cameras_live
from streaming.stations.serialize import camera_json

MOST_MS = 7 * 86_400_000
SHORT_MS = 2 * 3_600_000  # what is answered at once, without waiting for others
PIECE_MS = 6 * 3_600_000  # that the catalogue is asked for at once
FEW = 300  # recordings and gaps of a camera that are compared at once: more, in a thread
CAMERA_MS_A_TOKEN = 2_000 * 60_000  # what asking for two thousand recordings takes; see `scheduler`
LATEST_MS = 253_402_300_800_000  # the year 10000

routes = web.RouteTableDef()
AWAY = {
    "waiting": N_("Recorded, on a machine that is away."),
    "given_up": N_("Recorded, and lost with its machine."),
}
SAID = ("record_seq", "start_ms", "end_ms", "lost", "damaged", "restarted")
RECORDING = b'{"record_seq":%d,"start_ms":%d,"end_ms":%d}'  # there may be 40,000 in an answer
# a recording: its end, as JSON, and whether anybody can have it
Told = tuple[int, bytes, bool]
# of a camera, by number and start: recordings and gaps
Known = tuple[dict[Key, Told], dict[Key, Gap]]


@routes.get("/api/v1/stations/{station}/timeline")
async def timeline(request: web.Request) -> web.StreamResponse:
    """Return recordings and gaps of a station's cameras between `from` and `to`."""
    context, lang = request.app[CONTEXT], checked_language(request)
    station, now_ms = context.station(request), context.clock()
    from_ms, to_ms = _stretch(request, now_ms)
    scheduler, length_ms = request.app[SCHEDULER], min(now_ms, to_ms) - from_ms
    scheduler.check(request)
    scheduler.count(request, len(station.cameras) * max(0, length_ms) / CAMERA_MS_A_TOKEN)
    async with scheduler.turn(request) if length_ms > SHORT_MS else nullcontext():
        complete, known = await _known(request, station, from_ms, to_ms)
        await _add_elsewhere(request, station, (from_ms, to_ms), known)
        await context.learn_rates(station, station.cameras)
        cameras = [
            await _camera(request, lang, station, camera, (from_ms, to_ms), known[camera.id])
            for camera in station.cameras
        ]
    data = {
        "station": station.id,
        "from_ms": from_ms,
        "to_ms": to_ms,
        "complete": complete,
        "words": _how_many_live(context, station, lang),
        "cameras": cameras,
    }
    return json_response(request, data, now_ms=now_ms)


def _how_many_live(context: AppContext, station: Station, lang: str) -> str:
    live = sum(context.directory.is_live(station, camera) for camera in station.cameras)
    return cameras_live(live, len(station.cameras), lang)


def _stretch(request: web.Request, now_ms: int) -> tuple[int, int]:
    """Return the stretch asked for, the last hour where none is; raises 400 in words."""
    to_ms, from_ms = time_ms(request, "to"), time_ms(request, "from")
    if to_ms is None and from_ms is not None and from_ms >= now_ms:
        raise web.HTTPBadRequest(text=gettext("'from' is in the future.", language_of(request)))
    to_ms = now_ms if to_ms is None else min(to_ms, LATEST_MS)
    from_ms = to_ms - 3_600_000 if from_ms is None else from_ms
    if from_ms >= to_ms:
        raise web.HTTPBadRequest(text=gettext("'to' is not after 'from'.", language_of(request)))
    if to_ms - from_ms > MOST_MS:
        text = gettext("The stretch is longer than 7 days: ask in parts.", language_of(request))
        raise web.HTTPBadRequest(text=text)
    return from_ms, to_ms


async def _known(
    request: web.Request, station: Station, from_ms: int, to_ms: int
) -> tuple[bool, dict[str, Known]]:
    """Return what the catalogue knows of each camera, and whether it said all of it.

    It is asked for a piece after the other, so that no answer is long.
    """
    context, lang = request.app[CONTEXT], checked_language(request)
    scheduler = request.app[SCHEDULER]
    names = {context.name(station, c): c.id for c in station.cameras}
    away = context.machines.away() if context.machines else {}
    known: dict[str, Known] = {camera: ({}, {}) for camera in names.values()}
    for begin_ms in range(from_ms, to_ms, PIECE_MS):
        asked = partial(
            Catalogue.timelines,
            names=list(names),
            from_ms=begin_ms,
            to_ms=min(begin_ms + PIECE_MS, to_ms),
        )
        try:
            found = await context.ask(asked)
            gone = await _only_on(context, list(names), list(away), (begin_ms, to_ms))
        except CatalogueError:  # what the spool has is still true
            return False, known
        rows = ((name, row) for name, (its, _) in found.items() for row in its)
        async for name, row in scheduler.in_steps(request, rows):
            said: dict[str, object] = {}
            if spool := gone.get((name, *row.key)):
                state = "given_up" if away[spool].given_up else "waiting"
                said = {"away": state, "words": gettext(AWAY[state], lang)}
            if last := row.removed:
                said |= _removal(last, station.time_zone, lang)
            known[names[name]][0][row.key] = row.end_ms, _recording(row, said), not said
        async for name, (_, gaps) in scheduler.in_steps(request, found.items()):
            known[names[name]][1].update({(gap.gap_no, gap.start_ms): gap for gap in gaps})
    return True, known


async def _only_on(
    context: AppContext, names: list[Name], spools: list[str], stretch: tuple[int, int]
) -> dict[tuple[Name, int, int], str]:
    """Return which recordings of a stretch only one of these spools has, and which one."""
    if not spools:
        return {}
    return await context.ask(
        lambda catalogue: catalogue.nodes.only_on(
            names, spools, stretch[0], min(stretch[0] + PIECE_MS, stretch[1])
        )
    )


async def _add_elsewhere(
    request: web.Request, station: Station, stretch: tuple[int, int], known: dict[str, Known]
) -> None:
    """Add what other machines have of a station's cameras and the catalogue does not know yet."""
    context, steps = request.app[CONTEXT], request.app[SCHEDULER].in_steps
    if context.machines is None:
        return

    async def add(camera: Camera, machine: MachineEntry) -> None:
        path = f"/spool/{station.id}/{camera.id}/stretch?from={stretch[0]}&to={stretch[1]}"
        recordings, gaps = known[camera.id]
        with suppress(Unreachable, KeyError, TypeError, FormatError):
            said = await context.peers.json(machine, path)
            async for row in steps(request, said["recordings"]):
                one = {key: row[key] for key in SAID if key in row}
                key = (row["record_seq"], row["start_ms"])
                recordings[key] = row["end_ms"], orjson.dumps(one), True
            async for gap in steps(request, map(Gap.of, said["gaps"])):
                gaps[gap.gap_no, gap.start_ms] = gap

    asked = [
        add(camera, machine)
        for camera in station.cameras
        for machine in context.machines.others(f"{station.id}/{camera.id}")
    ]
    await asyncio.gather(*asked)


async def _camera(
    request: web.Request,
    lang: str,
    station: Station,
    camera: Camera,
    times: tuple[int, int],
    known: Known,
) -> dict[str, object]:
    """Return a camera's recordings and gaps: what the catalogue knows, then what the spool has."""
    context, scheduler, (recordings, gaps) = request.app[CONTEXT], request.app[SCHEDULER], known
    reader = context.reader(station, camera)
    async for _, index in scheduler.in_steps(request, reader.recordings(*times)):
        if index.segments and index.start_ms < times[1]:
            seq, start_ms = index.header.record_seq, index.start_ms
            losses = Losses.of(index.segments).to_dict()
            said = {"record_seq": seq, "start_ms": start_ms, "end_ms": index.end_ms} | losses
            recordings[seq, start_ms] = index.end_ms, orjson.dumps(said), True
    gaps |= {(g.gap_no, g.start_ms): g for g in reader.gaps(*times)}
    missing = list(gaps.values())
    many = len(recordings) + len(missing) > FEW  # of a week, of a camera that comes and goes
    say = partial(_said, lang, recordings, missing)
    all_said = await asyncio.to_thread(say) if many else say()
    return camera_json(station, camera, context.directory, lang) | {
        "words": context.why_no_picture(station, camera, lang),
        "takes": takes(context, station, camera),
        **all_said,
    }


def _said(lang: str, recordings: dict[Key, Told], gaps: list[Gap]) -> dict[str, object]:
    """Return recordings of a camera, and what is missing, as JSON."""
    missing = _shown(recordings, gaps)
    data = b",".join(recordings[key][1] for key in sorted(recordings))
    return {
        "recordings": orjson.Fragment(b"[%b]" % data),
        "gaps": [_gap(lang, gap) for gap in missing],
    }


def _shown(recordings: dict[Key, Told], gaps: list[Gap]) -> list[Gap]:
    """Mark the recordings of which nothing is shown, as another machine has that time, too;
    return what nobody recorded. What nobody can have hides nothing."""
    facts = {key: (lease_of(key[0]), key[1], end_ms) for key, (end_ms, *_) in recordings.items()}
    had = Shown(facts[key] for key, (*_, can_be_had) in recordings.items() if can_be_had)
    hidden = Cover(had.recorded)
    for key, (epoch, start_ms, end_ms) in facts.items():
        _, data, can_be_had = recordings[key]
        left = had.parts(epoch, start_ms, end_ms) if can_be_had else hidden.left(start_ms, end_ms)
        if start_ms < end_ms and not left:
            recordings[key] = end_ms, b'%b,"second":true}' % data[:-1], can_be_had
    return Shown(facts.values()).missing(gaps)


def _recording(row: TimelineRow, said: dict[str, object]) -> bytes:
    """Return a row as JSON: what is missing of it, with what else is to be `said` of it."""
    if more := row.losses.to_dict() | said:
        data = {k: getattr(row, k) for k in ("record_seq", "start_ms", "end_ms")}
        return orjson.dumps(data | more)
    return RECORDING % (row.record_seq, row.start_ms, row.end_ms)


def _removal(last: ArchivedRow, zone: str, lang: str) -> dict[str, object]:
    """Return when and why a recording was removed that no archive has any more."""
    reason = last.removed_reason or ""
    when, why = format_time(last.removed_ms or 0, zone), describe_removal(reason, lang)
    words = gettext("removed on %(when)s (%(why)s)", lang, when=when, why=why)
    return {"removed_ms": last.removed_ms, "removed_reason": reason, "words": words}


def _gap(lang: str, gap: Gap) -> dict[str, object]:
    shown = {k: getattr(gap, k) for k in ("gap_no", "start_ms", "end_ms", "cause")}
    return shown | {"words": describe_cause(gap.cause, lang)}
