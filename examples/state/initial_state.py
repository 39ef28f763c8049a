"""What the state is before anybody has set it.

Run: durable dev examples/state/initial_state.py
"""

from __future__ import annotations

from typing import Any, TypedDict

from agents import Agent, callable


class Look(TypedDict):
    """What clients get when they connect for the first time."""

    counter: int
    text: str
    color: str


class Poster(Agent[Any, Look]):
    """Begins blue and empty."""

    initial_state = Look(counter=0, text="", color="#3B82F6")

    @callable()
    def look(self) -> Look:
        """Return the initial state until somebody has set another."""
        return self.state
