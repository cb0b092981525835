"""The latest picture of a camera by HTTP; where there is none, a slate that says why.

The slate is an SVG with status 404: an <img> shows it, a program sees that it is no picture.
"""

from __future__ import annotations

import html
import os
import textwrap
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from base.i18n.gettext import gettext
from config.model import Camera, Station
from storage.media.jpeg import time_of
from streaming.context import CONTEXT, AppContext
from streaming.http.negotiation import checked_language
from streaming.http.prepared import OFFER, Offer
from streaming.http.ranges import Content, send
from streaming.media.elsewhere import elsewhere_picture

LOOK_S = 0.5  # between two looks whether there is another one
FRESH_S = 60  # an older picture is not of now; or three intervals, where these are longer
CACHE = "public, max-age=5"
SLATE = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 360" width="640" height="360" \
xml:lang="{lang}" font-family="sans-serif" font-size="26" text-anchor="middle">
<title>{title}. {words}</title>
<rect width="640" height="360" fill="#1c1f24"/>
{lines}
</svg>
"""
LINE = '<text x="320" y="{y}" fill="{fill}">{text}</text>'

routes = web.RouteTableDef()


@routes.get("/live/{station}/{camera}/thumb.jpg")
async def thumb(request: web.Request) -> web.StreamResponse:
    """Serve the latest picture of a camera, 320 pixels wide."""
    return await _picture(request, "thumb.jpg")


@routes.get("/live/{station}/{camera}/picture.jpg")
async def picture(request: web.Request) -> web.StreamResponse:
    """Serve the latest picture of a camera, at most 1280 pixels wide."""
    return await _picture(request, "picture.jpg")


def has_picture(context: AppContext, station: Station, camera: Camera) -> bool:
    """Tell whether a camera has a picture of now; of one that another machine records, whether
    pictures are made."""
    if context.is_elsewhere(station, camera):
        return context.config.pictures_s is not None
    path = context.config.spool / station.id / camera.id / "thumb.jpg"
    return (stat := _stat(path)) is not None and _is_fresh(context, stat)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _is_fresh(context: AppContext, stat: os.stat_result) -> bool:
    fresh_s = max(FRESH_S, 3 * (context.config.pictures_s or 0))
    return abs(context.clock() / 1000 - stat.st_mtime) < fresh_s


async def _picture(request: web.Request, name: str) -> web.StreamResponse:
    context = request.app[CONTEXT]
    station, camera = context.station_and_camera(request)
    path = context.config.spool / station.id / camera.id / name

    def is_live() -> bool:
        return context.directory.is_live(station, camera)

    if is_live() and (
        there := await elsewhere_picture(context, context.name(station, camera), name)
    ):
        return await send(request, there, {"Cache-Control": CACHE})
    found = read_picture(context, path) if is_live() else None
    if found is None:  # only this has a language, so caches need one picture for all
        lang = checked_language(request)
        words = context.why_no_picture(station, camera, lang)
        not_yet = gettext("There is no still picture yet; the video can be watched.", lang)
        return _slate(lang, station, camera, words or not_yet)
    content, data, stat = found
    newest = Newest(path, stat)

    def lasts() -> bool:
        is_ours = not context.is_elsewhere(station, camera)
        return context.is_fresh() and is_ours and is_live() and newest.lasts(context)

    request[OFFER] = Offer(content.etag, data, lasts)
    return await send(request, content, {"Cache-Control": CACHE})


def read_picture(context: AppContext, path: Path) -> tuple[Content, bytes, os.stat_result] | None:
    """Return a picture of now, changed last at the moment that it shows; None where there is
    none."""
    try:
        with path.open("rb") as file:
            stat, data = os.fstat(file.fileno()), file.read()
    except OSError:
        return None
    if not _is_fresh(context, stat):
        return None

    async def read(start: int, stop: int) -> AsyncGenerator[bytes, None]:
        yield data[start:stop]

    shown_ms = time_of(data)
    shown_s = stat.st_mtime if shown_ms is None else shown_ms / 1000
    content = Content("image/jpeg", len(data), _etag(stat), read, int(shown_s))
    return content, data, stat


@dataclass(slots=True)
class Newest:
    """A picture that was read; whether there is another one is looked at every LOOK_S."""

    path: Path
    stat: os.stat_result
    looked_s: float = field(default_factory=time.monotonic)
    same: bool = True

    def lasts(self, context: AppContext) -> bool:
        """Tell whether it is still the newest, and one of now."""
        if (now_s := time.monotonic()) - self.looked_s >= LOOK_S:
            self.looked_s, stat = now_s, _stat(self.path)
            self.same = stat is not None and _etag(stat) == _etag(self.stat)
        return self.same and _is_fresh(context, self.stat)


def _etag(stat: os.stat_result) -> str:
    return f'"{stat.st_mtime_ns:x}-{stat.st_size:x}"'


def _slate(lang: str, station: Station, camera: Camera, words: str) -> web.Response:
    """Return a dark picture of 16:9 that says which camera has no picture, and why."""
    title = f"{station.number} · {camera.title.in_(lang)}"
    lines = [(one, "#aab2bd") for one in textwrap.wrap(title, 40)[:2]]
    lines += [(one, "#ffffff") for one in textwrap.wrap(words, 40)[:5]]
    top = 190 - 17 * len(lines)
    text = SLATE.format(
        lang=lang,
        title=html.escape(title),
        words=html.escape(words),
        lines="\n".join(
            LINE.format(y=top + 34 * n + 17, fill=fill, text=html.escape(one))
            for n, (one, fill) in enumerate(lines)
        ),
    )
    return web.Response(status=404, text=text, content_type="image/svg+xml", charset="utf-8")
