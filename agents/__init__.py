"""Agents: durable objects with synced state, callable methods and client sockets."""

from agents.agent import Agent
from agents.callables import StreamingResponse, callable  # noqa: A004  # the public name
from agents.connection import Connection, ConnectionContext
from agents.context import CurrentAgent, get_current_agent
from agents.event_stream import event_stream
from agents.routing import RouteInfo, get_agent_by_name, route_agent_request
from durable import Request, Response, SqlError

# The command line checks it: another distribution may install a package of this name.
__distribution__ = "durable-agents"

__all__ = [
    "Agent",
    "Connection",
    "ConnectionContext",
    "CurrentAgent",
    "Request",
    "Response",
    "RouteInfo",
    "SqlError",
    "StreamingResponse",
    "callable",
    "event_stream",
    "get_agent_by_name",
    "get_current_agent",
    "route_agent_request",
]
