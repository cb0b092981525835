"""`python -m kuager.simulator --config cameras.json`: the simulator as a process of its own.

Ends on SIGTERM, SIGINT, or when its standard input ends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from pathlib import Path

import uvloop

from kuager.simulator import SimCamera, Simulator
from recorder.ffmpeg import find_ffmpeg


def cameras_of(arguments: argparse.Namespace) -> list[SimCamera]:
    """Return the cameras that the command line asks for."""
    if arguments.config:
        listed = json.loads(Path(arguments.config).read_text())["cameras"]
        return [SimCamera(**c) for c in listed]
    copies = (SimCamera(f"cam{n}", shared="cam0") for n in range(1, arguments.cameras))
    return [SimCamera("cam0"), *copies]


async def serve(arguments: argparse.Namespace, cameras: list[SimCamera]) -> None:
    """Run until a signal or the end of standard input."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)

    class Parent(asyncio.Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            ended.set()

    simulator = Simulator(
        cameras,
        port=arguments.port,
        control_port=arguments.control_port,
        ffmpeg=find_ffmpeg(Path(arguments.ffmpeg) if arguments.ffmpeg else None),
    )
    async with simulator:
        await loop.connect_read_pipe(Parent, sys.stdin)
        print("ready", *(f"{name}" for name in simulator.cameras), flush=True)
        await ended.wait()


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(prog="kuager.simulator", description=__doc__)
    parser.add_argument("--config", help='JSON: {"cameras": [{"name": ..., "angle": ...}]}')
    parser.add_argument("--cameras", type=int, default=1, help="without --config: how many")
    parser.add_argument("--port", type=int, default=0, help="RTSP port")
    parser.add_argument("--control-port", type=int, default=None, help="port for faults")
    parser.add_argument("--ffmpeg", help="ffmpeg to encode with")
    arguments = parser.parse_args()
    uvloop.run(serve(arguments, cameras_of(arguments)))


if __name__ == "__main__":
    main()
