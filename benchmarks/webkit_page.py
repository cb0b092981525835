"""A page in WebKitGTK without Media Source Extensions, the nearest to an iPhone without one.

Run by the system's Python, in an X server: webkit_page.py ADDRESS. Each line of its input is a
function of JavaScript, as JSON; it answers with a line that has what that returns, as JSON.
"""

from __future__ import annotations

import json
import sys

import gi

gi.require_version("Gtk", "3.0")
gi.require_version("WebKit2", "4.1")
from gi.repository import GLib, Gtk, WebKit2  # noqa: E402

BARE = "for (const name of ['MediaSource', 'ManagedMediaSource']) delete window[name]"


def main() -> None:
    """Show the page until the input ends."""
    settings = WebKit2.Settings(
        enable_mediasource=False,
        media_playback_requires_user_gesture=False,
        hardware_acceleration_policy=WebKit2.HardwareAccelerationPolicy.ALWAYS,
    )
    manager = WebKit2.UserContentManager()
    frames, start = WebKit2.UserContentInjectedFrames, WebKit2.UserScriptInjectionTime
    manager.add_script(WebKit2.UserScript.new(BARE, frames.ALL_FRAMES, start.START, None, None))
    view = WebKit2.WebView(user_content_manager=manager, settings=settings)
    window = Gtk.Window(default_width=390, default_height=800)
    window.add(view)
    window.show_all()
    view.load_uri(sys.argv[1])

    def answer(view: WebKit2.WebView, result: object) -> None:
        try:
            value = view.call_async_javascript_function_finish(result).to_string()
        except GLib.Error:  # the page is not there yet
            value = "null"
        print(value, flush=True)

    def asked(*_: object) -> bool:
        if not (line := sys.stdin.readline()):
            Gtk.main_quit()
            return False
        body = f"return JSON.stringify(await ({json.loads(line)})() ?? null)"
        view.call_async_javascript_function(body, -1, None, None, None, None, answer)
        return True

    GLib.io_add_watch(0, GLib.IO_IN | GLib.IO_HUP, asked)
    Gtk.main()


if __name__ == "__main__":
    main()
