"""What all pages share: templates in three languages, links, the page that says what is wrong."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from urllib.parse import urlencode

import jinja2
from aiohttp import web

from base.i18n.gettext import LANGUAGES, translations
from streaming.context import CONTEXT
from streaming.http.assets import address, imported
from streaming.http.negotiation import language_of
from streaming.stations.messages import cameras_live

TEMPLATES = Path(__file__).parent.parent / "templates"
NAMES = {"kk": "Қазақша", "ru": "Русский", "en": "English"}


@cache
def templates(lang: str) -> jinja2.Environment:
    """Return the templates with the sentences of a language."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        extensions=["jinja2.ext.i18n"],
        auto_reload=False,  # it would look at the files for each page
    )
    found.install_gettext_translations(translations(lang), newstyle=True)  # type: ignore[attr-defined]
    found.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    found.globals |= {
        "lang": lang,
        "languages": [(code, NAMES[code]) for code in LANGUAGES],
        "static": address,
        "imported": imported,
        "cameras_live": lambda live, count: cameras_live(live, count, lang),
    }
    return found


def page(request: web.Request, name: str, status: int = 200, **values: object) -> web.Response:
    """Return a page in the language of who asks."""
    text = (
        templates(language_of(request))
        .get_template(name)
        .render(
            election=request.app[CONTEXT].config.election,
            copies=request.app[CONTEXT].config.copies is not None,
            link=lambda path, **query: link(request, path, **query),
            in_language=lambda code: _in_language(request, code),
            **values,
        )
    )
    response = web.Response(text=text, content_type="text/html", status=status)
    response.enable_compression()
    response.headers["Vary"] = "Accept-Encoding"
    return response


def link(request: web.Request, path: str, **query: str) -> str:
    """Return an address on this site; it carries the language if one was chosen."""
    if request.query.get("lang") in LANGUAGES:
        query["lang"] = request.query["lang"]
    return f"{path}?{urlencode(query)}" if query else path


def _in_language(request: web.Request, code: str) -> str:
    """Return this page in another language: without its path, which anybody may have written."""
    others = [(key, value) for key, value in request.query.items() if key != "lang"]
    return f"?{urlencode([*others, ('lang', code)])}"


def problem_page(request: web.Request, status: int, text: str) -> web.Response:
    """Return the page for an error: what is wrong, in words, and where to go on."""
    return page(request, "problem.html", status, text=text)
