"""Holds of operators are in the archives, and come back from there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import sqlalchemy as sa

from storage.archival.archived_holds import ENDED, HOLD_FORMAT, HOLDS, compare, settle
from storage.archive.port import Archive
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.schema import holds
from storage.fsck.check import Fsck
from storage.records import sha256_of
from tests.support.archiving import NOW, configure, opened, uploading

pytest_plugins = ["tests.support.postgres"]
TWO = "archives: [{name: near, url: near}, {name: far, url: far, keep: 1d}]\n"


async def lasting(catalogue: Catalogue) -> list[str]:
    """Return the reasons of the holds that last."""
    rows = await catalogue.holds.of("e")
    return sorted(row.reason for row in rows if row.released_ms is None)


async def tell(catalogue: Catalogue, *archives: Archive) -> None:
    for archive in archives:
        await settle(catalogue, archive, await compare(catalogue, archive, "e"))


def told_in(folder: Path) -> list[Path]:
    """Return the objects of holds in all archives."""
    return sorted(folder.glob(f"*/{HOLDS}/**/*.json"))


async def test_a_lost_database_loses_no_hold(database_url: str, tmp_path: Path) -> None:
    config = configure(tmp_path, database_url, TWO)
    async with opened(config) as (catalogue, archives):
        times: dict[str, Any] = {"from_ms": 1, "to_ms": 2, "until_ms": 3}
        await catalogue.holds.add("e", "all of it", NOW)
        await catalogue.holds.add("e", "a court", NOW, station="s", camera="c", **times)
        ended = await catalogue.holds.add("e", "no longer", NOW, station="s")
        (before,) = [r for r in await catalogue.holds.of("e") if r.reason == "a court"]
        await tell(catalogue, *archives)
        assert await catalogue.holds.release(ended, NOW + 2, "operator b")
        await tell(catalogue, archives[0])
        await catalogue.pool.execute(sa.delete(holds))  # another database
        await tell(catalogue, archives[0])
        assert await lasting(catalogue) == ["a court", "all of it"]
        (after,) = [r for r in await catalogue.holds.of("e") if r.reason == "a court"]
        assert replace(after, hold_no=before.hold_no) == before
        await tell(catalogue, *archives, *archives)  # the other was never told of the end
        assert await lasting(catalogue) == ["a court", "all of it", "no longer"]
        assert not (await compare(catalogue, archives[0], "e")).untold
        (again,) = [r for r in await catalogue.holds.of("e") if r.reason == "no longer"]
        await catalogue.holds.release(again.hold_no, NOW + 3, "operator b")
        await tell(catalogue, *archives)
        await catalogue.pool.execute(sa.delete(holds))
        await tell(catalogue, *archives)
        assert await lasting(catalogue) == ["a court", "all of it"]


async def test_what_an_archive_says_ends_no_hold_and_hides_none(tmp_path: Path) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", TWO)
    async with opened(config) as (catalogue, (near, _)):
        await catalogue.holds.add("e", "a court", NOW)
        await tell(catalogue, near)
        (told,) = [e.key async for e in near.entries(f"{HOLDS}/e/")]
        data = b'{"kuager":"hold-end/1","released_ms":1,"reason":"forged"}'
        await near.put(told.removesuffix(".json") + ENDED, data, sha256_of(data))
        await tell(catalogue, near)
        assert await lasting(catalogue) == ["a court"]
        spoilt = (b"{", await near.get(told), b" " * 20_000, b'"\\ud800"')
        for n, text in enumerate(spoilt):
            await near.put(f"{HOLDS}/e/{n}.json", text, sha256_of(text))
        assert len((await compare(catalogue, near, "e")).unreadable) == len(spoilt)


async def test_the_uploader_tells_the_archives_and_asks_them_before_it_removes(
    tmp_path: Path,
) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", TWO)
    async with uploading(config) as (uploader, catalogue, _):
        await catalogue.holds.add("e", "a court", NOW)
        await uploader.holds.look()
        told = told_in(tmp_path)
        assert len(told) == 2
        await catalogue.pool.execute(sa.delete(holds))
        await uploader.retention.retire()
        assert await lasting(catalogue) == ["a court"]
        await catalogue.pool.execute(sa.delete(holds))
        await uploader.holds.look()
        assert await lasting(catalogue) == ["a court"]
        told[0].write_bytes(b"{")  # of the one that has something to remove
        await catalogue.pool.execute(sa.delete(holds))
        assert await uploader.retention.retire() <= 600  # not now: it is tried again
        why = uploader.retention._outage.why or ""
        assert "cannot be read" in why and HOLDS in why


async def test_one_that_cannot_be_read_holds_up_no_other(tmp_path: Path) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", TWO)
    async with uploading(config) as (uploader, catalogue, _):
        await catalogue.holds.add("e", "a court", NOW)
        await uploader.holds.look()
        await catalogue.pool.execute(sa.delete(holds))
        for path in told_in(tmp_path):
            (path.parent / "spoilt.json").write_bytes(b"{")
        await catalogue.holds.add("e", "another", NOW + 1)
        await uploader.holds.look()
        assert await lasting(catalogue) == ["a court", "another"]
        assert len(told_in(tmp_path)) == 2 * 3
        assert "spoilt.json" in (uploader.holds._outage.why or "")
        archives = [r.archive.archive for r in uploader.replicators.all]
        found = await Fsck(config, catalogue, archives).holds()
        assert [(f.where, f.kind, f.done) for f in found] == [
            ("near", "different", ""),
            ("far", "different", ""),
        ]


@pytest.mark.parametrize(
    "changed",
    [
        {"station": "s\0"},
        {"camera": "../c"},
        {"from_ms": 1 << 62},
        {"until_ms": -(1 << 62)},
        {"created_ms": -1},
        {"created_ms": 1.0},
        {"election": "f"},
        {"kuager": "hold/9"},
    ],
)
async def test_what_no_operator_can_have_set_is_not_entered(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", TWO)
    whole: dict[str, Any] = {"kuager": HOLD_FORMAT, "election": "e", "created_ms": 1}
    whole |= {"reason": "a\x1b\0b"}
    whole |= dict.fromkeys(("station", "camera", "from_ms", "to_ms", "until_ms"))
    async with opened(config) as (catalogue, (near, _)):
        for values in (whole, whole | changed):
            five = [values[k] for k in ("station", "camera", "from_ms", "to_ms", "until_ms")]
            digits = sha256_of(orjson.dumps(five))[:16]
            data, key = orjson.dumps(values), f"{HOLDS}/e/{values['created_ms']}-{digits}.json"
            await near.put(key, data, sha256_of(data))
            if values is whole:
                await tell(catalogue, near)
                assert await lasting(catalogue) == ["a\ufffd\ufffdb"]
                await catalogue.pool.execute(sa.delete(holds))
                await near.remove(key)
        assert len((await compare(catalogue, near, "e")).unreadable) == 1


async def test_fsck_compares_holds(tmp_path: Path) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", TWO)
    async with opened(config) as (catalogue, archives):
        await catalogue.holds.add("e", "a court", NOW)
        await tell(catalogue, archives[0])
        (missing,) = await Fsck(config, catalogue, archives).holds()
        assert (missing.where, missing.kind, missing.done) == ("far", "missing", "")
        await catalogue.pool.execute(sa.delete(holds))
        found = await Fsck(config, catalogue, archives, repair=True).holds()
        assert [(f.where, f.done) for f in found] == [("catalogue", "entered"), ("far", "told")]
        assert not await Fsck(config, catalogue, archives).holds()


async def test_holds_of_orders_are_not_told(tmp_path: Path) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", TWO)
    async with uploading(config) as (uploader, catalogue, _):
        await catalogue.pool.execute(
            sa.insert(holds).values(election="e", reason="order 1", created_ms=NOW, order_pk=7)
        )
        await uploader.holds.look()
        assert not told_in(tmp_path)
