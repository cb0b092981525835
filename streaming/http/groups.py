"""What the addresses of a kind have in common: who may read them, how errors are said, caching.

The groups of an application stand in one list (see `app`). A request belongs to the first one
whose prefix and ending its path has, whether there is anything at that address or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from aiohttp import web

from streaming.http.negotiation import language_headers, language_vary
from streaming.http.site import HOST_IN_ANSWER

PAGE_LOADS = (
    "default-src 'self'; media-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors "
)
CROSS_ORIGIN = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Date, ETag, Content-Range",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}
PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
    "Access-Control-Allow-Headers": "Range, If-None-Match",
    "Access-Control-Max-Age": "86400",
}


@dataclass(frozen=True, slots=True)
class Group:
    """How the addresses with a prefix, and one of some endings, are answered."""

    prefix: str
    endings: tuple[str, ...] = ("",)
    errors: Literal["page", "problem", "text"] = "page"  # for people, for programs, for players
    cross_origin: bool = False  # scripts of every site may read it
    frames: str = "'self'"  # the sites that may show it in a frame
    tells_states: bool = True  # says what recorders do now, and waits until that is known
    urgent: bool = False  # live video and what watches us: it waits for nothing else

    def has(self, path: str) -> bool:
        """Tell whether a path is of this group."""
        return path.startswith(self.prefix) and path.endswith(self.endings)


GROUPS: web.AppKey[tuple[Group, ...]] = web.AppKey("groups", tuple)
_GROUP = web.RequestKey("group", Group)


def group_of(request: web.Request) -> Group:
    """Return the group that a request belongs to."""
    if (group := request.get(_GROUP)) is None:
        group = next(group for group in request.app[GROUPS] if group.has(request.path))
        request[_GROUP] = group
    return group


async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
    """Add to an answer what its group and its language ask for."""
    headers, group = response.headers, group_of(request)
    headers.update(language_headers(request))
    if vary := {*headers.popall("Vary", []), *language_vary(request)}:
        headers["Vary"] = ", ".join(sorted(vary))
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "same-origin"
    if group.cross_origin:
        headers.update(CROSS_ORIGIN)
    else:
        headers["Content-Security-Policy"] = PAGE_LOADS + group.frames
    if "secret" in request.match_info:  # the address is a key: nobody else hears or keeps it
        headers["Referrer-Policy"] = "no-referrer"
        headers["X-Robots-Tag"] = "noindex"
        headers.setdefault("Cache-Control", "no-store")
    if request.get(HOST_IN_ANSWER):  # whoever named a host of his own would fill the cache with it
        headers["Cache-Control"] = "no-store"
    if response.status >= 400:  # a segment that is not there yet will be
        headers.setdefault("Cache-Control", "no-store")
    if not group.cross_origin:
        headers.setdefault("Cache-Control", "no-cache")
