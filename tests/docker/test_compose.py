"""The Compose file, for real: connect, scale, kill a worker, drain another."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from tests.docker.compose import ROOT, Stack, stack

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

PATIENCE = 120


class NpmClient:
    """The stock npm client, which adds one for each line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def heard(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        async with asyncio.timeout(60):
            return dict(json.loads(await self._process.stdout.readline()))

    async def add(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        return await self.heard()


@asynccontextmanager
async def npm_client(port: int, room: str) -> AsyncIterator[NpmClient]:
    process = await asyncio.create_subprocess_exec(
        *("node", "stack.mjs"),
        cwd=ROOT / "tests" / "npm",
        env={**os.environ, "WIRE_HOST": f"127.0.0.1:{port}", "ROOM": room},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield NpmClient(process)
    finally:
        process.kill()
        await process.wait()


async def until(happens: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await happens():  # noqa: ASYNC110  # other processes
            await asyncio.sleep(0.2)


async def post(port: int, room: str) -> int | None:
    """Add one over HTTP; None if it was refused for now."""
    url = f"http://127.0.0.1:{port}/agents/room/{room}"
    async with aiohttp.ClientSession() as session:
        try:
            async with session.post(url, json={"by": 1}) as response:
                if response.status != 200:
                    return None
                return int((await response.json())["count"])
        except aiohttp.ClientError:
            return None


async def test_the_stack_serves_scales_and_outlives_a_kill_and_a_drain() -> None:
    async with stack() as running:

        async def serves() -> bool:
            return await post(running.port, "warm") is not None

        await until(serves)
        async with npm_client(running.port, "lobby") as client:
            assert (await client.heard())["state"]["count"] == 0
            assert (await client.add())["result"] == 1

            await running.compose(
                "up", "-d", "--no-recreate", "--scale", "worker=5", "--scale", "front=2"
            )
            await until(lambda: five_share(running))
            heard = await client.add()
            assert (heard["result"], heard["closes"]) == (2, 0), "rebalanced unnoticed"

            count = await rounds(running, client, 2, ("kill",))
            assert len(await running.containers("worker")) >= 4
            count = await rounds(running, client, count, ("stop", "--time", "35"))
            assert (await post(running.port, "lobby")) == count + 1


async def five_share(running: Stack) -> bool:
    owned = [int(row["shards"]) for row in await running.workers()]
    return sum(owned) == 1024 and len([n for n in owned if n > 100]) == 5


async def rounds(
    running: Stack, client: NpmClient, count: int, end: tuple[str, ...]
) -> int:
    """End a worker while the client goes on; every acknowledged addition is there."""
    victim = (await running.containers("worker"))[0]
    ending = asyncio.ensure_future(running.run("docker", *end, victim))
    served = 0
    while not ending.done() or served < 5:
        result = (await client.add())["result"]
        if isinstance(result, int):
            # What failed may have been done, or not; what was acknowledged is there.
            assert result > count
            count, served = result, served + 1
        elif end[0] != "kill":
            raise AssertionError(f"a drain failed a call: {result}")
        await asyncio.sleep(0.05)
    await ending
    return count
