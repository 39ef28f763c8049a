"""Agents: durable objects with synced state, callable methods and client sockets.

Names are imported when they are first used: ``import agents.client`` alone stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agents.agent import Agent
    from agents.callables import StreamingResponse, callable
    from agents.connection import Connection, ConnectionContext
    from agents.context import CurrentAgent, get_current_agent
    from agents.dead_letters import DeadLetter
    from agents.fibers import Fiber
    from agents.queue_store import QueueItem
    from agents.retries import RetryOptions
    from agents.routing import RouteInfo, get_agent_by_name, route_agent_request
    from agents.run_history import Run
    from agents.schedule_store import Schedule
    from agents.schedules import TooManySchedules
    from agents.server_sent_events import event_stream
    from durable import Request, Response, SqlError, SqlResult

# The command line checks it: another distribution may install a package of this name.
__distribution__ = "durable-agents"

__all__ = [
    "Agent",
    "Connection",
    "ConnectionContext",
    "CurrentAgent",
    "DeadLetter",
    "Fiber",
    "QueueItem",
    "Request",
    "Response",
    "RetryOptions",
    "RouteInfo",
    "Run",
    "Schedule",
    "SqlError",
    "SqlResult",
    "StreamingResponse",
    "TooManySchedules",
    "callable",
    "event_stream",
    "get_agent_by_name",
    "get_current_agent",
    "route_agent_request",
]

_HOMES = {
    "agents.agent": ("Agent",),
    "agents.callables": ("StreamingResponse", "callable"),
    "agents.connection": ("Connection", "ConnectionContext"),
    "agents.context": ("CurrentAgent", "get_current_agent"),
    "agents.dead_letters": ("DeadLetter",),
    "agents.fibers": ("Fiber",),
    "agents.queue_store": ("QueueItem",),
    "agents.retries": ("RetryOptions",),
    "agents.routing": ("RouteInfo", "get_agent_by_name", "route_agent_request"),
    "agents.run_history": ("Run",),
    "agents.schedule_store": ("Schedule",),
    "agents.schedules": ("TooManySchedules",),
    "agents.server_sent_events": ("event_stream",),
    "durable": ("Request", "Response", "SqlError", "SqlResult"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'agents' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME_OF[name]), name)
    return value
