"""What pages load: style and scripts. Read once, sent compressed, cached for ever.

The version in an address is a hash of them all, so a new release has new addresses, also for
scripts that import each other by name. Scripts are sent as they are written, but for whole lines
of comment: a quarter of their bytes.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from aiohttp import web

from streaming.http.negotiation import takes_gzip

HERE = Path(__file__).parent.parent
TYPES = {".css": "text/css", ".mjs": "text/javascript", ".svg": "image/svg+xml"}
IMMUTABLE = "public, max-age=31536000, immutable"
COMMENT = re.compile(r"^[ \t]*(?://[^\n]*|/\*(?:[^*]|\*(?!/))*\*/)\n", re.M)
IMPORT = re.compile(r'^import [^"]*"\./([\w.]+)";$', re.M)

routes = web.RouteTableDef()


@dataclass(frozen=True, slots=True)
class Asset:
    """One file as it is sent, plain and with gzip."""

    content_type: str
    plain: bytes
    packed: bytes


@cache
def assets() -> dict[str, Asset]:
    """Return all files by name."""
    found = {}
    for path in sorted((HERE / "static").iterdir()):
        if path.suffix in TYPES:
            text = path.read_text()
            data = (COMMENT.sub("", text) if path.suffix == ".mjs" else text).encode()
            packed = gzip.compress(data, 9, mtime=0)
            found[path.name] = Asset(TYPES[path.suffix], data, packed)
    return found


@cache
def version() -> str:
    """Return the hash of all files that is part of their addresses."""
    digest = hashlib.sha256()
    for name, asset in assets().items():
        digest.update(name.encode() + b"\0" + hashlib.sha256(asset.plain).digest())
    return digest.hexdigest()[:12]


def address(name: str) -> str:
    """Return the address of a file; raises KeyError for one that is not there."""
    assets()[name]
    return f"/static/{version()}/{name}"


@cache
def imported(name: str) -> tuple[str, ...]:
    """Return the addresses of all scripts that a script needs, those it names itself first.

    Pages ask for them at once, not one after the other as they are found; raises KeyError.
    """
    found = [name]
    for one in found:
        text = assets()[one].plain.decode()
        found += [new for new in IMPORT.findall(text) if new not in found]
    return tuple(address(one) for one in found[1:])


@routes.get("/static/{version}/{name}")
async def static(request: web.Request) -> web.StreamResponse:
    """Serve a file; one of another release is answered with ours, and not kept."""
    asset = assets().get(request.match_info["name"])
    if asset is None:
        raise web.HTTPNotFound
    ours = request.match_info["version"] == version()
    headers = {"Cache-Control": IMMUTABLE if ours else "no-cache", "Vary": "Accept-Encoding"}
    body = asset.plain
    if takes_gzip(request):
        body, headers["Content-Encoding"] = asset.packed, "gzip"
    return web.Response(
        body=body, content_type=asset.content_type, charset="utf-8", headers=headers
    )
