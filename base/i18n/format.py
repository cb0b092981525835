"""How times, lengths, money, sizes and numbers are written for people.

Moments are UTC milliseconds and shown in a time zone, with its offset: whoever reads a page or a
letter may live in another one.
"""

from __future__ import annotations

from datetime import date, datetime
from zoneinfo import ZoneInfo

from babel.dates import format_date
from babel.numbers import format_currency, format_decimal

from base.currency import decimals, in_decimals


def format_time(ms: int, zone: str) -> str:
    """Return a moment in local time: 2026-11-29 14:03 UTC+5."""
    return f"{_local(ms, zone):%Y-%m-%d %H:%M} {format_offset(ms, zone)}"


def format_time_of_day(ms: int, zone: str, now_ms: int, lang: str) -> str:
    """Return a moment as people of a time zone write it: 14:03 UTC+5, with the day if not today."""
    at = _local(ms, zone)
    today = at.date() == _local(now_ms, zone).date()
    day = "" if today else f"{format_day(at.date(), 'long', lang)}, "
    return f"{day}{at:%H:%M} {format_offset(ms, zone)}"


def format_range(from_ms: int, to_ms: int, zone: str, dash: str = "–") -> str:
    """Return a stretch in local time: 2026-11-29 08:00:00–09:30:00."""
    start, end = _local(from_ms, zone), _local(to_ms, zone)
    day = "" if start.date() == end.date() else f"{end:%Y-%m-%d} "
    return f"{start:%Y-%m-%d %H:%M:%S}{dash}{day}{end:%H:%M:%S}"


def format_stretch(from_ms: int, to_ms: int, zone: str) -> str:
    """Return a stretch in local time with its offset: 2026-11-29 08:00:00–09:30:00 UTC+5."""
    return f"{format_range(from_ms, to_ms, zone)} {format_offset(to_ms, zone)}"


def format_offset(ms: int, zone: str) -> str:
    """Return how far a time zone is from UTC at a moment: UTC+5, UTC+5:45, UTC."""
    at = _local(ms, zone)
    text = f"{at:%z}"  # +0500
    minutes = "" if text.endswith("00") else f":{text[3:5]}"
    return f"UTC{text[0]}{int(text[1:3])}{minutes}" if at.utcoffset() else "UTC"


def format_day(day: date, style: str, lang: str) -> str:
    """Return a day as people of a language write it, in a style of babel's (`long`, `full`); in
    English as it is read in Kazakhstan."""
    return format_date(day, style, "en_GB" if lang == "en" else lang)


def format_minutes(ms: int) -> str:
    """Return a length of time in minutes and seconds: 59:30."""
    return f"{ms // 60_000}:{ms // 1000 % 60:02}"


def format_hours(seconds: float) -> str:
    """Return a length of time in hours, without decimals that say nothing: 36, 1.5."""
    return f"{seconds / 3600:g}"


def format_bytes(count: int) -> str:
    """Return a number of bytes: 1.25 GB, 3.1 MB."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def format_number(value: int, lang: str) -> str:
    """Return a whole number as people of a language write it: 10,060 or 10 060."""
    return format_decimal(value, locale=lang)


def format_money(minor: int, currency: str, lang: str) -> str:
    """Return an amount with its currency as people of a language write it: 12,50 KZT."""
    places = decimals(currency)
    pattern = f"#,##0.{'0' * places} ¤¤" if places else "#,##0 ¤¤"
    amount = in_decimals(minor, currency)
    return format_currency(amount, currency, locale=lang, currency_digits=False, format=pattern)


def _local(ms: int, zone: str) -> datetime:
    return datetime.fromtimestamp(ms / 1000, ZoneInfo(zone))
