"""A chat agent under test: what it answers is told by the last words of the user."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from agents import Response, callable
from agents.chat import AIChatAgent, ChatOptions, ChatResponse
from agents.chat import ui_stream as ui
from tests.wire.agents_state import Journalled


class ChatAgent(AIChatAgent, Journalled):
    """Says, waits, fails or calls tools, as it is told."""

    def on_chat_message(self, options: ChatOptions) -> Any:
        self.journal.append(["asked", options.body, options.continuation])
        last = self.messages[-1]
        if last["role"] == "assistant":
            return self.after_tools(last)
        words = "".join(part.get("text", "") for part in last["parts"])
        verb, _, rest = words.partition(" ")
        act = getattr(self, f"do_{verb}", None)
        return self.do_say(words) if act is None else act(rest)

    def on_chat_response(self, response: ChatResponse) -> None:
        self.journal.append(["ended", response.status, response.error])

    async def do_say(self, rest: str) -> AsyncIterator[str]:
        for word in rest.split():
            yield f"{word} "

    async def do_slow(self, rest: str) -> AsyncIterator[str]:
        """One word, and the others one by one as gates are opened."""
        for number, word in enumerate(rest.split()):
            if number:
                await self.gate(str(number)).wait()
            yield f"{word} "

    async def do_wait(self, rest: str) -> str:
        await self.gate("0").wait()
        return rest

    def do_fail(self, rest: str) -> None:
        raise ValueError(rest)

    async def do_error(self, rest: str) -> AsyncIterator[Any]:
        yield "half "
        yield ui.error(rest)

    def do_plain(self, rest: str) -> Response:
        return Response(rest)

    async def do_all(self, rest: str) -> AsyncIterator[Any]:
        """All kinds of parts."""
        yield ui.reasoning("thinking")
        yield ui.tool_call("t1", "add", {"a": 1})
        yield ui.tool_output("t1", 2)
        yield ui.new_step()
        yield ui.data("note", {"n": 1}, "n")
        yield ui.source_url("http://x", "X", "s")
        yield ui.file("data:text/plain,x", "text/plain")
        yield ui.metadata({"model": "none"})
        yield "done"

    async def do_tool(self, rest: str) -> AsyncIterator[Any]:
        """Call a tool of the client, once for each word."""
        for word in rest.split():
            yield ui.tool_call(word, "where", {"of": word})

    async def do_buy(self, rest: str) -> AsyncIterator[Any]:
        """Call a tool that a person must approve."""
        yield ui.tool_call("buy", "buy", {"what": rest})
        yield ui.tool_approval("buy", "approval")

    async def after_tools(self, last: Any) -> AsyncIterator[Any]:
        for part in last["parts"]:
            if part.get("state") == "approval-responded":
                yield ui.tool_output(part["toolCallId"], "bought")
                yield "Bought."
            elif part.get("state") == "output-denied":
                yield ui.tool_denied(part["toolCallId"])
                yield "Not bought."
            elif part["type"] == "tool-where":
                shown = part.get("output", part.get("errorText"))
                yield f"{part['toolCallId']}: {json.dumps(shown)}. "

    @callable()
    def history(self) -> list[Any]:
        return self.messages

    @callable()
    def forget_owner(self) -> None:
        """End this life, as a crash would."""
        self.ctx.abort("on purpose")


class LatestChatAgent(ChatAgent):
    """Of the messages that wait only the newest is answered."""

    message_concurrency = "latest"


class DropChatAgent(ChatAgent):
    """A message that comes while another is answered is dropped."""

    message_concurrency = "drop"


class AgainChatAgent(ChatAgent):
    """Runs a turn again that was cut off."""

    chat_recovery = True
