"""What all pages share: templates in three languages, links, the page that says what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Self
from urllib.parse import quote, urlencode

import jinja2
from aiohttp import web

from base.i18n.gettext import LANGUAGES, N_, gettext, translations
from streaming.context import CONTEXT
from streaming.http.assets import address, imported
from streaming.http.negotiation import language_of, takes_gzip
from streaming.stations.messages import cameras_live

TEMPLATES = Path(__file__).parent.parent / "templates"
NAMES = {"kk": ("ҚАЗ", "Қазақша"), "ru": ("РУС", "Русский"), "en": ("ENG", "English")}


class Fields(dict[str, str]):
    """What is said of the fields of a form, by name; nothing of those that are not in it."""

    @classmethod
    def of_errors(cls, errors: Mapping[str, str]) -> Self:
        """Return what is wrong with fields, each as a sentence that begins with a capital."""
        return cls({name: text[:1].upper() + text[1:] for name, text in errors.items()})

    def __missing__(self, name: str) -> str:
        return ""


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
        "languages": [(code, *NAMES[code]) for code in LANGUAGES],
        "static": address,
        "imported": imported,
        "cameras_live": lambda live, count: cameras_live(live, count, lang),
    }
    return found


def page(request: web.Request, name: str, status: int = 200, /, **values: object) -> web.Response:
    """Return a page in the language of who asks: a template, filled with values."""
    text = (
        templates(language_of(request))
        .get_template(name)
        .render(
            election=request.app[CONTEXT].config.election,
            copies=request.app[CONTEXT].config.copies is not None,
            operator=request.app[CONTEXT].config.operator,
            link=lambda path, **query: link(request, path, **query),
            in_language=lambda code: _in_language(request, code),
            hidden_fields=_hidden_fields(request),
            **values,
        )
    )
    response = web.Response(text=text, content_type="text/html", status=status)
    if takes_gzip(request):
        response.enable_compression(web.ContentCoding.gzip)
    response.headers["Vary"] = "Accept-Encoding"
    return response


def link(request: web.Request, path: str, **query: str) -> str:
    """Return an address on this site; it carries the language if one was chosen."""
    if request.query.get("lang") in LANGUAGES:
        query["lang"] = request.query["lang"]
    return f"{path}?{urlencode(query)}" if query else path


def _in_language(request: web.Request, code: str) -> str:
    """Return this page in another language: without its path, which anybody may have written; of
    an answer to a form, whose address shows nothing, the page that the form belongs to."""
    others = [(key, value) for key, value in request.query.items() if key != "lang"]
    path = ""
    if request.method == "POST" and request.path.startswith("/copies/"):
        path = f"/copies/{quote(request.match_info.get('secret', 'new'), safe='')}"
    return f"{path}?{urlencode([*others, ('lang', code)])}"


def _hidden_fields(request: web.Request) -> list[tuple[str, str]]:
    """Return what a form that asks (GET) carries on: the language, if one was chosen."""
    lang = request.query.get("lang")
    return [("lang", lang)] if lang in LANGUAGES else []


def problem_page(request: web.Request, status: int, text: str) -> web.Response:
    """Return the page for an error: what is wrong, in words, and where to go on."""
    if status in (404, 410):
        heading = N_("Page not found")
    else:
        heading = N_("The server does not answer now") if status >= 500 else N_("Request refused")
    title = gettext(heading, language_of(request))
    return page(request, "problem.html", status, title=title, text=text)
