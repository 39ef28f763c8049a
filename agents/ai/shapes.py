"""From what a caller gives to what OpenAI's API takes, and back; nothing here waits."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

CHAT: Final = "chat/completions"
RESPONSES: Final = "responses"
EMBEDDINGS: Final = "embeddings"
ENDPOINTS: Final = (CHAT, RESPONSES, EMBEDDINGS)


class ShapeError(ValueError):
    """An answer isn't one of OpenAI's API; or an error that came as one."""


def request_of(
    model: str, inputs: Mapping[str, Any], stream: bool, endpoint: str | None
) -> tuple[str, dict[str, Any]]:
    """The endpoint and the body of a request.

    ``messages`` or ``prompt``: chat; ``text``: embeddings; ``input``: responses.
    Everything else in the inputs goes on as it is.

    Raises:
        ValueError: none of these is there.
    """
    body = dict(inputs)
    if endpoint is None:
        if "messages" in body or "prompt" in body:
            endpoint = CHAT
        elif "text" in body:
            endpoint = EMBEDDINGS
        elif "input" in body:
            endpoint = RESPONSES
        else:
            raise ValueError(
                "a model takes messages or a prompt (chat), text (embeddings) or "
                f"input (responses), not {', '.join(map(repr, body)) or 'nothing'}"
            )
    elif endpoint not in ENDPOINTS:
        raise ValueError(f"{endpoint!r} is none of {', '.join(ENDPOINTS)}")
    if endpoint == CHAT and "prompt" in body:
        prompt = {"role": "user", "content": body.pop("prompt")}
        body["messages"] = [*body.get("messages", ()), prompt]
    if endpoint == EMBEDDINGS and "text" in body:
        body["input"] = body.pop("text")
    if endpoint == CHAT and "tools" in body:
        body["tools"] = [_tool(tool) for tool in body["tools"]]
    if stream:
        if endpoint == EMBEDDINGS:
            raise ValueError("embeddings come whole: they can't be streamed")
        body["stream"] = True
        if endpoint == CHAT:
            # Without it a stream doesn't tell what it cost.
            options = body.pop("stream_options", {"include_usage": True})
            if options is not None:
                body["stream_options"] = options
    return endpoint, {"model": model, **body}


def _tool(tool: Any) -> Any:
    """Workers AI has a tool's function without the wrapping."""
    if isinstance(tool, Mapping) and "name" in tool and "type" not in tool:
        return {"type": "function", "function": dict(tool)}
    return tool


def answer_of(endpoint: str, said: Any) -> dict[str, Any]:
    """An answer in one shape: ``response``, ``tool_calls``, ``usage``; or embeddings.

    Raises:
        ShapeError: it isn't what the endpoint answers.
    """
    try:
        if endpoint == EMBEDDINGS:
            return _embeddings(said)
        return _chat(said) if endpoint == CHAT else _response(said)
    except (KeyError, IndexError, TypeError, AttributeError):
        raise ShapeError(f"the answer isn't one of OpenAI's /{endpoint}") from None


def _chat(said: Any) -> dict[str, Any]:
    message = said["choices"][0]["message"]
    answer: dict[str, Any] = {"response": message.get("content") or ""}
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    if reasoning:
        answer["reasoning"] = reasoning
    if message.get("tool_calls"):
        answer["tool_calls"] = [
            _call(call.get("id"), call["function"]) for call in message["tool_calls"]
        ]
    return {**answer, "usage": usage_of(said)}


def _response(said: Any) -> dict[str, Any]:
    if said.get("status") == "failed":
        raise ShapeError(error_text(said) or "it failed")
    output = said["output"]
    text = "".join(
        part["text"]
        for item in output
        if item["type"] == "message"
        for part in item["content"]
        if part["type"] == "output_text"
    )
    answer: dict[str, Any] = {"response": text}
    calls = [item for item in output if item["type"] == "function_call"]
    if calls:
        answer["tool_calls"] = [_call(item["call_id"], item) for item in calls]
    return {**answer, "id": said.get("id"), "usage": usage_of(said)}


def _embeddings(said: Any) -> dict[str, Any]:
    rows = sorted(said["data"], key=lambda row: row["index"])
    data = [row["embedding"] for row in rows]
    shape = [len(data), len(data[0]) if data else 0]
    return {"shape": shape, "data": data, "usage": usage_of(said)}


