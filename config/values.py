"""What a value may be: checks and types of settings, each said here and nowhere else.

Values come as text from YAML and CSV alike (`0117`, `20:00` and `no` stay what they are) and are
turned into what the field needs.
"""

from __future__ import annotations

import re
from datetime import date, datetime, time
from difflib import get_close_matches
from functools import cache
from typing import Annotated
from zoneinfo import available_timezones

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator

from config.base import seconds
from config.problems import Wrong

YEARS = range(2000, 2100)  # outside it is a typing error, and would overflow in arithmetic
MOST_NAME, MOST_PATH = 255, 4000  # bytes: of one name, of all of a path (Linux)
SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")  # with one slash it is mistyped


def _agent(text: str) -> str:
    if not re.fullmatch(r"[\x20-\x7e]{1,200}", text):
        raise Wrong("not a name of a program", "write printable ASCII, as in Kuager/1.0")
    return text


def check_path(text: str) -> str:
    """Return text that can be a path; raises Wrong."""
    if not text or not text.isprintable():
        raise Wrong("not a path", "write the name of a file or directory")
    if text.startswith("~"):
        raise Wrong("'~' has no meaning here", "write ${HOME} instead")
    if SCHEME.match(text):
        raise Wrong("an address where a path belongs", "write the name of a file or directory")
    if len(text.encode()) > MOST_PATH or any(len(p.encode()) > MOST_NAME for p in text.split("/")):
        raise Wrong("a longer name than disks take", f"write at most {MOST_NAME} bytes for each")
    return text


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones() - {"Factory", "localtime"})  # which no browser knows


@cache
def _zone_like(text: str) -> str:
    """Say what would be right; of `UTC+5` the nearest name is another offset, and of what is like
    none some place far away: who takes such advice records at other hours."""
    near = [] if re.search("[0-9]", text) else get_close_matches(text, _zones(), 1, 0.7)
    return f"did you mean {near[0]}?" if near else "write an IANA name such as Asia/Almaty"


def reversed_offset(zone: str) -> str | None:
    """Say of a zone that has its offset in its name, with the sign of POSIX, what it means; None
    of all others."""
    found = re.fullmatch(r"Etc/GMT([+-])([1-9][0-9]?)", zone)
    sign = {"+": "-", "-": "+"}
    return f"{zone} means UTC{sign[found[1]]}{found[2]}" if found else None


def is_zone(text: object) -> bool:
    """Tell whether a text is a time zone that this machine knows."""
    return isinstance(text, str) and text.strip() in _zones()


def _zone(text: str) -> str:
    if not is_zone(text):
        raise Wrong("not a time zone that this machine knows", _zone_like(text))
    return text


def _day(value: object) -> date:
    if isinstance(value, date) and not isinstance(value, datetime):
        return value
    try:
        if isinstance(value, str) and len(text := value.strip()) == 10:
            day = date.fromisoformat(text)
            if day.year in YEARS:
                return day
    except ValueError:
        pass
    raise Wrong("not a day from 2000 to 2099", "write YYYY-MM-DD, as in 2026-11-29")


def _local(value: object) -> datetime:
    if isinstance(value, str):
        try:
            if re.fullmatch(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?", text := value.strip()):
                value = datetime.fromisoformat(text)
        except ValueError:
            pass
    if isinstance(value, datetime) and value.tzinfo is None and value.year in YEARS:
        return value
    raise Wrong(
        "not a local time from 2000 to 2099",
        "write YYYY-MM-DDTHH:MM without a zone, as in 2026-11-29T06:00 (midnight is 00:00)",
    )


def _clock(value: object) -> time:
    if isinstance(value, str):
        try:
            if re.fullmatch(r"\d\d:\d\d", text := value.strip()):
                value = time.fromisoformat(text)
        except ValueError:
            pass
    if isinstance(value, time):
        return value
    raise Wrong("not a time of day", 'write HH:MM from "00:00" to "23:59"')


def _days(value: object) -> int:
    if not 86400 <= (found := seconds(value)) <= 36525 * 86400:
        raise Wrong("shorter than a day or longer than a century", "write 1d to 36525d")
    return found


def _percent(value: object) -> int:
    found = re.fullmatch(r"([0-9]{1,3})\s*%?", str(value).strip())
    if not found or int(found[1]) > 100:
        raise Wrong("not a share", "write 0% to 100%")
    return int(found[1])


def _comma(value: object) -> object:
    return value.replace(",", ".") if isinstance(value, str) else value


def for_people(text: str) -> str:
    """Return text that is shown to people; raises Wrong for an address."""
    if "://" in text:  # in a table whose cells have slipped, this would publish a password
        raise Wrong("an address where a text for people belongs", "look whether a cell slipped")
    return text


Id = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Zone = Annotated[str, AfterValidator(_zone)]
Day = Annotated[date, PlainValidator(_day)]
LocalTime = Annotated[datetime, PlainValidator(_local)]
Clock = Annotated[time, PlainValidator(_clock)]
Degrees = Annotated[float, BeforeValidator(_comma)]  # 43,2 is what a Russian Excel writes
Days = Annotated[int, PlainValidator(_days)]  # in seconds
Percent = Annotated[int, PlainValidator(_percent)]
UserAgent = Annotated[str, AfterValidator(_agent)]
