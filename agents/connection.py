"""An agent's view of a client's socket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agents.context import CurrentAgent
from durable import identity_of

if TYPE_CHECKING:
    from agents.agent import Agent
    from durable import Frame, Request, WebSocket


@dataclass(frozen=True, slots=True)
class ConnectionContext:
    """What is known when a client connects: the upgrade request."""

    request: Request


class Connection:
    """One client's socket: ``id``, ``url``, ``tags``, ``state``, send and close.

    ``id`` is what the client chose (query parameter ``_pk``) and keeps over its
    reconnects. ``state`` is small (16 kB with the rest), kept while the socket is open,
    also while the agent sleeps.
    """

    __slots__ = ("_attached", "current", "websocket")

    def __init__(self, websocket: WebSocket, agent: Agent[Any, Any]) -> None:
        self.websocket = websocket
        self._attached: dict[str, Any] = websocket.deserialize_attachment() or {}
        # Made once: every message sets it.
        self.current = CurrentAgent(agent, self, None)

    def __repr__(self) -> str:
        return f"Connection({self.id!r})"

    @property
    def id(self) -> str:
        """The connection's id."""
        return self.websocket.id

    @property
    def url(self) -> str:
        """The URL it connected to, with its query."""
        return self.websocket.url

    @property
    def uri(self) -> str:
        """The URL: Cloudflare's name for it."""
        return self.websocket.url

    @property
    def identity(self) -> Any:
        """What ``authorize`` returned when it connected: JSON, or None."""
        return identity_of(self.websocket.headers)

    @property
    def tags(self) -> list[str]:
        """Its tags; the first is its id."""
        return list(self.websocket.tags)

    @property
    def state(self) -> Any:
        """What ``set_state`` kept, or None."""
        return self._attached.get("state")

    def set_state(self, state: Any) -> Any:
        """Keep a value with this connection; returns it.

        Raises:
            ValueRefused: too large, or nothing that can be stored.
        """
        self._attach("state", state)
        return state

    def send(self, message: str | bytes) -> None:
        """Send text or bytes; does nothing once the socket is closed."""
        self.websocket.send(message)

    def send_frame(self, frame: Frame) -> None:
        """Send a frame that was made once for many."""
        self.websocket.send_frame(frame)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close; 1008 and 4000 to 4999 tell the client not to come back."""
        self.websocket.close(code, reason)

    @property
    def is_open(self) -> bool:
        """Whether the client may still be there."""
        return self.websocket.is_open

    @property
    def is_readonly(self) -> bool:
        """Whether it may not change the agent's state."""
        return bool(self._attached.get("readonly"))

    @property
    def hears_protocol(self) -> bool:
        """Whether it gets identity, state and MCP frames."""
        return not self._attached.get("silent")

    def mark(self, *, readonly: bool | None = None, silent: bool | None = None) -> None:
        """Set the flags that the agent keeps with the connection."""
        if readonly is not None and readonly != self.is_readonly:
            self._attach("readonly", readonly)
        if silent is not None and silent == self.hears_protocol:
            self._attach("silent", silent)

    def _attach(self, key: str, value: Any) -> None:
        attached = {**self._attached, key: value}
        self.websocket.serialize_attachment(attached)
        self._attached = self.websocket.deserialize_attachment()
