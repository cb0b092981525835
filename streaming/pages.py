"""Plain pages."""

from __future__ import annotations

from pathlib import Path

import jinja2
from aiohttp import web

from streaming.api import described, find_stations, with_words
from streaming.language import language
from streaming.views import VIEWS

HERE = Path(__file__).parent
HLS_JS = HERE / "node_modules" / "hls.js" / "dist" / "hls.light.min.mjs"

routes = web.RouteTableDef()
_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(HERE / "templates"),
    autoescape=True,
    trim_blocks=True,
    extensions=["jinja2.ext.i18n"],
)
_templates.install_null_translations(newstyle=True)  # type: ignore[attr-defined]


def _page(request: web.Request, name: str, status: int = 200, **values: object) -> web.Response:
    election = request.app[VIEWS].config.election
    text = _templates.get_template(name).render(lang=language(request), election=election, **values)
    return web.Response(text=text, content_type="text/html", status=status)


@routes.get("/")
async def home(request: web.Request) -> web.StreamResponse:
    """List the stations; `q` searches."""
    views = request.app[VIEWS]
    found = find_stations(request)
    return _page(
        request,
        "home.html",
        stations=[described(views, language(request), s) for s in found.page],
        query=request.query.get("q", ""),
        following=found.next_after,
    )


@routes.get("/stations/{station}")
async def station(request: web.Request) -> web.StreamResponse:
    """Show one station with all its angles playing."""
    views = request.app[VIEWS]
    found = views.stations.get(request.match_info["station"])
    if found is None:
        return _page(request, "missing.html", 404)
    return _page(request, "station.html", station=with_words(views, language(request), found))
