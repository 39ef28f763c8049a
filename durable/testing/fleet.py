"""A fleet for one test: nodes on one database, and all that a test does to them."""

from __future__ import annotations

import asyncio
import dataclasses
import weakref
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import asyncpg

from agents.client import AgentClient
from durable.objects.durable_object import DurableObject
from durable.testing.clock import VirtualClock
from durable.testing.failures import Failures
from durable.testing.node import LocalNode, ProcessNode
from durable.testing.quiet import Task, Work
from durable.worker.worker import Worker
from server.classes import migrate_classes
from server.config import load_project
from server.settings import PREFIX, VAR_PREFIX, Settings
from server.user_module import load_user_module

# So long, in real time, may what a moment of the clock has begun go on, ...
SETTLE_SECONDS = 30.0
# ... and a handler, until it is taken to wait for the clock.
HANDLER_SECONDS = 1.0
# Nobody waits at the end of a test for what is still open, as a stream.
DRAIN_SECONDS = 0.5
# A fleet is quiet when nothing went on in so many turns of the loop.
_QUIET_TURNS = 8

App = str | Iterable[type[DurableObject]]
Node = TypeVar("Node", LocalNode, ProcessNode, LocalNode | ProcessNode)


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
        self._settings = {"drain_seconds": DRAIN_SECONDS, **(settings or {})}
        self._stack = AsyncExitStack()
        self._clock = clock or VirtualClock()
        self._failures = Failures()
        # Handlers that are taken to wait for the clock.
        self._patient: weakref.WeakSet[Task] = weakref.WeakSet()
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        self.nodes: list[LocalNode | ProcessNode] = []

    async def __aenter__(self) -> Fleet:
        async with AsyncExitStack() as stack:
            project = load_project(Path.cwd())
            await migrate_classes(self._database_url, project, lambda _: None, dev=True)
            if not self._processes:
                connection = await asyncpg.connect(self._database_url)
                stack.push_async_callback(connection.close)
                self._clock.poll, self._clock.planned = self._poll, self._planned
                await self._clock.start(connection)
                stack.push_async_callback(self._clock.stop)
                stack.enter_context(self._failures)
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
            given = dict(self._settings)
            values = given.pop("vars", {})
            variables = {PREFIX + name.upper(): str(given[name]) for name in given}
            variables |= {VAR_PREFIX + name: str(values[name]) for name in values}
            variables["DURABLE_DATABASE_URL"] = self._database_url
            return ProcessNode(self._app, variables, str(Path.cwd()))
        project = load_project(Path.cwd())
        settings = Settings(project=project, database_url=self._database_url)
        variables = {**project.vars, **self._settings.get("vars", {})}
        settings = dataclasses.replace(
            settings, port=0, **{**self._settings, "vars": variables}
        )
        if isinstance(self._app, str):
            module = load_user_module(self._app, DurableObject)
            fetch = module.app if module.kind == "fetch" else None
            return LocalNode(settings, module.classes, fetch)
        return LocalNode(settings, self._app, None)

    def _refuse_processes(self) -> None:
        if self._processes:
            raise RuntimeError(
                "nodes in processes can't be looked into: processes=False"
            )

    @property
    def _local(self) -> list[LocalNode]:
        self._refuse_processes()
        return [node for node in self.nodes if isinstance(node, LocalNode)]

    @property
    def _workers(self) -> list[Worker]:
        return [worker for node in self._local for worker in node.workers]

    def _node(self, number: int | None = None) -> LocalNode | ProcessNode:
        return _first(self.nodes) if number is None else self.nodes[number]

    # --- clients

    @property
    def env(self) -> Any:
        """The bindings, as ``fleet.env.Counter.get_by_name("a")``.

        They are those of the first node that runs, and end with it.
        """
        return _first(self._local).runtime.env

    @property
    def url(self) -> str:
        """Where the first node that runs listens."""
        return self._node().url

    async def http(self, node: int | None = None) -> aiohttp.ClientSession:
        """An aiohttp session: ``(await fleet.http()).get("/agents/…")``.

        It is with the first node that runs, or with ``fleet.nodes[node]``.
        """
        url = self._node(node).url
        if url not in self._sessions:
            session = aiohttp.ClientSession(url)
            self._sessions[url] = session
            await self._stack.enter_async_context(session)
        return self._sessions[url]

    async def client(
        self,
        agent: str,
        name: str = "default",
        *,
        node: int | None = None,
        **options: Any,
    ) -> AgentClient:
        """A connected client; ``options`` are those of ``AgentClient``."""
        host = self._node(node).url.removeprefix("http://")
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
        await self._until_quiet(seconds)

    async def evict(self, stub: Any) -> bool:
        """Put an object to sleep, its work done; whether it was awake.

        Raises:
            TimeoutError: its work went on for 30 s of real time.
        """
        for worker in self._workers:
            for activation in worker.dispatcher.activations():
                if activation.id.value == stub.id.value:
                    try:
                        async with asyncio.timeout(SETTLE_SECONDS):
                            await activation.settle()
                    except TimeoutError:
                        raise TimeoutError(
                            f"{activation.id.name or activation.id} is kept awake: a "
                            "handler, an open stream, wait_until or keep_alive"
                        ) from None
                    await worker.dispatcher.evict(activation)
                    return True
        return False

    def fail_commit(self, stub: Any, nth: int = 1) -> None:
        """Have Postgres refuse the nth commit from now of an object, awake or not.

        Its caller gets a ``DurableError``, its memory is gone, its neighbours notice
        nothing. What is committed together with SQL isn't counted.
        """
        self._refuse_processes()
        self._failures.script(stub.id.value, nth)

    async def _poll(self) -> None:
        await self._until_owned()
        await self._until_quiet(SETTLE_SECONDS, HANDLER_SECONDS)
        for worker in self._workers:
            await worker.poll_alarms()
        await self._until_quiet(SETTLE_SECONDS, HANDLER_SECONDS)

    def _planned(self) -> list[float]:
        return [moment for worker in self._workers for moment in worker.alarms_armed]

    async def _until_owned(self) -> None:
        """Return when no shard is on its way from one node to another."""
        async with asyncio.timeout(SETTLE_SECONDS):
            while workers := [w for w in self._workers if w.settings.role != "front"]:
                owned = sum(worker.shards.owned for worker in workers)
                if owned == workers[0].settings.shards:
                    return
                # It is outside, in Postgres: look again.
                await asyncio.sleep(0.001)

    async def _until_quiet(self, seconds: float, patience: float | None = None) -> None:
        quiet, busy = 0, []
        loop = asyncio.get_running_loop()
        handlers_alone_since = loop.time()
        try:
            async with asyncio.timeout(seconds):
                while quiet < _QUIET_TURNS:
                    work = Work(self._workers, self._clock)
                    handlers = set(work.handlers)
                    if patience is not None:
                        handlers -= set(self._patient)
                    if work.musts:
                        handlers_alone_since = loop.time()
                    elif patience and loop.time() - handlers_alone_since > patience:
                        self._patient.update(handlers)
                        handlers.clear()
                    busy = work.musts + [work.handlers[task] for task in handlers]
                    quiet = 0 if busy else quiet + 1
                    # What goes on is outside, as in Postgres: look again.
                    await asyncio.sleep(0.001 if busy else 0)
        except TimeoutError:
            raise TimeoutError(
                f"still busy after {seconds:g} s: {', '.join(busy)}"
            ) from None


def _first(nodes: Sequence[Node]) -> Node:
    for node in nodes:
        if node.runs:
            return node
    raise RuntimeError("no node runs: await fleet.start_node()")
