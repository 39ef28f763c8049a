"""Server-Sent Events out of an async iterable."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Mapping
from typing import Any

from durable import Response, json_text

_FIELDS = ("event", "id", "retry", "data")


def event_stream(
    events: AsyncIterable[Any], *, headers: Mapping[str, str] | None = None
) -> Response:
    """Answer with events as they come.

    An item is a string (its data), or a mapping with ``data`` and, if wanted,
    ``event``, ``id`` and ``retry`` (milliseconds). Data that is no string is sent as
    JSON. The iterable is closed when the client leaves.

    Raises:
        ValueRefused: (while streaming) an item that can't be an event.
    """
    return Response(
        _encoded(events),
        headers={
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-cache",
            # A buffering proxy would hold events back.
            "X-Accel-Buffering": "no",
            **(headers or {}),
        },
    )


async def _encoded(events: AsyncIterable[Any]) -> AsyncIterator[bytes]:
    try:
        async for event in events:
            yield encode_event(event)
    finally:
        close = getattr(events, "aclose", None)
        if close is not None:
            await close()


def encode_event(event: Any) -> bytes:
    """One event in the format of ``text/event-stream``."""
    fields = event if _is_event(event) else {"data": event}
    lines = []
    for name in _FIELDS:
        if name not in fields:
            continue
        value = fields[name]
        text = value if isinstance(value, str) else json_text.dumps(value).decode()
        if name != "data" and ("\n" in text or "\r" in text or "\0" in text):
            raise ValueError(f"an event's {name} must be one line, not {text!r}")
        normal = text.replace("\r\n", "\n").replace("\r", "\n")
        lines += [f"{name}: {line}" for line in normal.split("\n")]
    return ("\n".join(lines) + "\n\n").encode()


def _is_event(event: Any) -> bool:
    return isinstance(event, Mapping) and "data" in event and set(event) <= {*_FIELDS}
