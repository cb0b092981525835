"""The description of the API: openapi.yaml, which tests hold to the routes and their answers."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from streaming.context import CONTEXT
from streaming.http.responses import json_response

COPIES = "/api/v1/copies/"  # served where copies are sold

routes = web.RouteTableDef()


@cache
def description(copies: bool) -> dict[str, Any]:
    """Return the description, with or without copies; raises OSError and YAMLError."""
    text = Path(__file__).with_name("openapi.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = yaml.safe_load(text)
    if not copies:
        for path in [path for path in found["paths"] if path.startswith(COPIES)]:
            del found["paths"][path]
    return found


@routes.get("/api/v1/openapi.json")
async def openapi(request: web.Request) -> web.StreamResponse:
    """Serve this description."""
    copies = request.app[CONTEXT].config.copies is not None
    return json_response(request, description(copies), cache="public, max-age=300")
