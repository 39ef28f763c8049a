"""The chunks of what ``on_chat_message`` returned, whatever that is."""

from __future__ import annotations

import codecs
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from typing import Any

import orjson

from agents.chat.ui_stream import Chunk, UIStream
from durable import Response

_DONE = "[DONE]"


async def reply_chunks(result: Any, turn_id: str) -> AsyncIterator[Chunk]:
    """A handler's result as chunks: text, chunks, an iterable of them, or a Response.

    A Response of events has chunks; any other one is plain text, without start and end.

    Raises:
        TypeError: it is nothing of that.
    """
    stream = UIStream()
    if isinstance(result, Response):
        if _has_events(result):
            items: AsyncIterable[Any] = _events(result)
        else:
            stream = UIStream(bare=True, text_id=turn_id)
            items = _texts(result)
    elif isinstance(result, AsyncIterable):
        items = result
    elif isinstance(result, (str, Mapping)) or not isinstance(result, Iterable):
        items = _each([result])
    else:
        items = _each(result)
    try:
        async for item in items:
            for chunk in stream.take(item):
                yield chunk
        for chunk in stream.end():
            yield chunk
    finally:
        # What a model still says costs money: its stream is closed at once.
        for opened in (items, result):
            close = getattr(opened, "aclose", None)
            if close is not None:
                await close()


def _has_events(response: Response) -> bool:
    kind = response.headers.get("Content-Type", "")
    return kind.partition(";")[0].strip() == "text/event-stream"


async def _each(items: Iterable[Any]) -> AsyncIterator[Any]:
    for item in items:
        yield item


async def _texts(response: Response) -> AsyncIterator[str]:
    """The text of a body, whose pieces may end within a letter."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    async for piece in response.body:
        text = decoder.decode(piece)
        if text:
            yield text


async def _events(response: Response) -> AsyncIterator[Any]:
    """The data of each event: a chunk as JSON."""
    rest = ""
    async for text in _texts(response):
        *lines, rest = (rest + text).split("\n")
        for line in lines:
            data = line.removeprefix("data:").strip()
            if line.startswith("data:") and data != _DONE:
                yield orjson.loads(data)
