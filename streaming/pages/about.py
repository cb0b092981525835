"""Who runs this site and what it keeps, and how it is used."""

from __future__ import annotations

import re

from aiohttp import web

from base.i18n.causes import CAUSES, describe_cause
from base.i18n.format import format_duration
from streaming.context import CONTEXT
from streaming.http.negotiation import checked_language
from streaming.pages.render import page

routes = web.RouteTableDef()


@routes.get("/about")
async def about(request: web.Request) -> web.StreamResponse:
    """Say what this site is, who runs it, what is kept for how long, and the terms of use."""
    config, lang = request.app[CONTEXT].config, checked_language(request)
    kept = [archive.keep for archive in config.archives]
    longest_s = None if None in kept else max((keep for keep in kept if keep), default=None)
    return page(
        request,
        "about.html",
        about=_paragraphs(config.operator.about.in_(lang)),
        terms=_paragraphs(config.operator.terms.in_(lang)),
        kept=longest_s and format_duration(longest_s, lang),
        rewind=format_duration(config.rewind_s, lang),
    )


@routes.get("/help")
async def help_(request: web.Request) -> web.StreamResponse:
    """Say how to watch, why recordings have gaps, and how a copy is had and checked."""
    config, lang = request.app[CONTEXT].config, checked_language(request)
    return page(
        request,
        "help.html",
        rewind=format_duration(config.rewind_s, lang),
        causes=[describe_cause(cause, lang) for cause in CAUSES],
    )


def _paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a text, which an empty line ends."""
    return [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]
