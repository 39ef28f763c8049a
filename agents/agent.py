"""``Agent``: hooks to override, and delegation to its capabilities."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Generic

from typing_extensions import TypeVar

from agents.callables import CallableOptions, Method, methods_of
from agents.connection import Connection, ConnectionContext
from agents.connections import Connections
from agents.context import CurrentAgent, awaited_as, current, iterated_as
from agents.sql import SqlMethods
from agents.state_sync import UNSET, StateSync
from agents.typed import StateCodec, state_codec, state_type_of
from agents.working_object import WorkingObject
from durable import Frame, Request, Response, is_stream, must_await

if TYPE_CHECKING:
    from durable import AlarmInfo, DurableObjectState, WebSocket

log = logging.getLogger(__name__)

Env = TypeVar("Env", default=Any)
State = TypeVar("State", default=Any)


class Agent(SqlMethods, WorkingObject, Generic[Env, State]):
    """A durable object with synced state, callable methods and client sockets.

    Hooks (``on_*``) may be plain or ``async``. ``initial_state`` is stored at the first
    look at ``state``; without one the state is None until it is set.
    """

    initial_state: Any = UNSET
    send_identity_on_connect: ClassVar[bool] = True

    # Of a subclass's own protocol: the type of a frame, and what takes connection and
    # frame.
    frame_types: Mapping[str, Callable[..., Any]] = {}

    _methods: ClassVar[dict[str, Method]] = {}
    _codec: ClassVar[StateCodec] = StateCodec()
    has_validation: ClassVar[bool] = False
    has_state_hook: ClassVar[bool] = False
    _plain_messages: ClassVar[bool] = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        kind = state_type_of(cls)
        if kind is not None:
            cls._codec = state_codec(kind)
        cls._methods = methods_of(cls)
        cls.has_validation = (
            cls.validate_state_change is not Agent.validate_state_change
        )
        newer = cls.on_state_changed is not Agent.on_state_changed
        older = cls.on_state_update is not Agent.on_state_update
        if newer and older:
            raise TypeError(
                f"{cls.__name__} overrides on_state_changed and on_state_update, "
                "which are two names of one hook: keep on_state_changed"
            )
        cls.has_state_hook = newer or older

    def __init__(self, ctx: DurableObjectState, env: Env) -> None:
        super().__init__(ctx, env)
        self.env: Env = env
        self._connections = Connections(self, self._methods)
        self.sync = StateSync(self, self._codec, self._connections)
        if type(self).on_start is not Agent.on_start:
            ctx.block_concurrency_while(self._start)

    # --- hooks

    # With ``props`` or without, as the class likes: a checker accepts both.
    on_start: Callable[..., Any]

    def on_start(self, props: Any = None) -> Any:  # type: ignore[no-redef]
        """Runs once on each wake, before any event. It has 30 s."""

    def on_request(self, request: Request) -> Response | Awaitable[Response]:
        """Answer an HTTP request."""
        return Response("Not implemented", status=404)

    def on_connect(self, connection: Connection, ctx: ConnectionContext) -> Any:
        """A client connects; its messages wait until this has ended."""

    def on_message(self, connection: Connection, message: str | bytes) -> Any:
        """A client sent something that isn't of the agent protocol."""

    def on_close(
        self, connection: Connection, code: int, reason: str, was_clean: bool
    ) -> Any:
        """A client's socket has closed; 1006 if nobody said good-bye."""

    def on_error(self, error: Exception, connection: Connection | None = None) -> Any:
        """A hook raised. The default logs; for requests, raising goes on to a 500."""
        log.error(
            "agent hook failed",
            exc_info=error,
            extra={
                "agent": type(self).__name__,
                "connection": connection.id if connection else None,
            },
        )
        raise error

    def validate_state_change(self, next_state: State, source: Any) -> None:
        """Raise to refuse a change; ``source`` is ``"server"`` or a Connection."""

    def on_state_changed(self, state: State, source: Any) -> Any:
        """The state has changed, and clients were told."""

    def on_state_update(self, state: State, source: Any) -> Any:
        """The older name of ``on_state_changed``."""

    def get_connection_tags(
        self, connection: Connection, ctx: ConnectionContext
    ) -> Iterable[str]:
        """Up to 9 tags for a new connection, each up to 256 characters."""
        return ()

    def should_connection_be_readonly(
        self, connection: Connection, ctx: ConnectionContext
    ) -> bool:
        """Whether a new connection may not change the state."""
        return False

    def should_send_protocol_messages(
        self, connection: Connection, ctx: ConnectionContext
    ) -> bool:
        """Whether a new connection gets identity, state and MCP frames."""
        return True

    # --- for the agent's own code

    @property
    def name(self) -> str:
        """The name this instance was asked for; its id's text if it has none."""
        return self.ctx.id.name or str(self.ctx.id)

    @property
    def state(self) -> State:
        """The state, as Postgres has it or will with the next commit."""
        state: State = self.sync.get()
        return state

    def set_state(self, state: State) -> None:
        """Replace the state: store it, and send it to every client.

        Raises:
            ValueRefused: it isn't JSON; the message has the path of the bad value.
        """
        self.sync.set(state)

    def get_connections(self, tag: str | None = None) -> list[Connection]:
        """The open connections, or those with a tag."""
        return self._connections.all(tag)

    def get_connection(self, connection_id: str) -> Connection | None:
        """The connection with this id, None if there is none.

        Raises:
            LookupError: a client is reconnecting, and two have the id right now.
        """
        found = [c for c in self.get_connections() if c.id == connection_id]
        if len(found) > 1:
            raise LookupError(f"more than one connection has the id {connection_id!r}")
        return found[0] if found else None

    def broadcast(self, message: str | bytes, without: Sequence[str] = ()) -> None:
        """Send to all connections but those whose ids are in ``without``."""
        if isinstance(message, str):
            frame = Frame(message.encode("utf-8", "replace"))
        else:
            frame = Frame(bytes(message), text=False)
        sockets = self.ctx.get_websockets()
        if without:
            sockets = [ws for ws in sockets if ws.id not in without]
        self.ctx.send_frame(frame, sockets)

    def set_connection_readonly(
        self, connection: Connection, readonly: bool = True
    ) -> None:
        """Keep a connection from changing the state, or let it again."""
        connection.mark(readonly=readonly)

    def is_connection_readonly(self, connection: Connection) -> bool:
        """Whether a connection may not change the state."""
        return connection.is_readonly

    def is_connection_protocol_enabled(self, connection: Connection) -> bool:
        """Whether a connection gets identity, state and MCP frames."""
        return connection.hears_protocol

    def get_callable_methods(self) -> dict[str, CallableOptions]:
        """What clients may call: name → ``description`` and ``streaming``."""
        return {name: method.options for name, method in self._methods.items()}

    async def destroy(self) -> None:
        """Delete all that is stored, close every socket (1001), end this instance."""
        await self.ctx.storage.delete_all()
        for websocket in self.ctx.get_websockets():
            websocket.close(1001, "Durable Object destroyed")
        await self.ctx.storage.sync()
        self.ctx.end_when_idle()

    # --- events, from the durable floor

    async def fetch(self, request: Request) -> Response:
        """Deliver a request: an upgrade connects, everything else is ``on_request``."""
        token = current.set(CurrentAgent(self, None, request))
        try:
            if request.socket_port is not None:
                return await self._connections.connect(request)
            try:
                response = self.on_request(request)
                if must_await(response):
                    response = await response
            except Exception as error:  # noqa: BLE001  # the user's hook
                await self._on_error(error, None)
                return Response("Internal Server Error", status=500)
            if not isinstance(response, Response):
                raise TypeError(
                    f"{type(self).__name__}.on_request returned "
                    f"{type(response).__name__}, not a Response"
                )
            return response
        finally:
            current.reset(token)

    def websocket_message(self, websocket: WebSocket, message: str | bytes) -> Any:
        """Deliver a message: a call, a state change, or the application's own."""
        return self._connections.message(websocket, message)

    def websocket_close(
        self, websocket: WebSocket, code: int, reason: str, was_clean: bool
    ) -> Any:
        """Deliver the end of a connection."""
        return self._connections.closed(websocket, code, reason, was_clean)

    def websocket_restored(self, websocket: WebSocket) -> Any:
        """Send the state again: the lost owner may have stored it and not said so."""
        self._connections.restored(websocket)

    def call_method(self, method: str, args: Sequence[Any], kwargs: Any) -> Any:
        """Deliver another object's call."""
        return self._run_as_me(
            lambda: super(Agent, self).call_method(method, args, kwargs)
        )

    def _run_as_me(self, work: Callable[[], Any]) -> Any:
        me = CurrentAgent(self, None, None)
        token = current.set(me)
        try:
            result = work()
        finally:
            current.reset(token)
        if must_await(result):
            return awaited_as(me, result)
        return iterated_as(me, result) if is_stream(result) else result

    def fire_alarm(self, info: AlarmInfo) -> Any:
        """Deliver the alarm."""
        return self._run_as_me(lambda: self.alarm(info))

    # --- for the capabilities

    def before_greeting(self, connection: Connection) -> None:
        """A client has connected, and heard nothing yet."""

    async def run_hook(self, hook: Callable[..., Any], *args: Any) -> Any:
        """Call a plain or async hook."""
        result = hook(*args)
        return await result if must_await(result) else result

    async def report(
        self, error: Exception, connection: Connection | None = None
    ) -> None:
        """Tell ``on_error``; what that raises ends in the log."""
        try:
            await self._on_error(error, connection)
        except Exception as raised:  # the user's hook
            if raised is not error:
                log.exception("on_error failed")

    @property
    def state_hook(self) -> Callable[..., Any]:
        """``on_state_changed``, under the name that the class uses."""
        if type(self).on_state_changed is not Agent.on_state_changed:
            return self.on_state_changed
        return self.on_state_update

    # --- inside

    async def _start(self) -> None:
        token = current.set(CurrentAgent(self, None, None))
        try:
            hook = self.on_start
            if inspect.signature(hook).parameters:
                await self.run_hook(hook, self.ctx.props)
            else:
                await self.run_hook(hook)
        finally:
            current.reset(token)

    async def _on_error(self, error: Exception, connection: Connection | None) -> None:
        hook = self.on_error
        names = list(inspect.signature(hook).parameters)
        if names and names[0] == "connection":
            # Cloudflare's order.
            await self.run_hook(hook, connection, error)
        elif len(names) == 1:
            await self.run_hook(hook, error)
        else:
            await self.run_hook(hook, error, connection)
