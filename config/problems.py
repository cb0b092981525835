"""What is wrong in the files of an operator, where, and what would be right."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong; `line` counts from 1 and is None for a file as a whole.

    A warning does not keep Kuager from running.
    """

    file: Path
    line: int | None
    where: str
    what: str
    fix: str
    warning: bool = False

    def __str__(self) -> str:
        place = str(self.file) if self.line is None else f"{self.file}:{self.line}"
        text = ": ".join(part for part in (place, self.where, self.what) if part)
        return f"{text}; {self.fix}" if self.fix else text


class ConfigError(Exception):
    """The files cannot be used; `problems` has all that is wrong, with warnings among it."""

    def __init__(self, problems: Sequence[Problem]):
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


class UnreadableConfig(ConfigError):
    """kuager.yaml itself could not be read, so nothing was checked."""


class Wrong(ValueError):
    """Raised where a value is judged: what is wrong, what would be right, under which key."""

    def __init__(self, what: str, fix: str, key: str | None = None):
        super().__init__(what)
        self.what, self.fix, self.key = what, fix, key


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that is most like `word`, if one is."""
    return next(iter(get_close_matches(word, list(known), 1)), None)


def unknown(noun: str, word: str, known: Sequence[str]) -> tuple[str, str]:
    """Say that `word` is not known: what is wrong, and what would be right.

    `word` itself is not quoted: it may be the second half of a password with a comma in it, or
    all of one after a forgotten space, as in `password:secret`.
    """
    if near := did_you_mean(word.split(":")[0], known):
        space = ", with a space after its ':'" if ":" in word else ""
        return f"unknown {noun}", f"did you mean '{near}'{space}?"
    return f"unknown {noun}", f"known here: {', '.join(known)}"
