"""State that is kept: change it, merge into it, hear of changes.

Run: durable dev examples/state/counter.py

Connect to ws://127.0.0.1:8787/agents/dial/one and send
{"type": "update", "data": {"label": "Volume"}}
"""

from __future__ import annotations

import json
import logging
from typing import Any, TypedDict, cast

from agents import Agent, Connection, callable

logger = logging.getLogger(__name__)


class DialState(TypedDict):
    """What every client sees."""

    counter: int
    label: str


class Dial(Agent[Any, DialState]):
    """Its state survives restarts and is the same for everybody."""

    initial_state = DialState(counter=0, label="")

    @callable()
    def increment_counter(self) -> int:
        """Give a whole new state; the next line reads what this one wrote."""
        self.set_state({**self.state, "counter": self.state["counter"] + 1})
        return self.state["counter"]

    async def on_message(self, connection: Connection, message: str | bytes) -> None:
        """Merge what a client sends into the state."""
        asked = json.loads(message)
        if asked["type"] == "update":
            self.set_state(cast("DialState", {**self.state, **asked["data"]}))

    async def on_state_changed(
        self, state: DialState, source: Connection | str
    ) -> None:
        """Run after each change, once it has been sent to the clients."""
        logger.info("State updated: %s", state)
