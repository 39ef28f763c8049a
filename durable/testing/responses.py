"""What the scripted model's answers look like in OpenAI's responses API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def whole(
    asked: Mapping[str, Any], text: str, calls: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The response object; ``calls`` as in a chat completion."""
    output: list[dict[str, Any]] = []
    if text or not calls:
        part = {"type": "output_text", "text": text, "annotations": []}
        message = {"type": "message", "id": "msg_1", "role": "assistant"}
        output.append({**message, "status": "completed", "content": [part]})
    output += [
        {
            "type": "function_call",
            "id": f"fc_{call['id']}",
            "call_id": call["id"],
            "status": "completed",
            **call["function"],
        }
        for call in calls
    ]
    tokens_in, tokens_out = len(str(asked.get("input")).split()), len(text.split())
    usage = {
        "input_tokens": tokens_in,
        "output_tokens": tokens_out,
        "total_tokens": tokens_in + tokens_out,
    }
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 0,
        "model": asked.get("model"),
        "status": "completed",
        "output": output,
        "usage": usage,
    }


def delta(piece: str) -> dict[str, Any]:
    """The event of a piece of text."""
    return {
        "type": "response.output_text.delta",
        "item_id": "msg_1",
        "output_index": 0,
        "content_index": 0,
        "delta": piece,
    }


def ending(response: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The events after the last piece."""
    for index, item in enumerate(response["output"]):
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    yield {"type": "response.completed", "response": response}
