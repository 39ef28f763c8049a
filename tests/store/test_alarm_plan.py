"""The poll and the begin of alarms look at what is due, and at nothing else."""

from __future__ import annotations

import re

import psycopg
import pytest

PENDING = 20_000
# Of so many shards, a worker's.
SHARDS = 64
LISTED = ",".join(map(str, range(SHARDS)))
CALLS = {
    "upcoming_alarms": ("int[], float8, int", f"'{{{LISTED}}}'::int[], 20, 5000"),
    "begin_alarms": (
        "int[], uuid[]",
        "ARRAY[0, 1], ARRAY[gen_random_uuid(), gen_random_uuid()]",
    ),
}
PLACES = {"p_shards": "$1", "p_ahead": "$2", "p_limit": "$3", "p_objects": "$2"}


@pytest.mark.parametrize("function", CALLS)
def test_alarms_that_are_not_due_cost_nothing(database_url: str, function: str) -> None:
    types, arguments = CALLS[function]
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO durable.alarm (shard, object, due, failures, attempt) "
            "SELECT i % %s, gen_random_uuid(), now() + i * interval '1 minute', 0, 0 "
            "FROM generate_series(1, %s) i".replace("i % %s", "i %% %s"),
            (SHARDS, PENDING),
        )
        connection.execute("ANALYZE durable.alarm")
        (source,) = connection.execute(
            "SELECT prosrc FROM pg_proc WHERE proname = %s", (function,)
        ).fetchone() or ("",)
        for name, place in PLACES.items():
            source = re.sub(rf"\b{name}\b", place, source)
        connection.execute("SET search_path = pg_catalog, durable")
        connection.execute("SET plan_cache_mode = force_generic_plan")
        connection.execute(f"PREPARE asked({types}) AS {source.strip().rstrip(';')}")
        plan = "\n".join(
            row[0]
            for row in connection.execute(
                f"EXPLAIN (ANALYZE, TIMING off, COSTS off) EXECUTE asked({arguments})"
            )
        )
    assert "Seq Scan" not in plan, plan
    if function == "upcoming_alarms":
        assert re.search(r"Index Scan using alarm_due .*\n *Index Cond: .*due <=", plan)
    else:
        assert "Index Scan using alarm_pkey" in plan, plan
    filtered = re.findall(r"Rows Removed by Filter: (\d+)", plan)
    assert not filtered, plan
