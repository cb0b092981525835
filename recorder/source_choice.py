"""Which source takes a camera's stream: the native one where it understands it, else ffmpeg."""

from __future__ import annotations

from collections.abc import Callable

from recorder.camera_spec import CameraSpec
from recorder.ffmpeg import FfmpegSource
from recorder.native import why_not
from recorder.rtsp.describe import DescribeFailed, Offer
from storage.records import GapCause

CONFIGURED = "the configuration says so"


def why_ffmpeg(
    spec: CameraSpec, offer: Offer, keep_audio: bool, learned: str | None = None
) -> str | None:
    """Say why ffmpeg takes a stream; None where the native source does.

    `learned` is why the native source has failed at this camera, which counts for `auto`. Raises
    DescribeFailed where the configuration allows the native source only, and it cannot.
    """
    if spec.source == "ffmpeg":
        return CONFIGURED
    why = why_not(offer, keep_audio)
    if spec.source == "auto":
        return why or learned
    if why is not None:
        raise DescribeFailed(
            GapCause.STREAM_BROKEN,
            f"{offer.address.where} sends {why}, which the native source does not read",
            "set 'source' to auto or ffmpeg",
        )
    return None


def ffmpeg_source(
    spec: CameraSpec, program: str, offer: Offer, keep_audio: bool, clock_ms: Callable[[], float]
) -> FfmpegSource:
    """Return a session with a camera through ffmpeg, which connects by itself."""
    return FfmpegSource(
        program,
        offer.address.url,
        offer.description,
        transport=spec.transport,
        keep_audio=keep_audio,
        clock_ms=clock_ms,
        user_agent=spec.user_agent,
        proof=offer.proof,
    )
