"""`python -m kuager.simulator --config cameras.json`: the simulator as a process of its own.

Ends on SIGTERM, SIGINT, or, where its standard input is a pipe, when that ends: then its parent
is gone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

import uvloop

from kuager import signals
from kuager.simulator.camera import SimCamera
from kuager.simulator.server import Simulator
from recorder.ffmpeg import FfmpegMissing, find_ffmpeg


def simulator_of(arguments: argparse.Namespace) -> Simulator:
    """Return the simulator that the command line asks for.

    Raises OSError, ValueError, TypeError, KeyError or FfmpegMissing for what is wrong with it.
    """
    if arguments.config:
        listed = json.loads(Path(arguments.config).read_text())["cameras"]
        cameras = [SimCamera(**c) for c in listed]
    else:
        copies = (SimCamera(f"cam{n}", shared="cam0") for n in range(1, arguments.cameras))
        cameras = [SimCamera("cam0"), *copies]
    return Simulator(
        cameras,
        port=arguments.port,
        control_port=arguments.control_port,
        ffmpeg=find_ffmpeg(Path(arguments.ffmpeg) if arguments.ffmpeg else None),
    )


async def serve(simulator: Simulator) -> None:
    """Run until a signal or the end of standard input."""
    ended = asyncio.Event()
    signals.on_stop(ended.set, ended.set)
    async with simulator:
        signals.on_parent_gone(ended.set)
        print("ready", *simulator.cameras, flush=True)
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
    try:
        simulator = simulator_of(arguments)
    except (OSError, ValueError, TypeError, KeyError, FfmpegMissing) as error:
        parser.error(f"{arguments.config or 'command line'}: {error}")
    uvloop.run(serve(simulator))


if __name__ == "__main__":
    main()
