"""Restarts under a crowd of npm clients: short here, with 1,000 sockets in the soak."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.endurance.rolling import allow_files, run
from tests.wire.process import need_node


@pytest.mark.parametrize(
    ("sockets", "shards", "workers"),
    [(40, 64, 2), pytest.param(1000, 1024, 3, marks=pytest.mark.soak)],
)
@pytest.mark.timeout(600)
async def test_restarts_close_no_socket_fail_no_call_and_lose_no_state(
    tmp_path: Path, sockets: int, shards: int, workers: int
) -> None:
    need_node()
    allow_files(sockets)
    outcome = await run(
        tmp_path, print, sockets=sockets, every=1.0, shards=shards, workers=workers
    )
    assert outcome.anomalies == []
