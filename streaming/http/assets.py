"""What pages load: style, scripts, hls.js. Read once, sent compressed, cached for ever.

The version in an address is a hash of them all, so a new release has new addresses, also for
scripts that import each other by name.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from aiohttp import web

HERE = Path(__file__).parent.parent
HLS_JS = HERE / "node_modules" / "hls.js" / "dist" / "hls.light.min.mjs"
TYPES = {".css": "text/css", ".mjs": "text/javascript", ".svg": "image/svg+xml"}
IMMUTABLE = "public, max-age=31536000, immutable"

routes = web.RouteTableDef()


@dataclass(frozen=True, slots=True)
class Asset:
    """One file as it is sent, plain and with gzip."""

    content_type: str
    plain: bytes
    packed: bytes


@cache
def assets() -> dict[str, Asset]:
    """Return all files by name; raises OSError where hls.js was not installed."""
    files = {p.name: p for p in sorted((HERE / "static").iterdir()) if p.suffix in TYPES}
    files["hls.mjs"] = HLS_JS
    found = {}
    for name, path in files.items():
        data = re.sub(rb"\n//# sourceMappingURL=.*\n?", b"\n", path.read_bytes())
        found[name] = Asset(TYPES[path.suffix], data, gzip.compress(data, 9, mtime=0))
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


@routes.get("/static/{version}/{name}")
async def static(request: web.Request) -> web.StreamResponse:
    """Serve a file; one of another release is answered with ours, and not kept."""
    asset = assets().get(request.match_info["name"])
    if asset is None:
        raise web.HTTPNotFound
    ours = request.match_info["version"] == version()
    headers = {"Cache-Control": IMMUTABLE if ours else "no-cache", "Vary": "Accept-Encoding"}
    body = asset.plain
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        body, headers["Content-Encoding"] = asset.packed, "gzip"
    return web.Response(
        body=body, content_type=asset.content_type, charset="utf-8", headers=headers
    )
