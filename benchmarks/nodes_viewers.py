"""Many viewers of 20 cameras through one worker of nginx: `python -m benchmarks.nodes_viewers`.

A viewer asks for a playlist and a segment every two seconds. wrk asks as often as so many viewers
would, or as often as it can; printed is how many viewers that is, what it costs nginx and Kuager,
and how often Kuager itself is asked.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import shutil
import sys
import time
from pathlib import Path

import aiohttp
import m3u8

from benchmarks.bench_record import cpu_s, descendants
from benchmarks.installation import Installation
from benchmarks.nodes_watch import folder_of
from tests.support.programs import need

EACH_S = 2.0  # between two playlists, and two segments, of one viewer
ROUND_S = 4  # for which the same segments are the newest
LUA = """
local paths = {%s}
request = function() return wrk.format("GET", paths[math.random(#paths)]) end
"""


async def newest(session: aiohttp.ClientSession, stations: list[str]) -> list[str]:
    """Return the addresses that viewers ask for now."""
    found = []
    for station in stations:
        path = f"/live/{station}/c/index.m3u8"
        async with session.get(path) as answer:
            text = await answer.text() if answer.status == 200 else ""
        if text:
            found += [path, f"/live/{station}/c/{m3u8.loads(text).segments[-2].uri}"]
    return found


async def asked(site: Installation) -> float:
    """Return how often the web processes were asked for video."""
    total = 0.0
    async with aiohttp.ClientSession() as session:
        for machine in site.machines:
            async with session.get(f"http://{machine.host}:{machine.web + 1}/metrics") as answer:
                text = await answer.text()
            found = re.findall(r'kuager_http_requests_total\{.*?route="/live/.*?\} (\S+)', text)
            total += sum(map(float, found))
    return total


async def load(
    site: Installation, session: aiohttp.ClientSession, options: argparse.Namespace, nginx: int
) -> None:
    """Ask as so many viewers would, and print what it was."""
    wrk = need("wrk", "apt-get install wrk")
    stations = [f"s{n}" for n in range(20)]
    script, requests, errors = site.folder / "wrk.lua", 0, 0
    web = [pid for m in site.machines for pid in descendants(m.process.pid if m.process else 0)]
    before, begun = (cpu_s([nginx]), cpu_s(web), await asked(site)), time.monotonic()
    while time.monotonic() - begun < options.seconds:
        paths = await newest(session, stations)
        script.write_text(LUA % ", ".join(f'"{path}"' for path in paths))
        command = [
            "-t",
            "1",
            "-c",
            str(options.connections),
            "-d",
            f"{ROUND_S}s",
            "-s",
            str(script),
        ]
        child = await asyncio.create_subprocess_exec(
            wrk, *command, str(session._base_url), stdout=asyncio.subprocess.PIPE
        )
        text = (await child.communicate())[0].decode()
        requests += int((re.findall(r"(\d+) requests in", text) or ["0"])[0])
        errors += sum(map(int, re.findall(r"Non-2xx or 3xx responses: (\d+)", text)))
    took_s = time.monotonic() - begun
    filled = await asked(site) - before[2]
    viewers = requests / took_s * EACH_S / 2
    print(f"| viewers | {viewers:,.0f} | {requests / took_s:,.0f} requests/s, {errors} refused |")
    print(f"| nginx, one worker | {(cpu_s([nginx]) - before[0]) / took_s * 100:.0f} % of a core |")
    print(f"| all of Kuager | {(cpu_s(web) - before[1]) / took_s * 100:.0f} % of a core |")
    print(f"| Kuager asked | {filled / took_s / 20:.2f} times a camera and second |")
    print(f"| hit rate | {(1 - filled / max(1, requests)) * 100:.2f} % |", flush=True)


async def measure(options: argparse.Namespace) -> int:
    """Do it; returns the exit code."""
    folder: Path = folder_of("viewers")
    site = Installation(folder, 3, 20)
    try:
        async with site.running():
            assert site.edge is not None
            await site.balanced(3)
            await site.all_recorded()
            async with site.edge.serving() as session:
                nginx = int((site.edge.folder / "pid").read_text())
                await load(site, session, options, nginx)
                recorded = await site.recorded()
            print(f"| recorded meanwhile | {recorded} of 20 cameras |")
            return 0 if recorded == 20 else 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--connections", type=int, default=250)  # 256 for an address
    sys.exit(asyncio.run(measure(parser.parse_args())))


if __name__ == "__main__":
    main()
