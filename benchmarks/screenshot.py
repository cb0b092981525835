"""Makes docs/screenshot.png from the running demo: python -m benchmarks.screenshot"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

TARGET = Path(__file__).parent.parent / "docs" / "screenshot.png"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def main() -> None:
    """Open a station, wait until it plays, take the picture."""
    address = f"http://127.0.0.1:{os.environ.get('PORT', '8080')}/stations/s117?lang=en"
    program = shutil.which("chromium") or sys.exit("Chromium is missing: apt-get install chromium")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1200, "height": 800})
        page.goto(address)
        for angle in page.locator("[data-camera]").all():
            angle.and_(page.locator('[data-state="plays"]')).wait_for(timeout=60_000)
        page.wait_for_timeout(3000)  # of footage, so that no decoder is at its beginning
        page.screenshot(path=str(TARGET))
        browser.close()
    print(TARGET)


if __name__ == "__main__":
    main()
