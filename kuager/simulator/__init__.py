"""Cameras that do not exist, with every fault that real ones have.

`picture` draws a polling room with the UTC time burned in, `encoder` has ffmpeg encode and
packetize it, `camera` relays and spoils the packets, `server` speaks RTSP (RFC 2326) and takes
faults on a control port. ffmpeg does the RTP (RFC 3550, 6184, 7798, 3640); the simulator only
signals, relays and spoils.

    async with Simulator([SimCamera("hall")]) as simulator:
        url = simulator.url("hall")
        simulator.fault("hall", "drop", 5)
"""

from kuager.simulator.camera import FAULTS, SimCamera
from kuager.simulator.server import Simulator

__all__ = ["FAULTS", "SimCamera", "Simulator"]
