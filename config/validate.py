"""A document against a model: pydantic's findings as problems with file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from config.base import keys
from config.problems import Problem, Wrong, unknown
from config.yamlfile import BROKEN, Loc

M = TypeVar("M", bound=BaseModel)

_FIXES = {
    "string_type": ("expected a text", "write one value, without '- ' or 'key:'"),
    "tuple_type": ("expected a list", "write each on a line of its own, after '- '"),
    "model_type": ("expected settings", "write key: value lines, indented"),
    "bool_parsing": ("neither true nor false", "write true or false"),
    "bool_type": ("neither true nor false", "write true or false"),
    "float_parsing": ("not a number", "write a number, as in 43.2389"),
    "float_type": ("not a number", "write a number, as in 43.2389"),
    "int_parsing": ("not a whole number", "write a whole number"),
    "int_parsing_size": ("not a whole number", "write a smaller number"),
    "int_from_float": ("not a whole number", "write a whole number"),
    "int_type": ("not a whole number", "write a whole number"),
    "too_short": ("the list is empty", "write at least one"),
    "string_too_short": ("is empty", "write something"),
    "string_pattern_mismatch": (
        "not an id",
        "write 1 to 64 of a-z 0-9 _ - (small letters), beginning with a letter or digit",
    ),
}
_OTHER = ("not what belongs here", "see docs/configuration.md")


class Document(Protocol):
    """Data of a file that knows the line of each of its parts."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def data(self) -> object:
        """What it says: dict, list, str, None, and BROKEN for what is wrong and noted."""

    def line(self, loc: Loc) -> int:
        """Return the line of a part."""

    def where(self, loc: Loc) -> str:
        """Return the name of a part."""


def validate(model: type[M], document: Document, problems: list[Problem], at: Loc = ()) -> M | None:
    """Return what stands at a place as a model; None, and all that is wrong, if it is not one."""
    data: Any = document.data
    shared: dict[BaseModel, BaseModel] = {}  # equal parts, to be kept once
    for step in at:
        data = data[step]
    try:
        return model.model_validate(data, by_alias=True, by_name=False, context=shared)
    except ValidationError as error:
        problems += (
            _problem(model, document, at, found)
            for found in error.errors(include_url=False)
            if not _follows(found)
        )
    return None


def note(document: Document, loc: Loc, what: str, fix: str, warning: bool = False) -> Problem:
    """Return a problem with a part of a document."""
    return Problem(document.path, document.line(loc), document.where(loc), what, fix, warning)


def _follows(found: ErrorDetails) -> bool:
    """Tell whether an error only follows from another one that is noted."""
    return (
        found["input"] is BROKEN
        or found["type"] == "default_factory_not_called"
        or (found["type"] == "too_short" and bool(found["input"]))
    )


def _problem(model: type[BaseModel], document: Document, at: Loc, found: ErrorDetails) -> Problem:
    loc, kind, context = (*at, *found["loc"]), found["type"], found.get("ctx", {})
    if isinstance(wrong := context.get("error"), Wrong):
        loc = (*loc, wrong.key) if wrong.key else loc
        return note(document, loc, wrong.what, wrong.fix)
    if kind == "missing":
        return note(document, loc, "is missing", "write it; it has no default")
    if kind == "extra_forbidden":
        known = list(_keys_at(model, found["loc"][:-1]))
        what, fix = unknown("key", str(loc[-1]), known)
        return Problem(document.path, document.line(loc), document.where(loc[:-1]), what, fix)
    if found["input"] is None:
        return note(document, loc, "has no value", "write one, or remove the line")
    if kind == "literal_error":
        return note(document, loc, "not one of the choices", f"write {context['expected']}")
    if limit := next((k for k in ("ge", "le") if k in context), None):
        what = "is too small" if limit == "ge" else "is too large"
        side = "least" if limit == "ge" else "most"
        return note(document, loc, what, f"write at {side} {context[limit]:.10g}")
    return note(document, loc, *_FIXES.get(kind, _OTHER))


def _keys_at(model: type[BaseModel], loc: Loc) -> dict[str, Any]:
    """Return the keys that are known in the part of a file that `loc` names."""
    for step in loc:
        if isinstance(step, str):
            model = _model_in(keys(model)[step]) or model
    return keys(model)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for a in get_args(annotation) if (m := _model_in(a))), None)
