"""What a machine refuses a visitor says nothing of the machine that asks for him."""

from __future__ import annotations

from pathlib import Path

from storage.spool.numbers import CLOCK_2020_S, Numbers
from storage.spool.reader import SpoolReader
from streaming.context import CONTEXT
from tests.support.archiving import configure
from tests.support.several import several
from tests.support.spools import UTC0, fill
from tests.support.tables import open_catalogue
from tests.support.web import get

EPOCH = UTC0 // 1000 - CLOCK_2020_S


async def test_who_asks_for_what_is_too_old_keeps_nobody_from_its_machine(tmp_path: Path) -> None:
    """It was taken for another node.password: nothing of that machine was shown for a second."""
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2h")
    catalogue = await open_catalogue(config.database_url)
    async with several(config, "ab", catalogue) as machines:
        a, b = machines["a"], machines["b"]
        fill(a.spool, segments=3, floor=Numbers.by_lease(EPOCH, UTC0)).close()  # long ago
        machines.owns("a", "s/c", EPOCH)
        reader = SpoolReader(a.spool, "s", "c")
        reader.refresh()
        found = [index for _, index in reader.recordings()]
        await catalogue.writer.put_recordings(found, a.id)
        number = found[0].segments[0].segment_no
        for file in (f"{number}.m4s", f"{number}-key.m4s"):
            assert (await get(b.session, f"/live/s/c/{file}"))[0] == 403
            assert await b.app[CONTEXT].peers.json(a.entry, "/status.json") == {"cameras": {}}
    await catalogue.close()
