"""How one camera is approached: what its sessions have taught.

By ffmpeg a camera sees two connections: ours with DESCRIBE, then ffmpeg's. One that takes a single
client, lets a client go late, or takes a connection every few seconds refuses the second. It is
then asked nothing more: the stream is taken by the description of before, after longer and longer
pauses, and the pause that worked is remembered. The native source needs one connection only.
"""

from __future__ import annotations

from recorder.rtsp.describe import Offer
from storage.records import Ending, GapCause

PAUSES_S = (1.0, 4.0, 12.0)
AGAIN_MS = 600_000  # until what failed is tried again: sound, the native source
_TOO_MANY = {GapCause.CLOSED_BY_CAMERA, GapCause.UNREACHABLE, GapCause.STREAM_BROKEN}
_OF_THE_CAMERA = _TOO_MANY | {GapCause.NO_DATA, GapCause.NO_SUCH_STREAM, GapCause.REFUSED_PASSWORD}


class Approach:
    """What is known of one camera from one session to the next."""

    def __init__(self) -> None:
        self._offer: Offer | None = None
        self._try: int | None = None  # index of the pause before the next session without DESCRIBE
        self._worked: int | None = None  # index of the pause after which there were pictures
        self._without_sound_until_ms = 0.0
        self._native_failed = ""  # why
        self._native_again_ms = 0.0

    def remembered(self) -> Offer | None:
        """Return the offer to use without asking; None where the camera is to be asked."""
        return self._offer if self._try is not None else None

    def described(self, offer: Offer) -> float:
        """Keep what the camera offers; return how many seconds to leave it alone before ffmpeg."""
        self._offer = offer
        return 0.0 if self._worked is None else PAUSES_S[self._worked]

    def pause_s(self) -> float:
        """Return the least pause before the next session, in seconds."""
        return 0.0 if self._try is None else PAUSES_S[self._try]

    def ended(self, why: Ending, pictures: int) -> None:
        """Learn from how a session by ffmpeg ended that had this many pictures."""
        if pictures:
            self._worked = self._worked if self._try is None else self._try
        elif why.cause not in _TOO_MANY:
            self._try = None
        elif self._try is None:
            self._try = self._worked or 0
        else:
            self._try = self._try + 1 if self._try + 1 < len(PAUSES_S) else None
        if not pictures and self._try is None:  # then it was not the native source
            self._native_failed = ""

    def native_ended(self, why: Ending, pictures: int, now_ms: float) -> None:
        """Learn from how a session of the native source ended.

        After one that had no picture, or whose stream broke, ffmpeg is next: it may understand
        what that source does not.
        """
        is_broken = why.cause is GapCause.STREAM_BROKEN
        if is_broken or (not pictures and why.cause in _OF_THE_CAMERA):
            self._native_failed, self._native_again_ms = why.detail, now_ms + AGAIN_MS

    def native_failed(self, now_ms: float) -> str | None:
        """Say why the native source has failed at this camera lately; None where it has not."""
        return self._native_failed or None if now_ms < self._native_again_ms else None

    def leave_out_sound(self, now_ms: float) -> bool:
        """Record without sound for a while; False where that was so already."""
        if not self.takes_sound(now_ms):
            return False
        self._without_sound_until_ms = now_ms + AGAIN_MS
        return True

    def takes_sound(self, now_ms: float) -> bool:
        """Whether sound is asked for."""
        return now_ms >= self._without_sound_until_ms
