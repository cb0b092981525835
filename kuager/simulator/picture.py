"""The picture: a polling room, and the time burned in twice; and the sound that goes with it.

The strip at the top is for machines: 48 bits of UTC milliseconds, 8 bits of their sum, between
a white and a black block, most significant bit first, each block as wide as the others and
bright for 1. It survives scaling and hard compression.
"""

from __future__ import annotations

from datetime import UTC, datetime

import cv2
import numpy as np

from kuager.simulator.scene import Image, Scene

BITS = 48 + 8
BLOCKS = BITS + 4  # white black, the bits, black white
STRIP_HEIGHT = 1 / 30  # of the picture
FLASH_MS = 100  # of light and of sound, from the beginning of each UTC second

_FONT = cv2.FONT_HERSHEY_SIMPLEX


def strip_bits(utc_ms: int) -> list[int]:
    """Return the blocks of the strip for a time: 1 is white."""
    total = sum(utc_ms.to_bytes(6, "big")) & 0xFF
    word = utc_ms << 8 | total
    return [1, 0, *(word >> n & 1 for n in reversed(range(BITS))), 0, 1]


class Room:
    """Draws the frames of one camera."""

    def __init__(self, angle: str, title: str, width: int, height: int):
        """Paint the room; sizes in pixels, even. Raises ValueError for an unknown angle."""
        self._scene, self._title = Scene(angle, width, height), title
        self._width, self._height = width, height
        edges = np.linspace(0, width, BLOCKS + 1).round().astype(int)
        self._widths = np.diff(edges)
        self._strip_height = max(8, round(height * STRIP_HEIGHT)) & ~1

    def draw(self, utc_ms: int) -> Image:
        """Return the picture at a time as planar YUV 4:2:0: height * 3 / 2 rows of its width."""
        image = self._scene.draw(utc_ms / 1000)
        self._clock(image, utc_ms)
        planes: Image = cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420)  # type: ignore[assignment]
        return planes

    def _clock(self, image: Image, utc_ms: int) -> None:
        height = self._strip_height
        row = np.repeat(np.where(strip_bits(utc_ms), 235, 16), self._widths)
        image[:height] = row[None, :, None]
        corner = (slice(height, 3 * height), slice(self._width - 4 * height, self._width))
        image[corner] = 235 if utc_ms % 1000 < FLASH_MS else 16
        at = datetime.fromtimestamp(utc_ms // 1000, UTC)
        text = f"{self._title}  {at:%Y-%m-%d %H:%M:%S}.{utc_ms % 1000:03d} UTC"
        bar = round(self._height * 0.935)
        image[bar:] //= 4
        origin = (round(self._width * 0.012), round(self._height * 0.983))
        cv2.putText(image, text, origin, _FONT, self._height / 800, (255, 255, 255), 1)


def beep(first: int, count: int, rate: int, start_ms: float) -> bytes:
    """Return samples [first, first + count) of the sound: 1 kHz for FLASH_MS of each second.

    16 bit mono at `rate` Hz; sample 0 sounds at UTC `start_ms`.
    """
    n = np.arange(first, first + count)
    into = (start_ms / 1000 + n / rate) % 1.0
    tone = np.sin(2 * np.pi * 1000 * into) * (into < FLASH_MS / 1000)
    return (tone * 12000).astype("<i2").tobytes()
