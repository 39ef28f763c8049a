"""Plan work from a request: check a flight in ten minutes.

Run: durable dev examples/schedules/flight_watch.py

    curl "http://127.0.0.1:8787/agents/flight-watch/me?flight=DL264&seconds=2"
    curl "http://127.0.0.1:8787/agents/flight-watch/me"
"""

from __future__ import annotations

from typing import Any, TypedDict

from agents import Agent, Request, Response, Schedule


class Watch(TypedDict):
    """What was found out so far."""

    checked: list[str]


class FlightWatch(Agent[Any, Watch]):
    """Looks after flights while nobody is there."""

    initial_state = Watch(checked=[])

    async def on_request(self, request: Request) -> Response:
        """With a flight: plan a check. Without: what was checked."""
        flight = request.query.get("flight")
        if flight is None:
            return Response.json(self.state)
        seconds = float(request.query.get("seconds", "600"))
        task = await self.schedule(seconds, "check_flights", {"flight": flight})
        return Response.json({"id": task.id, "time": task.time})

    async def check_flights(self, payload: dict[str, str], task: Schedule) -> None:
        """Run at the time; it could plan the next check with ``self.schedule``."""
        self.set_state(Watch(checked=[*self.state["checked"], payload["flight"]]))
