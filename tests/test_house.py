"""The house is as its docs and maps say: rooms, files, names; and tests stand for themselves."""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import pytest

from tests.support.architecture import floors, made, written
from tests.support.repository import PAGES, ROOT, TRACKED

PRODUCT = ("base", "config", "storage", "recorder", "copies", "streaming", "kuager")
MAPPED = (*PRODUCT, "benchmarks", "tests/support")
GLOSSARY = (ROOT / "docs/glossary.md").read_text()
# words of other people's programs and formats that docs quote
FOREIGN = {"mfra", "prft", "DEMUXER_ERROR_COULD_NOT_PARSE", "run_async"}


@cache
def tree(name: str) -> ast.Module:
    return ast.parse((ROOT / name).read_text())


def modules(*packages: str) -> list[str]:
    return [n for n in TRACKED if n.endswith(".py") and Path(n).parts[0] in packages]


def nodes(*packages: str) -> Iterator[tuple[str, ast.AST]]:
    """Yield all that is in the modules of packages, each with its module."""
    for name in modules(*packages):
        for node in ast.walk(tree(name)):
            yield name, node


@cache
def documented(name: str) -> list[tuple[ast.AST, str]]:
    """Return what has a docstring in a module, with its docstring."""
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    return [
        (node, text)
        for node in ast.walk(tree(name))
        if isinstance(node, kinds) and (text := ast.get_docstring(node))
    ]


@cache
def prose(name: str) -> str:
    """Return what a file says to people: a page, or the docstrings and comments of a module."""
    text = (ROOT / name).read_text()
    if name.endswith(".md"):
        return re.sub(r"```.*?```", "", text, flags=re.S)
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    comments = [t.string for t in tokens if t.type == tokenize.COMMENT]
    return "\n".join([*(doc for _, doc in documented(name)), *comments])


INITS = [name for name in TRACKED if name.endswith("/__init__.py") and name.startswith(MAPPED)]
TELLING = [*(page for page in PAGES if page != "CHANGELOG.md"), *modules(*PRODUCT)]


@cache
def code_words() -> frozenset[str]:
    """Return every word of the code that is neither a comment nor a docstring."""
    found: set[str] = set()
    for name in TRACKED:
        path = ROOT / name
        found.update(re.findall(r"\w+", name))
        if name.endswith(".py"):
            docs = {id(node.body[0].value) for node, _ in documented(name)}  # type: ignore[attr-defined]
            for node in ast.walk(tree(name)):
                if isinstance(node, ast.Constant) and id(node) in docs:
                    continue
                for _, value in ast.iter_fields(node):
                    if isinstance(value, str):
                        found.update(re.findall(r"\w+", value))
                    elif isinstance(value, list):
                        found.update(v for v in value if isinstance(v, str))
        elif (
            path.suffix in {".yaml", ".sh", ".mjs", ".html", ".css", ".toml", ".csv", ".conf"}
            or name == "Makefile"
        ):
            found.update(re.findall(r"\w+", path.read_text()))
    return frozenset(found)


@cache
def classes() -> dict[str, list[ast.ClassDef]]:
    found: dict[str, list[ast.ClassDef]] = {}
    for _, node in nodes(*PRODUCT):
        if isinstance(node, ast.ClassDef):
            found.setdefault(node.name, []).append(node)
    return found


def has(class_: ast.ClassDef, name: str) -> bool:
    """Tell whether a class or one of its bases defines or sets an attribute."""
    for node in ast.walk(class_):
        match node:
            case ast.FunctionDef(name=found) | ast.AsyncFunctionDef(name=found):
                pass
            case ast.Name(id=found, ctx=ast.Store()) | ast.Attribute(attr=found, ctx=ast.Store()):
                pass
            case _:
                continue
        if found == name:
            return True
    bases = [base.id for base in class_.bases if isinstance(base, ast.Name)]
    return any(has(above, name) for base in bases for above in classes().get(base, []))


