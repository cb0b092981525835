"""The polling room and its people, drawn with OpenCV. Positions are fractions of the picture.

The room is painted once; each frame only the people are drawn on a copy of it. They walk on a
floor that begins at HORIZON, and are the larger the nearer they are.
"""

from __future__ import annotations

from math import cos, pi, sin

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]  # blue, green, red

ANGLES = ("ballot-box", "counting-table", "entrance")
HORIZON = 0.42
TABLE = (0.08, 0.60, 0.84, 0.30)  # of the counting table: x, y, width, height
_COATS: tuple[Colour, ...] = (
    (62, 50, 44),
    (96, 58, 40),
    (58, 76, 128),
    (70, 92, 62),
    (130, 120, 112),
    (72, 44, 92),
)
_SKIN: Colour = (150, 178, 212)
_HAIR: tuple[Colour, ...] = ((30, 32, 40), (52, 66, 88), (140, 142, 146))


class Scene:
    """One angle of a polling room at one size in pixels."""

    def __init__(self, angle: str, width: int, height: int):
        """Paint the room; raises ValueError for an angle that is not in ANGLES."""
        if angle not in ANGLES:
            raise ValueError(f"no angle '{angle}'; there are: {', '.join(ANGLES)}")
        self._angle, self._width, self._height = angle, width, height
        self._room = np.zeros((height, width, 3), np.uint8)
        self._paint()

    def draw(self, t: float) -> Image:
        """Return the picture at `t` seconds, 8 bit BGR."""
        image = self._room.copy()
        if self._angle == "counting-table":
            self._count(image, t)
            return image
        walkers = [self._walker(n, t) for n in range(5)]
        for depth, x, pace, n in sorted(walkers):  # the far ones first
            self._stand(image, n, x, HORIZON + depth * (1 - HORIZON), pace)
        return image

    # -- the room ------------------------------------------------------------------------

    def _at(self, x: float, y: float) -> tuple[int, int]:
        return round(x * self._width), round(y * self._height)

    def _box(self, x: float, y: float, w: float, h: float, colour: Colour) -> None:
        cv2.rectangle(self._room, self._at(x, y), self._at(x + w, y + h), colour, -1)

    def _shape(self, points: list[tuple[float, float]], colour: Colour) -> None:
        corners = np.array([self._at(*p) for p in points], np.int32)
        cv2.fillConvexPoly(self._room, corners, colour, cv2.LINE_AA)

    def _paint(self) -> None:
        floor = round(HORIZON * self._height)
        wall = np.linspace(205, 178, floor)[:, None, None] * np.array([0.9, 0.97, 1.0])
        boards = np.linspace(96, 150, self._height - floor)[:, None, None]
        self._room[:floor] = wall.astype(np.uint8)
        self._room[floor:] = (boards * np.array([0.62, 0.82, 1.0])).astype(np.uint8)
        for n in range(-14, 15):  # boards run towards the eye
            far, near = self._at(0.5 + n * 0.05, HORIZON), self._at(0.5 + n * 0.24, 1)
            cv2.line(self._room, far, near, (70, 92, 110), 1, cv2.LINE_AA)
        self._box(0, HORIZON - 0.012, 1, 0.014, (92, 110, 124))
        if self._angle == "ballot-box":
            self._window(0.66)
            self._booths()
            self._ballot_box()
        elif self._angle == "counting-table":
            self._window(0.1)
            self._window(0.68)
            self._box(0.42, 0.1, 0.16, 0.2, (150, 128, 52))  # the flag
            cv2.circle(
                self._room, self._at(0.5, 0.2), round(self._height * 0.05), (60, 190, 225), -1
            )
            self._table()
        else:
            self._door()
            self._window(0.06)
            self._box(0.78, 0.14, 0.13, 0.2, (225, 228, 230))  # the notice board
            for n in range(5):
                self._box(0.79, 0.16 + n * 0.034, 0.11 - 0.02 * (n % 3), 0.012, (120, 110, 100))
        grain = np.random.default_rng(5).integers(-4, 5, self._room.shape[:2], dtype=np.int16)
        self._room = np.clip(self._room + grain[:, :, None], 0, 255).astype(np.uint8)

    def _window(self, x: float) -> None:
        self._box(x, 0.08, 0.22, 0.25, (214, 220, 222))
        for pane in (0.012, 0.116):
            self._box(x + pane, 0.1, 0.092, 0.21, (240, 226, 206))
            self._box(x + pane, 0.23, 0.092, 0.08, (176, 192, 172))

    def _booths(self) -> None:
        for n in range(3):
            x = 0.04 + n * 0.135
            self._box(x, 0.16, 0.12, 0.36, (150, 120, 84))
            for fold in range(6):
                shade = 18 * (fold % 2)
                self._box(x + 0.02 * fold, 0.2, 0.019, 0.31, (158 - shade, 112 - shade, 60))
            self._box(x, 0.16, 0.12, 0.03, (96, 78, 62))

    def _ballot_box(self) -> None:
        front, side, lid = (222, 214, 200), (198, 190, 174), (235, 232, 226)
        self._shape([(0.42, 0.5), (0.58, 0.5), (0.58, 0.8), (0.42, 0.8)], front)
        self._shape([(0.58, 0.5), (0.62, 0.47), (0.62, 0.75), (0.58, 0.8)], side)
        self._shape([(0.42, 0.5), (0.46, 0.47), (0.62, 0.47), (0.58, 0.5)], lid)
        self._box(0.48, 0.481, 0.08, 0.008, (30, 30, 30))
        self._box(0.46, 0.54, 0.08, 0.09, (150, 128, 52))
        for n in range(16):  # ballots that show through
            x, y = 0.43 + (n * 0.37 % 1) * 0.12, 0.7 + (n * 0.61 % 1) * 0.07
            self._shape([(x, y), (x + 0.03, y - 0.012), (x + 0.034, y + 0.012)], (245, 246, 246))

    def _table(self) -> None:
        x, y, w, h = TABLE
        self._shape(
            [(x + 0.06, y), (x + w - 0.06, y), (x + w, y + 0.16), (x, y + 0.16)], (84, 124, 168)
        )
        self._box(x, y + 0.16, w, h - 0.16, (62, 94, 130))
        for n in range(8):  # heaps of ballots, a sheet on the other
            left, top = x + 0.09 + n * 0.085, y + 0.055 + 0.03 * (n % 3)
            for sheet in range(2 + n % 4):
                up = sheet * 0.006
                tone = 250 - 14 * (sheet % 2)
                self._shape(
                    [
                        (left + 0.006, top - up),
                        (left + 0.05, top - up),
                        (left + 0.056, top + 0.03 - up),
                        (left, top + 0.03 - up),
                    ],
                    (tone, tone, tone),
                )

    def _door(self) -> None:
        self._box(0.41, 0.08, 0.2, 0.36, (88, 104, 120))
        self._box(0.425, 0.1, 0.17, 0.34, (176, 188, 190))  # a bright corridor
        self._shape([(0.425, 0.1), (0.36, 0.07), (0.36, 0.5), (0.425, 0.44)], (66, 88, 112))
        self._box(0.66, 0.36, 0.26, 0.03, (92, 132, 170))  # the desk where voters sign
        self._box(0.67, 0.39, 0.24, 0.13, (66, 98, 132))

    # -- the people ----------------------------------------------------------------------

    def _walker(self, n: int, t: float) -> tuple[float, float, float, int]:
        """Return (depth 0..1, x, phase of the step or 0 when standing, who) of a voter."""
        turn = (t / (19 + 3 * n) + n * 0.29) % 1  # one way through the room
        if self._angle == "entrance":  # through the door, past the desk, out of the picture
            depth = 0.05 + 0.75 * turn
            return depth, 0.5 + (0.5 - n * 0.24) * turn * turn, t * 9 + n, n
        x = 1.1 - 1.2 * turn
        if 0.35 < turn < 0.55:  # at the box
            return 0.3 + 0.14 * n, 1.1 - 1.2 * 0.35, 0.0, n
        if turn >= 0.55:
            x = 1.1 - 1.2 * (0.35 + (turn - 0.55) * 0.65 / 0.45)
        return 0.3 + 0.14 * n, x, t * 9 + n, n

    def _stand(self, image: Image, n: int, x: float, feet: float, pace: float) -> None:
        """Draw somebody whose feet are at (x, feet)."""
        tall = (0.22 + 0.9 * (feet - HORIZON)) * self._height  # pixels
        cx, cy = self._at(x, feet)
        hip, shoulder = cy - tall * 0.46, cy - tall * 0.8
        step = sin(pace) * 0.1 * tall if pace else 0.05 * tall
        thick = max(1, round(tall * 0.075))
        cv2.ellipse(
            image, (cx, cy), (round(tall * 0.2), round(tall * 0.035)), 0, 0, 360, (62, 80, 96), -1
        )
        for way in (1, -1):
            cv2.line(image, (cx, round(hip)), (round(cx + way * step), cy), (48, 42, 40), thick)
        self._body(image, n, cx, round(hip), round(shoulder), tall)
        swing = round(step * 0.8)
        hand = (cx + swing, round(hip - 0.02 * tall))
        cv2.line(image, (cx, round(shoulder + 0.06 * tall)), hand, _COATS[n % 6], thick)

    def _body(self, image: Image, n: int, cx: int, hip: int, shoulder: int, tall: float) -> None:
        coat, wide = _COATS[n % 6], tall * 0.12
        middle = (cx, (hip + shoulder) // 2)
        axes = (round(wide), round((hip - shoulder) * 0.62))
        cv2.ellipse(image, middle, axes, 0, 0, 360, coat, -1)
        head, radius = (cx, round(shoulder - tall * 0.075)), round(tall * 0.075)
        cv2.circle(image, head, radius, _SKIN, -1)
        cv2.ellipse(image, head, (radius, radius), 0, 170, 370, _HAIR[n % 3], -1)

    def _count(self, image: Image, t: float) -> None:
        """Draw the commission behind its table, and hands that move ballots on it."""
        x, y, w, _ = TABLE
        tall = 0.62 * self._height
        places = [x + w * (0.14 + 0.18 * n) for n in range(5)]
        for n, place in enumerate(places):
            cx, cy = self._at(place + 0.006 * sin(t * (0.7 + n / 5)), y + 0.08)
            self._body(image, n, cx, cy, round(cy - tall * 0.34), tall)
        table = slice(round(y * self._height), None)
        image[table] = self._room[table]  # it stands before them
        for n, place in enumerate(places):
            reach = 0.05 * cos(t * (1.1 + 0.2 * n) + n * pi / 3)
            hand = self._at(place + reach, y + 0.07 + 0.02 * sin(t * 2.3 + n))
            left, right = self._at(place - 0.03, y), self._at(place + 0.03, y)
            elbow = left if reach < 0 else right
            cv2.line(image, elbow, hand, _COATS[n % 6], max(1, round(tall * 0.05)))
            cv2.circle(image, hand, max(1, round(tall * 0.03)), _SKIN, -1)
            ballot = (hand[0] + round(tall * 0.05), hand[1] + round(tall * 0.03))
            cv2.rectangle(image, hand, ballot, (246, 248, 248), -1)
