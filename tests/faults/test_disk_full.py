"""Postgres without room on its disk: nothing acknowledged is lost, nothing else leaves.

Its data are on a small file system of their own (a tmpfs, which only root may mount),
and a ballast file takes the rest of it.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy.engine import make_url

from durable.domain.errors import CommitFailed
from durable.testing import Fleet
from durable.testing.databases import SHARDS
from server.embedded_postgres import (
    EmbeddedPostgresError,
    data_location,
    embedded_postgres,
)
from server.migrate import migrate
from tests.faults.ledger import Inbox, Ledger, Watch, check, settled, truth, watch
from tests.faults.tap import PostgresTap

DISK = 256 << 20
BULK = 400_000
# More than the room that is left in files which Postgres has made before.
ENOUGH = 40


class Disk:
    """A file system that can be filled, and given room again."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._ballast = root / "ballast"

    def fill(self) -> None:
        """Take every byte that is left."""
        with self._ballast.open("ab", buffering=0) as file:
            for block in (1 << 20, 4096, 1):
                try:
                    while file.write(b"x" * block) == block:
                        pass
                except OSError:
                    continue

    def free(self) -> None:
        """Give it all back."""
        self._ballast.unlink()


@pytest.fixture
def disk(project_dir: Path) -> Iterator[Disk]:
    if os.geteuid() != 0:
        pytest.skip("a small file system can be mounted by root alone")
    data = project_dir / ".durable"
    data.mkdir(mode=0o755)
    root = data_location(data)
    root.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=755", "tmpfs", str(root)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    try:
        yield Disk(root)
    finally:
        # Lazily: the keeper may be about to let go of it.
        subprocess.run(["umount", "--lazy", str(root)], check=True)


@asynccontextmanager
async def _opened(disk: Disk) -> AsyncIterator[tuple[Fleet, str]]:
    async with embedded_postgres(disk.root.parent) as dsn:
        await asyncio.to_thread(migrate, dsn, SHARDS)
        async with Fleet([Ledger, Inbox], dsn) as fleet:
            yield fleet, dsn


async def _enter_bulk(fleet: Fleet, seen: Watch, first: int) -> None:
    for number in range(first, first + ENOUGH):
        await seen.call(fleet, number, size=BULK)


async def _next_segment(connection: asyncpg.Connection) -> None:
    """Have Postgres go on in the next file of its log."""
    await connection.execute("SELECT pg_logical_emit_message(true, 'test', 'x')")
    await connection.execute("SELECT pg_switch_wal()")


async def _use_up_the_log(connection: asyncpg.Connection) -> None:
    while True:
        await _next_segment(connection)


async def _with_room_in_the_log(dsn: str) -> None:
    """Have the log's next files made before the disk is full: no PANIC for a while."""
    connection = await asyncpg.connect(dsn)
    for _ in range(4):
        await _next_segment(connection)
    await connection.execute("CHECKPOINT")
    await connection.close()


async def test_a_full_disk_fails_what_needs_room_and_loses_nothing(disk: Disk) -> None:
    async with _opened(disk) as (fleet, dsn):
        watches = [await watch(fleet, name) for name in ("a", "b", "sql")]
        for seen in watches:
            await seen.call(fleet, 1)
        await watches[2].call_sql(fleet, 2)
        await _with_room_in_the_log(dsn)
        disk.fill()
        await asyncio.gather(
            *(_enter_bulk(fleet, seen, 10) for seen in watches[:2]),
            *(watches[2].call_sql(fleet, number) for number in range(10, 20)),
        )
        errors = [error for seen in watches for error in seen.failed.values()]
        assert any("53100" in str(error) for error in errors)
        for error in errors:
            assert isinstance(error, Exception)
            assert isinstance(error, CommitFailed) or "53100" in str(error), error
        disk.free()
        for seen in watches:
            await seen.call(fleet, 100)
            assert seen.acknowledged[-1] == 100, "there is room again"
        await settled(fleet)
        found = await truth(dsn)
        for seen in watches:
            await seen.close()
        check(found, watches)


async def test_a_postgres_that_crashes_for_want_of_room_has_all_that_was_acknowledged(
    disk: Disk,
) -> None:
    """Without room for its log it panics, and can't start until there is some again.

    The node outlives that. A tap stands where Postgres is reached: its port is new.
    """
    going = True

    async def load(fleet: Fleet, seen: Watch) -> None:
        number = 1
        while going:
            number += 1
            await seen.call(fleet, number)

    async with AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(embedded_postgres(disk.root.parent))
        await asyncio.to_thread(migrate, dsn, SHARDS)
        url = make_url(dsn)
        tap = PostgresTap("127.0.0.1", url.port or 0)
        tapped = url.set(port=await tap.start()).render_as_string(hide_password=False)
        stack.push_async_callback(tap.stop)
        fleet = await stack.enter_async_context(
            Fleet([Ledger, Inbox], tapped, settings={"lease_seconds": 2.0})
        )
        watches = [await watch(fleet, f"n{number}") for number in range(4)]
        for seen in watches:
            await seen.call(fleet, 1)
            stack.push_async_callback(seen.close)
        loads = [asyncio.create_task(load(fleet, seen)) for seen in watches]
        connection = await asyncpg.connect(dsn)
        disk.fill()
        with pytest.raises((asyncpg.PostgresError, ConnectionError, OSError)):
            await _use_up_the_log(connection)
        connection.terminate()
        async with asyncio.timeout(30):
            while not all(seen.failed for seen in watches):
                done, _ = await asyncio.wait(loads, timeout=0.01)
                assert not done, [task.exception() for task in done]
        assert "PANIC" in (disk.root / "postgres.log").read_text()
        disk.free()
        dsn = await _revived(disk, stack)
        tap.target = ("127.0.0.1", make_url(dsn).port or 0)
        clock = await asyncpg.connect(dsn)
        fleet.clock._connection = clock  # its own ended with the server
        before = [len(seen.acknowledged) for seen in watches]
        async with asyncio.timeout(30):
            while any(
                len(seen.acknowledged) < count + 5
                for seen, count in zip(watches, before, strict=True)
            ):
                done, _ = await asyncio.wait(loads, timeout=0.01)
                assert not done, [task.exception() for task in done]
        going = False
        await asyncio.gather(*loads)
        await settled(fleet)
        check(await truth(dsn), watches)


async def _revived(disk: Disk, stack: AsyncExitStack) -> str:
    """Start Postgres again; its keeper may just be giving up."""
    async with asyncio.timeout(30):
        while True:
            try:
                return await stack.enter_async_context(
                    embedded_postgres(disk.root.parent)
                )
            except EmbeddedPostgresError:
                await asyncio.sleep(0.05)
