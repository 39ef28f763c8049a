"""The JavaScript samples that run in Node, with the stock npm packages."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterator

import pytest

from durable.testing import databases as postgres
from tests.examples.frontend import FRONTEND, install
from tests.examples.serving import dev, running

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def frontend_host(postgres_server: str) -> Iterator[str]:
    install()
    with postgres.fresh_database(postgres_server) as dsn:
        environment = {"DURABLE_DATABASE_URL": dsn}
        with running(dev("examples/frontend/pages.py"), environment) as url:
            yield url.removeprefix("http://")


async def node(script: str, host: str) -> str:
    process = await asyncio.create_subprocess_exec(
        shutil.which("node") or "node",
        script,
        host,
        cwd=FRONTEND,
        stdout=asyncio.subprocess.PIPE,
        # Node 20 has WebSocket behind this flag, later ones have it anyway.
        env={"PATH": os.environ["PATH"], "NODE_OPTIONS": "--experimental-websocket"},
    )
    said, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0
    return said.decode()


async def test_dialogue_client_gets_an_answer_in_node(frontend_host: str) -> None:
    said = await node("dialogue_client.mjs", frontend_host)
    assert said.strip() == 'Received: {"type": "insight", "words": 5}'


async def test_task_fetch_reads_the_tasks_in_node(frontend_host: str) -> None:
    said = await node("task_fetch.mjs", frontend_host)
    assert "owner: 'user-123-tasks'" in said
    assert "water the plants" in said
