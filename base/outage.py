"""Something that fails for a while: said once when it begins or changes, and when it ends."""

from __future__ import annotations

import structlog

log = structlog.get_logger()


class Outage:
    """One part that other parts lean on, with what the operator is told of it."""

    def __init__(self, began: str, ended: str, **context: object):
        """`began` and `ended` are the two sentences; `context` goes with both."""
        self._began, self._ended, self._context = began, ended, context
        self.why: str | None = None  # None while all is well

    def begin(self, why: str) -> None:
        """Say that it fails, unless that was said for this reason."""
        if why != self.why:
            self.why = why
            log.error(self._began, why=why, **self._context)

    def end(self, **more: object) -> None:
        """Say that it is well again, if it was not."""
        if self.why is not None:
            self.why = None
            log.info(self._ended, **self._context, **more)
