"""A fiber: long work with checkpoints, which goes on after a crash of its node.

Run: durable dev examples/schedules/research.py

End the server in the middle (kill -9) and start it again: within half a minute the work
goes on with the page after the last checkpoint.
"""

from __future__ import annotations

from typing import Any, TypedDict

from agents import Agent, Fiber, callable

PAGES = ("first", "second", "third")


class Found(TypedDict):
    """What clients see of the work."""

    pages: list[str]


class Research(Agent[Any, Found]):
    """Reads pages, one after another."""

    initial_state = Found(pages=[])

    @callable()
    def begin(self) -> None:
        """Answer at once; the work goes on, and the agent doesn't sleep meanwhile."""
        self.ctx.wait_until(self.run_fiber("read", self.read_pages))

    async def read_pages(self, fiber: Fiber) -> None:
        """Begin after the last page that was stashed."""
        for number in range(fiber.snapshot or 0, len(PAGES)):
            page = await self.retry(lambda _, number=number: self.read(number))
            self.set_state(Found(pages=[*self.state["pages"], page]))
            # In the same commit as the state: no page is read twice.
            self.stash(number + 1)

    async def on_fiber_recovered(self, fiber: Fiber) -> None:
        """Its node is gone; this one goes on."""
        if fiber.name == "read":
            await self.run_fiber("read", self.read_pages)

    async def read(self, number: int) -> str:
        """A real one would ask a web site, or a model."""
        return PAGES[number]
