"""The picture: a polling room from one of three angles, and the time burned in twice.

The strip at the top is for machines: 48 bits of UTC milliseconds, 8 bits of their sum, between
a white and a black block, most significant bit first, each block as wide as the others and
bright for 1. It survives scaling and hard compression.
"""

from __future__ import annotations

from datetime import UTC, datetime

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]

BITS = 48 + 8
BLOCKS = BITS + 4  # white black, the bits, black white
STRIP_HEIGHT = 1 / 30  # of the picture
ANGLES = ("ballot-box", "counting-table", "entrance")

_FONT = cv2.FONT_HERSHEY_SIMPLEX


def strip_bits(utc_ms: int) -> list[int]:
    """Return the blocks of the strip for a time: 1 is white."""
    total = sum(utc_ms.to_bytes(6, "big")) & 0xFF
    word = utc_ms << 8 | total
    return [1, 0, *(word >> n & 1 for n in reversed(range(BITS))), 0, 1]


def read_bits(blocks: list[int]) -> int | None:
    """Return the time that blocks say, None when they are not a strip."""
    if len(blocks) != BLOCKS or blocks[:2] != [1, 0] or blocks[-2:] != [0, 1]:
        return None
    word = int("".join(map(str, blocks[2:-2])), 2)
    utc_ms = word >> 8
    return utc_ms if sum(utc_ms.to_bytes(6, "big")) & 0xFF == word & 0xFF else None


class Room:
    """Draws the frames of one camera; the room itself is painted once."""

    def __init__(self, angle: str, title: str, width: int, height: int):
        self._angle, self._title = angle, title
        self._width, self._height = width, height
        self._still = self._paint()
        self._edges = np.linspace(0, width, BLOCKS + 1).round().astype(int)
        self._strip_height = max(8, round(height * STRIP_HEIGHT)) & ~1

    def draw(self, utc_ms: int) -> bytes:
        """Return the picture at a time as planar YUV 4:2:0."""
        image = self._still.copy()
        self._people(image, utc_ms / 1000)
        self._clock(image, utc_ms)
        planes: Image = cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420)  # type: ignore[assignment]
        return planes.tobytes()

    def _at(self, x: float, y: float) -> tuple[int, int]:
        return round(x * self._width), round(y * self._height)

    def _box(
        self, image: Image, x: float, y: float, w: float, h: float, colour: tuple[int, int, int]
    ) -> None:
        cv2.rectangle(image, self._at(x, y), self._at(x + w, y + h), colour, -1)
        cv2.rectangle(image, self._at(x, y), self._at(x + w, y + h), (60, 60, 60), 1)

    def _paint(self) -> Image:
        image = np.full((self._height, self._width, 3), (186, 196, 200), np.uint8)
        floor = round(0.55 * self._height)
        shade = np.linspace(150, 110, self._height - floor)[:, None, None]
        image[floor:] = (shade * np.array([0.75, 0.9, 1.0])).astype(np.uint8)
        for x in (0.06, 0.72):  # windows
            self._box(image, x, 0.12, 0.2, 0.26, (235, 225, 205))
            cv2.line(image, self._at(x + 0.1, 0.12), self._at(x + 0.1, 0.38), (120, 120, 120), 2)
        if self._angle == "ballot-box":
            self._box(image, 0.40, 0.52, 0.2, 0.34, (225, 220, 205))
            self._box(image, 0.45, 0.54, 0.1, 0.012, (30, 30, 30))
            self._box(image, 0.43, 0.64, 0.14, 0.12, (170, 120, 40))
            for n in range(3):  # booths
                self._box(image, 0.03 + n * 0.1, 0.4, 0.09, 0.3, (120, 90, 70))
        elif self._angle == "counting-table":
            self._box(image, 0.12, 0.6, 0.76, 0.14, (70, 110, 150))
            for n in range(9):  # heaps of ballots
                self._box(
                    image, 0.16 + n * 0.08, 0.6 - 0.012 * (n % 4), 0.05, 0.03, (240, 240, 240)
                )
        else:
            self._box(image, 0.42, 0.16, 0.18, 0.52, (70, 85, 110))
            self._box(image, 0.43, 0.18, 0.075, 0.5, (120, 150, 170))
            self._box(image, 0.66, 0.5, 0.24, 0.2, (90, 120, 140))
        grain = np.random.default_rng(5).integers(-5, 6, image.shape[:2], dtype=np.int16)
        grained: Image = np.clip(image.astype(np.int16) + grain[:, :, None], 0, 255).astype(
            np.uint8
        )
        return grained

    def _people(self, image: Image, t: float) -> None:
        scale = self._height
        for n in range(4):
            pace = 0.03 + 0.011 * n
            x = abs((t * pace + n * 0.37) % 2 - 1)
            y = 0.62 + 0.07 * n + 0.006 * np.sin(t * 6 + n)
            if self._angle == "counting-table":  # they sit and reach
                x, y = 0.2 + n * 0.2 + 0.02 * np.sin(t * (1 + n / 3)), 0.52
            size = 0.05 + 0.012 * n
            coat = ((60 + 45 * n) % 200, (90 + 70 * n) % 200, (150 + 30 * n) % 200)
            cx, cy = self._at(x, y)
            axes = (round(size * 0.6 * scale), round(size * 1.7 * scale))
            cv2.ellipse(image, (cx, cy), axes, 0, 0, 360, coat, -1)
            head = (cx, cy - round(size * 2.1 * scale))
            cv2.circle(image, head, round(size * 0.5 * scale), (150, 180, 215), -1)

    def _clock(self, image: Image, utc_ms: int) -> None:
        height = self._strip_height
        for n, bit in enumerate(strip_bits(utc_ms)):
            image[:height, self._edges[n] : self._edges[n + 1]] = 235 if bit else 16
        # the flash that goes with the beep: the first 100 ms of each second
        corner = (slice(height, 3 * height), slice(self._width - 4 * height, self._width))
        image[corner] = 235 if utc_ms % 1000 < 100 else 16
        at = datetime.fromtimestamp(utc_ms // 1000, UTC)
        text = f"{self._title}  {at:%Y-%m-%d %H:%M:%S}.{utc_ms % 1000:03d} UTC"
        origin, size = self._at(0.012, 0.965), self._height / 700
        cv2.putText(image, text, origin, _FONT, size, (0, 0, 0), 4, cv2.LINE_8)
        cv2.putText(image, text, origin, _FONT, size, (255, 255, 255), 1, cv2.LINE_8)


def beep(first: int, count: int, rate: int, start_ms: float) -> bytes:
    """Return samples [first, first + count) of the sound: 100 ms of 1 kHz at each full second.

    16 bit mono at `rate` Hz; sample 0 sounds at UTC `start_ms`.
    """
    n = np.arange(first, first + count)
    t = start_ms / 1000 + n / rate
    tone = np.sin(2 * np.pi * 1000 * (t % 1.0)) * (t % 1.0 < 0.1)
    return (tone * 12000).astype("<i2").tobytes()
