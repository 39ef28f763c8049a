"""State that is stored and synced: validate, store, broadcast, then tell the agent."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from agents import protocol
from agents.context import current
from durable import Frame

if TYPE_CHECKING:
    from agents.agent import Agent
    from agents.connection import Connection
    from agents.connections import Connections
    from agents.typed import StateCodec

log = logging.getLogger(__name__)

SPACE = "agent"
# The first key of the first space: an activation's first read always brings it.
KEY = "state"


class _Unset:
    """No initial state was given."""


UNSET = _Unset()


class ReadonlyConnection(PermissionError):
    """Connection is readonly."""

    def __init__(self) -> None:
        super().__init__("Connection is readonly")


class StateSync:
    """The state of one agent. The stored row is the only copy that counts.

    What ``get`` returns is decoded from the row, so it is the same before and after a
    restart; it is decoded anew only when the row has changed.
    """

    __slots__ = ("_agent", "_codec", "_connections", "_raw", "_space", "_value")

    def __init__(
        self, agent: Agent[Any, Any], codec: StateCodec, connections: Connections
    ) -> None:
        self._connections = connections
        self._agent = agent
        self._codec = codec
        self._space = agent.ctx.storage.space(SPACE)
        self._raw: object = None
        self._value: Any = None

    def raw(self) -> str | None:
        """The state as JSON; the initial state is stored at the first look."""
        row = self._space.get_raw(KEY)
        if row is None:
            return self._materialise()
        assert isinstance(
            row, str
        )  # the first read brought it; strict JSON has no blob
        return row

    def get(self) -> Any:
        """The state, or None if there is none."""
        raw = self.raw()
        if raw is not self._raw:
            self._value = None if raw is None else self._codec.loads(raw)
            self._raw = raw
        return self._value

    def set(self, state: Any) -> None:
        """The agent's own change; everybody hears of it.

        Raises:
            ReadonlyConnection: a readonly connection's call does it.
            ValueRefused: not JSON, or not of the state's type.
            Exception: what ``validate_state_change`` raises.
        """
        here = current.get()
        if (
            here.connection is not None
            and here.agent is self._agent
            and here.connection.is_readonly
        ):
            raise ReadonlyConnection
        self._change(self._codec.dumps(state), "server", None)

    def from_client(self, connection: Connection, state: Any) -> None:
        """A client's change; everybody but its author hears of it."""
        if connection.is_readonly:
            self._refuse(connection, "Connection is readonly")
            return
        try:
            self._change(self._codec.dumps(state), connection, connection)
        except Exception as error:  # noqa: BLE001  # the user's validation
            log.info("state refused: %s", error, extra={"connection": connection.id})
            self._refuse(connection, "State update rejected")

    def frame(self) -> Frame | None:
        """The state frame for a new connection, None if there is no state."""
        raw = self.raw()
        return None if raw is None else Frame(protocol.state(raw.encode()))

    def _materialise(self) -> str | None:
        initial = self._agent.initial_state
        if initial is UNSET:
            return None
        self._change(self._codec.dumps(initial), "server", current.get().connection)
        row = self._space.get_raw(KEY)
        assert isinstance(row, str)
        return row

    def _change(self, raw: bytes, source: Any, without: Connection | None) -> None:
        agent = self._agent
        if agent.has_validation:
            agent.validate_state_change(self._codec.loads(raw), source)
        self._space.put_raw(KEY, raw.decode())
        frame = Frame(protocol.state(raw), coalesce=True)
        self._connections.send_protocol(frame, without)
        if agent.has_state_hook:
            agent.ctx.wait_until(self._tell(self.get(), source))

    async def _tell(self, state: Any, source: Any) -> None:
        agent = self._agent
        try:
            await agent.run_hook(agent.state_hook, state, source)
        except Exception as error:  # noqa: BLE001  # the user's hook
            await agent.report(error)

    def _refuse(self, connection: Connection, error: str) -> None:
        connection.send_frame(Frame(protocol.state_error(error)))