def _call(id: str | None, function: Mapping[str, Any]) -> dict[str, Any]:
    text = function.get("arguments") or "{}"
    arguments = text
    if isinstance(text, str):
        try:
            arguments = json.loads(text)
        except ValueError:
            arguments = text  # the model's mistake: the caller may tell it so
    return {"id": id, "name": function["name"], "arguments": arguments}


def usage_of(said: Any) -> dict[str, int]:
    """Tokens in, out and together; zeros where it isn't told."""
    usage = (said.get("usage") if isinstance(said, Mapping) else None) or {}
    tokens_in = usage.get("prompt_tokens") or usage.get("input_tokens") or 0
    tokens_out = usage.get("completion_tokens") or usage.get("output_tokens") or 0
    return {
        "prompt_tokens": tokens_in,
        "completion_tokens": tokens_out,
        "total_tokens": usage.get("total_tokens") or tokens_in + tokens_out,
    }


def error_text(said: Any) -> str | None:
    """What an error object says; None if it is none."""
    error = said.get("error") if isinstance(said, Mapping) else None
    if isinstance(error, Mapping):
        return str(error.get("message") or error)
    return None if error is None else str(error)


class Deltas:
    """The events of one stream → chunks of ours."""

    def __init__(self, endpoint: str) -> None:
        self._read = self._of_chat if endpoint == CHAT else self._of_responses
        self._calls: dict[int, dict[str, Any]] = {}
        self.usage: dict[str, int] = usage_of({})
        self.is_whole = False
        """Whether the model has said all; its usage may still come."""
        self.is_over = False
        """Whether nothing more comes."""

    def feed(self, text: str) -> Iterator[dict[str, Any]]:
        """The chunks of one event's data.

        Raises:
            ShapeError: the event can't be read, or tells of an error.
        """
        if text == "[DONE]":
            self.is_whole = self.is_over = True
            return
        try:
            event = json.loads(text)
            said = error_text(event)
            if said is not None:
                raise ShapeError(said)
            yield from self._read(event)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, ShapeError):
                raise
            raise ShapeError("an event of the stream can't be read") from None

    def _of_chat(self, event: Any) -> Iterator[dict[str, Any]]:
        if event.get("usage"):
            self.usage = usage_of(event)
        for choice in event.get("choices") or ():
            delta = choice.get("delta") or {}
            reasoning = delta.get("reasoning_content") or delta.get("reasoning")
            if reasoning:
                yield {"reasoning": reasoning}
            if delta.get("content"):
                yield {"response": delta["content"]}
            for part in delta.get("tool_calls") or ():
                self._gather(part)
            if choice.get("finish_reason"):
                self.is_whole = True
                yield from self._gathered()

    def _gather(self, part: Mapping[str, Any]) -> None:
        """A tool call comes in pieces: its name first, its arguments bit by bit."""
        index = part.get("index", 0)
        call = self._calls.setdefault(index, {"id": None, "name": "", "arguments": ""})
        function = part.get("function") or {}
        call["id"] = part.get("id") or call["id"]
        call["name"] += function.get("name") or ""
        call["arguments"] += function.get("arguments") or ""

    def _gathered(self) -> Iterator[dict[str, Any]]:
        calls = [self._calls[index] for index in sorted(self._calls)]
        self._calls.clear()
        if calls:
            yield {"tool_calls": [_call(call["id"], call) for call in calls]}

    def _of_responses(self, event: Any) -> Iterator[dict[str, Any]]:
        kind = event["type"]
        if kind == "response.output_text.delta":
            yield {"response": event["delta"]}
        elif kind == "response.reasoning_summary_text.delta":
            yield {"reasoning": event["delta"]}
        elif kind == "response.output_item.done":
            item = event["item"]
            if item["type"] == "function_call":
                yield {"tool_calls": [_call(item["call_id"], item)]}
        elif kind in ("response.completed", "response.incomplete"):
            self.usage = usage_of(event["response"])
            self.is_whole = self.is_over = True
        elif kind in ("response.failed", "error"):
            found = error_text(event.get("response")) or event.get("message")
            raise ShapeError(str(found or "it failed"))
