"""The commands of `kuager nodes`; each is a thin call into kuager/nodes.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kuager.cli_options import AsJson, ConfigFile, catalogue_errors, failing_for, read_config

nodes_app = typer.Typer(
    help="The machines of an installation, and who records what.", no_args_is_help=True
)
NodeName = Annotated[
    str, typer.Argument(metavar="NODE", help="Its name, or its spool's id, at least 6 characters.")
]


@nodes_app.command("list")
def list_nodes(as_json: AsJson = False, config: ConfigFile = Path("kuager.yaml")) -> None:
    """List all machines: 0 all is well, 1 one is away, or cameras are without a machine."""
    from kuager.nodes import show

    with failing_for(LookupError), catalogue_errors():
        raise typer.Exit(show(read_config(config), as_json))


@nodes_app.command()
def drain(node: NodeName, config: ConfigFile = Path("kuager.yaml")) -> None:
    """Have a machine hand its cameras over to others, and take none."""
    _do("drain", node, config)


@nodes_app.command()
def resume(node: NodeName, config: ConfigFile = Path("kuager.yaml")) -> None:
    """Have a machine that was drained take part again."""
    _do("resume", node, config)


@nodes_app.command("give-up")
def give_up(node: NodeName, config: ConfigFile = Path("kuager.yaml")) -> None:
    """Wait no longer for a machine that is away: what it alone has is said to be lost with it."""
    _do("give-up", node, config)


def _do(what: str, node: str, config: Path) -> None:
    from kuager.nodes import change

    with failing_for(LookupError), catalogue_errors():
        change(read_config(config), what, node)
