"""The other three ways to give a state types: TypedDict, msgspec and pydantic.

Run: durable dev examples/state/typed_models.py

A TypedDict helps your editor only; the other two also refuse what doesn't fit.
"""

from __future__ import annotations

from typing import Any, TypedDict

import msgspec
import pydantic

from agents import Agent, callable


class Basket(TypedDict):
    """Just a dict at run time: nothing is checked."""

    items: list[str]


class BasketAgent(Agent[Any, Basket]):
    """State as a TypedDict."""

    initial_state = Basket(items=[])

    @callable()
    def put(self, item: str) -> int:
        """Add an item."""
        self.set_state({"items": [*self.state["items"], item]})
        return len(self.state["items"])


class Lamp(msgspec.Struct, frozen=True):
    """A struct: quick to convert."""

    on: bool = False
    watts: int = 0


class LampAgent(Agent[Any, Lamp]):
    """State as a msgspec Struct."""

    initial_state = Lamp()

    @callable()
    def switch(self, watts: int) -> bool:
        """Switch on with so many watts, or off with none."""
        self.set_state(Lamp(on=watts > 0, watts=watts))
        return self.state.on


class Thermostat(pydantic.BaseModel):
    """A model, with whatever pydantic can check."""

    target: float = pydantic.Field(default=20, ge=5, le=30)


class ThermostatAgent(Agent[Any, Thermostat]):
    """State as a pydantic model."""

    initial_state = Thermostat()

    @callable()
    def set_target(self, target: float) -> float:
        """Ask for a temperature; pydantic raises if it is out of range."""
        self.set_state(Thermostat(target=target))
        return self.state.target
