"""How times, lengths, money, sizes and numbers are written for people.

Moments are UTC milliseconds and shown in a time zone, with its offset: whoever reads a page or a
letter may live in another one. Days are written as in Kazakhstan, 29.11.2026, in each language.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

from babel.dates import format_date
from babel.numbers import format_decimal

from base.currency import decimals, in_decimals
from base.i18n.gettext import gettext, ngettext


def format_time(ms: int, zone: str) -> str:
    """Return a moment in local time: 29.11.2026 14:03 UTC+5."""
    return f"{_local(ms, zone):%d.%m.%Y %H:%M} {format_offset(ms, zone)}"


def format_second(ms: int, zone: str) -> str:
    """Return a moment in local time as forms take it: 29.11.2026 14:03:00."""
    return f"{_local(ms, zone):%d.%m.%Y %H:%M:%S}"


def format_time_of_day(ms: int, zone: str, now_ms: int, lang: str, *, seconds: bool = False) -> str:
    """Return a moment as people of a time zone write it: 14:03 UTC+5, with the day if not today;
    to the second, 14:03:07 UTC+5, for what may last for seconds only."""
    at = _local(ms, zone)
    today = at.date() == _local(now_ms, zone).date()
    day = "" if today else f"{format_day(at.date(), 'long', lang)}, "
    return f"{day}{at:{'%H:%M:%S' if seconds else '%H:%M'}} {format_offset(ms, zone)}"


def format_range(from_ms: int, to_ms: int, zone: str, dash: str = "–") -> str:
    """Return a stretch in local time: 29.11.2026 08:00:00–09:30:00; where the clocks of the zone
    are changed in it, or one of its times comes twice, as `format_stretch` does."""
    first, last, offset = _ends(from_ms, to_ms, zone)
    doubtful = "UTC" in first or any(_comes_twice(_local(ms, zone)) for ms in (from_ms, to_ms))
    return f"{first}{dash}{last} {offset}" if doubtful else f"{first}{dash}{last}"


def format_stretch(from_ms: int, to_ms: int, zone: str) -> str:
    """Return a stretch in local time with its offset: 29.11.2026 08:00:00–09:30:00 UTC+5; with both
    where they differ: 25.10.2026 01:30:00 UTC+3–03:30:00 UTC+2."""
    first, last, offset = _ends(from_ms, to_ms, zone)
    return f"{first}–{last} {offset}"


def _ends(from_ms: int, to_ms: int, zone: str) -> tuple[str, str, str]:
    """Return both ends of a stretch in local time, and the offset of the second; the first has its
    own where that is another one."""
    start, end = _local(from_ms, zone), _local(to_ms, zone)
    own = "" if start.utcoffset() == end.utcoffset() else f" {format_offset(from_ms, zone)}"
    day = "" if start.date() == end.date() else f"{end:%d.%m.%Y} "
    first, last = f"{start:%d.%m.%Y %H:%M:%S}{own}", f"{day}{end:%H:%M:%S}"
    return first, last, format_offset(to_ms, zone)


def _comes_twice(at: datetime) -> bool:
    return at.utcoffset() != at.replace(fold=1 - at.fold).utcoffset()


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


def format_duration(seconds: int, lang: str) -> str:
    """Return a length of time in the largest unit in which it is whole: 30 days, 36 hours.

    It is in the nominative: a sentence has it behind a colon, or where that does not matter.
    """
    if seconds % 86400 == 0:
        return ngettext("%(count)s day", "%(count)s days", seconds // 86400, lang)
    if seconds % 3600 == 0:
        return ngettext("%(count)s hour", "%(count)s hours", seconds // 3600, lang)
    if seconds % 60 == 0:
        return ngettext("%(count)s minute", "%(count)s minutes", seconds // 60, lang)
    return ngettext("%(count)s second", "%(count)s seconds", seconds, lang)


def format_bytes(count: int, lang: str) -> str:
    """Return a number of bytes as people of a language write it: 1.25 GB, 3,1 МБ."""
    if count >= 1e9:
        return _unbroken(gettext("%(size)s GB", lang, size=_rounded(count / 1e9, "0.00", lang)))
    return _unbroken(gettext("%(size)s MB", lang, size=format_tenths(count / 1e6, lang)))


def format_percent(basis: int, lang: str) -> str:
    """Return hundredths of a percent as people of a language write them: 16%, 12,5 %."""
    number = format_decimal(Decimal(basis) / 100, format="0.##", locale=lang)
    return _unbroken(gettext("%(number)s%%", lang, number=number))


def format_number(value: int, lang: str) -> str:
    """Return a whole number as people of a language write it: 10,060 or 10 060."""
    return format_decimal(value, locale=lang)


def format_tenths(value: float, lang: str) -> str:
    """Return a number with one decimal as people of a language write it: 1.2 or 1,2."""
    return _rounded(value, "#,##0.0", lang)


def format_money(minor: int, currency: str, lang: str) -> str:
    """Return an amount as people of a language write it: 12,50 ₸ in Kazakh and Russian, else with
    the code of ISO 4217, which is never another country's sign: 12.50 KZT."""
    sign = "₸" if currency == "KZT" and lang != "en" else currency
    return f"{_amount(minor, currency, lang)}\N{NO-BREAK SPACE}{sign}"


def format_money_with_code(minor: int, currency: str, lang: str) -> str:
    """Return an amount with its code in each language: 12,50 KZT, as banks write it."""
    return f"{_amount(minor, currency, lang)}\N{NO-BREAK SPACE}{currency}"


def _unbroken(text: str) -> str:
    """Return a number with its unit so that no line ends between them."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def _amount(minor: int, currency: str, lang: str) -> str:
    places = decimals(currency)
    pattern = f"#,##0.{'0' * places}" if places else "#,##0"
    return format_decimal(in_decimals(minor, currency), format=pattern, locale=lang)


def _rounded(value: float, pattern: str, lang: str) -> str:
    return format_decimal(value, format=pattern, locale=lang)


def _local(ms: int, zone: str) -> datetime:
    return datetime.fromtimestamp(ms / 1000, ZoneInfo(zone))
