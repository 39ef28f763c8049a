"""A language model that says what the test tells it to, over real HTTP.

It speaks OpenAI's API (``/chat/completions``, ``/responses``, ``/embeddings``,
``/models``), so every client of that API can be tested with it: no weights, no network,
the same answer each time, and the failures that a real model has on bad days only.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from durable.testing import model_shapes as shapes

DIMENSIONS: Final = 64
"""Numbers in an embedding, unless the request says otherwise."""
# A test that waits for something that never comes should say so, not hang.
_WAIT_SECONDS: Final = 30.0


@dataclass(eq=False)
class Say:
    """An answer: pieces of text, then tool calls ``(name, arguments)``.

    A streamed answer has one chunk for each piece. ``cut_after``: the connection breaks
    after so many pieces. ``paced``: a piece leaves only when the test lets it, with
    ``let(n)``; an answer that isn't streamed leaves when all of them may.
    """

    pieces: Sequence[str] = ()
    tools: Sequence[tuple[str, Mapping[str, Any]]] = ()
    cut_after: int | None = None
    paced: bool = False
    _may: int = field(default=0, init=False)
    _sent: int = field(default=0, init=False)
    _changed: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    @property
    def text(self) -> str:
        """All pieces as one."""
        return "".join(self.pieces)

    def let(self, pieces: int | None = None) -> None:
        """Let so many pieces more leave; all that are left if none is said."""
        self._may = len(self.pieces) if pieces is None else self._may + pieces
        self._notify()

    async def sent(self, pieces: int) -> None:
        """Return when so many pieces have left.

        Raises:
            TimeoutError: they haven't after 30 s.
        """
        async with asyncio.timeout(_WAIT_SECONDS):
            while self._sent < pieces:
                await self._changed.wait()

    async def may_leave(self, pieces: int) -> None:
        """For the server: return when the first ``pieces`` may leave."""
        if self.paced:
            # A test that was cut off ends the server, and with it this.
            while self._may < pieces:
                await self._changed.wait()

    def has_left(self, pieces: int) -> None:
        """For the server: so many have."""
        self._sent = max(self._sent, pieces)
        self._notify()

    def _notify(self) -> None:
        # Whoever waits looks anew, and waits for the next event.
        self._changed.set()
        self._changed = asyncio.Event()


@dataclass(frozen=True)
class Refuse:
    """An error instead of an answer; ``retry_after``: seconds, of that header."""

    status: int = 500
    message: str = "scripted"
    retry_after: float | None = None


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]


Step = str | Say | Refuse


class ScriptedModel:
    """Plays a script, one step for each request; open with ``async with``.

    A step is a text, a ``Say`` or a ``Refuse``. At the end of the script ``otherwise``
    answers each request, or status 500 if there is none. Embeddings take no step,
    unless it is a ``Refuse``: texts that share words have embeddings that are near each
    other. With an ``api_key`` requests without it are refused with 401.
    """

    def __init__(
        self,
        script: Iterable[Step] = (),
        *,
        otherwise: Step | None = None,
        api_key: str | None = None,
        port: int = 0,
    ) -> None:
        self._script = deque(script)
        self._otherwise = otherwise
        self._api_key = api_key
        self._port = port
        self._asked = asyncio.Event()
        self.requests: list[Asked] = []
        """What it was asked, in order, also what was refused."""
        self.url = ""
        """The base URL, with ``/v1``."""

    def then(self, *steps: Step) -> None:
        """Add to the script."""
        self._script.extend(steps)

    @property
    def left(self) -> int:
        """Steps that nobody has asked for yet."""
        return len(self._script)

    async def asked(self, requests: int) -> None:
        """Return when so many requests have come.

        Raises:
            TimeoutError: they haven't after 30 s.
        """
        async with asyncio.timeout(_WAIT_SECONDS):
            while len(self.requests) < requests:
                await self._asked.wait()

    async def __aenter__(self) -> ScriptedModel:
        server = web.Server(self._handle, access_log=None)
        # A paced answer that the test has left waiting ends with the test.
        self._runner = web.ServerRunner(
            server, shutdown_timeout=0.1, handler_cancellation=True
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/v1/models":
            return web.json_response({"object": "list", "data": [{"id": "scripted"}]})
        try:
            body = await request.json()
        except json.JSONDecodeError:
            return _error(Refuse(400, "the body is no JSON"))
        self.requests.append(Asked(request.path, request.headers, body))
        self._asked.set()
        self._asked = asyncio.Event()
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self._api_key is not None and key != self._api_key:
            return _error(Refuse(401, f"Incorrect API key provided: {key}"))
        if request.path == "/v1/embeddings":
            return self._embed(body)
        answers = {
            "/v1/chat/completions": shapes.ChatAnswer,
            "/v1/responses": shapes.ResponsesAnswer,
        }
        if request.path not in answers:
            return _error(Refuse(404, f"there is no {request.path}"))
        step = self._next()
        if isinstance(step, Refuse):
            return _error(step)
        return await _answer(request, step, answers[request.path](body))

    def _next(self) -> Say | Refuse:
        step = self._script.popleft() if self._script else self._otherwise
        if step is None:
            return Refuse(500, "the script is at its end")
        return Say([step]) if isinstance(step, str) else step

    def _embed(self, body: dict[str, Any]) -> web.StreamResponse:
        if self._script and isinstance(self._script[0], Refuse):
            return _error(self._script.popleft())  # type: ignore[arg-type]
        return web.json_response(
            shapes.embeddings(body, body.get("dimensions") or DIMENSIONS)
        )


async def _answer(
    request: web.BaseRequest, say: Say, shape: shapes.Answer
) -> web.StreamResponse:
    total = len(say.pieces)
    if not shape.body.get("stream"):
        await say.may_leave(total)
        if say.cut_after is not None:
            _hang_up(request)
        say.has_left(total)
        return web.json_response(shape.whole(say.pieces, say.tools))
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    async for event in _events(request, say, shape):
        await response.write(event.encode())
    await response.write_eof()
    return response


async def _events(
    request: web.BaseRequest, say: Say, shape: shapes.Answer
) -> AsyncIterator[str]:
    for event in shape.begin():
        yield event
    for count, piece in enumerate(say.pieces):
        if count == say.cut_after:
            break
        await say.may_leave(count + 1)
        for event in shape.piece(piece):
            yield event
        say.has_left(count + 1)
    if say.cut_after is not None:
        _hang_up(request)
    for event in shape.end(say.pieces, say.tools):
        yield event


def _hang_up(request: web.BaseRequest) -> None:
    # Closed, not reset: what was written before still gets there.
    if request.transport is not None:
        request.transport.close()
    raise ConnectionResetError("cut, as the script says")


def _error(step: Refuse) -> web.Response:
    headers = {}
    if step.retry_after is not None:
        headers["Retry-After"] = f"{step.retry_after:g}"
    return web.json_response(
        {"error": {"message": step.message, "type": "scripted", "code": step.status}},
        status=step.status,
        headers=headers,
    )
