"""What a page in Chromium becomes, and whether everybody can use it."""

from __future__ import annotations

import asyncio
import time

from playwright.async_api import Page

from streaming.http import assets
from tests.support.burned import burned, spread_ms
from tests.support.waiting import BOUND_S, until

AXE = (assets.HERE / "node_modules/axe-core/axe.min.js").read_text()
# How often the second camera came to its gap: on a busy machine it may be over before it is asked.
GAPS = """
  window.gaps = 0;
  new MutationObserver((all) => {
    for (const { target: { dataset: { camera, state } }, oldValue } of all) {
      if (camera === 'two' && state === 'gap' && oldValue !== 'gap') window.gaps += 1;
    }
  }).observe(document, { subtree: true, attributeFilter: ['data-state'], attributeOldValue: true });
"""


async def axe(page: Page) -> list[str]:
    """Return what axe-core finds wrong with a page as it is now."""
    await page.evaluate(AXE)
    found = await page.evaluate(
        "axe.run(document, {preload: false, iframes: false, runOnly:"
        " ['wcag2a', 'wcag2aa', 'wcag21aa', 'wcag22aa', 'best-practice']})"
    )
    return [f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in found["violations"]]


async def becomes(page: Page, expression: str) -> None:
    """Wait until an expression is true.

    (The page's content security policy lets `page.wait_for_function` look once, not again.)
    """
    await until(lambda: page.evaluate(expression), why=expression)


MOST_MS = 150


async def in_step(page: Page, seconds: float, why: str, stands: bool = False) -> None:
    """Wait until all angles move in step, then see that they stay it, until one comes to a gap."""

    async def passed() -> bool:
        """Whether an angle stands in a gap: the others go on."""
        return await page.query_selector('[data-camera][data-state="gap"]') is not None

    begun = time.monotonic()
    _, first = await burned(page)
    well = 0  # readings in a row
    while well < 3 or await passed():
        _, times = await burned(page)
        known = [t for t in times if t is not None]
        apart = max(known) - min(known) if known and len(known) == len(times) else None
        moved = all(a != b for a, b in zip(first, times, strict=True))
        well = well + 1 if apart is not None and apart <= MOST_MS and (moved or stands) else 0
        assert time.monotonic() - begun < BOUND_S, f"{why}: {apart} ms apart"
        await asyncio.sleep(0.25)
    seen: list[int | None] = []
    for _ in range(max(10, round(5 * seconds))):  # enough for a share of them to mean something
        spread = await spread_ms(page)
        await asyncio.sleep(0.2)
        if await passed():  # or was about to, when the pictures were read
            break
        seen.append(spread)
    # a busy machine shows a picture late now and then, or none while the player puts it right
    late = [one for one in seen if one is None or one > MOST_MS]
    assert len(late) <= len(seen) // 10, f"{why}: {seen} ms apart"
