"""YAML -> plain data whose every part knows its line.

Scalars stay text, as they stand in the file: YAML 1.1 would read `0117` as octal, `20:00` as a
number and `no` as false. Tags are refused, and anchors of scalars: no setting needs them, and a
password written without quotes may begin with `*`, `&` or `!`. Lists and mappings may have anchors,
because programs that write YAML make them; an alias is a copy.

Built from libyaml's events and not from its nodes, because its composer calls itself for every
level and a file of 100,000 `[` ends the process.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from config.base import SETTINGS
from config.files import has_control
from config.problems import Problem, Wrong
from config.secrets import expand

Loc = tuple[int | str, ...]

BROKEN = object()  # stands where something was wrong that is already noted
MAX_DEPTH = 20
MAX_COPIED = 1_000_000  # parts of aliases; aliases of aliases could make a file endless

_Loader: type[yaml.CSafeLoader | yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULLS = {"", "~", "null", "Null", "NULL"}
_QUOTE = 'put the value into double quotes: "…"'
_SEE = "see docs/configuration.md for what belongs into it"


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """What a file says: `data` is dict, list, str or None, with `${NAME}` already replaced."""

    path: Path
    data: object
    _first_line: int
    _lines: dict[int, dict[int | str, int]]  # by id() of a dict or list: the lines of its parts

    def line(self, loc: Loc) -> int:
        """Return the line of a part, or of the nearest thing around it."""
        part: Any = self.data
        line = self._first_line
        for step in loc:
            lines = self._lines.get(id(part), {})
            if step not in lines:
                break
            part, line = part[step], lines[step]
        return line

    def where(self, loc: Loc) -> str:
        """Return the name of a part, as in `stations[3].cameras[0].url`."""
        return where(loc)


def where(loc: Loc) -> str:
    """Return a path of keys and indexes as text; a key that is no setting stays unsaid."""
    steps = (f"[{s}]" if isinstance(s, int) else f".{s if s in SETTINGS else '…'}" for s in loc)
    return "".join(steps).removeprefix(".")


def read_yaml(
    path: Path, text: str, environ: Mapping[str, str], problems: list[Problem]
) -> YamlDocument | None:
    """Return a file's document, or None if there is none; what is wrong goes to `problems`."""
    reader = _Reader(text, path, environ, problems)
    try:
        return reader.document()
    except yaml.MarkedYAMLError as error:
        what, fix, begins = _syntax(error.problem or "")
        mark = (error.context_mark if begins else None) or error.problem_mark
        problems.append(Problem(path, mark.line + 1 if mark else None, "", what, fix))
    except Wrong as wrong:
        problems.append(Problem(path, None, "", wrong.what, wrong.fix))
    finally:
        reader.parser.dispose()
    return None


