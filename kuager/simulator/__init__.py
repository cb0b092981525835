"""Cameras that do not exist, with every fault that real ones have.

`server`    all of them behind one RTSP server, with a control port for faults
`camera`    one camera: relays packets with the media time of `track`, spoiled by its faults
`rtsp`      a camera's side of a connection with a client (RFC 2326)
`faults`    what can be wrong with a camera, and a bad line to its viewers
`track`     media time as a camera believes it, and what it reports of it (RFC 3550)
`encoder`   ffmpeg encodes and packetizes (RFC 3550, 6184, 7798, 3640); `film` repeats what it made
`picture`   the picture with the UTC time burned in, and its sound; `scene` draws the room

    async with Simulator([SimCamera("hall")]) as simulator:
        url = simulator.url("hall")
        simulator.fault("hall", "drop", 5)
"""
