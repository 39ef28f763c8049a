"""The agent under test: what the load generator expects of class ``bench-agent``."""

from __future__ import annotations

from agents import Agent, Connection, Request, Response, callable


class BenchAgent(Agent):
    """A counter in the agent's state; its callables keep the generator's names."""

    initial_state = {"count": 0}

    @callable()
    def getCounter(self) -> int:  # noqa: N802 - the name is the generator's
        """Read without writing."""
        return int(self.state["count"])

    @callable()
    def increment(self) -> int:
        """Add one; the reply leaves when it is durable."""
        self.set_state({"count": self.state["count"] + 1})
        return int(self.state["count"])

    def on_request(self, request: Request) -> Response:
        """Answer the count; POST adds one first."""
        if request.method == "POST":
            self.set_state({"count": self.state["count"] + 1})
        return Response.json({"count": self.state["count"]})

    def on_message(self, connection: Connection, message: str | bytes) -> None:
        """Echo what is no protocol message."""
        connection.send(message)
