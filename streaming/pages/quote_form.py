"""The form that asks for a quote: what exists, what was written, and what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from zoneinfo import ZoneInfo

from aiohttp import web

from base.i18n.format import format_money, format_offset, format_range, format_second
from base.i18n.gettext import N_
from config.model import Station
from copies.orders.events import Refused
from copies.orders.quotes import SHORTEST_MS
from storage.catalogue.cameras import Name
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.database import CatalogueError
from streaming.context import CONTEXT, current_ms
from streaming.http.negotiation import language_of
from streaming.http.parameters import time_ms
from streaming.http.scheduler import SCHEDULER
from streaming.orders_context import ORDERS
from streaming.pages.render import Fields, page

HOUR_MS, SECOND_MS = 3_600_000, 1000
CAMERAS_A_TOKEN = 10  # whose recordings are looked for; see `scheduler`
MOST_MS = 4_102_444_800_000  # 2100
_DATE = r"(?P<day>[0-9]{1,2})[./](?P<month>[0-9]{1,2})[./](?P<year>[0-9]{4})"
_ISO_DATE = r"(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})"
_TIME = r"(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2}))?"
_WRITTEN = [re.compile(rf"\s*{date}[\s,T]+{_TIME}\s*") for date in (_DATE, _ISO_DATE)]

Extents = Mapping[str, tuple[int, int]]


async def extents(request: web.Request, station: Station) -> Extents:
    """Return from when to when there are recordings of each camera of a station that has any, as
    far as spool and catalogue say it now (UTC ms)."""
    context, found = request.app[CONTEXT], dict[str, tuple[int, int]]()
    request.app[SCHEDULER].check(request)
    request.app[SCHEDULER].count(request, len(station.cameras) / CAMERAS_A_TOKEN)
    for camera in station.cameras:
        ask = partial(_extent, context.name(station, camera))
        reader = context.reader(station, camera)
        moments = [stored.start_ms for stored in reader.stored()[:1]]
        if (newest := reader.newest()) is not None and newest.segments:
            moments.append(newest.end_ms)
        with suppress(CatalogueError):  # what the spool says is not wrong without it
            known = await context.ask(ask)
            moments.extend(known or ())
        if moments:
            found[camera.id] = min(moments), max(moments)
    return found


async def _extent(name: Name, catalogue: Catalogue) -> tuple[int, int] | None:
    return await catalogue.extent_ms(name)


async def empty_form(request: web.Request, station: Station) -> web.Response:
    """Return the form for a station, filled with what the address names: `cameras` (with commas),
    `from` and `to`; else with the last hour of what exists. Raises 400."""
    known = await extents(request, station)
    named = request.query.get("cameras", "")
    chosen = [c.strip() for c in named.split(",")] if named else list(known)
    oldest_ms = min((first for first, _ in known.values()), default=0)
    newest_ms = max((last for _, last in known.values()), default=current_ms(request))
    to_ms = time_ms(request, "to") or newest_ms // SECOND_MS * SECOND_MS
    from_ms = time_ms(request, "from") or max(
        to_ms - HOUR_MS, -(-oldest_ms // SECOND_MS) * SECOND_MS
    )
    begin, end = (
        format_second(max(0, min(ms, MOST_MS)), station.time_zone) for ms in (from_ms, to_ms)
    )
    return _form(request, station, known, chosen, (begin, end), {})


async def wrong_form(
    request: web.Request,
    station: Station,
    chosen: Sequence[str],
    written: tuple[str, str],
    wrong: Sequence[Refused],
) -> web.Response:
    """Return the form as it was written, with what is wrong beside the fields; status 400."""
    lang = language_of(request)
    errors = {one.field or "": one.text(lang) for one in wrong}
    return _form(request, station, await extents(request, station), chosen, written, errors)


def _form(
    request: web.Request,
    station: Station,
    known: Extents,
    chosen: Sequence[str],
    written: tuple[str, str],
    errors: Mapping[str, str],
) -> web.Response:
    lang, settings = language_of(request), request.app[ORDERS].settings
    return page(
        request,
        "copies_new.html",
        400 if errors else 200,
        station=station,
        known={c: format_range(*extent, station.time_zone) for c, extent in known.items()},
        chosen=chosen,
        begin=written[0],
        end=written[1],
        errors=Fields.of_errors(errors),
        # of what is recorded: it may be of a summer, and be asked for in a winter
        offset=format_offset(
            max((last for _, last in known.values()), default=current_ms(request)),
            station.time_zone,
        ),
        settings=settings,
        longest_h=f"{settings.longest / 3600:g}",
        shortest_s=SHORTEST_MS // 1000,
        money=lambda minor: format_money(minor, settings.currency, lang),
    )


def read_stretch(
    written: tuple[str, str], station: Station, wrong: list[Refused]
) -> tuple[int, int] | None:
    """Return the stretch that was written, in UTC ms: where clocks are changed, the longest that
    the two can mean. What cannot be read is added to `wrong`."""
    zone, found = ZoneInfo(station.time_zone), list[int]()
    choose: tuple[Callable[[int, int], int], ...] = (min, max)
    for field, text, one in zip(("from", "to"), written, choose, strict=True):
        try:
            at = read_local(text)
        except ValueError:
            sentence = N_("write a day and a time, as 29.11.2026 14:00:00")
            wrong.append(Refused(sentence, field))
            continue
        both = (round(at.replace(tzinfo=zone, fold=n).timestamp() * 1000) for n in (0, 1))
        found.append(one(*both))
    return (found[0], found[1]) if len(found) == 2 else None


def read_local(text: str) -> datetime:
    """Return a day and a time as people write them, whatever the language of their browser:
    29.11.2026 14:00:00, 29.11.2026 14:00, 2026-11-29 14:00; raises ValueError for what is none."""
    for form in _WRITTEN:
        if found := form.fullmatch(text):
            numbers = {name: int(number or 0) for name, number in found.groupdict().items()}
            day = datetime(numbers["year"], numbers["month"], numbers["day"])
            at = day.replace(
                hour=numbers["hour"], minute=numbers["minute"], second=numbers["second"]
            )
            if 1970 < at.year < 2900:
                return at
    raise ValueError(text[:40])
