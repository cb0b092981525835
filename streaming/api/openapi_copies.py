"""What openapi.py says of copies, where the configuration has them."""

from __future__ import annotations

from typing import Any

from copies.states import State
from storage.catalogue.orders import MOST_NUMBER
from storage.records import GapCause
from streaming.api.openapi import (
    ID,
    LANG,
    MS,
    Schema,
    _list,
    _number,
    _object,
    _or_null,
    _ref,
    _text,
)

MONEY = _number("in the smallest unit of the currency")
PUBLIC = {
    "number": _or_null(_number("of the register; null until it is ordered")),
    "state": _text(enum=[*State]),
    "station": ID,
    "station_number": _text(),
    "station_name": _text(),
    "cameras": _list(ID),
    "from_ms": MS,
    "to_ms": MS,
    "ordered_ms": _or_null(MS),
    "paid_ms": _or_null(MS),
    "ready_ms": _or_null(MS),
    "ended_ms": _or_null(MS),
}
SCHEMAS: dict[str, Schema] = {
    "RegisteredOrder": _object(**PUBLIC),
    "Register": _object(
        orders=_list(_ref("RegisteredOrder"), "newest first"),
        next_before=_or_null(_number("what `before` is for the next page; null on the last")),
    ),
    "CopyFile": _object(
        name=_text(),
        start_ms=MS,
        end_ms=MS,
        length=_number("bytes"),
        etag=_text(),
        sha256=_or_null(_text("once the file was read", pattern="^[0-9a-f]{64}$")),
        url=_or_null(_text("while it can be downloaded")),
    ),
    "CopyFootage": _object(
        camera=ID,
        title=_text(),
        exists_ms=_number("milliseconds of the stretch that exist"),
        gaps=_list(_object(start_ms=MS, end_ms=MS, cause=_text(enum=[*GapCause]))),
        removed=_list(
            _object(start_ms=MS, end_ms=MS, removed_ms=_or_null(MS), reason=_text()),
            "recorded, and not to be had: with `removed_ms` removed, without it away",
        ),
        files=_list(_ref("CopyFile")),
    ),
    "Price": _object(
        currency=_text("ISO 4217"),
        per_minute=MONEY,
        lines=_list(
            _object(camera=ID, exists_ms=_number(), billed_ms=_number(), net=MONEY),
            "one for each camera",
        ),
        minimum=_number("added to reach the least price of an order"),
        net=MONEY,
        tax_basis=_number("hundredths of a percent"),
        tax=MONEY,
        total=MONEY,
    ),
    "Order": _object(
        **PUBLIC,
        link=_text("the page of the order: its only key"),
        asked_to_ms=MS,
        until_ms=_or_null(MS),
        reason=_or_null(_text("why it was rejected")),
        price=_ref("Price"),
        received=MONEY,
        owed_back=_list(_object(amount=MONEY, currency=_text())),
        invoice=_or_null(_text("a PDF: to pay by, and afterwards to show that it is paid")),
        pay_online=_list(_text("a provider")),
        zip=_or_null(_text("while it can be downloaded, once the SHA-256 of each file is known")),
        manifest=_or_null(_text("while it can be downloaded")),
        hashed_bytes=_number(),
        hashed_words=_text(),
        bytes=_number(),
        bytes_words=_text(),
        footage=_list(_ref("CopyFootage")),
    ),
}
_SAID = {
    400: "what is wrong with the request",
    403: "sent by a page of another site",
    404: "there is none",
    408: "its body was not sent to its end in 10 s",
    409: "does not fit the order's state; nothing was changed",
    413: "its body has more than 256 kB",
    429: "too many requests; Retry-After says when",
    503: "the database, an archive or the payment provider is away; nothing was changed",
}


def _does(
    summary: str,
    schema: str,
    *errors: int,
    status: int = 200,
    body: Schema | None = None,
    parameters: tuple[Schema, ...] = (),
) -> Schema:
    problem = {"application/problem+json": {"schema": _ref("Problem")}}
    content = {"application/json": {"schema": _ref(schema)}}
    responses: Schema = {str(status): {"description": "as asked", "content": content}}
    responses |= {str(n): {"description": _SAID[n], "content": problem} for n in errors}
    operation = {"summary": summary, "parameters": [*parameters, LANG], "responses": responses}
    if body is not None:
        operation["requestBody"] = {"content": {"application/json": {"schema": body}}}
    return operation


_POSTED = (400, 403, 408, 413)  # of everything that is posted
_SECRET = {
    "name": "secret",
    "in": "path",
    "required": True,
    "schema": _text(pattern="^[A-Za-z0-9_-]{32}$"),
}
_MOMENT: Schema = {"anyOf": [MS, _text("RFC 3339 with a zone")]}
PATHS: dict[str, Any] = {
    "/api/v1/copies/quotes": {
        "post": _does(
            "Ask what exists of a stretch and what it costs",
            "Order",
            *(*_POSTED, 429, 503),
            status=201,
            body=_object(station=ID, cameras=_list(ID), **{"from": _MOMENT, "to": _MOMENT}),
        )
    },
    "/api/v1/copies/orders/{secret}": {
        "get": _does("An order", "Order", 404, 429, 503, parameters=(_SECRET,))
    },
    "/api/v1/copies/orders/{secret}/order": {
        "post": _does(
            "Order what was quoted",
            "Order",
            *(*_POSTED, 404, 409, 429, 503),
            body=_object(
                {
                    "email": _text(
                        "may be left out; removed as the order ends; without letters not kept"
                    )
                }
            ),
            parameters=(_SECRET,),
        )
    },
    "/api/v1/copies/orders/{secret}/cancel": {
        "post": _does(
            "Take an order back before it is paid",
            "Order",
            *(*_POSTED, 404, 409, 429, 503),
            parameters=(_SECRET,),
        )
    },
    "/api/v1/copies/register": {
        "get": _does(
            "All orders without personal data, newest first",
            "Register",
            *(400, 429, 503),
            parameters=(
                {
                    "name": "before",
                    "in": "query",
                    "description": "the `next_before` of the page before",
                    "schema": _number(minimum=0, maximum=MOST_NUMBER),
                },
            ),
        )
    },
}
