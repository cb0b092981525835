"""What orders say to people wherever they say it: of what they are, when, in which language."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from copies.payments.port import Translate
from storage.catalogue.orders import Order


def title_of(order: Order, translate: Translate) -> str:
    """Return of what an order is: the station and the stretch in its local time."""
    _, station = translate, order.quote["station"]
    return _(
        "Station %(number)s, %(name)s: %(stretch)s",
        number=station["number"],
        name=in_language(station["name"], order.language),
        stretch=stretch(order.from_ms, order.to_ms, station["time_zone"]),
    )


def in_language(texts: dict[str, str | None], language: str) -> str:
    """Return a text in a language, else in the first of kk, ru, en that there is."""
    return texts.get(language) or next((t for t in texts.values() if t), "")


def stretch(from_ms: int, to_ms: int, zone: str) -> str:
    """Return a stretch in local time: 2026-11-29 08:00:00–09:30:00 UTC+5."""
    start, end = (datetime.fromtimestamp(ms / 1000, ZoneInfo(zone)) for ms in (from_ms, to_ms))
    day = "" if start.date() == end.date() else f"{end:%Y-%m-%d} "
    return f"{start:%Y-%m-%d %H:%M:%S}–{day}{end:%H:%M:%S} {offset_of(end)}"


def minutes(ms: int) -> str:
    """Return a length of time in minutes and seconds: 59:30."""
    return f"{ms // 60_000}:{ms // 1000 % 60:02}"


def format_time(ms: int, zone: str) -> str:
    """Return a moment in local time: 2026-11-29 14:03 UTC+5."""
    at = datetime.fromtimestamp(ms / 1000, ZoneInfo(zone))
    return f"{at:%Y-%m-%d %H:%M} {offset_of(at)}"


def offset_of(at: datetime) -> str:
    """Return the offset of a local time: UTC+5, UTC+5:45, UTC."""
    text = f"{at:%z}"
    minutes = "" if text.endswith("00") else f":{text[3:5]}"
    return f"UTC{text[0]}{int(text[1:3])}{minutes}" if at.utcoffset() else "UTC"
