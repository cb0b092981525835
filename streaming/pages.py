"""The pages. Each is whole without scripts; scripts only add to it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jinja2
from aiohttp import web

from streaming.api import described, find_stations, with_words
from streaming.assets import address
from streaming.language import language, sentences
from streaming.views import VIEWS

HERE = Path(__file__).parent
LANGUAGES = (("kk", "Қазақша"), ("ru", "Русский"), ("en", "English"))

routes = web.RouteTableDef()


@cache
def templates(lang: str) -> jinja2.Environment:
    """Return the templates with the sentences of a language."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        extensions=["jinja2.ext.i18n"],
    )
    found.install_gettext_translations(sentences(lang), newstyle=True)  # type: ignore[attr-defined]
    found.globals |= {"static": address, "languages": LANGUAGES}
    return found


def page(request: web.Request, name: str, status: int = 200, **values: Any) -> web.Response:
    """Return a page in the language of who asks; links carry a language that was chosen."""
    lang = language(request)
    chosen = {"lang": lang} if "lang" in request.query else {}

    def link(path: str, **query: str) -> str:
        query |= chosen
        return f"{path}?{urlencode(query)}" if query else path

    def in_language(code: str) -> str:
        return f"{request.path}?{urlencode([*_others(request), ('lang', code)])}"

    text = (
        templates(lang)
        .get_template(name)
        .render(
            lang=lang,
            election=request.app[VIEWS].config.election,
            copies=request.app[VIEWS].config.copies is not None,
            link=link,
            in_language=in_language,
            **values,
        )
    )
    answer = web.Response(text=text, content_type="text/html", status=status)
    answer.enable_compression()
    return answer


def _others(request: web.Request) -> list[tuple[str, str]]:
    return [(key, value) for key, value in request.query.items() if key != "lang"]


@routes.get("/")
async def home(request: web.Request) -> web.StreamResponse:
    """List the stations; `q` searches."""
    views = request.app[VIEWS]
    found = find_stations(request)
    return page(
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
        return page(request, "missing.html", 404)
    return page(request, "station.html", station=with_words(views, language(request), found))
