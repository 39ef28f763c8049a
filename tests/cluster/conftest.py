"""Fleets of node processes on one database."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.cluster.fleet import Fleet


@pytest_asyncio.fixture
async def fleet(database_url: str, tmp_path: Path) -> AsyncIterator[Fleet]:
    """Nodes are started by the test, and ended with it."""
    async with contextlib.AsyncExitStack() as stack:
        made = Fleet(database_url, tmp_path, stack)
        try:
            yield made
        finally:
            made.show_logs()
