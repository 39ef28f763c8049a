"""Limits of a node that no other test runs into."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import aiohttp
import pytest

from tests.server.nodes import node


async def test_a_node_that_holds_all_the_sockets_it_may_answers_503_until_one_closes(
    database_url: str, tmp_path: Path
) -> None:
    async with (
        node(database_url, tmp_path / "log", DURABLE_MAX_SOCKETS="2") as running,
        aiohttp.ClientSession() as session,
    ):
        url = f"{running.url}/agents/room/a"
        held = [await session.ws_connect(url) for _ in range(2)]
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await session.ws_connect(url)
        assert caught.value.status == 503
        assert caught.value.headers is not None
        assert int(caught.value.headers["Retry-After"]) > 0
        await held[0].close()
        again = None
        async with asyncio.timeout(10):
            while again is None:  # until the node has noticed
                with contextlib.suppress(aiohttp.WSServerHandshakeError):
                    again = await session.ws_connect(url)
        assert not again.closed


async def test_a_request_line_and_a_header_have_a_limit(
    database_url: str, tmp_path: Path
) -> None:
    async with (
        node(database_url, tmp_path / "log") as running,
        aiohttp.ClientSession(max_line_size=65536, max_field_size=65536) as session,
    ):
        for length, status in ((8_000, 404), (9_000, 400)):
            async with session.get(f"{running.url}/{'x' * length}") as response:
                assert response.status == status
            headers = {"X-Long": "x" * length}
            async with session.get(f"{running.url}/x", headers=headers) as response:
                assert response.status == status
                assert "Traceback" not in await response.text()
