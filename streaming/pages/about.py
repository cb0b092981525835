"""Who runs this site and what it keeps, and how it is used."""

from __future__ import annotations

import re

from aiohttp import web

from base.i18n.causes import CAUSES, describe_cause
from base.i18n.format import format_duration
from base.i18n.gettext import gettext
from config.model import Config
from streaming.context import CONTEXT
from streaming.http.negotiation import checked_language
from streaming.pages.render import page

routes = web.RouteTableDef()


@routes.get("/about")
async def about(request: web.Request) -> web.StreamResponse:
    """Say what this site is, who runs it, what is kept for how long, and the terms of use."""
    config, lang = request.app[CONTEXT].config, checked_language(request)
    return page(
        request,
        "about.html",
        200,
        about=_paragraphs(config.operator.about.in_(lang)),
        terms=_paragraphs(config.operator.terms.in_(lang)),
        **kept(config, lang),
    )


def kept(config: Config, lang: str) -> dict[str, str]:
    """Return how far back recordings can be watched here, and how long an archive keeps them."""
    keeps = [archive.keep for archive in config.archives]
    limits = [keep for keep in keeps if keep is not None]
    whole = len(limits) == len(keeps)
    return {
        "rewind": format_duration(config.rewind_s, lang),
        "kept": format_duration(max(limits), lang) if whole else gettext("without a limit", lang),
    }


@routes.get("/help")
async def help_(request: web.Request) -> web.StreamResponse:
    """Say how to watch, why recordings have gaps, and how a copy is had and checked."""
    config, lang = request.app[CONTEXT].config, checked_language(request)
    return page(
        request,
        "help.html",
        200,
        **kept(config, lang),
        causes=[describe_cause(cause, lang) for cause in CAUSES],
    )


def _paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a text, which an empty line ends."""
    return [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]
