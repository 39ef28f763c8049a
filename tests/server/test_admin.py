from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import asyncpg
from prometheus_client.parser import text_string_to_metric_families

from tests.server.nodes import Client, Node, client, node

TOKEN = "t" * 32


def admin_url(running: Node) -> str:
    found = re.search(r"metrics are on (http://\S+)", running.log)
    assert found is not None, running.log
    return found[1]


def samples(text: str) -> dict[str, float]:
    """Name → value; of a histogram its sum, count and last bucket."""
    return {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def becomes(
    admin: Client, path: str, right: Callable[[tuple[int, str]], bool]
) -> None:
    async with asyncio.timeout(20):
        while not right(await admin.get(path)):  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.02)


async def test_metrics_count_what_a_node_did_and_need_the_token(
    database_url: str, tmp_path: Path
) -> None:
    async with (
        node(
            database_url,
            tmp_path / "log",
            DURABLE_ADMIN_PORT="0",
            DURABLE_ADMIN_TOKEN=TOKEN,
        ) as running,
        client(running.url) as one,
        client(admin_url(running)) as admin,
    ):
        for wrong in ({}, {"Authorization": "Bearer " + "x" * 32}):
            status, text = await admin.get("/metrics", headers=wrong)
            assert (status, text) == (401, "Unauthorized\n")
        for path in ("/healthz", "/readyz", "/metrics"):
            assert (await one.get(path))[0] == 404, "not on the public port"

        right = {"Authorization": f"Bearer {TOKEN}"}
        before = samples((await admin.get("/metrics", headers=right))[1])
        async with await one.call("/agents/room/a") as caller:
            for _ in range(3):
                assert (await caller.reply("increment"))["success"]
            after = samples((await admin.get("/metrics", headers=right))[1])
        assert before["durable_shards_owned"] == 1024
        assert before["durable_claims_total"] == 1024
        assert before["durable_failovers_total"] == 0
        assert (before["durable_sockets"], after["durable_sockets"]) == (0, 1)
        assert (before["durable_activations"], after["durable_activations"]) == (0, 1)
        for name in ("durable_commit_seconds", "durable_commit_objects"):
            assert after[f"{name}_count"] - before[f"{name}_count"] >= 3
            assert after[f"{name}_sum"] > before[f"{name}_sum"]
        assert after["durable_gate_wait_seconds_count"] >= 3
        assert after["process_resident_memory_bytes"] > 1e7
        async with asyncio.timeout(10):
            while not after["durable_event_loop_lag_seconds_count"]:
                after = samples((await admin.get("/metrics", headers=right))[1])


async def test_shards_of_a_killed_owner_are_counted_as_failovers(
    database_url: str, tmp_path: Path
) -> None:
    async with node(database_url, tmp_path / "one") as first:
        first.process.kill()
        await first.ended()
    async with (
        node(database_url, tmp_path / "two", DURABLE_ADMIN_PORT="0") as second,
        client(admin_url(second)) as admin,
    ):
        await becomes(
            admin,
            "/metrics",
            lambda answer: samples(answer[1])["durable_failovers_total"] == 1024,
        )


async def test_a_node_that_drains_is_alive_and_not_ready(
    database_url: str, tmp_path: Path
) -> None:
    async with (
        node(
            database_url,
            tmp_path / "log",
            DURABLE_ADMIN_PORT="0",
            DURABLE_DRAIN_SECONDS="20",
        ) as running,
        client(running.url) as one,
        client(admin_url(running)) as admin,
    ):
        assert await admin.get("/readyz") == (200, "ready\n")
        async with one.session.get(one.url + "/agents/room/a/stream") as stream:
            await stream.content.readuntil(b"\n\n")
            running.terminate()
            await becomes(admin, "/readyz", lambda a: a == (503, "draining\n"))
            assert (await admin.get("/healthz"))[0] == 200
        assert await running.ended() == 0


async def test_a_worker_without_its_lane_is_not_ready_until_it_has_another(
    postgres_server: str, database_url: str, tmp_path: Path
) -> None:
    name = database_url.rpartition("/")[2].partition("?")[0]
    async with (
        node(database_url, tmp_path / "log", DURABLE_ADMIN_PORT="0") as running,
        client(admin_url(running)) as admin,
    ):
        assert await admin.get("/readyz") == (200, "ready\n")
        connection = await asyncpg.connect(postgres_server)
        try:
            # No other lane opens as long as nobody can connect.
            await connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS off')
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name LIKE 'durable lane%' AND datname = $1",
                name,
            )
            await becomes(admin, "/readyz", lambda a: a == (503, "no lane\n"))
            assert "durable_lanes_lost_total 1.0" in (await admin.get("/metrics"))[1]
            await connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS on')
        finally:
            await connection.close()
        await becomes(admin, "/readyz", lambda a: a == (200, "ready\n"))
