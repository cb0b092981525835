"""The event loop of tests: that of Kuager's processes, which says what was left open in it."""

from __future__ import annotations

import warnings

import uvloop


class Loop(uvloop.Loop):
    """Ends a test by an error where connections or servers are open when its loop is closed.

    uvloop warns of each within a callback, and closes it then. Where warnings are errors it is not
    closed, and uvloop waits for it for ever.
    """

    def close(self) -> None:
        """Close what is open, too. Raises AssertionError where anything was."""
        with warnings.catch_warnings(record=True) as left:
            warnings.simplefilter("always")
            super().close()
        assert not left, f"left open: {', '.join(str(one.message) for one in left)}"
