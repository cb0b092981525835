"""Parameters of an address: whole numbers and times, or a clear 400."""

from __future__ import annotations

import re

from aiohttp import web

from base.clock import parse_time
from base.i18n.gettext import gettext
from streaming.http.negotiation import language_of


def whole_number(request: web.Request, name: str, default: int, least: int, most: int) -> int:
    """Return a parameter that is a whole number from `least` to `most`; raises 400."""
    text = request.query.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,6}", text, re.ASCII) or not least <= int(text) <= most:
        raise web.HTTPBadRequest(
            text=gettext(
                "'%(name)s' is not a whole number from %(least)s to %(most)s.",
                language_of(request),
                name=name,
                least=least,
                most=most,
            )
        )
    return int(text)


def time_ms(request: web.Request, name: str) -> int | None:
    """Return a parameter as UTC ms, None without it: a whole number, or RFC 3339 with a zone.

    Raises 400.
    """
    text = request.query.get(name)
    if text is None:
        return None
    try:
        if text.isdigit() and len(text) <= 15:
            return int(text)
        return parse_time(text.replace(" ", "+"))  # a plus that was not encoded
    except ValueError:
        raise web.HTTPBadRequest(
            text=gettext(
                "'%(name)s' is not a time: write 2026-11-29T09:40:00Z or milliseconds of UTC.",
                language_of(request),
                name=name,
            )
        ) from None
