"""The command line. Exit codes: 0 all is well, 1 something was found wrong, 2 could not run."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from kuager import VERSION, logs
from kuager.cli_nodes import nodes_app
from kuager.cli_options import (
    AsJson,
    ConfigFile,
    Who,
    catalogue_errors,
    fail,
    failing_for,
    read_config,
)
from kuager.cli_orders import orders_app
from kuager.terminal import err, out

app = typer.Typer(
    name="kuager", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
demo_app = typer.Typer(help="Everything real but the cameras, in one folder.")
app.add_typer(demo_app, name="demo")
holds_app = typer.Typer(
    help="What archives keep beyond its date, because somebody asks for it.", no_args_is_help=True
)
app.add_typer(holds_app, name="holds")
app.add_typer(orders_app, name="orders")
app.add_typer(nodes_app, name="nodes")

Data = Annotated[
    Path, typer.Option("--data", envvar="DATA", help="The folder that the demo lives in.")
]
ROLES = ("node", "recorder", "uploader", "pictures", "orders", "web", "all")
SHARED = ("recorder", "web")  # roles that several processes may have, of one spool


@app.command()
def check(
    config: ConfigFile = Path("kuager.yaml"),
    probe: Annotated[bool, typer.Option("--probe", help="Connect to every camera.")] = False,
) -> None:
    """Say what is wrong with the configuration; with --probe, also with the cameras."""
    from kuager.check import check as run_check
    from recorder.ffmpeg import FfmpegMissing

    with failing_for(FfmpegMissing):
        raise typer.Exit(run_check(config, probe))


@app.command()
def status(config: ConfigFile = Path("kuager.yaml"), as_json: AsJson = False) -> None:
    """Say what is wrong now: 0 nothing, 1 something. It needs no part of Kuager to run."""
    from kuager.status import status

    raise typer.Exit(status(read_config(config), as_json))


@app.command()
def run(
    config: ConfigFile = Path("kuager.yaml"),
    role: Annotated[
        str,
        typer.Option(
            help="One role alone: node, recorder, uploader, pictures, orders or web. Default: all."
        ),
    ] = "all",
    share: Annotated[
        str, typer.Option(help="Which share of the cameras, as 0/2: the first of two.")
    ] = "0/1",
    supervised: Annotated[bool, typer.Option("--supervised", hidden=True)] = False,
) -> None:
    """Record, show and keep until stopped (Ctrl-C, SIGTERM); a second signal ends at once.

    SIGHUP, or `kuager reload`, takes over changed files.
    """
    from kuager.extras import ExtraMissing
    from kuager.reload import receive
    from kuager.run import run_all, run_role
    from recorder.ffmpeg import FfmpegMissing
    from streaming.http.ports import PortInUse

    number, _, shares = share.partition("/")
    if role not in ROLES:
        raise fail(f"no role '{role}'; there are: {', '.join(ROLES)}")
    if not (number.isdecimal() and shares.isdecimal() and int(number) < int(shares)):
        raise fail(f"--share {share}: write 0/2 for the first of two shares, 1/2 for the second")
    if int(shares) > 1 and role not in SHARED:
        raise fail(f"--share {share}: only what --role {' or '.join(SHARED)} does has shares")
    name = "supervisor" if role == "all" else f"{role}-{number}"
    logs.configure(name, public=role == "web")
    with failing_for(PortInUse, FfmpegMissing, ExtraMissing, OSError):
        if role == "all":
            code = run_all(read_config(config), supervised)
        elif not supervised:
            code = run_role(read_config(config), role, (int(number), int(shares)), None)
        elif handed := receive():
            code = run_role(handed[0], role, (int(number), int(shares)), handed[1])
        else:
            code = 0  # the supervisor is gone already
    raise typer.Exit(code)


@app.command()
def reload(config: ConfigFile = Path("kuager.yaml")) -> None:
    """Have a running Kuager take over the changed files, where they are right; nothing stops."""
    from config.problems import ConfigError
    from kuager.reload import reload as run_reload

    with failing_for(OSError, ConfigError):
        raise typer.Exit(run_reload(config))


@app.command()
def upload(
    config: ConfigFile = Path("kuager.yaml"),
    until_done: Annotated[
        bool, typer.Option("--until-done", help="Do not end before every archive has everything.")
    ] = False,
) -> None:
    """Archive what waits in the spool, and end: 0 all is archived, 1 something still waits."""
    from kuager.upload import upload as run_upload

    logs.configure("upload")
    raise typer.Exit(run_upload(read_config(config), until_done=until_done))


@app.command()
def fsck(
    config: ConfigFile = Path("kuager.yaml"),
    camera: Annotated[
        list[str] | None, typer.Option(help="Only this one, as station/camera; may be repeated.")
    ] = None,
    repair: Annotated[bool, typer.Option("--repair", help="Put right what can be.")] = False,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read and hash every byte; goes on if interrupted.")
    ] = False,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="With --deep: do not go on, begin anew.")
    ] = False,
) -> None:
    """Compare spool, catalogue and archives, and rebuild the catalogue from an archive."""
    from kuager.fsck import fsck as run_fsck

    logs.configure("fsck")
    found = read_config(config)
    raise typer.Exit(
        run_fsck(found, repair=repair, deep=deep, from_start=from_start, cameras=camera or [])
    )


@holds_app.command("list")
def list_holds(config: ConfigFile = Path("kuager.yaml")) -> None:
    """List all holds, also those that ended."""
    from kuager.holds import show

    with catalogue_errors():
        show(read_config(config))


@holds_app.command()
def add(
    reason: Annotated[str, typer.Argument(help="Why, for whoever reads the list.")],
    camera: Annotated[
        str | None, typer.Argument(help="A station or station/camera; without, every one.")
    ] = None,
    begin: Annotated[
        str | None, typer.Option("--from", help="What was recorded from here on (RFC 3339).")
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="And up to here.")] = None,
    until: Annotated[
        str | None, typer.Option("--until", help="Keep it until then; else until released.")
    ] = None,
    who: Who = None,
    config: ConfigFile = Path("kuager.yaml"),
) -> None:
    """Keep recordings beyond their date."""
    from kuager.holds import add, parse_time

    with failing_for(ValueError), catalogue_errors():
        times = (parse_time(begin), parse_time(end), parse_time(until))
        print(f"Hold {add(read_config(config), reason, camera, times, who)} is set.")


@holds_app.command()
def release(
    number: Annotated[int, typer.Argument(help="The number of the hold.")],
    who: Who = None,
    config: ConfigFile = Path("kuager.yaml"),
) -> None:
    """End a hold: what is past its date is then removed."""
    from kuager.holds import release

    with failing_for(ValueError), catalogue_errors():
        released = release(read_config(config), number, who)
    if not released:
        err.print(f"No hold {number} lasts.")
        raise typer.Exit(1)
    print(f"Hold {number} is released.")


@demo_app.callback(invoke_without_command=True)
def demo(
    context: typer.Context,
    data: Data = Path("demo-data"),
    port: Annotated[
        int, typer.Option(envvar="PORT", min=1, max=65534, help="Port of the pages.")
    ] = 8080,
) -> None:
    """Start six simulated cameras, an S3 server and Kuager between them; Ctrl-C stops all."""
    if context.invoked_subcommand is not None:
        return
    from kuager.demo import Demo
    from kuager.extras import ExtraMissing
    from streaming.http.ports import PortInUse, check_port

    try:
        check_port("127.0.0.1", port)
    except PortInUse as error:
        raise fail(f"{error} (here: PORT=8081 make demo)") from None
    with failing_for(ExtraMissing):
        demo = Demo(data, port)
    logs.configure("demo")
    raise typer.Exit(asyncio.run(demo.run()))


@demo_app.command()
def fault(
    camera: Annotated[str, typer.Argument(help="A simulated camera, as s117-entrance.")],
    fault: Annotated[str, typer.Argument(help="A fault, or clear.")],
    value: Annotated[float | None, typer.Argument(help="Its amount.")] = None,
    data: Data = Path("demo-data"),
) -> None:
    """Spoil a camera of the running demo, or put it right (clear)."""
    from kuager.demo import send_fault

    with failing_for(ValueError):
        print(asyncio.run(send_fault(data, camera, fault, value)))


@demo_app.command()
def faults() -> None:
    """List the faults of the simulated cameras."""
    from kuager.simulator.faults import FAULTS

    table = Table()
    table.add_column("fault")
    table.add_column("what it does (N, default)")
    for name, words in FAULTS.items():
        table.add_row(name, words)
    out.print(table)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"kuager {VERSION}")
        raise typer.Exit


@app.callback()
def kuager(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Say which version this is.", callback=_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Records every camera of an election, shows it live, and keeps it."""


def main() -> None:
    """Run the command line."""
    app()
