"""A language model that plays a script: an OpenAI-compatible server on a real port.

For tests of agents that ask a model: what it says is the test's, what it was asked is
in ``asked``. It streams slowly, breaks off and fails on demand, as models do.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import math
import re
import sys
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from durable.testing import responses

DIMENSIONS = 64
# A test that waits for what never comes should say so, not hang.
_WAIT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model calls a tool; ``arguments`` is any JSON value."""

    name: str
    arguments: Any = field(default_factory=dict)
    id: str = "call_1"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model does when it is asked once.

    Args:
        text: what it says, piece by piece: a piece is a word.
        calls: tools that it calls then.
        pause: seconds before each piece.
        cut_after: the connection is lost after so many pieces.
        status: an HTTP status, 429 or 500, instead of an answer; ``message`` with it.
        retry_after: seconds, the header of that.
        hold: each piece waits until this event is set; or for its turn at a semaphore:
            ``release()`` lets one piece out.
    """

    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    pause: float = 0.0
    cut_after: int | None = None
    status: int = 200
    message: str = ""
    retry_after: float | None = None
    hold: asyncio.Event | asyncio.Semaphore | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]


class ScriptedModel:
    """The server; open it with ``async with``, and give its ``url`` to the agent.

    Answers are played in order; when there is none left it repeats what it was told
    last. Requests without the right ``api_key`` are 401, if there is one; a history in
    which a tool's call has no result is 400, as with OpenAI.
    """

    def __init__(
        self, *answers: Answer | str, api_key: str | None = None, port: int = 0
    ) -> None:
        self.asked: list[dict[str, Any]] = []
        """The bodies of what it was asked."""
        self.requests: list[Asked] = []
        """The same, with path and headers."""
        self._came = asyncio.Event()
        self._api_key = api_key
        self._script = deque(_answer(answer) for answer in answers)
        self._runner: web.AppRunner | None = None
        # Any that is free, until it is open.
        self._port = port

    @property
    def url(self) -> str:
        """The base URL, with ``/v1``."""
        return f"http://127.0.0.1:{self._port}/v1"

    def play(self, *answers: Answer | str) -> None:
        """Add answers to the script; a string is its text."""
        self._script += [_answer(answer) for answer in answers]

    async def __aenter__(self) -> ScriptedModel:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/responses", self._respond)
        app.router.add_post("/v1/embeddings", self._embed)
        self._runner = web.AppRunner(
            app, shutdown_timeout=0.1, access_log=None, handler_cancellation=True
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        asked, answer = await self._turn(request)
        if asked.get("stream"):
            return await self._stream(request, asked, answer)
        for _ in range(len(_pieces(answer)) or 1):
            await _wait(answer)
        if answer.cut_after is not None:
            _cut(request)
        said: dict[str, Any] = {"content": answer.text or None}
        message = {"role": "assistant", **said}
        if answer.calls:
            message["tool_calls"] = _calls(answer)
        choice = {"index": 0, "message": message, "finish_reason": _reason(answer)}
        whole = {"choices": [choice], "usage": _usage(asked, answer)}
        return web.json_response(_envelope(asked, "chat.completion") | whole)

    async def _stream(
        self, request: web.Request, asked: dict[str, Any], answer: Answer
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        envelope = _envelope(asked, "chat.completion.chunk")

        async def send(delta: dict[str, Any], reason: str | None = None) -> None:
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            await _event(response, envelope | {"choices": [choice]})

        for number, delta in enumerate(_deltas(answer)):
            await _wait(answer)
            if number == answer.cut_after:
                _cut(request)
                return response
            await send(delta)
        await send({}, _reason(answer))
        if (asked.get("stream_options") or {}).get("include_usage"):
            used = {"choices": [], "usage": _usage(asked, answer)}
            await _event(response, envelope | used)
        await response.write(b"data: [DONE]\n\n")
        return response

    async def _respond(self, request: web.Request) -> web.StreamResponse:
        """The responses API: the same script in another shape."""
        asked, answer = await self._turn(request)
        whole = responses.whole(asked, answer.text, _calls(answer))
        pieces = _pieces(answer)
        if not asked.get("stream"):
            for _ in pieces:
                await _wait(answer)
            if answer.cut_after is not None:
                _cut(request)
            return web.json_response(whole)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for number, piece in enumerate(pieces):
            await _wait(answer)
            if number == answer.cut_after:
                _cut(request)
                return response
            await _event(response, responses.delta(piece))
        for event in responses.ending(whole):
            await _event(response, event)
        return response

    async def _embed(self, request: web.Request) -> web.StreamResponse:
        asked = await self._take(request)
        if self._script and self._script[0].status != 200:
            raise _failure(self._script.popleft())
        given = asked["input"]
        texts = [given] if isinstance(given, str) else given
        found = [
            {"object": "embedding", "index": n, "embedding": embedding(text)}
            for n, text in enumerate(texts)
        ]
        tokens = sum(len(text.split()) for text in texts)
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return web.json_response(
            {
                "object": "list",
                "model": asked.get("model"),
                "data": found,
                "usage": usage,
            }
        )

    async def _turn(self, request: web.Request) -> tuple[dict[str, Any], Answer]:
        """What it is asked, and what it is to do then."""
        asked = await self._take(request)
        if missing := _unanswered(asked.get("messages", ())):
            raise _Refusal(
                400,
                "An assistant message with 'tool_calls' must be followed by tool "
                f"messages responding to each: {', '.join(missing)} did not have one",
            )
        answer = self._script.popleft() if self._script else _echo(asked)
        if answer.status != 200:
            raise _failure(answer)
        return asked, answer

    async def _take(self, request: web.Request) -> dict[str, Any]:
        given = request.headers.get("Authorization", "")
        if self._api_key is not None and given != f"Bearer {self._api_key}":
            raise _Refusal(401, "Incorrect API key provided")
        asked: dict[str, Any] = await request.json()
        self.asked.append(asked)
        self.requests.append(Asked(request.path, request.headers, asked))
        self._came.set()
        self._came = asyncio.Event()
        return asked

    async def until_asked(self, times: int) -> None:
        """Return when so many requests have come.

        Raises:
            TimeoutError: they haven't after 30 s.
        """
        async with asyncio.timeout(_WAIT_SECONDS):
            while len(self.asked) < times:
                await self._came.wait()


def embedding(text: str) -> list[float]:
    """A vector by words: texts that share words are near each other."""
    vector = [0.0] * DIMENSIONS
    for word in re.findall(r"\w+", text.lower()):
        digest = hashlib.blake2b(word.encode(), digest_size=4).digest()
        vector[int.from_bytes(digest, "big") % DIMENSIONS] += 1.0
    length = math.sqrt(sum(value * value for value in vector)) or 1.0
    return [value / length for value in vector]


def _answer(given: Answer | str) -> Answer:
    return Answer(given) if isinstance(given, str) else given


def _echo(asked: dict[str, Any]) -> Answer:
    messages = asked.get("messages") or [{"content": asked.get("input")}]
    return Answer(f"You said: {messages[-1].get('content')}")


def _pieces(answer: Answer) -> list[str]:
    return re.findall(r"\S+\s*|\s+", answer.text)


def _deltas(answer: Answer) -> list[dict[str, Any]]:
    deltas: list[dict[str, Any]] = [{"content": piece} for piece in _pieces(answer)]
    for index, call in enumerate(_calls(answer)):
        text = call["function"]["arguments"]
        begin = {**call, "function": {**call["function"], "arguments": ""}}
        deltas.append({"tool_calls": [{"index": index, **begin}]})
        for half in (text[: len(text) // 2], text[len(text) // 2 :]):
            piece = {"index": index, "function": {"arguments": half}}
            deltas.append({"tool_calls": [piece]})
    return deltas


def _calls(answer: Answer) -> list[dict[str, Any]]:
    return [
        {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
        }
        for call in answer.calls
    ]


def _reason(answer: Answer) -> str:
    return "tool_calls" if answer.calls else "stop"


def _envelope(asked: dict[str, Any], kind: str) -> dict[str, Any]:
    return {"id": "scripted", "object": kind, "created": 0, "model": asked.get("model")}


def _usage(asked: dict[str, Any], answer: Answer) -> dict[str, int]:
    """Tokens are words here."""
    prompt = sum(
        len(str(message.get("content")).split()) for message in asked["messages"]
    )
    said = len(_pieces(answer))
    return {
        "prompt_tokens": prompt,
        "completion_tokens": said,
        "total_tokens": prompt + said,
    }


def _unanswered(messages: Iterable[Mapping[str, Any]]) -> list[str]:
    """Calls without a result before the next message, which the API refuses."""
    waiting: list[str] = []
    for message in messages:
        if message.get("role") == "tool":
            waiting = [id for id in waiting if id != message.get("tool_call_id")]
        elif waiting:
            break
        else:
            waiting = [call["id"] for call in message.get("tool_calls") or ()]
    return waiting


class _Refusal(web.HTTPException):
    """An error that is raised as what is answered."""

    def __init__(self, status: int, message: str) -> None:
        self.status_code = status
        text = json.dumps({"error": {"message": message}})
        super().__init__(text=text, content_type="application/json")


def _failure(answer: Answer) -> _Refusal:
    text = "Rate limit reached" if answer.status == 429 else "The model has failed"
    failed = _Refusal(answer.status, answer.message or text)
    if answer.retry_after is not None:
        failed.headers["Retry-After"] = f"{answer.retry_after:g}"
    return failed


async def _wait(answer: Answer) -> None:
    if answer.pause:
        await asyncio.sleep(answer.pause)
    if isinstance(answer.hold, asyncio.Semaphore):
        await answer.hold.acquire()
    elif answer.hold is not None:
        await answer.hold.wait()


async def _event(response: web.StreamResponse, value: dict[str, Any]) -> None:
    await response.write(f"data: {json.dumps(value)}\n\n".encode())


def _cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


async def _serve(port: int) -> None:
    async with ScriptedModel(port=port) as model:
        sys.stdout.write(f"{model.url}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


def main() -> None:
    """Serve a model that repeats what it is told, until it is interrupted."""
    parser = argparse.ArgumentParser(prog="python -m durable.testing.model")
    parser.add_argument("--port", type=int, default=0, help="default: any that is free")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(parser.parse_args().port))


if __name__ == "__main__":
    main()