def defined(name: str) -> set[str]:
    """Return the functions, classes and names of a module, with the methods of its classes."""
    return {
        getattr(node, "name", getattr(node, "id", ""))
        for node in ast.walk(tree(name))
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.Name)
    }


def resolves(dotted: str) -> bool:
    """Tell whether `package.room.module.name` is there; a prefix of it may be all of it."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        path = "/".join(parts[:length])
        rest = parts[length:]
        for name in (f"{path}.py", f"{path}/__init__.py"):
            if name in TRACKED:
                return not rest or rest[0] in defined(name)
    return False


@pytest.mark.parametrize("init", INITS)
def test_the_map_of_a_package_names_what_is_in_it(init: str) -> None:
    """An entry begins a line with names of modules, rooms or folders in backticks."""
    folder = Path(init).parent
    there = {
        path.parts[len(folder.parts)].removesuffix(".py")
        for path in map(Path, TRACKED)
        if path.suffix == ".py" and path.is_relative_to(folder)
    } - {"__init__", "__main__"}
    text = ast.get_docstring(tree(init)) or ""
    entries = {
        name
        for line in re.findall(r"(?m)^(`\w+/?`(?:, `\w+/?`)*)", text)
        for name in re.findall(r"`(\w+)/?`", line)
    }
    named = set(re.findall(r"`(\w+)/?`", text))
    assert not there - named, f"{init} does not name {sorted(there - named)}"
    gone = {e for e in entries - there if not (ROOT / folder / e).is_dir()}
    assert not gone, f"{init} names {sorted(gone)}, which are not there"


def test_names_in_prose_are_those_of_the_code() -> None:
    named = r"`([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)(?:\(\))?`"
    told = [(name, dotted) for name in TELLING for dotted in re.findall(named, prose(name))]
    assert len(told) > 1000
    assert not [f"{name}: {dotted}" for name, dotted in told if not is_named(dotted)]


def is_named(dotted: str) -> bool:
    """Tell whether the code has what prose names."""
    first, _, rest = dotted.partition(".")
    if rest and first in classes():
        return any(has(one, rest.split(".")[0]) for one in classes()[first])
    if rest and first in ("base", "storage", "recorder", "streaming"):
        return resolves(dotted)
    if dotted.endswith(".mjs"):
        return f"streaming/static/{dotted}" in TRACKED
    return all(map(known, dotted.split(".")))


def known(word: str) -> bool:
    """Tell whether the code has a word; metrics are held by test_docs, units end other words."""
    words = code_words()
    return (
        word in words
        or word in FOREIGN
        or word.startswith("kuager_")
        or word.removesuffix("_file") in words
        or (word.startswith("_") and any(one.endswith(word) for one in words))
    )


def test_files_in_prose_are_there() -> None:
    folders = "|".join(map(re.escape, (*PRODUCT, "tests", "benchmarks", "docs", "deploy", ".ci")))
    for name in TELLING:
        text = prose(name)
        for found in re.findall(rf"(?<![\w/.{{}}$:-])((?:{folders})/[\w./-]*\w/?)", text):
            assert (ROOT / found).exists() or found == "copies/1", f"{name}: {found}"
        # a table may name a file and then what is in it: `storage/fsck.py` `compare`
        for file, what in re.findall(r"`([\w/]+\.py)` `(\w+)`", text):
            assert what in defined(file), f"{name}: {file} {what}"


def test_the_glossary_has_the_words_of_the_code() -> None:
    rows = re.findall(r"(?m)^\| ([^|]+) \| ([^|]+) \| [^|]+ \|$", GLOSSARY)[1:]
    assert len(rows) > 30
    for word, names in rows:
        for name in re.findall(r"`(\w+)`", names):
            assert known(name), f"{word}: {name}"


def names() -> set[str]:
    """Return what the product names: modules, classes, functions, parameters and variables."""
    found: set[str] = set()
    for module in modules(*PRODUCT):
        found.update(part.removesuffix(".py") for part in Path(module).parts)
        for node in ast.walk(tree(module)):
            match node:
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                    pass
                case ast.ClassDef(name=name) | ast.arg(arg=name):
                    pass
                case ast.Name(id=name, ctx=ast.Store()):
                    pass
                case ast.Attribute(attr=name, ctx=ast.Store()):
                    pass
                case _:
                    continue
            found.add(name.lstrip("_"))
    return found


def test_what_a_newcomer_is_told_not_to_say_is_not_said() -> None:
    """The table of words in CONTRIBUTING.md: the names that are said are there, the others not."""
    text = (ROOT / "CONTRIBUTING.md").read_text().split("| we say | not |")[1]
    rows = re.findall(r"(?m)^\| ([\w, ]+) \| ([\w, ]+) \|$", text)
    ours = names()
    assert len(rows) > 12
    for said, avoided in rows:
        for name in said.split(", "):
            assert name in ours, f"{name} is gone"
        for name in avoided.split(", "):
            assert name not in ours, f"{name} is still there: {said}"


def distribution(name: str) -> str:
    """Return a distribution's name as indexes compare it, without version and extras."""
    found = re.match(r"[\w.-]+", name)
    assert found is not None, name
    return re.sub(r"[._-]+", "-", found[0]).lower()


