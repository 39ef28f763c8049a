"""The client for asyncio: an agent's state, calls and messages over one WebSocket.

Invariant: what a program observes here is what it would observe through npm
`agents/client`; the differences are listed in docs/clients.md. It imports
neither the rest of `agents` nor `durable`, so that a client program can stay light.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, TypedDict, Unpack

import aiohttp
from aiohttp import WSMsgType

from agents.client_address import AgentAddress, Query
from agents.client_callbacks import Callbacks
from agents.client_calls import (
    CONNECTION_CLOSED,
    AgentCallError,
    CallStream,
    CallTimeout,
    PendingCall,
    PendingCalls,
)
from agents.client_fetch import AgentFetch, agent_fetch
from agents.client_ready import Goodbye, Ready
from agents.client_socket import (
    CLOSING_LIMIT,
    Aftermath,
    Frame,
    ReconnectingSocket,
    SocketClose,
    SocketListener,
    check_close,
)
from agents.client_timers import Timers, event_loop_timers

__all__ = [
    "AgentCallError",
    "AgentClient",
    "AgentConnectionError",
    "AgentFetch",
    "AgentStub",
    "CallStream",
    "SocketClose",
    "agent_fetch",
]

logger = logging.getLogger(__name__)

DEFAULT_CALL_TIMEOUT: Final = 30.0


class AgentConnectionError(ConnectionError):
    """The connection ended for good."""

    def __init__(self, close: SocketClose) -> None:
        reason = close.reason or f"WebSocket closed with code {close.code}"
        super().__init__(f"Agent connection closed: {reason}")
        self.code = close.code
        self.reason = close.reason
        self.was_clean = close.was_clean


class ClientCallbacks(TypedDict, total=False):
    """What a client can be told; each may be a plain or an async function."""

    on_state_update: Callable[[Any, str], object] | None
    on_state_update_error: Callable[[str], object] | None
    on_identity: Callable[[str, str], object] | None
    on_identity_change: Callable[[str, str, str, str], object] | None
    on_mcp_update: Callable[[Any], object] | None
    on_message: Callable[[str | bytes], object] | None
    on_open: Callable[[], object] | None
    on_close: Callable[[int, str, bool], object] | None
    on_connection_error: Callable[[AgentConnectionError], object] | None


class AgentStub:
    """Calls an agent's methods as if they were its own: `await stub.add(1, 2)`."""

    def __init__(self, call: Callable[[str, Sequence[Any]], Any]) -> None:
        self._call = call

    def __getattr__(self, method: str) -> Callable[..., Coroutine[Any, Any, Any]]:
        """Give a function that calls this method."""
        if method.startswith("_"):
            # Python probes such names (copying, printing); they are never callable.
            raise AttributeError(method)
        return lambda *args: self._call(method, args)


