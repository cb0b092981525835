"""`kuager fsck`: everything that can differ is found, and what can be put right is."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from structlog.testing import capture_logs

from base.lock import try_lock
from config.model import Config
from kuager.fsck import fsck as fsck_command
from storage.archival.retention import gap_object, retire
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.schema import archived, cameras, gaps, recordings, runs
from storage.fsck.camera import Finding
from storage.records import Gap, GapCause, sha256_of
from tests.support.archiving import (
    NOW,
    C,
    configure,
    forget_the_spool,
    kept,
    look,
    opened,
    sealed,
    uploading,
)
from tests.support.spools import fill
from tests.support.waiting import until

pytest_plugins = ["tests.support.postgres"]
TWO = "archives: [{name: near, url: near}, {name: far, url: far}]\n"


def briefly(findings: Sequence[Finding]) -> set[tuple[str, str, str]]:
    return {(f.where, f.kind, f.what) for f in findings}


async def dump(catalogue: Catalogue) -> dict[str, list[tuple[Any, ...]]]:
    """Return every row, with the camera's name for its number, without what only it can know:
    when and how something was verified, and when it left the spool."""
    own = {
        "camera_pk",
        "spool",
        "archived_ms",
        "verified",
        "etags",
        "removed_ms",
        "number",
        "names",
    }
    out = {}
    for table in (recordings, runs, gaps, archived):
        columns = [c for c in table.c if c.name not in own]
        rows = await catalogue.pool.rows(
            sa.select(cameras.c.station, cameras.c.camera, *columns).join(
                cameras, cameras.c.camera_pk == table.c.camera_pk
            )
        )
        out[table.name] = sorted(tuple(map(str, r.values())) for r in rows)
    return out


async def filled(config: Config) -> None:
    fill(config.spool, camera="c", start_ms=NOW - 7_200_000).close()
    fill(config.spool, camera="d", start_ms=NOW - 7_200_000, runs=1).close()


async def archive_all(config: Config, count: int) -> None:
    async with uploading(config) as (uploader, _, _):
        await until(lambda: all(k.status.archived_total == count for k in uploader.replicators.all))


async def test_a_lost_catalogue_is_rebuilt_row_by_row(database_url: str, tmp_path: Path) -> None:
    config = configure(tmp_path, database_url, "archives: [archive]\n", rewind="2d")
    await filled(config)
    count = len(list(config.spool.glob("s/*/*/*.mp4")))
    async with uploading(config) as (uploader, catalogue, archives):
        await until(lambda: kept(uploader).archived_total == count)
        late = Gap(99, NOW - 60_000, NOW - 50_000, GapCause.NO_DATA)  # no recording carries it
        await catalogue.writer.put_gaps(C, [late])
        key, data = gap_object(C, late)
        uploader.replicators.all[0].add_document(C, late.start_ms, key, data)
        await until(lambda: (tmp_path / "archive" / key).exists())
        assert await look(config, catalogue, [archives]) == []
        before = await dump(catalogue)
        assert len(before["recordings"]) == count == len(before["archived"])
    for path in config.spool.rglob("*"):  # nothing but the archive is left
        if path.is_file():
            path.unlink()
    other = configure(tmp_path, f"sqlite:///{tmp_path}/new.db", "archives: [archive]\n", "2d")
    async with opened(other) as (catalogue, archives):
        found = await look(other, catalogue, archives)
        assert ("catalogue", "missing", "recording that the catalogue does not know") in briefly(
            found
        )
        assert not any(f.done for f in found)
        found = await look(other, catalogue, archives, repair=True, deep=True)
        assert all(f.done for f in found)
        assert await dump(catalogue) == before
        assert await look(other, catalogue, archives, deep=True) == []


async def test_what_is_damaged_in_one_archive_comes_from_the_other(tmp_path: Path) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", TWO, rewind="60s")
    await filled(config)
    count = len(list(config.spool.glob("s/*/*/*.mp4")))
    await archive_all(config, count)
    media = sorted((tmp_path / "near/e/s/c").glob("*/*.mp4"))
    flipped, gone, bare, short = media[:4]
    data = bytearray(flipped.read_bytes())
    data[-1] ^= 1
    flipped.write_bytes(data)
    gone.unlink()
    bare.with_suffix(".json").unlink()
    os.truncate(short, 100)
    (tmp_path / "near/e/s/c/notes.txt").write_text("x")
    async with opened(config) as (catalogue, archives):
        await forget_the_spool(config, catalogue)
        found = await look(config, catalogue, archives)
        assert briefly(found) == {
            ("near", "extra", "not an object of ours"),
            ("near", "missing", "recording"),
            ("near", "different", "recording of another length"),
        }
        found = await look(config, catalogue, archives, deep=True)
        assert ("near", "different", "other bytes than were recorded") in briefly(found)
        found = await look(config, catalogue, archives, deep=True, repair=True)
        assert {f.done for f in found if f.kind != "extra"} == {"put again from another archive"}
        assert briefly(await look(config, catalogue, archives, deep=True)) == {
            ("near", "extra", "not an object of ours")
        }
        for folder in ("near", "far"):
            for kind in ("mp4", "json"):
                (tmp_path / folder / gone.relative_to(tmp_path / "near")).with_suffix(
                    f".{kind}"
                ).unlink()
        found = await look(config, catalogue, archives, repair=True)
        assert ("near", "missing", "recording that nobody has: lost") in briefly(found)


async def test_what_was_removed_leaves_a_trace_that_survives_the_catalogue(tmp_path: Path) -> None:
    config = configure(
        tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", rewind="60s"
    )
    await filled(config)
    count = len(list(config.spool.glob("s/*/*/*.mp4")))
    await archive_all(config, count)
    async with opened(config) as (catalogue, archives):
        await forget_the_spool(config, catalogue)
        hold = await catalogue.holds.add("e", "a court asks", NOW, camera="d")
        assert await retire(catalogue, archives[0], C, 60, share=1) > 0
        assert await retire(catalogue, archives[0], ("e", "s", "d"), 60) == 0
        rows = await catalogue.recordings_between(C, 0, NOW)
        assert all(r.archives[0].removed_reason for r in rows)
        left = {p.name.partition(".")[2] for p in (tmp_path / "archive/e/s/c").glob("*/*")}
        assert left == {"removed.json"}
        assert await look(config, catalogue, archives) == []
        await catalogue.holds.release(hold, NOW)
        before = await dump(catalogue)
    other = configure(tmp_path, f"sqlite:///{tmp_path}/new.db", "archives: [archive]\n", "60s")
    async with opened(other) as (catalogue, archives):
        found = await look(other, catalogue, archives, repair=True)
        assert all(f.done for f in found)
        after = await dump(catalogue)
        assert (after["recordings"], after["archived"]) == (
            before["recordings"],
            before["archived"],
        )


async def test_what_only_the_spool_has_is_no_agreement(tmp_path: Path) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2d")
    fill(config.spool, start_ms=NOW - 7_200_000, runs=1, sealed=False).close()
    count = len(list(config.spool.glob("s/c/*/*.mp4")))
    async with opened(config) as (catalogue, archives):
        found = await look(config, catalogue, archives)
        assert ("spool", "different", "recording without a seal") in briefly(found)
        assert ("catalogue", "missing", "recording that only the spool has") in briefly(found)
        found = await look(config, catalogue, archives, repair=True)
        assert {f.done for f in found} == {"sealed", "row written"}
        assert sealed(config) == count
        await look(config, catalogue, archives, repair=True)
        found = await look(config, catalogue, archives, repair=True)
        assert briefly(found) == {("archive", "missing", "recording that waits in the spool")}
        assert {f.done for f in found} == {"put again from the spool"}
        assert await look(config, catalogue, archives, deep=True) == []
    media = min(config.spool.glob("s/c/*/*.mp4"))
    media.write_bytes(altered(media.read_bytes()))
    async with opened(config) as (catalogue, archives):
        assert await look(config, catalogue, archives) == []
        found = await look(config, catalogue, archives, deep=True)
        assert briefly(found) == {("spool", "different", "altered in the spool")}


def altered(data: bytes) -> bytes:
    """Return the bytes with one bit of the last one changed."""
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.slow
async def test_upload_archives_what_waits_and_says_what_is_left(tmp_path: Path) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2d")
    fill(config.spool, start_ms=NOW - 7_200_000).close()
    fill(config.spool, camera="d", start_ms=NOW - 7_200_000, sealed=False).close()
    media = sorted(config.spool.glob("s/*/*/*.mp4"))
    whole = media[0].read_bytes()
    media[0].write_bytes(altered(whole))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "kuager", "upload", "--config", str(config.path)]
        return subprocess.run([*command, *arguments], capture_output=True, text=True)

    said = await asyncio.to_thread(run)
    assert said.returncode == 1, said.stderr
    assert f"{len(media) - 1} recordings archived" in said.stdout and "1 wait" in said.stdout
    assert "does not have the bytes" in said.stderr and "sealed" in said.stderr
    media[0].write_bytes(whole)
    said = await asyncio.to_thread(run, "--until-done")
    assert said.returncode == 0 and "archive: 1 recordings archived" in said.stdout
    async with uploading(config) as (uploader, _, _):
        await until(lambda: uploader.discovery.looked)
        said = await asyncio.to_thread(run)
        assert said.returncode == 2 and "an uploader works on this spool" in said.stderr


async def test_it_says_what_does_not_come_back_from_an_archive(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2d")
    fill(config.spool, start_ms=NOW - 7_200_000).close()
    count = len(list(config.spool.glob("s/*/*/*.mp4")))
    async with uploading(config) as (uploader, _, _):
        await until(lambda: kept(uploader).archived_total == count)
    how: dict[str, Any] = {"deep": False, "from_start": False, "cameras": []}

    def lose_the_catalogue() -> None:
        for path in tmp_path.glob("k.db*"):
            path.unlink()
        for path in (tmp_path / "archive").rglob("*.*"):
            os.utime(path, (NOW / 1000 - 3600, NOW / 1000 - 3600))  # nothing is in flight

    for lost in (False, True):
        if lost:
            lose_the_catalogue()
        await asyncio.to_thread(fsck_command, config, repair=True, **how)
        words = " ".join(capfd.readouterr().out.split())
        assert ("orders, payments and the audit log do not" in words) == lost


def test_of_two_repairs_one_says_so_and_ends(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2d")
    (config.spool / "_status").mkdir(parents=True)
    lock = try_lock(config.spool / "_status/fsck.lock")
    assert lock is not None
    how: dict[str, Any] = {"deep": False, "from_start": False, "cameras": []}
    assert fsck_command(config, repair=True, **how) == 2
    assert "Another kuager fsck --repair" in capfd.readouterr().err
    assert fsck_command(config, repair=False, **how) == 0
    lock.close()
    assert fsck_command(config, repair=True, **how) == 0


def test_a_look_at_one_camera_leaves_that_at_all_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It went on where the other was interrupted: of a camera before that nothing was read, and
    all agreed. Interrupted itself, the next look at everything began behind it."""
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2d")
    (config.spool / "_status").mkdir(parents=True)
    state = config.spool / "_status/fsck.json"
    left = json.dumps({"position": ["t", "zz", 0, [10**9, 0]], "wrong": 3})
    state.write_text(left)
    name = "/".join((config.stations[0].id, config.stations[0].cameras[0].id))
    fsck_command(config, repair=False, deep=True, from_start=False, cameras=[name])
    said = capfd.readouterr().out
    assert "1 cameras" in said and "Going on" not in said and "before" not in said
    assert state.read_text() == left


