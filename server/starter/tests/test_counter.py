"""Runs the project as `durable dev` does, with a database of its own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from agents.client import AgentClient

PROJECT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def host() -> Iterator[str]:
    """Host and port of the running project, on data that are only for tests."""
    server = subprocess.Popen(
        [sys.executable, "-m", "server", "dev", "app.py", "--port", "0"],
        cwd=PROJECT,
        env={**os.environ, "DURABLE_DATA_DIR": ".durable/test"},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    ready = server.stdout.readline()
    assert ready, "the project didn't start: see above"
    yield ready.split("//")[1].strip()
    server.terminate()
    server.wait()


def test_a_client_sees_what_another_one_did(host: str) -> None:
    name = str(uuid.uuid4())  # the data stay: each run has a counter of its own

    async def main() -> None:
        seen: asyncio.Queue[dict[str, int]] = asyncio.Queue()
        watching = AgentClient(
            agent="counter",
            name=name,
            host=host,
            on_state_update=lambda state, source: seen.put_nowait(state),
        )
        acting = AgentClient(agent="counter", name=name, host=host)
        async with asyncio.timeout(20), watching, acting:
            assert await seen.get() == {"count": 0}
            assert await acting.stub.increment(2) == 2
            assert await seen.get() == {"count": 2}

    asyncio.run(main())
