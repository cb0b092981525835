"""What the code is like, in numbers: python -m benchmarks.code_table [REVISION ...]

Without a revision, of the files as they are. Product is what the wheel carries, less migrations.
"""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

PRODUCT = ("base", "config", "storage", "recorder", "copies", "streaming", "kuager")
MOST_LINES, MOST_PARAMETERS, MOST_FILE = 60, 7, 400
ROWS = (
    "lines of product code",
    "… neither blank nor comment",
    f"files above {MOST_FILE} lines",
    f"functions above {MOST_LINES} lines",
    f"functions with more than {MOST_PARAMETERS} parameters",
    "`Any`",
    "… `dict[str, Any]`",
    "`except Exception`, or wider",
    "imports for types alone",
    "imports of a package above",
    "rooms: folders in packages",
    "rooms in a circle",
    "lines of tests",
    "sleeps in tests",
    "… that take time",
    "setattr in tests",
    "… of dotted names",
)
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass
class Numbers:
    """The rows of the table."""

    rows: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ROWS, 0))

    def count(self, row: str, by: int = 1) -> None:
        """Add to a row."""
        self.rows[row] += by


def files(revision: str | None) -> dict[PurePosixPath, str]:
    """Return the text of each Python file and of pyproject.toml."""
    if revision is None:
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split(
            "\0"
        )[:-1]
        paths = [PurePosixPath(name) for name in names]
        return {
            p: Path(p).read_text() for p in paths if p.suffix == ".py" or p.name == "pyproject.toml"
        }
    data = subprocess.run(["git", "archive", revision], check=True, capture_output=True).stdout
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            path = PurePosixPath(member.name)
            if path.suffix == ".py" or path.name == "pyproject.toml":
                content = archive.extractfile(member)
                assert content is not None
                found[path] = content.read().decode()
    return found


def parameters(function: Function) -> int:
    """Return how many parameters a function has, `self` and `cls` not counted."""
    arguments = function.args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    return len([n for n in names if n not in ("self", "cls")])


def measure_product(numbers: Numbers, path: PurePosixPath, text: str) -> None:
    """Count what is asked of the product."""
    lines = text.splitlines()
    numbers.count("lines of product code", len(lines))
    numbers.count(
        "… neither blank nor comment", len([s for s in map(str.strip, lines) if s and s[0] != "#"])
    )
    numbers.count(f"files above {MOST_FILE} lines", int(len(lines) > MOST_FILE))
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                assert node.end_lineno is not None
                long = node.end_lineno - node.lineno + 1 > MOST_LINES
                numbers.count(f"functions above {MOST_LINES} lines", int(long))
                numbers.count(
                    f"functions with more than {MOST_PARAMETERS} parameters",
                    int(parameters(node) > MOST_PARAMETERS),
                )
            case ast.Name(id="Any"):
                numbers.count("`Any`")
            case ast.ExceptHandler(type=None | ast.Name(id="Exception" | "BaseException")):
                numbers.count("`except Exception`, or wider")
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                numbers.count("imports for types alone")
    numbers.count("… `dict[str, Any]`", text.count("dict[str, Any]"))


def measure_test(numbers: Numbers, text: str) -> None:
    """Count what is asked of the tests."""
    numbers.count("lines of tests", len(text.splitlines()))
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Call(func=ast.Attribute(attr="sleep" | "wait_for_timeout"), args=args):
                numbers.count("sleeps in tests")
                turns = any(isinstance(a, ast.Constant) and a.value == 0 for a in args)
                numbers.count("… that take time", int(not turns))
            case ast.Call(func=ast.Attribute(attr="setattr"), args=[first, *_]):
                numbers.count("setattr in tests")
                numbers.count("… of dotted names", int(isinstance(first, ast.Constant)))


def imports(tree: dict[PurePosixPath, str]) -> Iterator[tuple[str, str]]:
    """Yield which module of the product imports which."""
    modules = {
        ".".join(path.with_suffix("").parts).removesuffix(".__init__"): text
        for path, text in tree.items()
        if path.parts[0] in PRODUCT and "versions" not in path.parts
    }
    for name, text in modules.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    target = whole if whole in modules else node.module
                    if target in modules and target != name:
                        yield name, target


def measure_rooms(numbers: Numbers, tree: dict[PurePosixPath, str]) -> None:
    """Count imports upwards between packages, and pairs of rooms of a package in a circle."""
    folders = {".".join(path.parts[:2]) for path in tree if len(path.parts) > 2}
    edges = set()
    for source, target in imports(tree):
        a, b = source.split("."), target.split(".")
        numbers.count("imports of a package above", int(PRODUCT.index(a[0]) < PRODUCT.index(b[0])))
        room, other = ".".join(a[:2]), ".".join(b[:2])
        if a[0] == b[0] and room != other:
            edges.add((room, other))
    rooms = {room for edge in edges for room in edge}
    numbers.count(
        "rooms: folders in packages",
        len({f for f in folders if f.split(".")[0] in PRODUCT and f in rooms}),
    )
    numbers.count(
        "rooms in a circle", len([room for room in rooms if room in reached(room, edges)])
    )


def reached(room: str, edges: set[tuple[str, str]]) -> set[str]:
    """Return the rooms that a room knows, by whatever way."""
    todo, seen = [room], set[str]()
    while todo:
        here = todo.pop()
        new = {other for one, other in edges if one == here} - seen
        seen |= new
        todo += new
    return seen


def measure(revision: str | None) -> tuple[dict[str, int], str]:
    """Return the rows of a revision, and what becomes of a warning in its tests."""
    tree, numbers = files(revision), Numbers()
    for path, text in tree.items():
        if path.parts[0] in PRODUCT and "versions" not in path.parts:
            measure_product(numbers, path, text)
        elif path.parts[0] == "tests" and path.suffix == ".py":
            measure_test(numbers, text)
    measure_rooms(numbers, tree)
    options = tomllib.loads(tree[PurePosixPath("pyproject.toml")])["tool"]["pytest"]["ini_options"]
    filters = options.get("filterwarnings", [])
    strict = f"an error, but {len(filters) - 1} named" if "error" in filters else "shown"
    return numbers.rows, strict


def main() -> None:
    """Print the table."""
    revisions = sys.argv[1:]
    found = [measure(revision) for revision in revisions] or [measure(None)]
    print(f"| | {' | '.join(revisions or ['now'])} |\n|---|{'---|' * len(found)}")
    for row in ROWS:
        print(f"| {row} | {' | '.join(f'{rows[row]:,}' for rows, _ in found)} |")
    print(f"| a warning in a test is | {' | '.join(strict for _, strict in found)} |")


if __name__ == "__main__":
    main()
