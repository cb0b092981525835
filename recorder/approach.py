"""How one camera is approached: what its sessions have taught.

By ffmpeg a camera sees two connections: ours with DESCRIBE, then ffmpeg's. One that takes a single
client, lets a client go late, or takes a connection every few seconds refuses the second. It is
then asked nothing more: the stream is taken by the description of before, after longer and longer
pauses, and the pause that worked is remembered. The native source needs one connection only.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from recorder.rtsp.describe import Offer
from storage.records import Ending, GapCause

PAUSES_S = (1.0, 4.0, 12.0)
AGAIN_S = 600.0  # until what failed is tried again: sound, the native source
_TOO_MANY = {GapCause.CLOSED_BY_CAMERA, GapCause.UNREACHABLE, GapCause.STREAM_BROKEN}
_OF_THE_CAMERA = _TOO_MANY | {GapCause.NO_DATA, GapCause.NO_SUCH_STREAM, GapCause.REFUSED_PASSWORD}


class Approach:
    """What is known of one camera from one session to the next."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` tells seconds, and is never set."""
        self._clock = clock
        self._offer: Offer | None = None
        self._try: int | None = None  # index of the pause before the next session without DESCRIBE
        self._worked: int | None = None  # index of the pause after which there were pictures
        self.needs_key = True  # False: the last session had pictures, and no keyframe
        self._sound_broke = False  # the last session ended where sound was asked for
        self._without_sound_until = float("-inf")
        self.closed_at = Counter[str]()  # methods: recorder.rtsp.client.RtspSession
        self._native_failed = ""  # why
        self._native_again = float("-inf")

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

    def native_ended(self, why: Ending, pictures: int) -> None:
        """Learn from how a session of the native source ended.

        After one that had no picture, or whose stream broke, ffmpeg is next: it may understand
        what that source does not.
        """
        self._sound_broke = False
        is_broken = why.cause is GapCause.STREAM_BROKEN
        if is_broken or (not pictures and why.cause in _OF_THE_CAMERA):
            self._native_failed, self._native_again = why.detail, self._clock() + AGAIN_S

    def native_failed(self) -> str | None:
        """Say why the native source has failed at this camera lately; None where it has not."""
        return self._native_failed or None if self._clock() < self._native_again else None

    def leave_out_sound(self) -> bool:
        """Record without sound for a while; False where that was so already."""
        if not self.takes_sound():
            return False
        self._without_sound_until = self._clock() + AGAIN_S
        return True

    def sound_broke(self) -> bool:
        """Learn that a session ended where sound was asked for; whether it is left out from now on.

        Once may be the network's chance.
        """
        again, self._sound_broke = self._sound_broke, True
        return again and self.leave_out_sound()

    def takes_sound(self) -> bool:
        """Whether sound is asked for."""
        return self._clock() >= self._without_sound_until
