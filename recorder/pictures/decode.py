"""One picture of H.264 or H.265 -> two JPEGs, by OpenCV in one thread.

Seen only by the picture process: what a decoder does with a bad bitstream must not be able to
end anything else.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # else decoders speak on standard error
os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")

import cv2
import numpy as np

THUMB_WIDTH, PICTURE_WIDTH = 320, 1280  # pixels
QUALITY = 75
MOST_PIXELS = 64_000_000

cv2.setNumThreads(1)
_memory = os.memfd_create("still", os.MFD_CLOEXEC)
_ONE_THREAD = [cv2.CAP_PROP_N_THREADS, 1]
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]


def decode(still: bytes) -> tuple[bytes, bytes]:
    """Return a small and a large JPEG of an MP4's first picture, in its shape as it is shown.

    Raises ValueError where it cannot be decoded.
    """
    os.ftruncate(_memory, 0)
    os.pwrite(_memory, still, 0)
    video = cv2.VideoCapture(f"/proc/self/fd/{_memory}", cv2.CAP_FFMPEG, _ONE_THREAD)
    try:
        width, height = video.get(cv2.CAP_PROP_FRAME_WIDTH), video.get(cv2.CAP_PROP_FRAME_HEIGHT)
        if not 0 < width * height <= MOST_PIXELS:
            raise ValueError(f"a picture of {width:.0f}x{height:.0f} pixels is not decoded")
        done, image = video.read()
        if not done:
            raise ValueError("its keyframe cannot be decoded")
        across, down = video.get(cv2.CAP_PROP_SAR_NUM), video.get(cv2.CAP_PROP_SAR_DEN)
    except cv2.error as error:
        raise ValueError(f"its keyframe cannot be decoded: {error.err}") from None
    finally:
        video.release()
    shape = across / down if across > 0 and down > 0 else 1.0  # of one pixel: of 4CIF, say
    picture = _at_most(image, PICTURE_WIDTH, shape)
    return _jpeg(_at_most(picture, THUMB_WIDTH)), _jpeg(picture)


def _at_most(image: np.ndarray, most: int, shape: float = 1.0) -> np.ndarray:
    """Return the image with square pixels, made smaller where it is wider than `most`."""
    height, width = image.shape[:2]
    wide = max(1, min(most, round(width * shape)))
    size = (wide, max(1, min(4 * most, round(height * wide / (width * shape)))))
    if size == (width, height):
        return image
    # averaging is four times as dear, and only seen where much is left out
    way = cv2.INTER_AREA if width > 2 * wide else cv2.INTER_LINEAR
    return cv2.resize(image, size, interpolation=way)


def _jpeg(image: np.ndarray) -> bytes:
    done, data = cv2.imencode(".jpg", image, _JPEG)
    if not done:
        raise ValueError("its picture cannot be written as JPEG")
    return bytes(data)
