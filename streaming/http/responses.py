"""How the API answers: JSON with an ETag, problems (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import orjson
from aiohttp import web

from storage.records import sha256_of
from streaming.http.negotiation import takes_gzip
from streaming.http.ranges import not_modified

CACHE = "public, max-age=2"
MOST_PAGE = 100
LONG = 8192  # bytes that are sent with gzip where the client takes it, compressed in a thread


def json_response(
    request: web.Request,
    data: Mapping[str, object],
    *,
    now_ms: int | None = None,
    cache: str = CACHE,
) -> web.Response:
    """Return data as JSON, or 304 where the client has it.

    `now_ms` is in the answer and not in the ETag, which is weak: nothing else changed.
    """
    body = orjson.dumps(data)
    etag = f'W/"{sha256_of(body)[:32]}"'
    headers = {"ETag": etag, "Cache-Control": cache}
    is_long = len(body) > LONG
    if is_long:
        headers["Vary"] = "Accept-Encoding"
    if not_modified(request, etag):
        return web.Response(status=304, headers=headers)
    if now_ms is not None:
        body = b'{"now_ms":%d,%b' % (now_ms, body[1:])
    response = web.Response(body=body, content_type="application/json", headers=headers)
    if is_long and takes_gzip(request):
        response.enable_compression(web.ContentCoding.gzip)
    return response


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
