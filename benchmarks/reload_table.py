"""A running Kuager is told to reload: broken files first, then some cameras changed.

`make reload-table` records simulated cameras, breaks the configuration in each way that
`tests.support.broken_files` knows and runs `kuager reload`, then gives some cameras another
address, and prints what each reload said and what cameras missed. The exit code is 1 where a
broken file changed anything, or a camera that was not changed missed a picture.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import aiohttp

from benchmarks.bench_record import kuager_config, listening, process, simulated
from benchmarks.tally import sealed
from storage.spool.status import SpoolStatus
from tests.support.broken_files import BROKEN
from tests.support.s3 import free_port
from tests.support.waiting import until

FILM = {"width": 320, "height": 180, "fps": 10, "bitrate": 150_000, "film_s": 10}
STARTS_S, BEFORE_S, AFTER_S = 300.0, 10.0, 30.0


async def reload(path: Path) -> tuple[int, list[str]]:
    """Run `kuager reload`; return its exit code, and what it said."""
    one = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kuager", "reload", "--config", str(path)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await one.communicate()
    assert one.returncode is not None
    return one.returncode, said.decode().splitlines()


async def recorded(spool: Path, names: Iterable[str]) -> None:
    """Wait until all of these cameras are recorded."""
    status = SpoolStatus(spool)

    def are_recorded() -> bool:
        list(status.refresh())
        return all(status.states.get(f"s/{name}") == "recording" for name in names)

    await until(are_recorded, STARTS_S, 0.5)


async def shown(base: str) -> bytes:
    """Return what the site says of the station's cameras, but for their states."""
    async with (
        aiohttp.ClientSession(base, raise_for_status=True) as session,
        session.get("/api/v1/stations/s") as answer,
    ):
        said = await answer.json()
        return repr((said["name"], [c["id"] for c in said["cameras"]])).encode()


async def run(folder: Path, count: int, changed: int) -> list[str]:
    """Do it all; return what was wrong."""
    names, wrong = [f"cam{n}" for n in range(count)], list[str]()
    rtsp, web = free_port(), free_port()
    serve = (sys.executable, "-m", "kuager.simulator", "--config")
    async with process(*serve, simulated(folder, names, FILM), "--port", str(rtsp)):
        await listening(rtsp)
        path, stations = folder / "kuager.yaml", folder / "stations.yaml"
        kuager_config(folder, rtsp, names)
        path.write_text(path.read_text() + f'workers: 2\nweb: {{listen: "127.0.0.1:{web}"}}\n')
        right = {file: file.read_text() for file in (path, stations)}
        async with process(sys.executable, "-m", "kuager", "run", "--config", str(path)):
            await recorded(folder / "spool", names)
            before = await shown(base := f"http://127.0.0.1:{web}")
            await asyncio.sleep(BEFORE_S)
            print("| the files | exit code | what `kuager reload` says |\n|---|---|---|")
            for name, spoil in BROKEN.items():
                spoil(folder)
                code, said = await reload(path)
                print(f"| {name} | {code} | {_brief(said, folder)} |", flush=True)
                if not code or await shown(base) != before:
                    wrong.append(f"a broken file was taken over: {name}")
                for file, text in right.items():
                    file.write_text(text)
            text = right[stations]
            for name in names[:changed]:  # which have another camera's address from now on
                text = text.replace(f'/{name}"', f'/{names[-1]}"')
            stations.write_text(text)
            begun = time.monotonic()
            code, said = await reload(path)
            took = time.monotonic() - begun
            print(f"| {changed} cameras have another address | {code} | {_brief(said, folder)} |")
            await recorded(folder / "spool", names)
            await asyncio.sleep(AFTER_S)
            if code:
                wrong.append("the changed cameras were not taken over")
    others = sealed(folder / "spool", names[changed:])
    print(f"\nchanged: {sealed(folder / 'spool', names[:changed])}")
    print(f"others: {others}\nthe reload took {took:.1f} s")
    if (others.runs, others.apart, others.lost) != (count - changed, 0, 0):
        wrong.append(f"cameras that were not changed: {others}")
    return wrong


def _brief(said: list[str], folder: Path) -> str:
    text = " ".join(said).replace(f"{folder}/", "").replace("|", "/")
    return text if len(text) <= 200 else f"{text[:200]} ..."


def main() -> None:
    """Parse the command line, and do it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cameras", type=int, default=60)
    parser.add_argument("--changed", type=int, default=5)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="kuager-reload-"))
    try:
        wrong = asyncio.run(run(folder, arguments.cameras, arguments.changed))
    finally:
        shutil.rmtree(folder)
    print(*(f"WRONG: {text}" for text in wrong), sep="\n")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
