"""Bodies of requests: small, soon, and readable, or refused in words."""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler, Middleware
from aiohttp.web_protocol import RequestPayloadError
from multidict import MultiDictProxy

from base.i18n.gettext import gettext
from streaming.http.negotiation import language_of

MOST_BODY = 256 << 10  # a notification of Stripe's has some 10 kB
BODY_S = 10.0  # for all of a body
FORM = "application/x-www-form-urlencoded"
MOST_FORM = 64 << 10  # one with all cameras of a large station has 10 kB
# which our pages are in. Of others the client would choose by which of Python's it is read, and
# some take a second for 256 kB (punycode) or give what cannot be written (unicode_escape).
CHARSETS = ("utf-8", "utf8")


def body_reader(seconds: float = BODY_S) -> Middleware:
    """Return a middleware that reads what is posted before it is looked at.

    It raises 400, 408 after so many seconds, and 413. What no handler asks for is not read: aiohttp
    closes the connection after its answer.
    """

    @web.middleware
    async def read_body(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method == "POST" and request.match_info.http_exception is None:
            await _read(request, seconds)
        return await handler(request)

    return read_body


async def _read(request: web.Request, seconds: float) -> None:
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise unreadable(request)  # a little may unpack to a lot
    try:
        async with asyncio.timeout(seconds):
            await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout(
            text=gettext("The request was not sent to its end in time.", language_of(request)),
            headers={"Connection": "close"},
        ) from None
    except web.HTTPRequestEntityTooLarge:
        raise too_large(request, MOST_BODY) from None
    except (RequestPayloadError, HttpProcessingError):
        raise unreadable(request) from None


async def form(request: web.Request) -> MultiDictProxy[str | bytes | bytearray | web.FileField]:
    """Return what a form of our pages sends; raises 400 for what none of them sends."""
    if request.content_type not in (FORM, "application/octet-stream"):  # the latter: nothing said
        raise unreadable(request)
    if (request.charset or "utf-8").lower() not in CHARSETS:
        raise unreadable(request)
    if len(await request.read()) > MOST_FORM:
        raise too_large(request, MOST_FORM)
    try:
        return await request.post()
    except ValueError:  # bytes that are no UTF-8
        raise unreadable(request) from None


def too_large(request: web.Request, most: int) -> web.HTTPRequestEntityTooLarge:
    """Return the answer to a body of more bytes than `most`."""
    text = gettext(
        "A request to this address has at most %(most)s kB.", language_of(request), most=most >> 10
    )
    return web.HTTPRequestEntityTooLarge(most, text=text)


def unreadable(request: web.Request) -> web.HTTPBadRequest:
    """Return the answer to a body that nobody can read."""
    return web.HTTPBadRequest(text=gettext("What was sent cannot be read.", language_of(request)))
