"""``@callable``: the methods that clients may call, and how a call is answered."""

from __future__ import annotations

import builtins
import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, overload

from agents import protocol
from agents.typed import argument_converter
from durable import Frame, json_text, must_await

if TYPE_CHECKING:
    from agents.agent import Agent
    from agents.connection import Connection

log = logging.getLogger(__name__)
F = TypeVar("F", bound=Callable[..., Any])
_MARK = "__durable_callable__"


@dataclass(frozen=True, slots=True)
class CallableOptions:
    """What ``@callable`` was given."""

    description: str | None = None
    streaming: bool = False


@overload
def callable(function: F, /) -> F: ...  # the public name
@overload
def callable(
    *, description: str | None = None, streaming: bool = False
) -> Callable[[F], F]: ...
def callable(
    function: F | None = None,
    /,
    *,
    description: str | None = None,
    streaming: bool = False,
) -> F | Callable[[F], F]:
    """Let clients call this method.

    Arguments are converted by the method's annotations. With ``streaming`` it gets a
    StreamingResponse before its arguments, or is an async generator of chunks.
    """
    options = CallableOptions(description, streaming)

    def mark(function: F) -> F:
        if not inspect.isfunction(function):
            raise TypeError("@callable marks a plain or async method")
        setattr(function, _MARK, options)
        return function

    return mark if function is None else mark(function)


class StreamingResponse:
    """Sends the chunks of one streamed call.

    ``send``, ``end`` and ``error`` return False, and do nothing, once the stream is
    closed or the client has gone.
    """

    __slots__ = ("_call_id", "_connection", "_function", "is_closed")

    def __init__(self, connection: Connection, call_id: str) -> None:
        self._connection = connection
        self._call_id = call_id
        self.is_closed = False

    def send(self, chunk: Any) -> bool:
        """Send a chunk: any JSON value."""
        return self._send(chunk, done=False)

    def end(self, final: Any = None) -> bool:
        """Send the final value and close."""
        return self._send(final, done=True)

    def error(self, message: str) -> bool:
        """Fail the call with a message, and close."""
        if self.is_closed or not self._connection.is_open:
            return False
        self.is_closed = True
        self._connection.send_frame(Frame(protocol.rpc_error(self._call_id, message)))
        return True

    def _send(self, value: Any, *, done: bool) -> bool:
        if self.is_closed or not self._connection.is_open:
            return False
        raw = None if done and value is None else json_text.dumps(value, "chunk")
        self.is_closed = done
        frame = protocol.rpc_result(self._call_id, raw, done=done)
        self._connection.send_frame(Frame(frame))
        return True


class Method:
    """One callable method of a class, ready to be called."""

    __slots__ = ("_convert", "_function", "name", "options")

    def __init__(
        self, name: str, function: Callable[..., Any], options: CallableOptions
    ) -> None:
        self.name = name
        self.options = options
        self._function = function
        takes_stream = options.streaming and not inspect.isasyncgenfunction(function)
        self._convert = argument_converter(function, 2 if takes_stream else 1)

    def call(
        self,
        agent: Agent[Any, Any],
        connection: Connection,
        call_id: str,
        args: list[Any],
    ) -> Any:
        """Run and answer; returns an awaitable if there is something to wait for."""
        if self.options.streaming:
            return self._stream(agent, connection, call_id, args)
        try:
            result = self._function(agent, *self._convert(args))
        except Exception as error:  # noqa: BLE001  # the user's method
            return self._failed(connection, call_id, error)
        if must_await(result):
            return self._finish(connection, call_id, result)
        self._answer(connection, call_id, result)
        return None

    async def _finish(self, connection: Connection, call_id: str, result: Any) -> None:
        try:
            value = await result
        except Exception as error:  # noqa: BLE001  # the user's method
            self._failed(connection, call_id, error)
        else:
            self._answer(connection, call_id, value)

    def _answer(self, connection: Connection, call_id: str, value: Any) -> None:
        try:
            raw = None if value is None else json_text.dumps(value, "result")
        except ValueError as error:
            self._failed(connection, call_id, error)
            return
        except TypeError as error:
            self._failed(connection, call_id, error)
            return
        frame = protocol.rpc_result(call_id, raw, done=True)
        connection.send_frame(Frame(frame))

    async def _stream(
        self,
        agent: Agent[Any, Any],
        connection: Connection,
        call_id: str,
        args: list[Any],
    ) -> None:
        stream = StreamingResponse(connection, call_id)
        try:
            if inspect.isasyncgenfunction(self._function):
                async for chunk in self._function(agent, *self._convert(args)):
                    if not stream.send(chunk):
                        return
                stream.end()
                return
            result = self._function(agent, stream, *self._convert(args))
            if must_await(result):
                await result
        except Exception as error:  # noqa: BLE001  # the user's method
            if not stream.is_closed:
                self._failed(connection, call_id, error)
                stream.is_closed = True

    def _failed(self, connection: Connection, call_id: str, error: Exception) -> None:
        log.warning("callable failed", exc_info=error, extra={"callable": self.name})
        text = str(error) or type(error).__name__
        connection.send_frame(Frame(protocol.rpc_error(call_id, text)))


def methods_of(cls: type) -> dict[str, Method]:
    """The callable methods of a class, inherited ones included."""
    found: dict[str, Method] = {}
    for name, function in inspect.getmembers(cls, inspect.isfunction):
        options = getattr(function, _MARK, None)
        if options is not None:
            found[name] = Method(name, function, options)
    return found


def refusal(agent: object, method: str) -> str:
    """Why a method that isn't among the callable ones can't be called."""
    is_method = not method.startswith("__") and builtins.callable(
        getattr(type(agent), method, None)
    )
    return (
        f"Method {method} is not callable"
        if is_method
        else (f"Method {method} does not exist")
    )
