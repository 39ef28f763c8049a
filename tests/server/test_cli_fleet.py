from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.server.nodes import ROOT, client, node


async def durable(database_url: str, *arguments: str) -> tuple[int, str]:
    """Run a command beside the nodes: exit code, and what it said."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("DURABLE_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "server", *arguments),
        cwd=ROOT,
        env={**kept, "DURABLE_DATABASE_URL": database_url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(90):
        out, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, (out if process.returncode == 0 else errors).decode()


async def shards(database_url: str) -> dict[str, int]:
    """Id of a live worker → its shards."""
    _, said = await durable(database_url, "workers", "--json")
    rows: list[dict[str, Any]] = json.loads(said)["workers"]
    return {row["id"]: row["shards"] for row in rows if row["live"]}


async def test_a_worker_that_is_told_to_drain_gives_all_away_and_goes_on(
    empty_database_url: str, tmp_path: Path
) -> None:
    database_url = empty_database_url
    fast = {"DURABLE_LEASE_SECONDS": "2", "DURABLE_SHARDS": "64"}
    async with node(database_url, tmp_path / "one", **fast) as first:
        (one,) = await shards(database_url)
        code, said = await durable(database_url, "drain", one)
        assert (code, "no other live worker" in said) == (1, True)
        assert await durable(database_url, "drain", "nobody") == (
            1,
            "durable: there is no live worker nobody: see `durable workers`\n",
        )
        async with (
            node(database_url, tmp_path / "two", **fast),
            client(first.url) as asked,
            await asked.call("/agents/room/a") as caller,
        ):
            code, said = await durable(database_url, "drain", one[:8])
            assert (code, said) == (0, f"{one} drains: all are gone\n")
            owned = await shards(database_url)
            assert owned.pop(one) == 0
            assert list(owned.values()) == [64]
            # Its sockets are still there, and reach the new owner.
            assert (await caller.reply("increment"))["result"] == 1

            assert (await durable(database_url, "drain", one, "--undo"))[0] == 0
            async with asyncio.timeout(30):
                while not (await shards(database_url))[one]:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
