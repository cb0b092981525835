"""What commands share: their options, the configuration, and how they fail."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from config.model import Config
from kuager.terminal import MOST_NAME, err, say

ConfigFile = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


def _name(text: str) -> str:
    if not text.isprintable() or not 0 < len(text) <= MOST_NAME or " " in text:
        raise typer.BadParameter(f"write a name of at most {MOST_NAME} characters without spaces")
    return text


Who = Annotated[
    str | None,
    typer.Option("--as", parser=_name, help="Who does this, for the record; else the user's name."),
]


def read_config(path: Path) -> Config:
    """Return the configuration; ends the command with 2 after what is wrong was printed."""
    from kuager.reading import read

    found = read(path)
    if isinstance(found, int):
        raise typer.Exit(2)
    return found


def fail(text: str) -> typer.Exit:
    """Print why a command could not run; returns what ends it with 2."""
    say(text, err)
    return typer.Exit(2)


@contextlib.contextmanager
def failing_for(*kinds: type[Exception]) -> Iterator[None]:
    """End the command with 2 where one of these errors comes, and print what it says."""
    try:
        yield
    except kinds as error:
        raise fail(str(error)) from None


def catalogue_errors() -> contextlib.AbstractContextManager[None]:
    """End the command with 2 where the database refuses."""
    from storage.catalogue.database import CatalogueError

    return failing_for(CatalogueError)
