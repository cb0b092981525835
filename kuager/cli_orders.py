"""The commands of `kuager orders`; each is a thin call into kuager/orders.py."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

import typer

from kuager.cli_options import AsJson, ConfigFile, Who, failing_for, read_config

orders_app = typer.Typer(help="Copies that were ordered.", no_args_is_help=True)
OrderName = Annotated[
    str, typer.Argument(metavar="ORDER", help="Its number, or its reference: KUAGER-17-5D0A.")
]


@orders_app.command("list")
def list_orders(
    state: Annotated[
        str | None, typer.Option(help="Only those: awaiting_payment, paid, ready, …")
    ] = None,
    owed: Annotated[
        bool, typer.Option("--owed", help="Only those whose requester is owed money.")
    ] = False,
    as_json: AsJson = False,
    config: ConfigFile = Path("kuager.yaml"),
) -> None:
    """List orders, newest first."""
    from kuager.orders import show_all

    with _order_errors():
        raise typer.Exit(show_all(read_config(config), state, owed, as_json))


@orders_app.command("show")
def show_order(
    order: OrderName, as_json: AsJson = False, config: ConfigFile = Path("kuager.yaml")
) -> None:
    """Show an order with its files, its money and its audit log."""
    from kuager.orders import show_one

    with _order_errors():
        raise typer.Exit(show_one(read_config(config), order, as_json))


@orders_app.command()
def confirm(
    order: OrderName,
    amount: Annotated[str, typer.Option("--amount", help="What came, as 1120.00.")],
    reference: Annotated[
        str, typer.Option("--reference", help="The bank's number of the payment, not a name.")
    ],
    currency: Annotated[
        str | None, typer.Option(help="Its currency, when it is another one.")
    ] = None,
    who: Who = None,
    config: ConfigFile = Path("kuager.yaml"),
) -> None:
    """Enter a payment that the bank shows; the same reference is entered once."""
    from kuager.orders import confirm

    with _order_errors():
        raise typer.Exit(confirm(read_config(config), order, amount, currency, reference, who))


@orders_app.command()
def reject(
    order: OrderName,
    reason: Annotated[str, typer.Argument(help="Why: the requester reads it.")],
    who: Who = None,
    config: ConfigFile = Path("kuager.yaml"),
) -> None:
    """Refuse an order that is not paid."""
    from kuager.orders import reject

    with _order_errors():
        raise typer.Exit(reject(read_config(config), order, reason, who))


@orders_app.command()
def refund(
    order: OrderName,
    whole: Annotated[
        bool, typer.Option("--whole", help="All that was paid, which ends the order.")
    ] = False,
    reference: Annotated[
        str | None, typer.Option("--reference", help="The bank's number of your transfer.")
    ] = None,
    who: Who = None,
    config: ConfigFile = Path("kuager.yaml"),
) -> None:
    """Give back what is owed: too much, too late, twice; with --whole all of it."""
    from kuager.orders import refund

    with _order_errors():
        raise typer.Exit(refund(read_config(config), order, whole, reference, who))


def _order_errors() -> AbstractContextManager[None]:
    from copies.payments.port import ProviderUnavailable
    from storage.catalogue.database import CatalogueError

    return failing_for(CatalogueError, ProviderUnavailable)
