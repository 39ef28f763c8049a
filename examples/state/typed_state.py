"""A state with types: a dataclass, checked and converted on its way in and out.

Run: durable dev examples/state/typed_state.py

A client that writes a price of "cheap" is refused; here the price is an int.
"""

from __future__ import annotations

import dataclasses
import logging
from datetime import UTC, datetime
from typing import Any

from agents import Agent, Connection, callable

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class FlightRecord:
    """One flight; clients see it as a JSON object."""

    departure_iata: str
    arrival_iata: str
    arrival: datetime
    price: int


class Flight(Agent[Any, FlightRecord]):
    """The second type argument is the state's."""

    initial_state = FlightRecord(
        departure_iata="LIS",
        arrival_iata="FCO",
        arrival=datetime(2030, 5, 1, 12, 30, tzinfo=UTC),
        price=120,
    )

    async def on_state_changed(
        self, state: FlightRecord, source: Connection | str
    ) -> None:
        """Get a FlightRecord here, too, also when a client wrote it."""
        logger.info("%s lands at %s", self.name, state.arrival)

    @callable()
    def raise_price(self, by: int = 10) -> int:
        """Replace one field: editors know them all."""
        self.set_state(dataclasses.replace(self.state, price=self.state.price + by))
        return self.state.price
