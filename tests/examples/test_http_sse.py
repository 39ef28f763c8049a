"""The examples of the page *HTTP and Server-Sent Events*."""

from __future__ import annotations

import aiohttp

from durable.testing import ScriptedModel
from tests.examples.model import WORDS


async def test_hello_answers_http(http: aiohttp.ClientSession) -> None:
    async with http.get("/agents/hello/world") as got:
        assert (got.status, await got.text()) == (200, "Hello from Agent!")


async def test_stream_model_passes_the_pieces_on_as_events(
    http: aiohttp.ClientSession, model: ScriptedModel
) -> None:
    async with http.post(
        "/",
        params={"agent-id": "me"},
        json={"prompt": "Write a haiku"},
        headers={"X-Example": "stream_model"},
    ) as got:
        assert got.content_type == "text/event-stream"
        text = await got.text()
    assert text == "".join(f"data: {word}\n\n" for word in WORDS)
    assert model.requests[-1].body["messages"] == [
        {"role": "user", "content": "Write a haiku"}
    ]


async def test_ticker_sends_each_event_when_it_happens(
    http: aiohttp.ClientSession,
) -> None:
    async with http.get("/agents/ticker/one?until=100") as got:
        # The first event is here while the last is seconds away.
        first = [(await got.content.readline()).decode().strip() for _ in range(3)]
    assert sorted(first) == ["data: 1", "event: tick", "id: 1"]


async def test_ticker_goes_on_after_the_last_event_seen(
    http: aiohttp.ClientSession,
) -> None:
    async with http.get(
        "/agents/ticker/one?until=4", headers={"Last-Event-ID": "2"}
    ) as got:
        lines = (await got.text()).splitlines()
    assert [line for line in lines if line.startswith("data")] == ["data: 3", "data: 4"]
