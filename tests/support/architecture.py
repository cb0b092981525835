"""The picture of rooms and floors in docs/architecture.md, from the contracts of import-linter.

`make rooms` writes it. That the floors are true lint-imports sees to; what a room is for is the
first sentence of its docstring.
"""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator

from tests.support.repository import ROOT

PAGE = ROOT / "docs/architecture.md"
MOST = 90  # characters of a sentence
BLOCK = re.compile(r"(?s)(## Rooms\n\n```\n)(.*?)(```\n)")


def floors() -> dict[str, list[list[str]]]:
    """Return the floors of each package, top to bottom; of the packages together under "".

    Below them stands what a contract leaves out: it knows no other room.
    """
    text = (ROOT / "pyproject.toml").read_text()
    found: dict[str, list[list[str]]] = {}
    for contract in tomllib.loads(text)["tool"]["importlinter"]["contracts"]:
        if contract["type"] == "layers":
            layers = [re.findall(r"\w+", floor) for floor in contract["layers"]]
            layers += [[room] for room in contract.get("exhaustive_ignores", [])]
            for container in contract.get("containers", [""]):
                found[container] = layers
    return found


def purpose(*parts: str) -> str:
    """Return the first sentence of the docstring of a package or module."""
    path = ROOT.joinpath(*parts)
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    text = " ".join(
        (ast.get_docstring(ast.parse(source.read_text())) or "").split("\n\n")[0].split()
    )
    sentence = re.sub(r" \([^)]*\)", "", re.split(r"[.;](?: |$)", text)[0])
    return sentence if len(sentence) < MOST else re.split(r"[:,](?: |$)", sentence)[0]


def picture() -> Iterator[str]:
    """Yield the lines: packages top to bottom, in each its rooms with the number of their floor."""
    packages = floors()
    for package in (name for floor in packages[""] for name in floor):
        yield f"{package + '/':<12} {purpose(package)}"
        inner = packages.get(package, [])
        for n, floor in enumerate(inner):
            for room in floor:
                name = f"{room}/" if (ROOT / package / room).is_dir() else room
                number = str(len(inner) - n) if room == floor[0] else ""
                yield f"{number:>4} {name:<18} {purpose(package, room)}".rstrip()
        yield ""


def written() -> str:
    """Return the picture as the page has it."""
    found = BLOCK.search(PAGE.read_text())
    return found[2] if found else ""


def made() -> str:
    """Return the picture as it should be."""
    return "\n".join(picture()).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(BLOCK.sub(lambda m: m[1] + made() + m[3], PAGE.read_text()))
