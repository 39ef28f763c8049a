"""A Compose stack for one test: started from the repository's file, gone afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


class Stack:
    """``docker-compose`` on a project of its own."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.name = f"durable{secrets.token_hex(4)}"
        self._environ = {
            **os.environ,
            "POSTGRES_PASSWORD": secrets.token_hex(16),
            "DURABLE_LINK_SECRET": secrets.token_hex(32),
            "DURABLE_ADMIN_TOKEN": secrets.token_hex(32),
            "DURABLE_PUBLIC_PORT": str(self.port),
            # The classic builder takes base images that no registry has.
            "DOCKER_BUILDKIT": "0",
        }

    async def run(self, program: str, *arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *(program, *arguments),
            cwd=ROOT,
            env=self._environ,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
        return out.decode()

    async def compose(self, *arguments: str) -> str:
        return await self.run("docker-compose", "-p", self.name, *arguments)

    async def workers(self) -> list[dict[str, Any]]:
        """Live nodes that own shards, or could."""
        text = await self.compose("exec", "-T", "front", "durable", "workers", "--json")
        return [row for row in json.loads(text)["workers"] if row["live"]]

    async def containers(self, service: str) -> list[str]:
        return (await self.compose("ps", "-q", service)).split()


@asynccontextmanager
async def stack() -> AsyncIterator[Stack]:
    running = Stack()
    try:
        await running.compose("up", "-d", "--build")
        yield running
    finally:
        await running.compose("down", "-v", "--timeout", "2")
