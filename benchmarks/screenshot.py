"""Makes docs/screenshot.png from the running demo: python -m benchmarks.screenshot"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
from playwright.sync_api import sync_playwright

TARGET = Path(__file__).parent.parent / "docs" / "screenshot.png"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def main() -> None:
    """Open a station, wait until it plays, take the picture."""
    address = f"http://127.0.0.1:{os.environ.get('PORT', '8080')}/stations/s117?lang=en"
    program = shutil.which("chromium") or sys.exit("Chromium is missing: apt-get install chromium")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1180, "height": 760})
        page.goto(address)
        for angle in page.locator("[data-camera]").all():
            angle.and_(page.locator('[data-state="plays"]')).wait_for(timeout=60_000)
        page.wait_for_timeout(3000)  # of footage, so that no decoder is at its beginning
        data = np.frombuffer(page.screenshot(), np.uint8)
        browser.close()
    image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert image is not None
    few = np.minimum((image.astype(np.uint16) + 4) // 8 * 8, 255)  # noise is most of its bytes
    cv2.imwrite(str(TARGET), few.astype(np.uint8), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    print(TARGET)


if __name__ == "__main__":
    main()
