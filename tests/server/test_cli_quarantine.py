"""What is quarantined is shown and released, also if it never stored anything."""

from __future__ import annotations

import psycopg

from durable.domain.ids import id_from_name, shard_of
from tests.server.test_cli_inspect import Desk, desk

__all__ = ["desk"]

SHARDS = 1024


def test_quarantined_agents_are_listed_and_released(desk: Desk) -> None:
    desk.visit("counter/a")
    with psycopg.connect(desk.url, autocommit=True) as connection:
        (tag,) = connection.execute(
            "SELECT tag FROM durable.namespace WHERE name = 'Counter'"
        ).fetchone() or (0,)
        for name, wakes in (("a", 2), ("never-stored", 2), ("suspect", 1)):
            object_id = id_from_name(tag, name).value
            connection.execute(
                "INSERT INTO durable.trial (shard, object, wakes) VALUES (%s, %s, %s)",
                (shard_of(object_id, SHARDS), object_id, wakes),
            )
    rows = desk.json("agents", "quarantined", "--class", "Counter")["quarantined"]
    assert {(row["class"], row["name"], row["owners"]) for row in rows} == {
        ("Counter", "a", 3),
        ("Counter", None, 3),
    }
    assert "is released" in desk.does("agents", "release", "Counter/a", "--yes")
    (other,) = desk.json("agents", "quarantined")["quarantined"]
    place = f"Counter/{other['id']}"
    desk.does("agents", "release", place, "--id", "--yes")
    assert "nothing is quarantined" in desk.does("agents", "quarantined")
    assert "not quarantined" in desk.refuses(
        "agents", "release", place, "--id", "--yes"
    )
    assert desk.visit("counter/a") == ['{"count":2}']
