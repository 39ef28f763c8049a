"""What the scripted model's answers look like on OpenAI's wire."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Tools = Sequence[tuple[str, Mapping[str, Any]]]

_numbers = itertools.count(1)


def words(text: str) -> list[str]:
    """A scripted model's tokens."""
    return re.findall(r"\w+", text.lower())


def event(data: Mapping[str, Any]) -> str:
    """One Server-Sent Event."""
    return f"data: {json.dumps(data)}\n\n"


class Answer:
    """One answer, whole or as events."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self.body = body
        self.number = next(_numbers)

    def whole(self, pieces: Sequence[str], tools: Tools) -> dict[str, Any]:
        """The answer as one JSON object."""
        raise NotImplementedError

    def begin(self) -> Iterator[str]:
        """Events before the first piece."""
        yield from ()

    def piece(self, piece: str) -> Iterator[str]:
        """Events of one piece of text."""
        raise NotImplementedError

    def end(self, pieces: Sequence[str], tools: Tools) -> Iterator[str]:
        """Events after the last piece."""
        raise NotImplementedError

    def tokens(self, pieces: Sequence[str]) -> tuple[int, int]:
        """How many went in, and came out."""
        asked = self.body.get("messages") or self.body.get("input") or ""
        return len(words(json.dumps(asked))), len(words("".join(pieces)))

    def calls(self, tools: Tools) -> list[tuple[str, str, str]]:
        """Id, name and arguments as JSON of each tool call."""
        return [
            (f"call_{self.number}_{index}", name, json.dumps(arguments))
            for index, (name, arguments) in enumerate(tools)
        ]


class ChatAnswer(Answer):
    """An answer of ``/chat/completions``."""

    def whole(self, pieces: Sequence[str], tools: Tools) -> dict[str, Any]:
        """A chat completion."""
        message: dict[str, Any] = {
            "role": "assistant",
            "content": "".join(pieces) if pieces or not tools else None,
        }
        if tools:
            message["tool_calls"] = [_call(*call) for call in self.calls(tools)]
        choice = {
            "index": 0,
            "message": message,
            "finish_reason": "tool_calls" if tools else "stop",
        }
        return self._object(
            "chat.completion", choices=[choice], usage=self._usage(pieces)
        )

    def begin(self) -> Iterator[str]:
        """The role comes first."""
        yield self._chunk({"role": "assistant", "content": ""})

    def piece(self, piece: str) -> Iterator[str]:
        """A chunk."""
        yield self._chunk({"content": piece})

    def end(self, pieces: Sequence[str], tools: Tools) -> Iterator[str]:
        """Tool calls with their arguments in two parts, usage, and the last line."""
        for index, (id, name, arguments) in enumerate(self.calls(tools)):
            half = len(arguments) // 2
            first = {"index": index, **_call(id, name, arguments[:half])}
            yield self._chunk({"tool_calls": [first]})
            rest = {"index": index, "function": {"arguments": arguments[half:]}}
            yield self._chunk({"tool_calls": [rest]})
        yield self._chunk({}, "tool_calls" if tools else "stop")
        if (self.body.get("stream_options") or {}).get("include_usage"):
            usage = self._usage(pieces)
            yield event(self._object("chat.completion.chunk", choices=[], usage=usage))
        yield "data: [DONE]\n\n"

    def _chunk(self, delta: Mapping[str, Any], finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return event(self._object("chat.completion.chunk", choices=[choice]))

    def _object(self, kind: str, **more: Any) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{self.number}",
            "object": kind,
            "created": 1767225600,
            "model": self.body.get("model", "scripted"),
            **more,
        }

    def _usage(self, pieces: Sequence[str]) -> dict[str, int]:
        tokens_in, tokens_out = self.tokens(pieces)
        return {
            "prompt_tokens": tokens_in,
            "completion_tokens": tokens_out,
            "total_tokens": tokens_in + tokens_out,
        }


class ResponsesAnswer(Answer):
    """An answer of ``/responses``."""

    def whole(self, pieces: Sequence[str], tools: Tools) -> dict[str, Any]:
        """A response object."""
        output: list[dict[str, Any]] = []
        if pieces or not tools:
            text = {"type": "output_text", "text": "".join(pieces), "annotations": []}
            output.append(
                {
                    "type": "message",
                    "id": f"msg_{self.number}",
                    "role": "assistant",
                    "status": "completed",
                    "content": [text],
                }
            )
        output += [
            {
                "type": "function_call",
                "id": f"fc_{id}",
                "call_id": id,
                "name": name,
                "arguments": arguments,
                "status": "completed",
            }
            for id, name, arguments in self.calls(tools)
        ]
        tokens_in, tokens_out = self.tokens(pieces)
        usage = {
            "input_tokens": tokens_in,
            "output_tokens": tokens_out,
            "total_tokens": tokens_in + tokens_out,
        }
        return self._object("completed", output=output, usage=usage)

    def begin(self) -> Iterator[str]:
        """The response is under way."""
        created = self._object("in_progress", output=[])
        yield event({"type": "response.created", "response": created})

    def piece(self, piece: str) -> Iterator[str]:
        """A delta of the text."""
        yield event(
            {
                "type": "response.output_text.delta",
                "item_id": f"msg_{self.number}",
                "output_index": 0,
                "content_index": 0,
                "delta": piece,
            }
        )

    def end(self, pieces: Sequence[str], tools: Tools) -> Iterator[str]:
        """The tool calls, and the whole response."""
        whole = self.whole(pieces, tools)
        for index, item in enumerate(whole["output"]):
            yield event(
                {
                    "type": "response.output_item.done",
                    "output_index": index,
                    "item": item,
                }
            )
        yield event({"type": "response.completed", "response": whole})

    def _object(self, status: str, **more: Any) -> dict[str, Any]:
        return {
            "id": f"resp_{self.number}",
            "object": "response",
            "created_at": 1767225600,
            "model": self.body.get("model", "scripted"),
            "status": status,
            **more,
        }


def _call(id: str, name: str, arguments: str) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": id, "type": "function", "function": function}


def embeddings(body: Mapping[str, Any], dimensions: int) -> dict[str, Any]:
    """An answer of ``/embeddings``."""
    asked = body.get("input", "")
    texts = [asked] if isinstance(asked, str) else list(asked)
    tokens = sum(len(words(text)) for text in texts)
    return {
        "object": "list",
        "model": body.get("model", "scripted"),
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": embedding(text, dimensions),
            }
            for index, text in enumerate(texts)
        ],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def embedding(text: str, dimensions: int) -> list[float]:
    """A bag of words, hashed, of length 1: near each other if they share words."""
    vector = [0.0] * dimensions
    for word in words(text):
        digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
        vector[int.from_bytes(digest) % dimensions] += 1.0
    length = math.sqrt(sum(value * value for value in vector))
    return [value / length for value in vector] if length else vector