class AgentClient:
    """A connection to one agent that reopens itself; use it with `async with`.

    Entering starts to connect and does not wait: messages and calls made before
    the socket is open are sent once it is. All times are in seconds.
    """

    def __init__(
        self,
        *,
        agent: str,
        host: str,
        name: str = "default",
        path: str = "",
        prefix: str = "agents",
        base_path: str | None = None,
        query: Query | None = None,
        protocol: str | None = None,
        id: str | None = None,
        default_call_timeout: float | None = DEFAULT_CALL_TIMEOUT,
        should_reconnect_on_close: Callable[[SocketClose], bool] | None = None,
        max_retries: int | None = None,
        session: aiohttp.ClientSession | None = None,
        timers: Timers | None = None,
        **callbacks: Unpack[ClientCallbacks],
    ) -> None:
        """Describe the connection; nothing is sent before the client is entered."""
        if unknown := callbacks.keys() - ClientCallbacks.__annotations__.keys():
            raise TypeError(f"AgentClient has no option {min(unknown)!r}")
        self._address = AgentAddress(
            agent=agent,
            host=host,
            name=name or "default",
            path=path,
            prefix=prefix,
            base_path=base_path,
            query=query,
            protocol=protocol,
        )
        self.id = id or str(uuid.uuid4())
        self.name = self._address.name
        self.agent = self._address.segment
        self.state: Any = None
        self.identified = False
        self.connection_error: AgentConnectionError | None = None
        self.stub = AgentStub(self.call)
        self._default_call_timeout = default_call_timeout
        self._timers = timers or event_loop_timers
        self._make_socket = partial(
            ReconnectingSocket,
            url=partial(self._address.url, "ws", _pk=self.id),
            listener=SocketListener(
                opened=self._opened, received=self._received, closed=self._closed
            ),
            timers=self._timers,
            should_reconnect=should_reconnect_on_close,
            max_retries=max_retries,
        )
        self._session = session
        self._open_socket: ReconnectingSocket | None = None
        self._stack = AsyncExitStack()
        self._tell = callbacks
        self._callbacks = Callbacks()
        self._calls = PendingCalls(callbacks=self._callbacks, withdraw=self._withdraw)
        self._ready = Ready()
        self._has_ended = False
        self._state_seen = False
        self._early_identity: tuple[str, str] | None = None
        self._last_identity: tuple[str, str] | None = None

    async def __aenter__(self) -> Self:
        """Start to connect."""
        if self._open_socket is not None:
            raise RuntimeError("an AgentClient can be entered only once")
        session = self._session
        if session is None:
            session = await self._stack.enter_async_context(aiohttp.ClientSession())
        self._open_socket = self._make_socket(session=session)
        self._open_socket.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close, wait for the closing handshake and for callbacks under way."""
        async with self._stack:
            await self.close()
            await self._callbacks.drain(CLOSING_LIMIT)

    @property
    def ready(self) -> Ready:
        """Await it for the agent's identity and, if the server has one, its state.

        It is renewed when the socket closes. It raises ConnectionError once the
        connection has ended for good.
        """
        return self._ready

    def set_state(self, state: Any) -> None:
        """Show a new state at once and send it to the agent.

        Raises:
            TypeError: it is not made of JSON values.
            ValueError: it holds NaN, an infinity or a cycle.
        """
        self._send(_json_frame({"type": "cf_agent_state", "state": state}))
        self.state = state
        self._callbacks.emit(self._tell.get("on_state_update"), state, "client")

    async def call(
        self,
        method: str,
        args: Sequence[Any] = (),
        *,
        timeout: float | CallTimeout | None = CallTimeout.DEFAULT,
        on_chunk: Callable[[Any], object] | None = None,
    ) -> Any:
        """Call a method of the agent and wait for its result.

        With `on_chunk` the method may stream, and there is no time limit unless one
        is given. None or 0 means no limit. Leaving early doesn't stop the method.

        Raises:
            AgentCallError: the agent reported an error.
            TimeoutError: the time is over; the method may have run all the same.
            ConnectionError: the connection closed meanwhile, or has ended for good.
        """
        if timeout is CallTimeout.DEFAULT and on_chunk is not None:
            timeout = None
        call = self._begin_call(method, args, timeout, on_chunk)
        try:
            return await call.outcome
        finally:
            self._calls.abandon(call)

    def stream(
        self, method: str, args: Sequence[Any] = (), *, timeout: float | None = None
    ) -> CallStream:
        """Call a streaming method; iterate over the result for its chunks."""
        begin = partial(self._begin_call, method, args, timeout)
        return CallStream(begin, self._calls.abandon)

    def send(self, message: str | bytes) -> bool:
        """Send a message of your own; False if it waits for the next socket."""
        if isinstance(message, str):
            return self._send(Frame(message.encode(), WSMsgType.TEXT))
        return self._send(Frame(bytes(message), WSMsgType.BINARY))

    def close(self, code: int = 1000, reason: str = "") -> Goodbye:
        """Close now and for good; calls without an answer fail at once.

        It need not be awaited: that waits until the server has answered, too.
        """
        check_close(code, reason)
        self._end(ConnectionError(CONNECTION_CLOSED))
        self._socket.close(code, reason)
        return Goodbye(self._socket.wait_closed)

    def reconnect(self, code: int = 1000, reason: str = "") -> None:
        """Open a new socket at once; also after `close` or a final close."""
        check_close(code, reason)
        if self._has_ended:
            self._has_ended = False
            self._ready = Ready()
        self._socket.connect(code, reason)

    def _opened(self) -> None:
        self.connection_error = None
        self._calls.transmitted()
        self._callbacks.emit(self._tell.get("on_open"))

    def _closed(self, close: SocketClose, aftermath: Aftermath) -> None:
        self.identified = False
        self._state_seen = False
        self._early_identity = None
        if aftermath is Aftermath.FINAL:
            self.connection_error = AgentConnectionError(close)
            self._end(self.connection_error)
        elif aftermath is Aftermath.RECONNECTS:
            self._calls.reject(only_transmitted=True)
            self._ready = self._ready.renewed()
        told = (close.code, close.reason, close.was_clean)
        self._callbacks.emit(self._tell.get("on_close"), *told)
        if aftermath is Aftermath.FINAL:
            self._callbacks.emit(
                self._tell.get("on_connection_error"), self.connection_error
            )

    def _received(self, message: str | bytes) -> None:
        match _parse(message):
            case {
                "type": "cf_agent_identity",
                "name": str(name),
                "agent": str(agent),
            } as f:
                if f.get("stateFollows") is True and not self._state_seen:
                    self._early_identity = (name, agent)
                else:
                    self._identify(name, agent)
            case {"type": "cf_agent_state", "state": state}:
                self._take_state(state)
            case {"type": "cf_agent_state_error", "error": error}:
                self._callbacks.emit(self._tell.get("on_state_update_error"), error)
            case {"type": "cf_agent_mcp_servers", "mcp": mcp}:
                self._callbacks.emit(self._tell.get("on_mcp_update"), mcp)
            case {"type": "rpc", "id": str()} as answer:
                self._calls.receive(answer)
            case _:
                self._callbacks.emit(self._tell.get("on_message"), message)

    def _take_state(self, state: Any) -> None:
        self.state = state
        self._callbacks.emit(self._tell.get("on_state_update"), state, "server")
        self._state_seen = True
        if self._early_identity is not None:
            name, agent = self._early_identity
            self._early_identity = None
            self._identify(name, agent)

    def _identify(self, name: str, agent: str) -> None:
        before, self._last_identity = self._last_identity, (name, agent)
        self.identified = True
        self._ready.succeed()
        if before is not None and before != (name, agent):
            self._report_change(before)
        self.name, self.agent = name, agent
        self._callbacks.emit(self._tell.get("on_identity"), name, agent)

    def _report_change(self, before: tuple[str, str]) -> None:
        assert self._last_identity is not None
        (old_name, old_agent), (name, agent) = before, self._last_identity
        on_change = self._tell.get("on_identity_change")
        if on_change is None:
            logger.warning(
                "an agent client reached another agent after reconnecting",
                extra={"before": before, "after": self._last_identity},
            )
        self._callbacks.emit(on_change, old_name, name, old_agent, agent)

    @property
    def _socket(self) -> ReconnectingSocket:
        if self._open_socket is None:
            raise RuntimeError("enter the AgentClient with `async with` first")
        return self._open_socket

    def _begin_call(
        self,
        method: str,
        args: Sequence[Any],
        timeout: float | CallTimeout | None,
        on_chunk: Callable[[Any], object] | None,
    ) -> PendingCall:
        if self._has_ended:
            raise ConnectionError(CONNECTION_CLOSED) from self.connection_error
        limit = (
            self._default_call_timeout if timeout is CallTimeout.DEFAULT else timeout
        )
        request = {"type": "rpc", "method": method, "args": list(args)}
        call = PendingCall(method, on_chunk)
        call.frame = _json_frame({**request, "id": call.id})
        self._calls.begin(call, timeout=limit, timers=self._timers)
        call.is_transmitted = self._send(call.frame)
        return call

    def _end(self, error: ConnectionError) -> None:
        self._has_ended = True
        self._calls.reject(only_transmitted=False)
        self._ready = self._ready.renewed()
        self._ready.fail(error)

    def _send(self, frame: Frame) -> bool:
        was_sent = self._socket.send(frame)
        if not was_sent and self._has_ended:
            logger.warning("a message waits for reconnect(): the client was closed")
        return was_sent

    def _withdraw(self, frame: Frame) -> None:
        self._socket.withdraw(frame)


def _parse(message: str | bytes) -> Any:
    if isinstance(message, bytes):
        return None
    try:
        return json.loads(message)
    except (ValueError, RecursionError):
        return None


def _json_frame(value: object) -> Frame:
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return Frame(text.encode(), WSMsgType.TEXT)
