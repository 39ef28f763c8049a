"""Agents that yield results to each other, across workers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

from agents import Agent, Request, Response, callable
from durable import DurableError
from tests.cluster.app import VALUES


class Room(Agent[Any, Any]):
    """Yields, or follows what another one yields."""

    def on_start(self) -> None:
        self.made = self.closed = 0
        self.follower: asyncio.Future[str] | None = None

    def on_request(self, request: Request) -> Response:
        return Response(str(os.getpid()))

    async def numbers(
        self, count: int, fail_at: int = -1, size: int = 0
    ) -> AsyncIterator[Any]:
        try:
            for number in range(count):
                if number == fail_at:
                    raise LookupError("enough")
                self.made += 1
                yield number, VALUES, "x" * size
        finally:
            self.closed += 1

    async def forever(self) -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()

    @callable()
    def seen(self) -> list[int]:
        """How many were made, and how many streams have ended."""
        return [self.made, self.closed]

    def _from(self, name: str) -> Any:
        return self.env.Room.get_by_name(name)

    @callable()
    async def follow(self, name: str, count: int, fail_at: int = -1) -> list[Any]:
        """The numbers that another one yields, and how it ended."""
        got: list[Any] = []
        try:
            async for number, values, _ in self._from(name).numbers(count, fail_at):
                assert values == VALUES
                got.append(number)
        except DurableError as error:
            flags = ("remote", "retryable")
            got += [str(error), *(getattr(error, flag) for flag in flags)]
        return got

    @callable()
    async def first(self, name: str, size: int) -> int:
        """Only the first of many that are large."""
        async for number, _, text in self._from(name).numbers(10_000, size=size):
            assert len(text) == size
            return int(number)
        return -1

    @callable()
    async def pause(self, name: str, size: int) -> int:
        """How many another one has made while nobody reads on."""
        results = await self._from(name).numbers(10_000, size=size)
        await anext(results)
        before, made = -1, 0
        while before != made:
            await asyncio.sleep(0.2)
            before, made = made, (await self._from(name).seen())[0]
        await results.aclose()
        return made

    @callable()
    async def wait_for_the_end(self, name: str) -> str:
        """What is raised when the other one is lost."""
        try:
            async for _ in self._from(name).forever():
                self.broadcast("begun")
        except DurableError as error:
            return f"{type(error).__name__} {error.retryable}"
        return "ended"
