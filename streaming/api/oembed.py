"""What other programs and sites are given of a station: a list for players, an iframe for pages."""

from __future__ import annotations

import html
from urllib.parse import parse_qs, urlencode, urlsplit

from aiohttp import web

from base.i18n.gettext import gettext
from streaming.context import CONTEXT
from streaming.http.negotiation import MOST_PARAMETERS, checked_language, language_of
from streaming.http.parameters import whole_number
from streaming.http.responses import json_response
from streaming.http.site import base_url
from streaming.stations.serialize import picture_url

LIST_TYPE = "audio/x-mpegurl"  # which VLC opens; HLS would be vnd.apple.mpegurl
WIDTH, HEIGHT = 640, 360
THUMB_WIDTH, THUMB_HEIGHT = 320, 180
CACHE_S = 86_400
MOST_TIME = 64  # letters of a moment

routes = web.RouteTableDef()


@routes.get("/stations/{station}/all.m3u")
async def all_m3u(request: web.Request) -> web.StreamResponse:
    """Serve a list of all angles of a station for VLC and other players."""
    context, lang = request.app[CONTEXT], checked_language(request)
    station, base = context.station(request), base_url(request)
    lines = ["#EXTM3U"]
    for camera in station.cameras:
        title = " ".join(f"{station.number} {camera.title.in_(lang)}".split())
        lines.append(f"#EXTINF:-1,{title}")
        lines.append(f"{base}/live/{station.id}/{camera.id}/index.m3u8")
    headers = {
        "Content-Disposition": f'inline; filename="{station.id}.m3u"',
        "Cache-Control": "public, max-age=60",
    }
    return web.Response(
        text="\n".join(lines) + "\n", content_type=LIST_TYPE, charset="utf-8", headers=headers
    )


@routes.get("/api/v1/oembed")
async def oembed(request: web.Request) -> web.StreamResponse:
    """Describe how a page embeds a station or one of its cameras (oEmbed 1.0)."""
    context, lang = request.app[CONTEXT], checked_language(request)
    width = whole_number(request, "maxwidth", WIDTH, 1, 100_000)
    height = whole_number(request, "maxheight", HEIGHT, 1, 100_000)
    if request.query.get("format", "json") != "json":
        raise web.HTTPNotImplemented(text=gettext("Only format=json is served.", lang))
    base, (parts, moment) = base_url(request), _asked(request)
    station = context.stations.get(parts[1])
    cameras = {c.id: c for c in station.cameras} if station else {}
    camera = cameras.get(parts[2]) if len(parts) == 3 else next(iter(cameras.values()), None)
    if station is None or camera is None:
        raise web.HTTPNotFound(text=gettext("This address names no camera of this site.", lang))
    width = max(1, min(width, height * 16 // 9))
    height = max(1, width * 9 // 16)
    title = f"{station.number} · {station.name.in_(lang)} · {camera.title.in_(lang)}"
    source = f"{base}/embed/{station.id}/{camera.id}{moment}"
    return json_response(
        request,
        {
            "version": "1.0",
            "type": "video",
            "title": title,
            "provider_name": "Kuager",
            "provider_url": f"{base}/",
            "cache_age": CACHE_S,
            "width": width,
            "height": height,
            "html": f'<iframe src="{html.escape(source)}" width="{width}" height="{height}" '
            f'title="{html.escape(title)}" style="border:0" allow="fullscreen" '
            'referrerpolicy="no-referrer" loading="lazy"></iframe>',
        }
        | ({} if moment else _thumbnail(base + picture_url(station, camera))),
        cache=f"public, max-age={CACHE_S}",
    )


def _thumbnail(url: str) -> dict[str, object]:
    """Return the picture of now, which is none of another moment."""
    return {
        "thumbnail_url": url,
        "thumbnail_width": THUMB_WIDTH,
        "thumbnail_height": THUMB_HEIGHT,
    }


def _asked(request: web.Request) -> tuple[list[str], str]:
    """Return `stations` and an id, or `embed` and two, of the address asked for; a third is the
    `angle` that the address of a station may name. The second is the moment `t` that it names, as
    a query: the embedded player says what is wrong with it.

    Raises 400 where none is given, 404 for one of another site or of another kind.
    """
    url = request.query.get("url")
    if not url:
        text = gettext(
            "'url' is missing: write the address of a station of this site.", language_of(request)
        )
        raise web.HTTPBadRequest(text=text)
    base = urlsplit(base_url(request))
    try:
        asked = urlsplit(url)
        same = (asked.scheme, asked.netloc) == (base.scheme, base.netloc)
        query = parse_qs(asked.query, max_num_fields=MOST_PARAMETERS)
    except ValueError:
        same = False
    parts = asked.path.removeprefix(base.path).strip("/").split("/") if same else []
    if not parts or (parts[0], len(parts)) not in (("stations", 2), ("embed", 3)):
        raise web.HTTPNotFound(
            text=gettext("This address names no camera of this site.", language_of(request))
        )
    angle = query.get("angle", [])[: parts[0] == "stations"]
    moment = [("t", text[:MOST_TIME]) for text in query.get("t", [])[:1]]
    return parts + angle, f"?{urlencode(moment)}" if moment else ""