async def test_one_that_cannot_be_removed_stops_no_other(tmp_path: Path) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2d")
    await filled(config)
    count = len(list(config.spool.glob("s/*/*/*.mp4")))
    await archive_all(config, count)
    media = sorted((tmp_path / "archive/e/s/c").glob("*/*.mp4"))
    media[1].rename(tmp_path / "aside")
    media[1].mkdir()  # cannot be read or unlinked, whoever asks
    async with opened(config) as (catalogue, archives):
        with capture_logs() as log:
            assert await retire(catalogue, archives[0], C, 60, share=1) == len(media) - 1
        (said,) = (entry for entry in log if "cannot be removed" in entry["event"])
        assert [name.rpartition("/")[2] for name in said["why"]] == [media[1].stem]
        media[1].rmdir()
        (tmp_path / "aside").rename(media[1])
        assert await retire(catalogue, archives[0], C, 60, share=1) == 1


@pytest.mark.slow
async def test_the_command(tmp_path: Path) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", rewind="2d")
    await filled(config)
    count = len(list(config.spool.glob("s/*/*/*.mp4")))
    await archive_all(config, count)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "kuager", "fsck", "--config", str(config.path)]
        return subprocess.run(
            [*command, *arguments],
            capture_output=True,
            text=True,
            env=os.environ | {"COLUMNS": "200"},
        )

    said = await asyncio.to_thread(run, "--deep")
    # the windows of this configuration begin in 2020, and nobody recorded then
    assert said.returncode == 1 and "scheduled time without a recording or a gap" in said.stdout
    assert f"2 cameras, {count} recordings" in said.stdout and "read and hashed" in said.stdout
    gone = next((tmp_path / "archive/e/s/c").glob("*/*.mp4"))
    gone.unlink()
    said = await asyncio.to_thread(run, "--camera", "s/c")
    assert said.returncode == 1 and gone.stem.rpartition("-")[2] in said.stdout
    assert "--repair" in said.stdout
    said = await asyncio.to_thread(run, "--camera", "s/c", "--repair")
    assert "put again from the spool" in said.stderr + said.stdout and gone.exists()
    said = await asyncio.to_thread(run, "--camera", "s/nobody")
    assert said.returncode == 2 and "nobody knows" in said.stderr
    (config.spool / "_status/fsck.json").write_text(
        json.dumps({"position": ["s", "c", 0, [10**9, 0]], "wrong": 0})
    )
    said = await asyncio.to_thread(run, "--deep")
    assert "Going on after s/c" in said.stdout
    assert not (config.spool / "_status/fsck.json").exists()
    (tmp_path / "archive").rename(tmp_path / "away")
    (tmp_path / "archive").write_text("")
    said = await asyncio.to_thread(run)
    assert said.returncode in (1, 2)


