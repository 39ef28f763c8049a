"""An object that does what a test hands in, through the public face only."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, ClassVar

from durable import DurableObject, Request, Response, WebSocket
from durable.testing import Fleet, databases

Work = Callable[..., Any]


class Probe(DurableObject):
    """Calls are copied, so what it is to do waits in ``hooks``, by its name.

    ``lives`` counts constructors: another life means that memory is gone.
    """

    hooks: ClassVar[dict[str | None, dict[str, Work]]] = defaultdict(dict)
    lives: ClassVar[dict[str | None, int]] = defaultdict(int)

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        self.storage = ctx.storage
        self.memory: list[Any] = []
        type(self).lives[ctx.id.name] += 1
        self._do("constructor")

    def _do(self, hook: str, *args: Any) -> Any:
        work = self.hooks[self.ctx.id.name].get(hook)
        return None if work is None else work(self, *args)

    def do(self, hook: str, *args: Any) -> Any:
        return self.hooks[self.ctx.id.name][hook](self, *args)

    async def add_one(self) -> int:
        n = (await self.storage.get("n") or 0) + 1
        await self.storage.put("n", n)
        return int(n)

    async def add_one_late(self) -> None:
        n = await self.storage.get("n") or 0
        await asyncio.sleep(0.001)
        self.storage.put("n", n + 1)

    def remember(self, what: Any) -> None:
        self.memory.append(what)

    def remembered(self) -> list[Any]:
        return self.memory

    async def fetch(self, request: Request) -> Response:
        if request.is_upgrade:
            socket = self.ctx.accept_websocket(request, request.query.getall("tag", []))
            self._do("connected", socket, request)
            return Response.upgrade(socket)
        answer = self._do("fetch", request)
        if answer is None:
            return Response(str(self.ctx.id.name))
        return answer if isinstance(answer, Response) else await answer

    def alarm(self, info: Any) -> Any:
        return self._do("alarm", info)

    def websocket_message(self, websocket: WebSocket, message: str | bytes) -> Any:
        return self._do("message", websocket, message)

    def websocket_close(
        self, websocket: WebSocket, code: int, reason: str, was_clean: bool
    ) -> Any:
        return self._do("close", websocket, code, reason, was_clean)


class Farewell(Probe):
    """Wants to know of its end."""

    def on_deactivate(self, reason: str) -> Any:
        return self._do("deactivate", reason)


class Mute(DurableObject):
    """Has no hook at all."""

    async def plan(self) -> None:
        await self.ctx.storage.set_alarm(4102444800)


def on(stub: Any, hook: str) -> Callable[[Work], Work]:
    """Decorate what the object does then: ``alarm``, ``message``, ``constructor`` …"""

    def keep(work: Work) -> Work:
        Probe.hooks[stub.name][hook] = work
        return work

    return keep


async def inside(stub: Any, work: Work, *args: Any) -> Any:
    """Run ``work(object, *args)`` in the object, as one call of it."""
    hook = f"{work.__qualname__}-{id(work)}"
    Probe.hooks[stub.name][hook] = work
    return await stub.do(hook, *args)


class Gate:
    """Something outside of all objects to wait for, and to see that it is waited for.

    The wait is what the input gate isn't shut by, as a fetch or a timer.
    """

    def __init__(self) -> None:
        self._reached = asyncio.Event()
        self._opened = asyncio.Event()

    async def __call__(self) -> None:
        self._reached.set()
        await self._opened.wait()

    async def reached(self) -> None:
        async with asyncio.timeout(10):
            await self._reached.wait()

    def open(self) -> None:
        self._opened.set()


async def order_of(stub: Any, read: Work) -> list[str]:
    """In which order a read and another event get on that come together."""
    order: list[str] = []

    async def reading(it: Probe) -> None:
        order.append("asked")
        await read(it)
        order.append("told")

    await asyncio.gather(
        inside(stub, reading), inside(stub, lambda _: order.append("other"))
    )
    return order


async def until(happens: Callable[[], Any]) -> None:
    """Wait for what comes from outside: a socket, a timer of the runtime."""
    async with asyncio.timeout(10):
        while not happens():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def turns(count: int = 20) -> None:
    """Let everything run that can run at once."""
    for _ in range(count):
        await asyncio.sleep(0)


async def sleep(fleet: Fleet, stub: Any) -> None:
    """Put the object to sleep: the next event finds what is stored, in a new life."""
    await fleet.settle()
    await fleet.evict(stub)  # or it has just moved: then it sleeps, too


async def cold(fleet: Fleet, stub: Any, **entries: Any) -> None:
    """Store entries, and put the object to sleep: reading one of them asks Postgres.

    What an object reads first when it wakes are 64 keys that stand before them.
    """

    def fill(it: Probe) -> None:
        it.storage.put({f"!{n:02}": n for n in range(64)})
        it.storage.put(entries)

    await inside(stub, fill)
    await sleep(fleet, stub)


async def elsewhere(fleet: Fleet, count: int) -> list[Any]:
    """So many objects that live on another node than the one that is asked.

    A node that has just come gets its share little by little.
    """
    found: list[Any] = []
    async with asyncio.timeout(30):
        for n in itertools.count():
            stub = fleet.env.Probe.get_by_name(f"elsewhere-{n}")
            if await inside(stub, lambda it: it.env is not fleet.env):
                found.append(stub)
            if len(found) == count:
                break
    return found


@asynccontextmanager
async def own_fleet(postgres: str, **options: Any) -> AsyncIterator[Fleet]:
    """A fleet for one test: with limits of its own, or nodes that go."""
    with databases.fresh_database(postgres) as url:
        async with Fleet([Probe, Farewell, Mute], url, **options) as fleet:
            yield fleet
