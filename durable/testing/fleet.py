"""A fleet for one test: nodes on one database, and all that a test does to them."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from agents.client import AgentClient
from durable.objects.activation import Activation
from durable.objects.durable_object import DurableObject
from durable.objects.namespace import wake
from durable.testing.clock import VirtualClock
from durable.testing.node import LocalNode, ProcessNode
from server.classes import migrate_classes
from server.config import load_project
from server.settings import PREFIX, Settings
from server.user_module import load_user_module

# So long, in real time, may what a moment of the clock has begun go on.
SETTLE_SECONDS = 30.0
# A fleet is quiet when nothing went on in so many turns of the loop.
_QUIET_TURNS = 8

App = str | Iterable[type[DurableObject]]


class Fleet:
    """Nodes with the classes of ``app``: a module (see ``durable dev``), or classes.

    Open with ``async with``; ``nodes`` are started at once. Nodes are in this process
    and time stands still (see ``clock``), unless ``processes``: then they may be killed
    for real, and the clock is the machine's. ``settings``: fields of ``Settings``.
    """

    def __init__(
        self,
        app: App,
        database_url: str,
        *,
        nodes: int = 1,
        processes: bool = False,
        clock: VirtualClock | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        if processes and not isinstance(app, str):
            raise TypeError("nodes in processes need a module, not classes")
        self._app = app
        self._database_url = database_url
        self._count = nodes
        self._processes = processes
        self._settings = dict(settings or {})
        self._stack = AsyncExitStack()
        self._clock = clock or VirtualClock()
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        self.nodes: list[LocalNode | ProcessNode] = []

    async def __aenter__(self) -> Fleet:
        async with AsyncExitStack() as stack:
            project = load_project(Path.cwd())
            await migrate_classes(self._database_url, project, lambda _: None, dev=True)
            if not self._processes:
                connection = await asyncpg.connect(self._database_url)
                stack.push_async_callback(connection.close)
                self._clock.poll = self._poll
                await self._clock.start(connection)
                stack.push_async_callback(self._clock.stop)
            for _ in range(self._count):
                await self._start(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    # --- nodes

    async def start_node(self) -> LocalNode | ProcessNode:
        """One node more."""
        return await self._start(self._stack)

    async def _start(self, stack: AsyncExitStack) -> LocalNode | ProcessNode:
        node = self._make()
        # Also what fails half way is to be ended.
        self.nodes.append(node)
        await node.start()
        stack.push_async_callback(node.stop)
        return node

    def _make(self) -> LocalNode | ProcessNode:
        if self._processes:
            assert isinstance(self._app, str)  # see __init__
            variables = {
                PREFIX + name.upper(): str(value)
                for name, value in self._settings.items()
            }
            variables["DURABLE_DATABASE_URL"] = self._database_url
            return ProcessNode(self._app, variables, str(Path.cwd()))
        settings = Settings(
            project=load_project(Path.cwd()), database_url=self._database_url
        )
        settings = dataclasses.replace(settings, port=0, **self._settings)
        if isinstance(self._app, str):
            module = load_user_module(self._app, DurableObject)
            fetch = module.app if module.kind == "fetch" else None
            return LocalNode(settings, module.classes, fetch)
        return LocalNode(settings, self._app, None)

    @property
    def _local(self) -> list[LocalNode]:
        if self._processes:
            raise RuntimeError(
                "nodes in processes can't be looked into: processes=False"
            )
        return [node for node in self.nodes if isinstance(node, LocalNode)]

    # --- clients

    @property
    def env(self) -> Any:
        """The bindings, of the first node: ``fleet.env.Counter.get_by_name("a")``."""
        return self._local[0].runtime.env

    @property
    def url(self) -> str:
        """Where the first node listens."""
        return self.nodes[0].url

    async def http(self, node: int = 0) -> aiohttp.ClientSession:
        """An aiohttp session with a node: ``(await fleet.http()).get("/agents/…")``."""
        url = self.nodes[node].url
        if url not in self._sessions:
            session = aiohttp.ClientSession(url)
            self._sessions[url] = session
            await self._stack.enter_async_context(session)
        return self._sessions[url]

    async def client(
        self, agent: str, name: str = "default", *, node: int = 0, **options: Any
    ) -> AgentClient:
        """A connected client; ``options`` are those of ``AgentClient``."""
        host = self.nodes[node].url.removeprefix("http://")
        client = AgentClient(agent=agent, name=name, host=host, **options)
        return await self._stack.enter_async_context(client)

    # --- time, and what goes wrong

    @property
    def clock(self) -> VirtualClock:
        """The clock of nodes and database: ``await fleet.clock.advance(hours=3)``."""
        if self._processes:
            raise RuntimeError("nodes in processes have the machine's clock")
        return self._clock

    async def settle(self, seconds: float = SETTLE_SECONDS) -> None:
        """Return when nothing goes on in any node.

        Raises:
            TimeoutError: it did, for so many seconds of real time; says in what.
        """
        quiet, busy = 0, []
        try:
            async with asyncio.timeout(seconds):
                while quiet < _QUIET_TURNS:
                    busy = [b for node in self._local for b in node.busy(self._clock)]
                    quiet = 0 if busy else quiet + 1
                    # What goes on is outside, as in Postgres: look again.
                    await asyncio.sleep(0.001 if busy else 0)
        except TimeoutError:
            raise TimeoutError(
                f"still busy after {seconds:g} s: {', '.join(busy)}"
            ) from None

    async def evict(self, stub: Any) -> bool:
        """Put an object to sleep, its work done; whether it was awake."""
        live = self._live(stub)
        if live is None:
            return False
        await live.settle()
        live.deactivate()
        return True

    async def fail_commit(self, stub: Any, nth: int = 1) -> None:
        """Have Postgres refuse the nth commit from now of an object, which is woken.

        Its caller gets ``DataRefused``, its memory is gone, its neighbours notice
        nothing.
        """
        live = self._live(stub)
        if live is None:
            await wake(stub)
            live = self._live(stub)
        assert live is not None  # it was woken
        take, seen = live.rows.take_writes, 0

        def poisoned() -> Any:
            nonlocal seen
            writes = take()
            if writes is not None:
                seen += 1
                if seen == nth:
                    # Past all checks, as a defect of an SDK would: it is no JSON.
                    writes.put(("$test", "poison"), "no json")
            return writes

        live.rows.take_writes = poisoned  # type: ignore[method-assign]

    def _live(self, stub: Any) -> Activation | None:
        for node in self._local:
            for activation in node.activations:
                if activation.id.value == stub.id.value:
                    return activation
        return None

    async def _poll(self) -> None:
        await self.settle()
        for node in self._local:
            await node.poll()
        await self.settle()
