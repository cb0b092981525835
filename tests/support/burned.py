"""Reads the burned-in time of what a page shows, from its video elements."""

from __future__ import annotations

import base64

import cv2
import numpy as np
from playwright.async_api import Page

from tests.support.strip import read_strip

VIDEOS = "video:not(#bubble video)"  # without the picture under the pointer on the timeline
# The upper part of each video as it is shown now, all in one go; null where there is no picture.
GRAB = """selector => [Date.now(), [...document.querySelectorAll(selector)].map(video => {
  if (video.readyState < 2) return null;
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  const context = canvas.getContext('2d');
  context.drawImage(video, 0, 0);
  const strip = document.createElement('canvas');
  [strip.width, strip.height] = [canvas.width, Math.ceil(canvas.height / 20)];
  strip.getContext('2d').drawImage(canvas, 0, 0);
  return [strip.toDataURL('image/png'), canvas.height];
})]"""


async def burned(page: Page, selector: str = VIDEOS) -> tuple[float, list[int | None]]:
    """Return the browser's UTC ms and the burned-in ms of each video; None where unreadable."""
    now_ms, shown = await page.evaluate(GRAB, selector)
    return float(now_ms), [read_picture(*one) if one else None for one in shown]


def read_picture(url: str, height: int) -> int | None:
    """Return the burned-in ms of what GRAB returns for a video; None where it is unreadable."""
    data = np.frombuffer(base64.b64decode(url.partition(",")[2]), np.uint8)
    strip = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    if strip is None:
        return None
    grey = np.zeros((height, strip.shape[1]), np.uint8)
    grey[: strip.shape[0]] = strip
    return read_strip(grey)


async def spread_ms(page: Page, selector: str = VIDEOS) -> int | None:
    """Return how far apart the videos are by their burned-in times; None where one is unread."""
    _, times = await burned(page, selector)
    known = [t for t in times if t is not None]
    return max(known) - min(known) if known and len(known) == len(times) else None