@pytest.mark.slow
def test_holds_by_command(tmp_path: Path) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n")

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "kuager", "holds", *arguments, "--config"]
        return subprocess.run(
            [*command, str(config.path)],
            capture_output=True,
            text=True,
            env=os.environ | {"COLUMNS": "200"},
        )

    assert "There are no holds." in run("list").stdout
    said = run("add", "case 17", "s/c", "--from", "2026-11-29T07:00+05:00")
    assert (said.returncode, said.stdout) == (0, "Hold 1 is set.\n")
    assert all(text in run("list").stdout for text in ("case 17", "s/c", "2026-11-29 02:00Z"))
    for wrong, words in (
        (("add", "x", "s/x"), "no such station or camera"),
        (("add", "x", "s", "--to", "2026-11-29"), "with its zone"),
    ):
        said = run(*wrong)
        assert said.returncode == 2 and words in said.stderr
    assert run("release", "1").stdout == "Hold 1 is released.\n"
    assert run("release", "1").returncode == 1


async def test_what_tells_of_one_camera_is_not_taken_for_another(tmp_path: Path) -> None:
    """An operator copied a camera's folder in the archive, to begin a new camera with it."""
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n")
    fill(config.spool, camera="c", start_ms=NOW - 7_200_000).close()
    await archive_all(config, len(list(config.spool.glob("s/*/*/*.mp4"))))
    there, other = tmp_path / "archive/e/s/c", ("e", "s", "d")
    async with opened(config) as (catalogue, archives):
        await forget_the_spool(config, catalogue)
        gap = Gap(99, NOW - 60_000, NOW - 50_000, GapCause.NO_DATA)
        key, data = gap_object(C, gap)
        await archives[0].put(key, data, sha256_of(data))
        assert await retire(catalogue, archives[0], C, 60, share=0.5) > 0
        shutil.copytree(there, there.with_name("d"))
        found = await look(config, catalogue, archives, repair=True)
        assert ("catalogue", "missing", "gap that an archive has") in briefly(found)
        assert {f.what for f in found if f.camera == "s/d"} == {
            "another gap than its name says",
            "description of another recording",
            "trace of another recording",
        }
        assert await catalogue.gaps_between(other, 0, 1 << 60) == []
        assert await catalogue.recordings_of(other) == []


async def test_folders_and_files_of_others_stop_nothing(tmp_path: Path) -> None:
    """What a copying program or another system left, with names that are no text."""
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2d")
    odd = os.fsdecode(b"\xff\xfe")
    for folder in (f"{odd}/c", f"s/{odd}", f"0{odd}/c", "Копия s/c", "lost+found/c"):
        (config.spool / folder / "2026-11-29").mkdir(parents=True)
        (config.spool / folder / "camera.json").write_text("{}")
        (config.spool / folder / "2026-11-29/100000000Z-1.jsonl").write_text("x\n")
    fill(config.spool, camera="c", start_ms=NOW - 7_200_000).close()
    await archive_all(config, len(list(config.spool.glob("s/c/*/*.mp4"))))
    for folder in (f"e/{odd}/c", f"e/s/{odd}", "e/lost+found/c", "e/s/c/2026-11-29", "e/s/c"):
        (tmp_path / "archive" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "archive" / folder / f"{odd}.mp4").write_bytes(b"x")
    async with opened(config) as (catalogue, archives):
        found = await look(config, catalogue, archives, deep=True)
        assert briefly(found) == {("archive", "extra", "not an object of ours")}
        assert all(f.which.isprintable() for f in found)
