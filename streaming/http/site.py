"""The address of this site, and who sends requests to it from another one."""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from urllib.parse import urlsplit

from aiohttp import web

from base.i18n.gettext import N_
from config.model import Web

SITE = web.AppKey("site", Web)
HOST_IN_ANSWER = web.RequestKey("host_in_answer", bool)
_HOST = re.compile(r"([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?")


def base_url(request: web.Request) -> str:
    """Return the address of this site, without `/` at its end.

    It is what is configured, else what the client asked; a Host that is none is not repeated, and
    an answer that repeats one is kept by no cache, which would give it to others.
    """
    site = request.app[SITE]
    if site.public_url:
        return site.public_url
    request[HOST_IN_ANSWER] = True
    host = request.headers.get("Host", "")
    if not is_host(host):
        host = f"{site.host}:{site.port}"
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


def refuse_foreign(request: web.Request) -> None:
    """Raise 403 for what a page of another site has a browser send.

    These pages send no Origin (their referrer policy), so an old browser without Sec-Fetch-Site
    is let through unless it names another site; it would need the secret link as well.
    """
    site = request.headers.get("Sec-Fetch-Site", "none")
    origin = request.headers.get("Origin", "null")
    try:
        named = urlsplit(origin).netloc
    except ValueError:
        raise web.HTTPBadRequest(text=N_("What was sent cannot be read.")) from None
    # a proxy may call us by another name than people do
    known = origin == "null" or named in {request.host, urlsplit(base_url(request)).netloc}
    if site not in ("same-origin", "none") or not known:
        raise web.HTTPForbidden(text=N_("This was sent by a page of another site."))
