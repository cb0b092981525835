"""How the API answers: JSON with an ETag, problems (RFC 9457), addresses of this site."""

from __future__ import annotations

import hashlib
import re
from http import HTTPStatus
from ipaddress import IPv6Address
from typing import Any

import orjson
from aiohttp import web

from base.i18n.gettext import gettext
from streaming.context import CONTEXT
from streaming.http.negotiation import language_of

CACHE = "public, max-age=2"
MOST_PAGE = 100
MOST_TAGS = 1000  # bytes of If-None-Match
_HOST = re.compile(r"([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")
HOST_IN_ANSWER = web.RequestKey("host_in_answer", bool)


def json_response(
    request: web.Request, data: dict[str, Any], *, now_ms: int | None = None, cache: str = CACHE
) -> web.Response:
    """Return data as JSON, or 304 where the client has it.

    `now_ms` is in the answer and not in the ETag, which is weak: nothing else changed.
    """
    body = orjson.dumps(data)
    etag = f'W/"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": cache}
    if not_modified(request, etag):
        return web.Response(status=304, headers=headers)
    if now_ms is not None:
        body = b'{"now_ms":%d,%b' % (now_ms, body[1:])
    return web.Response(body=body, content_type="application/json", headers=headers)


def not_modified(request: web.Request, etag: str) -> bool:
    """Tell whether the client has what the tag names (RFC 9110, 13.1.2: weak comparison)."""
    if len(request.headers.get("If-None-Match", "")) > MOST_TAGS:
        return False  # no cache of ours has so many
    tags = request.if_none_match or ()
    opaque = etag.removeprefix("W/").strip('"')
    return any(tag.value in ("*", opaque) for tag in tags)


def problem(status: int, detail: str) -> web.Response:
    """Return an error as RFC 9457 says."""
    return web.json_response(
        {
            "type": "about:blank",
            "title": HTTPStatus(status).phrase,
            "status": status,
            "detail": detail.strip(),
        },
        status=status,
        content_type="application/problem+json",
    )


def whole_number(request: web.Request, name: str, default: int, least: int, most: int) -> int:
    """Return a query parameter that is a number of a range; raises 400."""
    text = request.query.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,6}", text, re.ASCII) or not least <= int(text) <= most:
        told = gettext(
            "'%(name)s' is not a whole number from %(least)s to %(most)s.",
            language_of(request),
            name=name,
            least=least,
            most=most,
        )
        raise web.HTTPBadRequest(text=told)
    return int(text)


def base_url(request: web.Request) -> str:
    """Return the address of this site, without `/` at its end.

    It is what is configured, else what the client asked; a Host that is none is not repeated, and
    an answer that repeats one is kept by no cache, which would give it to others.
    """
    views = request.app[CONTEXT]
    if views.config.web.public_url:
        return views.config.web.public_url
    request[HOST_IN_ANSWER] = True
    host = request.headers.get("Host", "")
    if not is_host(host):
        host = f"{views.config.web.host}:{views.config.web.port}"
    return f"{request.scheme}://{host}"


def is_host(text: str) -> bool:
    """Tell whether a Host header (RFC 9110, 7.2) is a name or an address, with a port or not."""
    found = _HOST.fullmatch(text)
    if found is None or not found[1].startswith("["):
        return found is not None
    try:
        return IPv6Address(found[1][1:-1]) is not None
    except ValueError:
        return False