def test_what_the_product_imports_is_declared() -> None:
    """Not only installed by chance, as a part of something else or for tests."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    declared = {distribution(d) for d in (*project["dependencies"], *chain(*extras))}
    installs = packages_distributions()
    for name, node in nodes(*PRODUCT):
        match node:
            case ast.Import(names=aliases):
                imported = [alias.name for alias in aliases]
            case ast.ImportFrom(module=str(module)):
                imported = [module]
            case _:
                continue
        for top in {one.partition(".")[0] for one in imported}:
            if top not in sys.stdlib_module_names and top not in PRODUCT:
                given_by = {distribution(d) for d in installs.get(top, [])}
                assert given_by & declared, f"{name} imports {top}"


def test_the_picture_of_rooms_is_that_of_the_contracts() -> None:
    assert set(PRODUCT) - {"base"} <= set(floors())
    assert written() == made(), "the picture is old: make rooms"


def test_a_walk_goes_down_and_never_comes_back() -> None:
    """Each step of docs/architecture.md is in the package of the step before, or in one below."""
    order = [package for floor in floors()[""] for package in floor]
    walks = (ROOT / "docs/architecture.md").read_text().split("## Three walks")[1].split("\n## ")[0]
    seen = 0
    for walk in re.findall(r"(?m)^\*\*.*$", walks):
        steps = [order.index(p) for p in re.findall(r"`(\w+)/[\w/]+\.py` `\w+`", walk)]
        assert len(steps) > 3 and steps == sorted(steps), walk
        seen += 1
    assert seen == 3


def test_no_test_is_imported() -> None:
    """What several tests need is in tests/support."""
    for name, node in nodes("tests", "benchmarks"):
        if isinstance(node, ast.ImportFrom) and node.module:
            whole = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            for dotted in whole:
                path = dotted.split(".")
                if path[0] == "tests":
                    is_test = any(p.startswith("test_") or p == "conftest" for p in path)
                    assert not is_test, f"{name}: {dotted}"


def test_what_is_replaced_for_a_test_is_named_by_the_code() -> None:
    """A string of dots is found by no type checker, and by nobody who renames what it names."""
    replaced = 0
    for name, node in nodes("tests", "benchmarks"):
        match node:
            case ast.Call(func=ast.Attribute(attr="setattr" | "delattr"), args=[what, *_]):
                assert not isinstance(what, ast.Constant), f"{name}: {ast.unparse(node)}"
                replaced += 1
    assert replaced > 50
