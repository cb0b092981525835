"""GStreamer's RTSP server, a camera that is not ours. Run by the system's Python (python3-gi).

    python3 tests/support/gst_server.py PORT MOUNT=PIPELINE [MOUNT=PIPELINE ...]
        [--user USER:PASSWORD] [--protocols tcp|udp] [--begins FILE]

Prints "ready" when it listens. A pipeline's payloaders are named pay0 and pay1.
"""

from __future__ import annotations

import argparse
import os
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402


def tell_taken(media: GstRtspServer.RTSPMedia) -> None:
    """Have sender reports say when pictures and sound were taken, as RFC 3550 has it.

    GStreamer says when they were sent: on a busy machine the picture long after its sound.
    """
    for element in media.get_element().get_parent().children:
        if element.get_factory().get_name() == "rtpbin":
            element.set_property("rtcp-sync-send-time", False)


def tell_begins(media: GstRtspServer.RTSPMedia, mount: str, file: int) -> None:
    """Write when each source of a media begins: the mount, UTC ms, the source, its time in ms.

    They count pictures and ticks from 0, each from when its thread runs: on a busy machine 0.4 s
    apart.
    """

    def begin(_: Gst.Pad, info: Gst.PadProbeInfo, source: str) -> Gst.PadProbeReturn:
        at_ms = info.get_buffer().pts / 1e6
        os.write(file, f"{mount} {time.time() * 1000:.0f} {source} {at_ms:.1f}\n".encode())
        return Gst.PadProbeReturn.REMOVE

    for element in media.get_element().children:
        source = element.get_factory().get_name()
        if source.endswith("testsrc"):
            element.get_static_pad("src").add_probe(Gst.PadProbeType.BUFFER, begin, source)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port")
    parser.add_argument("mounts", nargs="+")
    parser.add_argument("--user")
    parser.add_argument("--protocols")
    parser.add_argument("--begins", default=os.devnull)
    arguments = parser.parse_args()
    Gst.init(None)
    # gi makes each class when it is first met: of two threads that meet it at once, one has it
    # without its attributes, so all of them are met before there are threads
    for module in (Gst, GstRtsp, GstRtspServer):
        for name in dir(module):
            getattr(module, name)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(arguments.port)
    server.get_thread_pool().set_max_threads(16)  # else one slow mount holds up all
    begins = os.open(arguments.begins, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    role = "anonymous"
    if arguments.user:
        role = "viewer"
        auth = GstRtspServer.RTSPAuth()
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", role)
        auth.add_digest(*arguments.user.split(":", 1), token)
        server.set_auth(auth)
    for mount in arguments.mounts:
        name, _, pipeline = mount.partition("=")
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch(f"( {pipeline} )")
        factory.set_shared(True)
        factory.connect("media-configure", lambda _, media: media.connect("prepared", tell_taken))
        factory.connect(
            "media-configure", lambda _, media, name: tell_begins(media, name, begins), name
        )
        if arguments.user:
            permissions = GstRtspServer.RTSPPermissions()
            permissions.add_permission_for_role(role, "media.factory.access", True)
            permissions.add_permission_for_role(role, "media.factory.construct", True)
            factory.set_permissions(permissions)
        if arguments.protocols:
            lower = GstRtsp.RTSPLowerTrans
            factory.set_protocols(lower.TCP if arguments.protocols == "tcp" else lower.UDP)
        server.get_mount_points().add_factory(f"/{name}", factory)
    server.attach(None)
    print("ready", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