class _Reader:
    def __init__(self, text: str, path: Path, environ: Mapping[str, str], problems: list[Problem]):
        self.parser = _Loader(text)
        self._path, self._environ, self._problems = path, environ, problems
        self._lines: dict[int, dict[int | str, int]] = {}
        self._anchors: dict[str, dict[str, object] | list[object]] = {}
        self._copied = 0

    def document(self) -> YamlDocument:
        """Read the whole file; raises yaml.MarkedYAMLError, and Wrong for one not to be read."""
        next_event = self._next
        next_event()  # the start of the stream
        if isinstance(next_event(), yaml.StreamEndEvent):
            raise Wrong("the file is empty", _SEE)
        first = next_event()
        data = self._value(first, ())
        next_event()  # the end of the document
        if not isinstance(next_event(), yaml.StreamEndEvent):
            raise Wrong("has a second document after '---'", "write all in one")
        return YamlDocument(self._path, data, _line(first), self._lines)

    def _next(self) -> yaml.Event:
        event = self.parser.get_event()
        assert event is not None  # it is asked for no more after the end
        return event

    def _value(self, event: yaml.Event, loc: Loc) -> object:
        """Return what begins with an event; BROKEN, and a note, where something is wrong."""
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in self._anchors:
                return self._copy(self._anchors[event.anchor], len(loc))
            what = "'*' means an alias here, and nothing before has that name"
            return self._wrong(event, loc, what, _QUOTE)
        value: object
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event, loc)
        elif len(loc) > MAX_DEPTH:
            raise Wrong("is nested too deep", _SEE)
        elif isinstance(event, yaml.MappingStartEvent):
            value = self._mapping(loc)
        else:
            value = self._sequence(loc)
        assert isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent)
        if event.tag is not None and not event.tag.startswith("tag:yaml.org,2002:"):
            return self._wrong(event, loc, "'!' means a tag here, and there are none", _QUOTE)
        if event.anchor is not None:
            if not isinstance(value, dict | list):
                what = "'&' means an anchor here, and only lists and mappings have one"
                return self._wrong(event, loc, what, _QUOTE)
            self._anchors[event.anchor] = value
        return value

    def _copy(self, value: object, depth: int) -> object:
        """Return a copy that is changed on its own; its lines are those of the original."""
        self._copied += 1
        if self._copied > MAX_COPIED:
            raise Wrong("has too much behind its aliases", "write it out")
        if depth > MAX_DEPTH:
            raise Wrong("is nested too deep", _SEE)
        if not isinstance(value, dict | list):
            return value
        copy: dict[str, object] | list[object]
        if isinstance(value, dict):
            copy = {key: self._copy(part, depth + 1) for key, part in value.items()}
        else:
            copy = [self._copy(part, depth + 1) for part in value]
        self._lines[id(copy)] = self._lines[id(value)]
        return copy

    def _scalar(self, event: yaml.ScalarEvent, loc: Loc) -> object:
        text: str = event.value
        if event.implicit[0] and text in _NULLS:  # plain
            return None
        if event.style == '"' and has_control(text):  # written as an escape
            return self._wrong(event, loc, "has a control character", "remove it")
        try:
            return expand(text, self._environ)
        except Wrong as wrong:
            return self._wrong(event, loc, wrong.what, wrong.fix)

    def _sequence(self, loc: Loc) -> list[object]:
        data: list[object] = []
        lines: dict[int | str, int] = {}
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            lines[len(data)] = _line(event)
            data.append(self._value(event, (*loc, len(data))))
        self._lines[id(data)] = lines
        return data

    def _mapping(self, loc: Loc) -> dict[str, object]:
        data: dict[str, object] = {}
        lines: dict[int | str, int] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                self._value(event, (*loc, ""))
                self._value(self._next(), (*loc, ""))
                self._wrong(event, loc, "a key that is not a text", "write key: value")
                continue
            key = event.value
            value = self._value(self._next(), (*loc, key))
            if key in data:
                what = f"the same key is on line {lines[key]} already"
                self._wrong(event, (*loc, key), what, "remove one of them")
            else:
                data[key], lines[key] = value, _line(event)
        self._lines[id(data)] = lines
        return data

    def _wrong(self, event: yaml.Event, loc: Loc, what: str, fix: str) -> object:
        self._problems.append(Problem(self._path, _line(event), where(loc), what, fix))
        return BROKEN


def _line(event: yaml.Event) -> int:
    assert event.start_mark is not None
    return event.start_mark.line + 1


def _syntax(problem: str) -> tuple[str, str, bool]:
    """Say what libyaml or PyYAML says, in words for operators and without quoting the file.

    The third tells whether the line to look at is the one where the thing begins.
    """
    for pattern, what, fix, begins in _SYNTAX:
        if re.search(pattern, problem):
            return f"is not YAML: {what}", fix, begins
    return "is not YAML", _QUOTE, False


_SYNTAX = (
    ("mapping values are not allowed", "there is a ': ' where none can be", _QUOTE, False),
    ("cannot start any token", "a tab, or a sign with a meaning of its own",
     f"indent with spaces; {_QUOTE}", False),
    ("expected ':'", "a line that is no 'key: value'",
     "write a ':' and a space after the key", True),
    (
        "end of stream|document separator|',' or|expected node content",
        "a quote or a bracket is not closed",
        'close it; inside {…} and […] put ${NAME}, and all with a comma or bracket, into "…"',
        True,
    ),
    ("alias|anchor|tag|directive|%|version", "'*', '&', '!' and '%' have meanings of their own",
     _QUOTE, False),
    ("escape", "a '\\' that means nothing in double quotes", "use single quotes, or write \\\\",
     False),
    ("document start", "something is left over after the end", "indent all equally", False),
    ("block end|block mapping|block collection|block sequence|expected key|'-' indicator",
     "the indentation does not fit", "indent equally what belongs together", False),
)  # fmt: skip
