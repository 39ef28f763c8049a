"""Nodes for tests: in this process, or in one of their own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from aiohttp import web

from server.runtime import Runtime
from server.settings import PREFIX, Settings

if TYPE_CHECKING:
    from durable.objects.durable_object import DurableObject
    from durable.worker.worker import Worker

READY_SECONDS = 60


class LocalNode:
    """A node in the test's process: its objects can be looked into."""

    def __init__(
        self, settings: Settings, classes: Iterable[type[DurableObject]], fetch: Any
    ) -> None:
        self.runtime = Runtime(settings, classes, fetch)
        self._server = web.Server(self._handle, access_log=None)
        self._runner = web.ServerRunner(
            self._server, shutdown_timeout=settings.drain_seconds
        )
        self.url = ""
        self._ended = False

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        return await self.runtime.front.handle(request)

    async def start(self) -> None:
        """Serve, on a port that is free."""
        await self.runtime.__aenter__()
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"

    async def stop(self) -> None:
        """Drain and end, as after SIGTERM."""
        if not self._ended:
            self._ended = True
            self.runtime.front.drain()
            await self._runner.cleanup()
            await self.runtime.__aexit__(None, None, None)

    async def crash(self) -> None:
        """End as after ``kill -9``: nothing is flushed, released or said."""
        if self._ended:
            return
        self._ended = True
        self.runtime.worker.crash()
        for connection in self._server.connections:
            if connection.transport is not None:
                connection.transport.abort()
        await self._runner.cleanup()
        await self.runtime.__aexit__(None, None, None)

    @property
    def runs(self) -> bool:
        """Whether it hasn't ended yet."""
        return not self._ended

    @property
    def workers(self) -> list[Worker]:
        """Who runs objects here; nobody when it has ended."""
        return [] if self._ended else [self.runtime.worker]


class ProcessNode:
    """A node in a process of its own, which may be killed."""

    def __init__(self, target: str, variables: Mapping[str, str], cwd: str) -> None:
        self._target = target
        self._variables = variables
        self._cwd = cwd
        self.process: asyncio.subprocess.Process
        self.url = ""

    async def start(self) -> None:
        """Serve, on a port that is free.

        Raises:
            RuntimeError: it ended at once; its log is on standard error.
        """
        kept = {k: v for k, v in os.environ.items() if not k.startswith(PREFIX)}
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "server", "serve", self._target, "--port", "0"),
            cwd=self._cwd,
            env={**kept, **self._variables},
            stdout=asyncio.subprocess.PIPE,
        )
        assert self.process.stdout is not None  # asked for
        async with asyncio.timeout(READY_SECONDS):
            line = (await self.process.stdout.readline()).decode().strip()
        if not line.startswith("Ready"):
            raise RuntimeError("the node didn't start: see its log above")
        self.url = line.rpartition(" ")[2]

    @property
    def runs(self) -> bool:
        """Whether it hasn't ended yet."""
        return self.process.returncode is None

    async def stop(self) -> None:
        """SIGTERM: drain and end."""
        await self._end(signal.SIGTERM)

    async def crash(self) -> None:
        """SIGKILL."""
        await self._end(signal.SIGKILL)

    async def _end(self, number: signal.Signals) -> None:
        if self.runs:
            self.process.send_signal(number)
        await self.process.wait()
