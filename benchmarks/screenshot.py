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
    address = f"http://127.0.0.1:{os.environ.get('PORT', '8080')}/stations/s117"
    program = shutil.which("chromium") or sys.exit("Chromium is missing: apt-get install chromium")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=program, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1200, "height": 760}, bypass_csp=True)
        page.goto(address)
        page.wait_for_function(
            "[...document.querySelectorAll('video')].every(v => v.currentTime > 3)", timeout=60_000
        )
        page.screenshot(path=str(TARGET))
        browser.close()
    print(TARGET)


if __name__ == "__main__":
    main()
