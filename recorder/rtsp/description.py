"""Which tracks of a camera's description are recorded, and why not the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from recorder.rtsp.picture_size import picture_size
from recorder.rtsp.sdp import Media, SessionDescription

# what ffmpeg can take out of RTP; the two first are recorded as they are, the others encoded again
_VIDEO = {"H264": "h264", "H265": "h265", "HEVC": "h265", "JPEG": "mjpeg"}
_VIDEO |= {"MP4V-ES": "mpeg4", "MPV": "mpeg", "MP2T": "mpegts", "VP8": "vp8", "VP9": "vp9"}
_VIDEO |= {"H261": "h261", "H263": "h263", "H263-1998": "h263", "H263-2000": "h263"}
_AUDIO = {"MPEG4-GENERIC": "aac", "MP4A-LATM": "aac"}  # recorded as it is
_ENCODED_AUDIO = "PCMU PCMA G722 G723 L8 L16 L24 MPA OPUS AC3 GSM ILBC SPEEX AMR AMR-WB QCELP"
_AUDIO |= {name: name.lower() for name in _ENCODED_AUDIO.split()}
_AUDIO |= {f"{kind}G726-{rate}": "g726" for kind in ("", "AAL2-") for rate in (16, 24, 32, 40)}


class NoVideo(ValueError):
    """Nothing in the description can be recorded; `remedy` says what to do."""

    def __init__(self, text: str, remedy: str):
        super().__init__(text)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Description:
    """What is recorded of a camera: lower-case codecs, `audio` None for no sound.

    The indexes count from 0 among the tracks of their kind, in the camera's order; `tracks` are
    the tracks themselves, the picture first. `size` is width and height where the camera says them.
    `remarks` are sentences for the operator on what is not recorded.
    """

    video: str
    audio: str | None
    video_index: int = 0
    audio_index: int = 0
    tracks: tuple[Media, ...] = ()
    size: tuple[int, int] | None = None
    remarks: tuple[str, ...] = ()


def choose_tracks(session: SessionDescription, video_track: int | None = None) -> Description:
    """Choose the video track (`video_track` counts from 1; else the largest) and the sound.

    Raises NoVideo.
    """
    videos = [media for media in session.media if media.kind == "video"]
    index = _choose_video(videos, video_track)
    video, remarks = videos[index], []
    if len(videos) > 1:
        remarks.append(
            f"video track {index + 1} of {len(videos)} is recorded{_shown_size(_size(video))};"
            " 'video_track' chooses another"
        )
    sounds = [media for media in session.media if media.kind == "audio"]
    sound, why_not = _choose_sound(sounds, video)
    tracks = [video]
    if sound is not None:
        tracks.append(sounds[sound])
    elif why_not:
        remarks.append(why_not)
    return Description(
        _VIDEO[video.encoding],
        None if sound is None else _AUDIO[sounds[sound].encoding],
        index,
        sound or 0,
        tuple(tracks),
        _size(video),
        tuple(remarks),
    )


def _choose_video(videos: Sequence[Media], wanted: int | None) -> int:
    """Return the index of the track to record; raises NoVideo."""
    if not videos:
        raise NoVideo("the camera's stream has no video", "check the path of the address")
    if wanted is not None:
        if wanted > len(videos):
            raise NoVideo(
                f"the camera has no video track {wanted}, but {len(videos)}",
                f"set 'video_track' to 1 to {len(videos)}, or remove it",
            )
        known = [wanted - 1] if videos[wanted - 1].encoding in _VIDEO else []
    else:
        known = [n for n, media in enumerate(videos) if media.encoding in _VIDEO]
    if not known:
        named = " and ".join(dict.fromkeys(media.encoding or "without a name" for media in videos))
        raise NoVideo(
            f"the camera sends video that cannot be read: codec {named}",
            "set the camera to H.264 or H.265",
        )

    def area(index: int) -> int:
        width, height = _size(videos[index]) or (0, 0)
        return width * height

    return max(known, key=area)  # the first of equal ones


def _size(media: Media) -> tuple[int, int] | None:
    return picture_size(_VIDEO.get(media.encoding, ""), media.parameters) or media.size


def _shown_size(size: tuple[int, int] | None) -> str:
    return f" ({size[0]}x{size[1]})" if size else ""


def _choose_sound(sounds: Sequence[Media], video: Media) -> tuple[int | None, str]:
    """Return the index of the sound to record, or None and why there is none."""
    # A sendonly track is a back channel, to the camera (ONVIF Streaming Specification, 5.3). Some
    # cameras write sendonly from their own side, but then of the picture too.
    unwanted = {"inactive"} if video.direction == "sendonly" else {"inactive", "sendonly"}
    why_not = ""
    for n, media in enumerate(sounds):
        if media.direction in unwanted:
            continue
        if media.encoding not in _AUDIO:
            why = f"its codec {media.encoding or 'without a name'} cannot be read"
        elif _AUDIO[media.encoding] == "aac" and not _has_config(media):
            why = "the camera does not say its configuration, as AAC needs"
        else:
            return n, ""
        why_not = why_not or f"the sound is left out: {why}; set the camera's sound to AAC or G.711"
    return None, why_not


def _has_config(media: Media) -> bool:
    """Whether fmtp holds an AAC configuration (RFC 3640, 4.1; RFC 6416, 7.3)."""
    try:
        return len(bytes.fromhex(media.parameters.get("config", ""))) >= 2
    except ValueError:
        return False
