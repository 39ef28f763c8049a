"""An object that does what a test hands in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from durable import DurableObject
from tests.objects.scripted import Place


class Thing(DurableObject):
    """Does what a test hands in: calls are copied, so the work waits in ``works``."""

    works: dict[str, Callable[[Any], Any]] = {}
    starts = 0

    def __init__(self, ctx: Any, env: Any) -> None:
        super().__init__(ctx, env)
        type(self).starts += 1
        self.storage = ctx.storage
        if "start" in self.works:
            self.works["start"](self)

    def do(self, what: str) -> Any:
        return self.works[what](self)

    async def increment(self) -> int:
        count = (await self.storage.get("count") or 0) + 1
        await self.storage.put("count", count)
        return int(count)

    async def read(self, key: str = "count") -> Any:
        return await self.storage.get(key)


def work(place: Place, name: str) -> Callable[[Callable[[Any], Any]], Any]:
    """Decorates what ``stub.do(name)`` runs inside the object."""

    def keep(fn: Callable[[Any], Any]) -> Any:
        Thing.works[name] = fn
        return fn

    return keep
