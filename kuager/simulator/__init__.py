"""Cameras that do not exist, with every fault that real ones have.

`scene` draws a polling room and `picture` burns the UTC time in; `encoder` has ffmpeg encode and
packetize it (RFC 3550, 6184, 7798, 3640), `film` repeats what it made once. `camera` relays the
packets with the media time of `track`, `faults` spoils them on their way, `rtsp` speaks with a
client (RFC 2326), and `server` holds it all together and takes faults by HTTP.

    async with Simulator([SimCamera("hall")]) as simulator:
        url = simulator.url("hall")
        simulator.fault("hall", "drop", 5)
"""

from kuager.simulator.camera import SimCamera
from kuager.simulator.faults import FAULTS
from kuager.simulator.server import Simulator

__all__ = ["FAULTS", "SimCamera", "Simulator"]
