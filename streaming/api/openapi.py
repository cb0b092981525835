"""The description of the API (OpenAPI 3.1), written by hand and held to the routes by a test."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from base.i18n.gettext import LANGUAGES
from storage.records import GapCause
from streaming.context import CONTEXT
from streaming.http.responses import MOST_PAGE, json_response
from streaming.stations.featured import MOST_WALL

STATES = ["idle", "connecting", "recording", "stalled", "backoff", "unknown"]
Schema = dict[str, Any]

routes = web.RouteTableDef()


@routes.get("/api/v1/openapi.json")
async def openapi(request: web.Request) -> web.StreamResponse:
    """Serve this description."""
    said = DESCRIPTION
    if request.app[CONTEXT].config.copies:
        from streaming.api import openapi_copies as copies  # which is made of the parts below

        schemas = {"schemas": SCHEMAS | copies.SCHEMAS}
        said = DESCRIPTION | {"paths": PATHS | copies.PATHS, "components": schemas}
    return json_response(request, said, cache="public, max-age=300")


def _object(_sometimes: Schema | None = None, **properties: Schema) -> Schema:
    """Return an object of these properties and no others; only some are there sometimes."""
    return {
        "type": "object",
        "properties": properties | (_sometimes or {}),
        "required": list(properties),
        "additionalProperties": False,
    }


def _text(description: str = "", **more: Any) -> Schema:
    return {"type": "string", **({"description": description} if description else {}), **more}


def _number(description: str = "", **more: Any) -> Schema:
    return _text(description, **more) | {"type": "integer"}


def _list(items: Schema, description: str = "") -> Schema:
    return _text(description) | {"type": "array", "items": items}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


ID = _text(pattern="^[a-z0-9][a-z0-9_-]{0,63}$")
MS = _number("milliseconds of UTC since 1970")
TALLY = {
    "stations": _number("all stations", minimum=0),
    "stations_live": _number("stations with a camera that is recorded now", minimum=0),
    "cameras": _number("all cameras", minimum=0),
    "cameras_live": _number("cameras that are recorded now", minimum=0),
}
LIVE_WORDS = {"words": _text("how much of it is live, as a sentence")}
AREA = {"id": _text("stable; part of addresses"), "name": _text(), **TALLY, **LIVE_WORDS}
CAMERA = {"id": ID, "title": _text(), "state": _text("what its recorder does", enum=STATES)}
WORDS = _text("why there is no picture now; empty when there is one")
STATION = {
    "id": ID,
    "number": _text("as people know it"),
    "name": _text(),
    "region": _text(),
    "district": _text(),
    "address": _text(),
    "time_zone": _text("IANA name"),
    "latitude": _or_null({"type": "number", "minimum": -90, "maximum": 90}),
    "longitude": _or_null({"type": "number", "minimum": -180, "maximum": 180}),
}
LIVE = {
    "live": _number("cameras that are recorded now", minimum=0),
    "picture": _or_null(_text("address on this site of a live camera's latest picture")),
}
SCHEMAS: dict[str, Schema] = {
    "Problem": _object(
        type=_text(), title=_text(), status=_number(), detail=_text("what is wrong, for people")
    ),
    "Election": _object(
        now_ms=MS,
        id=ID,
        name=_text(),
        date=_text(format="date"),
        time_zone=_text("IANA name"),
        polling_hours=_or_null(
            _object(**{"from": _text("HH:MM, local"), "to": _text("HH:MM, local")})
        ),
        windows=_list(_object(from_ms=MS, to_ms=MS), "when any camera is to be recorded"),
        **TALLY,
        **LIVE_WORDS,
        regions=_list(_ref("Area")),
    ),
    "Area": _object(**AREA),
    "Region": _object(**AREA, districts=_list(_ref("Area"))),
    "Camera": _object(**CAMERA),
    "ListedStation": _object(**STATION, cameras=_list(_ref("Camera")), **LIVE),
    "Stations": _object(
        {"suggestions": _list(_ref("ListedStation"), "near ones, where a search finds none")},
        stations=_list(_ref("ListedStation")),
        total=_number("found on all pages", minimum=0),
        next_after=_or_null(_text("what `after` is for the next page; null on the last")),
    ),
    "Station": _object(**STATION, cameras=_list(_object(**CAMERA, words=WORDS)), **LIVE),
    "Wall": _object(
        wall=_list(
            _object(
                station=ID, number=_text(), name=_text(), camera=ID, title=_text(), picture=_text()
            )
        )
    ),
    "Recording": _object(
        {
            "lost": _number("packets that did not come, where there are such", minimum=1),
            "damaged": _number("pictures that are not whole", minimum=1),
            "restarted": {
                "type": "boolean",
                "description": "the camera began its stream anew: more may be missing",
            },
            "removed_ms": MS,
            "removed_reason": _text("why it is kept no longer"),
        },
        record_seq=_number("one above the last of the camera"),
        start_ms=MS,
        end_ms=MS,
    ),
    "Gap": _object(
        gap_no=_number(),
        start_ms=MS,
        end_ms=_or_null(MS | {"description": "null while it lasts"}),
        cause=_text(enum=[cause.value for cause in GapCause]),
        words=_text("the cause, for people"),
    ),
    "Timeline": _object(
        now_ms=MS,
        station=ID,
        from_ms=MS,
        to_ms=MS,
        complete={
            "type": "boolean",
            "description": "false while the catalogue is away, and only the spool is told",
        },
        cameras=_list(
            _object(
                **CAMERA, words=WORDS, recordings=_list(_ref("Recording")), gaps=_list(_ref("Gap"))
            )
        ),
    ),
    "OEmbed": _object(
        version=_text(const="1.0"),
        type=_text(const="video"),
        title=_text(),
        provider_name=_text(),
        provider_url=_text(),
        cache_age=_number("seconds"),
        width=_number("pixels"),
        height=_number("pixels"),
        html=_text("an iframe"),
        thumbnail_url=_text(),
        thumbnail_width=_number("pixels"),
        thumbnail_height=_number("pixels"),
    ),
}


def _in_query(name: str, description: str, schema: Schema) -> Schema:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _in_path(name: str) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": _text()}


LANG = _in_query("lang", "language of the answer; else Accept-Language", _text(enum=[*LANGUAGES]))
MOMENT = _text(pattern=r"^([0-9]{1,15}|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}(:[0-9]{2})?Z)$")


def _limit(most: int, default: int) -> Schema:
    schema = {"type": "integer", "minimum": 1, "maximum": most, "default": default}
    return _in_query("limit", "at most so many", schema)


def _get(summary: str, schema: str, *parameters: Schema, errors: tuple[int, ...] = ()) -> Schema:
    """Return the description of a path that answers GET and HEAD."""
    problem = {"application/problem+json": {"schema": _ref("Problem")}}
    said = {400: "what is wrong with the request", 404: "there is none", 501: "not served"} | {
        429: "you asked for too much: Retry-After says when to go on",
        503: "all together ask for too much: Retry-After",
    }
    responses: Schema = {
        "200": {
            "description": "as asked",
            "content": {"application/json": {"schema": _ref(schema)}},
        },
        "304": {"description": "the client has it (If-None-Match)"},
        "400": {"description": said[400], "content": problem},
    }
    responses |= {str(n): {"description": said[n], "content": problem} for n in errors}
    operation = {"summary": summary, "parameters": [*parameters, LANG], "responses": responses}
    return {"get": operation}


PATHS = {
    "/api/v1/election": _get("The election, and how much of it is live, by region", "Election"),
    "/api/v1/regions/{region}": _get(
        "A region, and how much of it is live, by district",
        "Region",
        _in_path("region"),
        errors=(404,),
    ),
    "/api/v1/stations": _get(
        "List and search stations",
        "Stations",
        _in_query(
            "q",
            "number, name, address, district or region, in Kazakh, Russian or Latin letters",
            _text(maxLength=200),
        ),
        _in_query("region", "only of the region with this id", _text()),
        _in_query("district", "only of the district with this id", _text()),
        _in_query("live", "1: only those with a live camera", _number(minimum=0, maximum=1)),
        _limit(MOST_PAGE, MOST_PAGE),
        _in_query("after", "the `next_after` of the page before, as it is", _text()),
        errors=(404, 429, 503),
    ),
    "/api/v1/wall": _get(
        "Some live cameras with their pictures; others every ten seconds",
        "Wall",
        _limit(MOST_WALL, 12),
    ),
    "/api/v1/stations/{station}": _get(
        "One station, and why a camera has no picture",
        "Station",
        _in_path("station"),
        errors=(404,),
    ),
    "/api/v1/stations/{station}/timeline": _get(
        "Recordings and gaps of a station in at most 7 days",
        "Timeline",
        _in_path("station"),
        _in_query("from", "RFC 3339 or milliseconds of UTC; else an hour before `to`", MOMENT),
        _in_query("to", "RFC 3339 or milliseconds of UTC; else now", MOMENT),
        errors=(404, 429, 503),
    ),
    "/api/v1/oembed": _get(
        "How to embed a station or a camera (oEmbed 1.0)",
        "OEmbed",
        _in_query("url", "address of a station, or of an embedded camera, of this site", _text())
        | {"required": True},
        _in_query("maxwidth", "pixels", _number(minimum=1, maximum=100_000)),
        _in_query("maxheight", "pixels", _number(minimum=1, maximum=100_000)),
        _in_query("format", "only json is served", _text(enum=["json"])),
        errors=(404, 501),
    ),
    "/api/v1/openapi.json": {
        "get": {
            "summary": "This description",
            "responses": {
                "200": {
                    "description": "OpenAPI 3.1",
                    "content": {"application/json": {"schema": {"type": "object"}}},
                },
                "304": {"description": "the client has it (If-None-Match)"},
            },
        }
    },
}
DESCRIPTION: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {
        "title": "Kuager",
        "version": "1",
        "description": "Polling stations, their cameras, and what was recorded. Open to every "
        "site (CORS), read only; errors are problems as RFC 9457 says; what is live is a second "
        "or two old.",
    },
    "servers": [{"url": "/"}],
    "paths": PATHS,
    "components": {"schemas": SCHEMAS},
}
