"""What a server shows of itself while it is measured."""

from __future__ import annotations

import re

import aiohttp

from tests.benchmarks.processes import Server

_ADMIN = re.compile(r"metrics are on (http://[\w.:]+)")


async def metric(server: Server, name: str) -> float:
    """One of the numbers of a node that was started with an admin port."""
    admin = _ADMIN.search(server.log.read_text())
    assert admin is not None, server.log.read_text()
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{admin.group(1)}/metrics") as response,
    ):
        text = await response.text()
    found = re.search(rf"^{re.escape(name)} (\S+)", text, re.MULTILINE)
    assert found is not None, name
    return float(found.group(1))
