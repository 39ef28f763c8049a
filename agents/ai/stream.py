"""An answer that comes in pieces."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TYPE_CHECKING, Any

from agents.ai import wire
from agents.ai.shapes import Deltas, ShapeError
from agents.ai.wire import Target, events

if TYPE_CHECKING:
    import aiohttp

    from agents.ai.call import Call


class AIStream:
    """``async for chunk in stream``: dicts with one key each, as they come.

    ``response`` (text), ``reasoning``, ``tool_calls`` (whole ones), at the end
    ``usage``. Who stops early calls ``aclose()``, or the model goes on for nobody.

    Raises (while iterating):
        AIError: the stream broke off.
    """

    def __init__(
        self,
        chunks: AsyncGenerator[dict[str, Any], None],
        call: Call,
        hang_up: Callable[[], None],
    ) -> None:
        self._chunks = chunks
        self._call = call
        self._hang_up = hang_up

    def __aiter__(self) -> AIStream:
        return self

    async def __anext__(self) -> dict[str, Any]:
        return await anext(self._chunks)

    async def aclose(self) -> None:
        """Hang up."""
        await self._chunks.aclose()
        self._hang_up()  # what was never begun has nothing to close

    async def text(self) -> AsyncIterator[str]:
        """The pieces of text alone."""
        try:
            async for chunk in self:
                if "response" in chunk:
                    yield chunk["response"]
        finally:
            await self.aclose()

    async def sse(self) -> AsyncIterator[str]:
        """The chunks as Server-Sent Events, as Workers AI sends them."""
        try:
            async for chunk in self:
                yield f"data: {json.dumps(chunk)}\n\n"
            yield "data: [DONE]\n\n"
        finally:
            await self.aclose()

    @property
    def gateway(self) -> dict[str, Any]:
        """``log_id``, ``provider``, ``model``, ``step``, ``cost`` (at the end)."""
        return self._call.about


class Begun:
    """A stream whose first chunk has come: from here on nobody else is asked."""

    def __init__(
        self, target: Target, endpoint: str, response: aiohttp.ClientResponse
    ) -> None:
        self._target = target
        self._response = response
        self._deltas = Deltas(endpoint)
        self._events = events(target, response)
        self._first: list[dict[str, Any]] = []

    async def begin(self) -> None:
        """Read until there is something to tell.

        Raises:
            AIError: the stream ended before.
        """
        while not self._first and not self._deltas.is_whole:
            self._first += await self._next()

    async def chunks(self) -> AsyncIterator[dict[str, Any]]:
        """All chunks; the last one is the usage, where it is told."""
        for chunk in self._first:
            yield chunk
        while not self._deltas.is_over:
            for chunk in await self._soon():
                yield chunk
        if self.usage["total_tokens"]:
            yield {"usage": self.usage}

    async def _soon(self) -> list[dict[str, Any]]:
        try:
            async with asyncio.timeout(wire.STREAM_IDLE_SECONDS):
                return await self._next()
        except TimeoutError:
            raise self._target.failed(
                f"said nothing for {wire.STREAM_IDLE_SECONDS:g} s in the middle of a "
                "stream"
            ) from None

    async def _next(self) -> list[dict[str, Any]]:
        try:
            event = await anext(self._events, None)
            if event is None:
                self._deltas.is_over = True
                if not self._deltas.is_whole:
                    raise self._target.failed(
                        "broke off its answer in the middle", retryable=True
                    )
                return []
            return list(self._deltas.feed(event))
        except ShapeError as error:
            raise self._target.failed("sent an error", said=str(error)) from None

    @property
    def usage(self) -> dict[str, int]:
        """Tokens, as far as the stream has told."""
        return self._deltas.usage

    def close(self) -> None:
        """Hang up."""
        self._response.close()
